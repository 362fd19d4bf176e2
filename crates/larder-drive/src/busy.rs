//! Files that a mount has in use in a way that other doors must respect: open for writing, or locked with flock(2).

use larder_core::NodeId;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;

type Probe = Box<dyn Fn(NodeId) -> bool + Send + Sync>;

/// What mounts say of their open files.
#[derive(Default)]
pub struct Busy {
    writers: Arc<Mutex<HashMap<NodeId, usize>>>,
    probes: RwLock<Vec<Probe>>,
}

/// Says that a file is open for writing for as long as it lives.
pub struct Writing {
    node: NodeId,
    writers: Arc<Mutex<HashMap<NodeId, usize>>>,
}

impl Busy {
    /// Notes that `node` is open for writing.
    pub fn writing(&self, node: NodeId) -> Writing {
        *self.writers.lock().entry(node).or_default() += 1;
        Writing { node, writers: self.writers.clone() }
    }

    /// Adds a question that is asked of files another door wants to change: does a process hold a lock on it?
    /// It must not call the drive.
    pub fn add_probe(&self, probe: impl Fn(NodeId) -> bool + Send + Sync + 'static) {
        self.probes.write().push(Box::new(probe));
    }

    /// The files that are open for writing.
    pub fn writers(&self) -> Vec<NodeId> {
        self.writers.lock().keys().copied().collect()
    }

    /// Says whether a mount has the file open for writing or locked.
    pub fn is_busy(&self, node: NodeId) -> bool {
        self.writers.lock().contains_key(&node) || self.probes.read().iter().any(|probe| probe(node))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut writers = self.writers.lock();
        if let Some(count) = writers.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                writers.remove(&self.node);
            }
        }
    }
}
