//! The live view of a drive: what one kernel mount sees, with everything that its open files hold.
//!
//! Within a mount POSIX holds: every handle of a file sees every write at once, and a file that is removed while it is
//! open lives until its last handle goes. Every other door sees whole committed versions, and this view publishes one
//! at fsync(2) and close(2) ([`Mount::fsync`], [`Mount::flush`], [`Mount::release`]).
//!
//! Another door may replace a file that is open here. Handles of a file that has nothing unpublished see the new version
//! at once. Where something was written here and not published, the mount goes on with what it has; its next commit
//! wins, and the version of the other door is in the history. Usually that door was refused before:
//! [`crate::Busy`] tells it which files are open for writing.
//!
//! What the kernel does and this does not: permission checks (`default_permissions`), path walks, locks, and the page
//! cache. What the adapter does: set-id bits end on a write by anybody but root (FUSE_HANDLE_KILLPRIV_V2 and
//! FUSE_WRITE_KILL_SUIDGID; [`Mount::set_attrs`] with the new mode), as inode(7) wants it.
//!
//! Bounds: 80 MiB of memory for bytes being written in all files ([`MEMORY_MAX_BYTES`]); beyond that, and for everything
//! written at random, a sparse staging file per open file on the disk of the store.

mod attributes;
mod budget;
mod commit;
mod data;
mod file;
mod files;
mod layer;
mod live;
mod names;
mod reading;
mod rechunk;
mod space;
mod staging;
mod stream;
mod table;
mod worker;

use crate::{Drive, Event, Subscription, Usage};
use budget::Budget;
use file::Shared;
use larder_core::Result;
use larder_store::Change;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use table::Table;
use worker::Worker;

/// The memory that bytes being written take, all files together.
pub const MEMORY_MAX_BYTES: usize = 80 << 20;

/// An open file, as the kernel refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// How a file is opened. Source: open(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// O_RDONLY or O_RDWR.
    pub read: bool,
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_TRUNC.
    pub truncate: bool,
}

impl OpenFlags {
    /// Says whether a handle opened so changes the file.
    fn change(self) -> bool {
        self.write || self.truncate
    }
}

/// What [`Mount::make`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MakeKind {
    /// An empty file, visible to all doors at once. Source: mknod(2).
    File,
    /// A folder.
    Folder,
    /// A symlink to this target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device of this number.
    CharDevice(u32),
    /// A block device of this number.
    BlockDevice(u32),
}

/// Flags of renameat2(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameFlags {
    /// None: what is in the way is replaced.
    Replace,
    /// RENAME_NOREPLACE.
    NoReplace,
    /// RENAME_EXCHANGE.
    Exchange,
}

/// Modes of fallocate(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Makes the file at least as long as the range ends. Space is not set aside: the store shares its space.
    Extend,
    /// FALLOC_FL_KEEP_SIZE: nothing changes.
    KeepSize,
    /// FALLOC_FL_PUNCH_HOLE: the range becomes a hole; the size stays.
    PunchHole,
    /// FALLOC_FL_ZERO_RANGE: the range reads as zeros.
    ZeroRange {
        /// FALLOC_FL_KEEP_SIZE.
        keep_size: bool,
    },
}

/// What lseek(2) looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

/// The live view.
pub struct Mount {
    drive: Arc<Drive>,
    shared: Arc<Shared>,
    table: Arc<Table>,
    _changes: Subscription,
    _worker: Worker,
}

impl Drive {
    /// Makes a live view; each kernel mount has its own. Dropping it drops what was not committed:
    /// [`Mount::sync_all`] comes first.
    pub fn mount(self: &Arc<Self>) -> Mount {
        let (worker, queue) = Worker::start();
        let table = Arc::new(Table::default());
        let marked = table.clone();
        let mark = move |event: &Event<'_>| {
            for change in event.changes {
                if let Change::Content(id) | Change::Attrs(id) = change
                    && let Some(file) = marked.find(*id)
                {
                    file.stale.store(true, Ordering::Release);
                }
            }
        };
        let changes = self.subscribe(Box::new(mark), None);
        let place = staging::place(&self.settings);
        let shared = Arc::new(Shared {
            drive: self.clone(),
            budget: Arc::new(Budget::new(MEMORY_MAX_BYTES)),
            place,
            queue,
        });
        Mount { drive: self.clone(), shared, table, _changes: changes, _worker: worker }
    }
}

impl Mount {
    /// Says how full the drive is. Source: statvfs(3).
    ///
    /// # Errors
    /// Those of asking the disk.
    pub fn stats(&self) -> Result<Usage> {
        self.drive.usage()
    }
}
