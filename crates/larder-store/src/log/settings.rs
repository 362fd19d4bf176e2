//! What a user tunes, and what the program that opens a store plugs in.

use super::tape::Tape;
use std::sync::Arc;

/// What a user may tune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A segment is closed at this length; on a small file system at a sixteenth of its size, so that there is space to
    /// compact one even when little is free.
    pub segment_bytes: u32,
    /// A checkpoint begins once the memtable takes so much memory; a second one of this size takes writes meanwhile.
    pub memtable_bytes: usize,
    /// A checkpoint begins once the log grew by so much: it bounds how much a start reads.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint begins once so much time has passed, see [`super::LogStore::checkpoint_if_due`].
    pub checkpoint_ns: i64,
    /// Memory for the pages of the index. sled takes up to three times of it.
    pub index_cache_bytes: u64,
    /// Chunks are refused where the file system has less free than this, or an eighth of its size: deleting and
    /// collecting need some space too.
    pub reserve_bytes: u64,
}

/// Of a small file system a segment takes no more than this part, but at least [`SEGMENT_MIN_BYTES`].
const SEGMENT_SHARE_OF_DISK: u64 = 16;
/// Shorter segments would be mostly first bytes and open files.
const SEGMENT_MIN_BYTES: u64 = 4 << 20;

impl Settings {
    /// These settings on a file system of `disk_bytes`.
    pub(super) fn on_disk_of(self, disk_bytes: u64) -> Self {
        let fitting = (disk_bytes / SEGMENT_SHARE_OF_DISK).max(SEGMENT_MIN_BYTES);
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        Self { segment_bytes: self.segment_bytes.min(fitting), ..self }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            memtable_bytes: 32 << 20,
            checkpoint_log_bytes: 2 << 30,
            checkpoint_ns: 300_000_000_000,
            index_cache_bytes: 64 << 20,
            reserve_bytes: 64 << 20,
        }
    }
}

/// What the program plugs in.
#[derive(Clone)]
pub struct Parts {
    /// Names the boot of the machine (Linux: /proc/sys/kernel/random/boot_id): while it is the same, nothing that
    /// was written is lost. Empty where that is not known: then each start is as careful as after a power cut.
    pub boot_id: String,
    /// Fills the buffer with random bytes.
    pub random: fn(&mut [u8]),
    /// The key of encryption at rest, if the store has one; chosen when it is made.
    pub key: Option<[u8; 32]>,
    /// For tests.
    pub tape: Option<Arc<Tape>>,
}
