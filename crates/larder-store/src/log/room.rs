//! Room for changes: memtables that are not full, and a disk that can take the checkpoint that empties them.
//!
//! sled does not survive a full disk, so a checkpoint that might not fit is not begun. Tables that no checkpoint can empty
//! would stop everything, collections too, until somebody else freed space; so changes are refused before that.

use super::engine::Engine;
use super::tables::Tables;
use crate::kv::Batch;
use larder_core::{Error, Kind, Result};

/// sled's file grows by up to so many times the bytes written to it before it takes free parts of it again.
const INDEX_GROWTH: u64 = 3;
/// And by so much at once.
const INDEX_SPARE_BYTES: u64 = 1 << 20;

impl Engine {
    /// Waits while both memtables are full.
    ///
    /// # Errors
    /// Why the checkpoint that should empty one failed.
    pub fn await_room(&self) -> Result<()> {
        let full = |tables: &Tables| {
            tables.frozen.is_some() && tables.active.replay_bytes() >= self.settings.memtable_bytes
        };
        let mut waited_for = None;
        loop {
            // Read before the tables: a checkpoint that ends after this is not missed.
            let tried = self.work.lock().tried;
            if !full(&self.tables.read()) {
                return Ok(());
            }
            let mut work = self.work.lock();
            if let (true, Some(error)) = (waited_for.is_some_and(|tried| tried < work.tried), &work.failed) {
                return Err(Error::new(error.kind(), format!("no room for changes: {error}")));
            }
            if work.closing {
                return Err(Error::unavailable("the store is being closed"));
            }
            waited_for.get_or_insert(tried);
            work.wanted = true;
            self.work_changed.notify_all();
            while work.tried == tried && !work.closing {
                self.work_changed.wait(&mut work);
            }
        }
    }

    /// As [`Engine::await_room`], for a change of the catalog: that leaves what a checkpoint needs, and of the reserve
    /// what a collection needs, unless it frees more than it takes: the end of one version removes a key and sets the
    /// totals.
    ///
    /// # Errors
    /// `NoSpace`; those of [`Engine::await_room`].
    pub fn await_room_for(&self, batch: &Batch) -> Result<()> {
        self.await_room()?;
        let removed = batch.edits.iter().filter(|(_, value)| value.is_none()).count();
        let kept = if removed * 2 >= batch.edits.len() { 0 } else { self.reserve.kept_for_collections() };
        if self.leaves_room(kept)? {
            return Ok(());
        }
        let emptied = self.checkpoint();
        // What frees space goes on as long as the log takes it.
        if kept == 0 || emptied.is_ok() && self.leaves_room(kept)? {
            return Ok(());
        }
        let why = || Error::new(Kind::NoSpace, "no room for changes: what is left is kept for a collection");
        Err(emptied.err().unwrap_or_else(why))
    }

    /// Says whether the tables can be emptied, `kept` bytes left over; asks for that while it is easy.
    fn leaves_room(&self, kept: u64) -> Result<bool> {
        let tables = self.tables.read();
        let bytes = tables.active.bytes() + tables.frozen.as_ref().map_or(0, |frozen| frozen.bytes());
        let growth = bytes as u64 * INDEX_GROWTH;
        drop(tables);
        let end = self.appender.end();
        let spare = |room: u64| room.saturating_sub(INDEX_SPARE_BYTES + kept);
        if growth * 2 < spare(self.reserve.room(end)?) {
            return Ok(true);
        }
        self.reserve.look_again();
        let spare = spare(self.reserve.room(end)?);
        if growth > 0 && (spare / 2..spare).contains(&growth) {
            self.work.lock().wanted = true;
            self.work_changed.notify_all();
        }
        Ok(growth < spare)
    }

    /// Refuses to begin what would fill the disk: sled does not survive that.
    ///
    /// # Errors
    /// `NoSpace`; those of statvfs(2).
    pub fn room_for(&self, bytes: usize) -> Result<()> {
        let needed = bytes as u64 * INDEX_GROWTH + INDEX_SPARE_BYTES;
        let (free, _) = self.disk.free_bytes()?;
        let spare = self.reserve.file_bytes();
        if free >= needed {
            return Ok(());
        }
        // Giving up the reserve for less than enough would only feed it to the next changes.
        if free + spare >= needed && self.reserve.release() {
            return Ok(());
        }
        Err(Error::new(Kind::NoSpace, format!("a checkpoint needs {needed} bytes, {free} are free")))
    }
}
