//! Checkpoints: moving the memtable to the index, so that a start has little to replay.
//!
//! Only here is the index written. The superblock says so before and after: a power cut between finds "applying",
//! and the next start makes the index again.

use super::engine::Engine;
use super::index;
use super::superblock::{self, IndexState, Superblock};
use larder_core::{Error, Result, Timestamp};
use std::sync::Arc;

impl Engine {
    /// Moves everything committed so far to the index.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk: then the memtable still has it. `Corrupt` where the index failed.
    pub fn checkpoint(&self) -> Result<()> {
        let mut superblock = self.superblock.lock();
        self.work.lock().wanted = false;
        let outcome = self.checkpoint_with(&mut superblock);
        let mut work = self.work.lock();
        work.tried += 1;
        work.checkpoint = superblock.checkpoint;
        work.failed = outcome.as_ref().err().map(|error| Error::new(error.kind(), error.to_string()));
        self.work_changed.notify_all();
        outcome
    }

    /// Asks for a checkpoint where enough time has passed since this last did.
    pub fn checkpoint_if_due(&self, now: Timestamp) {
        let idle = self.tables.read().active.is_empty();
        let mut work = self.work.lock();
        let asked = *work.asked.get_or_insert(now);
        if now.0.saturating_sub(asked.0) < self.settings.checkpoint_ns || idle {
            return;
        }
        work.asked = Some(now);
        work.wanted = true;
        self.work_changed.notify_all();
    }

    /// Runs checkpoints as they are asked for, until the store is closed.
    pub fn checkpoint_loop(&self) {
        loop {
            let mut work = self.work.lock();
            while !work.wanted && !work.closing {
                self.work_changed.wait(&mut work);
            }
            if work.closing {
                return;
            }
            work.wanted = false;
            let rebuild = work.rebuild;
            drop(work);
            let outcome = if rebuild { self.rebuild_if_free() } else { self.checkpoint() };
            if let Err(error) = outcome {
                tracing::warn!(%error, "checkpoint failed; it is tried again with the next change");
            }
        }
    }

    fn checkpoint_with(&self, superblock: &mut Superblock) -> Result<()> {
        let index = self.index()?;
        let (frozen, end) = {
            let head = self.appender.lock()?;
            let mut tables = self.tables.write();
            if tables.frozen.is_none() {
                tables.frozen = Some(Arc::new(std::mem::take(&mut tables.active)));
                tables.frozen_end = head.end();
            }
            (tables.frozen.clone().unwrap_or_default(), tables.frozen_end)
        };
        let sealed = matches!(superblock.index, IndexState::Sealed(_)) && !self.is_doubtful();
        if frozen.is_empty() && sealed && superblock.checkpoint == end {
            self.tables.write().frozen = None;
            return Ok(());
        }
        self.room_for(frozen.bytes())?;
        // The index must never know more than the log: after a power cut the log decides.
        self.appender.wait_durable(end)?;
        let mut next = *superblock;
        next.index = if self.is_doubtful() { IndexState::Lost } else { IndexState::Applying };
        next.generation += 1;
        self.disk.replace(superblock::NAME, &next.encode())?;
        *superblock = next;
        if let Err(error) = index.apply(&frozen).and_then(|()| index.sync(next.generation)) {
            self.lose_index(superblock, &error);
            return Err(error);
        }
        let hash = index::fingerprint(index.folder());
        let sealed = IndexState::Sealed(hash.ok_or_else(|| Error::corrupt("the index has no files"))?);
        next.index = if self.is_doubtful() { IndexState::Lost } else { sealed };
        next.checkpoint = end;
        self.disk.replace(superblock::NAME, &next.encode())?;
        *superblock = next;
        self.tables.write().frozen = None;
        self.reserve.renew();
        Ok(())
    }

    /// Says whether the next start has to make the index again: it failed, or lacks what damaged records hold.
    fn is_doubtful(&self) -> bool {
        let work = self.work.lock();
        work.index_lost || work.incomplete.is_some()
    }

    /// Notes that the index must be made again; what it holds is served as long as it can be read.
    fn lose_index(&self, superblock: &mut Superblock, error: &Error) {
        self.index_failed(error);
        superblock.index = IndexState::Lost;
        if let Err(error) = self.disk.replace(superblock::NAME, &superblock.encode()) {
            tracing::error!(%error, "and the superblock cannot say so");
        }
    }

    /// Makes a last checkpoint, closes the index and says in the superblock that all is well; of an index that failed it
    /// says that.
    ///
    /// # Errors
    /// Those of [`Engine::checkpoint`]: then the next start replays the log.
    pub fn close(&self) -> Result<()> {
        if self.work.lock().index_lost {
            return self.give_up_index();
        }
        self.checkpoint()?;
        let mut superblock = self.superblock.lock();
        let end = self.appender.end();
        let Some(index) = self.index.write().take() else { return Ok(()) };
        let folder = index.folder().to_owned();
        let Some(index) = Arc::into_inner(index) else { return Ok(()) };
        // sled writes a little more when it is dropped.
        drop(index);
        superblock.clean = superblock.checkpoint == end;
        if let (IndexState::Sealed(_), Some(hash)) = (superblock.index, index::fingerprint(&folder)) {
            index::sync_files(&folder)?;
            superblock.index = IndexState::Sealed(hash);
        }
        self.disk.replace(superblock::NAME, &superblock.encode())
    }

    /// Notes that the index could not be read, so that the next start makes it again whatever it looks like.
    fn give_up_index(&self) -> Result<()> {
        let mut superblock = self.superblock.lock();
        drop(self.index.write().take());
        superblock.index = IndexState::Lost;
        self.disk.replace(superblock::NAME, &superblock.encode())?;
        self.appender.wait_durable(self.appender.end())
    }
}
