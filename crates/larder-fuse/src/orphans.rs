//! Nodes without a name that the kernel still knows: a removed folder that is somebody's working directory, a file
//! held by O_PATH. POSIX wants fstat(2) to go on working with a link count of 0.

use crate::stat::stat_of;
use fuser::FileAttr;
use larder_core::{Node, Timestamp};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most that are remembered; the oldest node goes first. A kernel forgets most within a millisecond.
const ORPHANS_MAX: usize = 65_536;

#[derive(Default)]
pub(crate) struct Orphans {
    stats: Mutex<BTreeMap<u64, FileAttr>>,
    /// Lets [`Orphans::forget`], which each removed file brings, go without the lock.
    len: AtomicUsize,
}

impl Orphans {
    /// Adds a node that just lost its last name.
    pub(crate) fn add(&self, mut node: Node, now: Timestamp) {
        node.nlink = 0;
        node.ctime = now;
        let mut stats = self.stats.lock();
        stats.insert(node.id.0, stat_of(&node));
        if stats.len() > ORPHANS_MAX {
            stats.pop_first();
        }
        self.len.store(stats.len(), Ordering::Release);
    }

    /// What stat(2) says of a node without a name.
    pub(crate) fn stat(&self, id: u64) -> Option<FileAttr> {
        self.stats.lock().get(&id).copied()
    }

    /// The kernel dropped its inode.
    pub(crate) fn forget(&self, id: u64) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut stats = self.stats.lock();
        stats.remove(&id);
        self.len.store(stats.len(), Ordering::Release);
    }
}
