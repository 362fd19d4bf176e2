//! Making the index again from the log while the store serves.

use super::engine::Engine;
use super::index::{self, Index};
use super::position::Position;
use super::record::HEADER_BYTES;
use super::replay::{Damage, Refill, replay};
use super::superblock::{self, IndexState};
use larder_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a rebuild looks whether the last reader has let go of the old index, before it leaves it to the next
/// start to delete that. A reader holds it for microseconds, a listing for milliseconds.
const LET_GO_TRIES: u32 = 1_000_000;

impl Engine {
    /// Makes the index again, equal to what it was. Reads go on with the old one, if that answers; changes wait
    /// once the memtable is full.
    ///
    /// # Errors
    /// Those of the disk; then the old index stays in use.
    pub fn rebuild(&self) -> Result<()> {
        let _turn = self.maintenance.lock();
        self.rebuild_now()
    }

    /// As [`Engine::rebuild`], for the checkpointer: other maintenance may be waiting for it, so it does not wait.
    ///
    /// # Errors
    /// `Unavailable` while other maintenance runs; else those of [`Engine::rebuild`].
    pub fn rebuild_if_free(&self) -> Result<()> {
        let turn = self.maintenance.try_lock();
        let outcome = match turn {
            Some(_) => self.rebuild_now(),
            None => Err(Error::unavailable("the index is made again once other maintenance has ended")),
        };
        if let Err(error) = &outcome {
            let mut work = self.work.lock();
            work.tried += 1;
            // The next read that fails asks again.
            work.rebuild = false;
            work.failed = Some(Error::new(error.kind(), error.to_string()));
            self.work_changed.notify_all();
        }
        outcome
    }

    fn rebuild_now(&self) -> Result<()> {
        // Held to the end: no checkpoint starts.
        let mut superblock = self.superblock.lock();
        let end = self.appender.end();
        self.appender.wait_durable(end)?;
        superblock.index = IndexState::Lost;
        superblock.generation += 1;
        self.disk.replace(superblock::NAME, &superblock.encode())?;
        let root = self.disk.path(index::FOLDER);
        let fresh = Index::next_to(&root, self.settings.index_cache_bytes)?;
        let begin = self.segments.numbers().first().copied().unwrap_or(1);
        let begin = Position::new(begin, HEADER_BYTES as u32);
        self.refill(&fresh, begin..end)?;
        fresh.sync(superblock.generation)?;
        let hash =
            index::fingerprint(fresh.folder()).ok_or_else(|| Error::corrupt("the index has no files"))?;
        self.exchange_index(fresh);
        superblock.index = IndexState::Sealed(hash);
        superblock.checkpoint = end;
        self.disk.replace(superblock::NAME, &superblock.encode())?;
        let mut work = self.work.lock();
        work.tried += 1;
        work.rebuild = false;
        work.index_lost = false;
        work.failed = None;
        work.checkpoint = end;
        self.work_changed.notify_all();
        Ok(())
    }

    /// Notes that the index cannot be read and has it made again.
    pub fn index_failed(&self, error: &Error) {
        let mut work = self.work.lock();
        work.index_lost = true;
        if !work.rebuild {
            tracing::error!(%error, "the index failed and is made again");
            work.rebuild = true;
            work.wanted = true;
            self.work_changed.notify_all();
        }
    }

    fn refill(&self, fresh: &Index, span: Range<Position>) -> Result<()> {
        let mut refill = Refill::new(fresh, false);
        refill.spill_at = Some(self.settings.memtable_bytes);
        replay(&self.segments, &self.codec, span, |_| Damage::Skipped, |found| refill.take(found))?;
        self.quarantined.fetch_or(refill.quarantined, Ordering::AcqRel);
        fresh.apply(&refill.table)
    }

    fn exchange_index(&self, fresh: Index) {
        let mut tables = self.tables.write();
        // Everything in it is before the end of the log that the new index was made from.
        tables.frozen = None;
        let old = self.index.write().replace(Arc::new(fresh));
        drop(tables);
        let Some(mut old) = old else { return };
        for _ in 0..LET_GO_TRIES {
            match Arc::try_unwrap(old) {
                Ok(last) => {
                    drop(last);
                    if let Ok(index) = self.index() {
                        index.remove_others(&self.disk.path(index::FOLDER));
                    }
                    return;
                }
                Err(shared) => old = shared,
            }
            std::thread::yield_now();
        }
    }
}
