//! Which files are open, and by which handles. Sharded: files do not wait for one another.

use super::file::WorkingFile;
use super::{Handle, OpenFlags};
use crate::{Busy, Writing};
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
}

struct Slot {
    file: Arc<WorkingFile>,
    handles: usize,
    /// Handles that change the file.
    writers: usize,
    /// Tells other doors while there are such handles, and then until the file is saved: a version that they published
    /// before would be overwritten.
    writing: Option<Writing>,
}

impl Slot {
    /// Lets other doors change the file again, if nobody here does and it is saved; says whether it can be forgotten.
    fn let_go(&mut self) -> bool {
        let saved = self.writers == 0 && self.file.is_saved();
        if saved {
            self.writing = None;
        }
        saved && self.handles == 0
    }
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
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.shard(id).lock().get(&id).map(|slot| slot.file.clone())
    }

    fn shard(&self, id: NodeId) -> &Mutex<HashMap<NodeId, Slot>> {
        &self.files[id.0 as usize % SHARDS]
    }

    /// The file with one more handle; `make` opens it where it is not open. A handle that changes the file comes with
    /// the `busy` that hears of it.
    ///
    /// # Errors
    /// Those of `make`, which must not commit.
    pub fn open(
        &self,
        id: NodeId,
        busy: Option<&Busy>,
        make: impl FnOnce() -> Result<Arc<WorkingFile>>,
    ) -> Result<Arc<WorkingFile>> {
        // `make` reads the node under the lock, and what looks for the file comes for the lock from now on: a commit after
        // that finds the file here and marks it.
        let mut files = self.shard(id).lock();
        let slot = match files.entry(id) {
            Entry::Occupied(slot) => {
                if slot.get().handles == 0 {
                    self.unsaved.fetch_sub(1, Ordering::Relaxed);
                }
                slot.into_mut()
            }
            Entry::Vacant(vacant) => {
                self.count.fetch_add(1, Ordering::SeqCst);
                let file = make().inspect_err(|_| {
                    self.count.fetch_sub(1, Ordering::SeqCst);
                })?;
                vacant.insert(Slot { file, handles: 0, writers: 0, writing: None })
            }
        };
        slot.handles += 1;
        if let Some(busy) = busy {
            slot.writers += 1;
            slot.writing.get_or_insert_with(|| busy.writing(id));
        }
        Ok(slot.file.clone())
    }

    /// Notes that a handle, about to be closed, changes the file no more, if it did (`wrote`); says whether none is left
    /// that does: then it is for the caller to save the file.
    pub fn leave(&self, id: NodeId, wrote: bool) -> bool {
        let mut files = self.shard(id).lock();
        let Some(slot) = files.get_mut(&id) else { return false };
        slot.writers = slot.writers.saturating_sub(usize::from(wrote));
        slot.writers == 0
    }

    /// Takes a handle off the file. One that is not saved stays, to be saved later, while there is room for such.
    pub fn close(&self, id: NodeId) {
        let mut files = self.shard(id).lock();
        let Some(slot) = files.get_mut(&id) else { return };
        slot.handles = slot.handles.saturating_sub(1);
        if !slot.let_go() {
            if slot.handles > 0 || self.unsaved.fetch_add(1, Ordering::Relaxed) < UNSAVED_MAX {
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

    /// Looks again at a file that was kept to be saved: once it is, or has nobody to be saved for, it goes.
    pub fn let_go(&self, id: NodeId) {
        let mut files = self.shard(id).lock();
        if files.get_mut(&id).is_some_and(Slot::let_go) {
            files.remove(&id);
            self.count.fetch_sub(1, Ordering::AcqRel);
            self.unsaved.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Files without a handle that are kept to be saved.
    pub fn unsaved(&self) -> Vec<Arc<WorkingFile>> {
        if self.unsaved.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let of = |shard: &Mutex<HashMap<NodeId, Slot>>| -> Vec<_> {
            shard.lock().values().filter(|slot| slot.handles == 0).map(|slot| slot.file.clone()).collect()
        };
        self.files.iter().flat_map(of).collect()
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
