//! What the file-system catalog needs of an ordered key-value index. Two backends: memory, and log+sled.

use crate::{Change, catalog::Cursor};
use larder_core::Result;

/// A change of some keys, applied whole: `None` removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys, each once, with what they get.
    pub edits: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The feed entries of the commit.
    pub changes: Vec<Change>,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An ordered index with an atomic, loggable write. The caller allows one `apply` at a time.
pub trait Kv: Send + Sync {
    /// Returns the value of `key`.
    ///
    /// # Errors
    /// Those of the disk.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Returns up to `limit` pairs in key order whose keys start with `prefix` and are greater than `after`.
    ///
    /// # Errors
    /// Those of the disk.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>>;

    /// Applies `batch`; once it returns, the batch survives the death of the process. Returns its position.
    ///
    /// # Errors
    /// `NoSpace` and those of the disk; then nothing changed.
    fn apply(&self, batch: Batch) -> Result<u64>;

    /// Returns once the batch at `position`, and everything before it, survives power loss.
    /// Not called under the lock that orders `apply`: callers share a sync.
    ///
    /// # Errors
    /// Those of the disk.
    fn wait_durable(&self, position: u64) -> Result<()>;

    /// Returns feed entries behind `after`, with the cursor behind the last.
    ///
    /// # Errors
    /// `Conflict` where the feed does not reach back so far.
    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)>;

    /// Returns the cursor behind the newest feed entry.
    fn now(&self) -> Cursor;
}
