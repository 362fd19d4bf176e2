//! The default backend: an append-only log that is the truth, and sled as its index.
//!
//! A data directory belongs to one process. It holds `segments/` (the log), `index/` (sled; may be deleted at any
//! time), `superblock`, `lock`, `reserve` (space for bad times) and `staging/` (for files being written; emptied by
//! whoever puts files there). Writes go to the log, then to a memtable; a checkpoint moves the memtable to the index.

mod appender;
mod bodies;
mod checked;
mod checkpoint;
mod codec;
mod collect;
mod disk;
mod edits;
mod engine;
mod evict;
mod feed;
mod holes;
mod index;
mod moving;
mod position;
mod rebuild;
mod record;
mod recover;
mod replay;
mod reserve;
mod room;
mod scrub;
mod seal;
mod segments;
mod settings;
mod slot;
mod stats;
mod superblock;
mod tables;
mod tape;
mod walk;

pub use appender::SyncStats;
pub use collect::{Collected, Mark, Pace};
pub use evict::Evicted;
pub use scrub::Scrubbed;
pub use settings::{Parts, Settings};
pub use stats::{SegmentStats, Stats};
pub use tape::{Action, Event, Tape};

use crate::catalog::{Change, Cursor};
use crate::chunks::{ChunkStore, Lease, Leases, Put};
use crate::kv::{Batch, Kv, Pair};
use crate::recent::Recent;
use bytes::Bytes;
use disk::{Disk, Lock};
use engine::Engine;
use larder_core::{ChunkId, Error, Result, Timestamp};
use parking_lot::Mutex;
use position::Position;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A store in a data directory: chunks, and through [`LogStore::kv`] the index of a catalog.
pub struct LogStore {
    engine: Arc<Engine>,
    checkpointer: Mutex<Option<JoinHandle<()>>>,
    _lock: Lock,
}

/// The index of a [`LogStore`], for [`crate::KvCatalog`].
#[derive(Clone)]
pub struct LogKv(Arc<LogStore>);

impl LogStore {
    /// Opens the store in `folder`, or makes it there.
    ///
    /// # Errors
    /// `Conflict` where another process has it open, naming it; `Unsupported` for a store of another version;
    /// `Denied` for a wrong encryption key; those of the disk.
    pub fn open(folder: &Path, settings: Settings, parts: &Parts) -> Result<Arc<Self>> {
        let disk = Disk::new(folder.to_owned(), parts.tape.clone());
        disk.make_folder("")?;
        let lock = disk.lock("lock", &std::process::id().to_string())?;
        let engine = Arc::new(recover::recover(disk, settings, parts)?);
        if engine.rebuilt {
            engine.checkpoint()?;
        }
        let thread = {
            let engine = engine.clone();
            std::thread::Builder::new().name("checkpoint".into()).spawn(move || engine.checkpoint_loop())
        };
        let thread = thread.map_err(|e| Error::io("start the checkpointer", e))?;
        Ok(Arc::new(Self { engine, checkpointer: Mutex::new(Some(thread)), _lock: lock }))
    }

    /// The index for a catalog over this store.
    pub fn kv(self: &Arc<Self>) -> LogKv {
        LogKv(self.clone())
    }

    /// The leases on this store's chunks.
    pub fn leases(&self) -> &Leases {
        &self.engine.leases
    }

    /// Asks for a checkpoint where the last one that was asked for here is [`Settings::checkpoint_ns`] ago and
    /// something was written since. Whoever has a clock calls this now and then; it does not wait.
    pub fn checkpoint_if_due(&self, now: Timestamp) {
        self.engine.checkpoint_if_due(now);
    }

    /// Moves what was committed to the index now.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn checkpoint(&self) -> Result<()> {
        self.engine.checkpoint()
    }

    /// Drops every chunk that `mark` does not mark and no lease holds, and compacts segments that hold little of
    /// use. Where `mark` returns that it could not read some pages of manifests, no chunk goes. Reads and writes go on
    /// meanwhile.
    ///
    /// # Errors
    /// Those of [`LogStore::check_complete`] and of `mark`: then nothing went; those of the disk: then what was done so
    /// far stays done.
    pub fn collect(&self, mark: impl FnOnce(Mark<'_>) -> Result<u64>, pace: Pace<'_>) -> Result<Collected> {
        self.engine.collect(mark, pace)
    }

    /// Bytes of the log, about; cheap.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn log_bytes(&self) -> Result<u64> {
        self.engine.log_bytes()
    }

    /// Drops chunks that `mark` does not mark and no lease holds, the least recently used first, and compacts, until the log
    /// has `target_bytes` or nothing more may go; `go_on` is asked between segments. For a store whose chunks somebody else
    /// has, too. Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// As for [`LogStore::collect`].
    pub fn evict(
        &self,
        target_bytes: u64,
        recent: &Recent,
        mark: impl FnOnce(Mark<'_>) -> Result<u64>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Evicted> {
        self.engine.evict(target_bytes, recent, None, mark, go_on)
    }

    /// Drops those of `chunks` that `mark` does not mark and no lease holds, and compacts where that gives space back.
    ///
    /// # Errors
    /// As for [`LogStore::collect`].
    pub fn release(
        &self,
        chunks: &HashSet<ChunkId>,
        recent: &Recent,
        mark: impl FnOnce(Mark<'_>) -> Result<u64>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Evicted> {
        self.engine.evict(0, recent, Some(chunks), mark, go_on)
    }

    /// Says whether the index has all that the log ever said: nothing may be dropped by an index that lacks something.
    ///
    /// # Errors
    /// `Corrupt` where it was made from a log with damaged records, with what to do.
    pub fn check_complete(&self) -> Result<()> {
        self.engine.check_complete()
    }

    /// Reads and checks everything. Damaged chunks are set aside: reading one answers `Corrupt`, putting it heals it.
    /// What only other damaged records said is appended again from the index.
    ///
    /// # Errors
    /// Those of the index; reading errors count as damage.
    pub fn scrub(&self, pace: Pace<'_>) -> Result<Scrubbed> {
        self.engine.scrub(pace)
    }

    /// Makes the index again from the log, equal to what it was. Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// `Corrupt` where the log has damaged records, as the index in use may have what they said; those of the disk. Then
    /// the old index stays in use.
    pub fn rebuild(&self) -> Result<()> {
        self.engine.rebuild(false)
    }

    /// Makes the index again from what the log still has, and takes that for all there is from now on.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn rebuild_accepting_loss(&self) -> Result<()> {
        self.engine.rebuild(true)
    }

    /// Counts what the store holds; reads the whole index.
    ///
    /// # Errors
    /// Those of the index and the disk.
    pub fn stats(&self) -> Result<Stats> {
        self.engine.stats()
    }

    /// Returns a hash of everything in the index: equal for equal stores, whatever the index went through.
    ///
    /// # Errors
    /// Those of the index.
    pub fn digest(&self) -> Result<[u8; 32]> {
        self.engine.digest()
    }

    /// How often the log was synced so far.
    pub fn sync_stats(&self) -> SyncStats {
        self.engine.appender.sync_stats()
    }

    /// Says whether the index had to be made again when the store was opened.
    pub fn was_rebuilt(&self) -> bool {
        self.engine.rebuilt
    }

    /// Makes everything durable and closes the store, so that the next start has nothing to replay. Dropping the
    /// store does the same and only logs what fails.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn close(&self) -> Result<()> {
        let Some(thread) = self.checkpointer.lock().take() else { return Ok(()) };
        self.engine.work.lock().closing = true;
        self.engine.work_changed.notify_all();
        if thread.join().is_err() {
            return Err(Error::unavailable("the checkpointer panicked"));
        }
        self.engine.close()
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the store was not closed properly; the next start replays its log");
        }
    }
}

impl ChunkStore for LogStore {
    fn get(&self, id: &ChunkId) -> Result<Bytes> {
        self.engine.chunk(id)
    }

    fn try_get(&self, id: &ChunkId) -> Option<Bytes> {
        self.engine.chunk_at_hand(id)
    }

    fn prefetch(&self, ids: &[ChunkId]) {
        self.engine.prefetch(ids);
    }

    fn put(&self, lease: &Lease, id: &ChunkId, body: &[u8]) -> Result<Put> {
        self.engine.put_chunk(lease, id, body)
    }

    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        let mut missing = Vec::new();
        for id in ids {
            if self.engine.location(id)?.is_none() {
                missing.push(*id);
            }
        }
        Ok(missing)
    }

    fn sync(&self) -> Result<()> {
        self.engine.appender.wait_durable(self.engine.appender.end())
    }

    fn lease(&self) -> Lease {
        self.engine.leases.start()
    }
}

impl Kv for LogKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.0.engine.value(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>> {
        self.0.engine.scan(prefix, after, limit)
    }

    fn apply(&self, batch: Batch) -> Result<u64> {
        self.0.engine.apply(batch).map(|position| position.0)
    }

    fn wait_durable(&self, position: u64) -> Result<()> {
        match position {
            // A commit that changed nothing still promises that everything before it is durable.
            0 => ChunkStore::sync(&*self.0),
            position => self.0.engine.appender.wait_durable(Position(position)),
        }
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)> {
        self.0.engine.changes(after, limit)
    }

    fn now(&self) -> Cursor {
        self.0.engine.now()
    }
}
