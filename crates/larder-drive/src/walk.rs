//! Getting to know all names of a server's project, folder by folder, so that everything is there when the server is not.

use larder_core::{Error, Kind, NodeId, Result};
use larder_store::origin::Mirror;
use larder_store::{Catalog, Change};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Entries read at a time.
const PAGE: usize = 1024;
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Walks through a project until it is ended.
pub(crate) struct Walker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    mirror: Arc<Mirror>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Folders to look into: as many as there are at most, 8 bytes each.
    folders: VecDeque<NodeId>,
    /// Those that were looked into: what is told piece by piece may go round in a circle for a moment.
    seen: HashSet<NodeId>,
    ended: bool,
}

impl Walker {
    /// Walks from the root of `mirror` on.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(crate) fn start(mirror: Arc<Mirror>) -> Result<Self> {
        let state = Mutex::new(State { folders: VecDeque::from([NodeId::ROOT]), ..State::default() });
        let shared = Arc::new(Shared { mirror, state, changed: Condvar::new() });
        let walking = shared.clone();
        let started = std::thread::Builder::new().name("larder-walk".into()).spawn(move || walking.run());
        let thread = Mutex::new(Some(started.map_err(|e| Error::io("starting a thread", e))?));
        Ok(Self { shared, thread })
    }

    /// Hears what changed: folders that are new are looked into.
    pub(crate) fn hear(&self, changes: &[Change]) {
        let named = changes.iter().filter_map(|change| match change {
            Change::Named { node, .. } => Some(*node),
            _ => None,
        });
        self.shared.state.lock().folders.extend(named);
        self.shared.changed.notify_all();
    }

    /// Ends it; a call to the server that is under way has to be ended by others.
    pub(crate) fn end(&self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Walker {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn run(&self) {
        while let Some(folder) = self.next() {
            let Err(error) = self.look_into(folder) else { continue };
            // Gone meanwhile, or no folder.
            if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) {
                continue;
            }
            tracing::debug!(%error, "getting to know all names");
            let mut state = self.state.lock();
            state.seen.remove(&folder);
            // Behind all others.
            state.folders.push_front(folder);
            self.changed.wait_while_for(&mut state, |state| !state.ended, PAUSE);
        }
    }

    /// The next folder, or nothing at the end.
    fn next(&self) -> Option<NodeId> {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.folders.is_empty() && !state.ended);
        if state.ended { None } else { state.folders.pop_back() }
    }

    fn look_into(&self, folder: NodeId) -> Result<()> {
        if !self.state.lock().seen.insert(folder) {
            return Ok(());
        }
        let mut after = None;
        while !self.state.lock().ended {
            let page = self.mirror.list(folder, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            let folders = page.iter().filter(|entry| entry.node.is_folder()).map(|entry| entry.node.id);
            self.state.lock().folders.extend(folders);
        }
        Ok(())
    }
}
