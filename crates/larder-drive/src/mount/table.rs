//! Which files are open, and by which handles. Sharded: files do not wait for one another.

use super::file::WorkingFile;
use super::{Handle, OpenFlags};
use crate::Writing;
use larder_core::{Error, NodeId, Result};
use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More shards than threads of a mount.
const SHARDS: usize = 32;
/// Files without a handle whose last commit failed, kept for another try; more are given up.
const UNSAVED_MAX: usize = 256;

/// What a handle stands for.
pub(super) struct Open {
    pub file: Arc<WorkingFile>,
    pub flags: OpenFlags,
    /// Tells other doors, where the handle can write.
    pub _writing: Option<Writing>,
}

struct Slot {
    file: Arc<WorkingFile>,
    handles: usize,
}

/// The open files of a mount.
#[derive(Default)]
pub(super) struct Table {
    files: [Mutex<HashMap<NodeId, Slot>>; SHARDS],
    /// How many files there are; lets a look at a file that is not open go without a lock when none is.
    count: AtomicUsize,
    handles: [RwLock<HashMap<u64, Arc<Open>>>; SHARDS],
    next: AtomicU64,
    unsaved: AtomicUsize,
}

impl Table {
    /// The file, if it is open.
    pub fn find(&self, id: NodeId) -> Option<Arc<WorkingFile>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.shard(id).lock().get(&id).map(|slot| slot.file.clone())
    }

    fn shard(&self, id: NodeId) -> &Mutex<HashMap<NodeId, Slot>> {
        &self.files[id.0 as usize % SHARDS]
    }

    /// The file with one more handle; `make` opens it where it is not open.
    ///
    /// # Errors
    /// Those of `make`, which must not commit.
    pub fn open(
        &self,
        id: NodeId,
        make: impl FnOnce() -> Result<Arc<WorkingFile>>,
    ) -> Result<Arc<WorkingFile>> {
        // `make` reads the node under the lock: a commit after that finds the file here and marks it.
        match self.shard(id).lock().entry(id) {
            Entry::Occupied(mut slot) => {
                if slot.get().handles == 0 {
                    self.unsaved.fetch_sub(1, Ordering::Relaxed);
                }
                slot.get_mut().handles += 1;
                Ok(slot.get().file.clone())
            }
            Entry::Vacant(vacant) => {
                let file = make()?;
                vacant.insert(Slot { file: file.clone(), handles: 1 });
                self.count.fetch_add(1, Ordering::AcqRel);
                Ok(file)
            }
        }
    }

    /// Takes a handle off the file. One that is not `saved` stays, to be saved later, while there is room for such.
    pub fn close(&self, id: NodeId, saved: bool) {
        let mut files = self.shard(id).lock();
        let Some(slot) = files.get_mut(&id) else { return };
        slot.handles = slot.handles.saturating_sub(1);
        if slot.handles > 0 {
            return;
        }
        if !saved {
            if self.unsaved.fetch_add(1, Ordering::Relaxed) < UNSAVED_MAX {
                return;
            }
            self.unsaved.fetch_sub(1, Ordering::Relaxed);
            tracing::error!(
                node = id.0,
                "what was written to a closed file is given up: the store took no bytes"
            );
        }
        files.remove(&id);
        self.count.fetch_sub(1, Ordering::AcqRel);
    }

    /// Drops the file if no handle is left: it is saved now.
    pub fn saved(&self, id: NodeId) {
        let mut files = self.shard(id).lock();
        if files.get(&id).is_some_and(|slot| slot.handles == 0) {
            files.remove(&id);
            self.count.fetch_sub(1, Ordering::AcqRel);
            self.unsaved.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// All open files.
    pub fn all(&self) -> Vec<Arc<WorkingFile>> {
        let files = self.files.iter();
        files
            .flat_map(|shard| shard.lock().values().map(|slot| slot.file.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// Gives out a handle.
    pub fn add(&self, open: Open) -> Handle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.handles[number as usize % SHARDS].write().insert(number, Arc::new(open));
        Handle(number)
    }

    /// What the handle stands for.
    ///
    /// # Errors
    /// `Invalid` (EBADF).
    pub fn handle(&self, handle: Handle) -> Result<Arc<Open>> {
        let open = self.handles[handle.0 as usize % SHARDS].read().get(&handle.0).cloned();
        open.ok_or_else(|| bad(handle))
    }

    /// Takes the handle back.
    ///
    /// # Errors
    /// `Invalid` (EBADF).
    pub fn remove(&self, handle: Handle) -> Result<Arc<Open>> {
        let open = self.handles[handle.0 as usize % SHARDS].write().remove(&handle.0);
        open.ok_or_else(|| bad(handle))
    }
}

fn bad(handle: Handle) -> Error {
    Error::invalid(format!("handle {} is not open for this", handle.0))
        .because(std::io::Error::from(Errno::BADF))
}

impl Open {
    /// Asks whether the handle can write.
    ///
    /// # Errors
    /// `Invalid` (EBADF).
    pub fn for_writing(&self, handle: Handle) -> Result<()> {
        if self.flags.write { Ok(()) } else { Err(bad(handle)) }
    }
}
