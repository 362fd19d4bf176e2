//! Making the index again from the log while the store serves.

use super::engine::Engine;
use super::holes;
use super::index::{self, Index};
use super::position::Position;
use super::replay::{Damage, Hole, Refill, replay};
use super::superblock::{self, IndexState};
use larder_core::{Error, Result};
use parking_lot::MutexGuard;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a rebuild looks whether the last reader has let go of the old index, before it leaves it to the next
/// start to delete that. A reader holds it for microseconds, a listing for milliseconds.
const LET_GO_TRIES: u32 = 1_000_000;

/// A turn at maintenance. An index that failed meanwhile is made again when it ends.
pub struct Turn<'a>(&'a Engine, Option<MutexGuard<'a, ()>>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Before the checkpointer is told, which does not wait for it.
        drop(self.1.take());
        let mut work = self.0.work.lock();
        if work.index_lost && !work.rebuild {
            work.rebuild = true;
            work.wanted = true;
            self.0.work_changed.notify_all();
        }
    }
}

impl Engine {
    /// Waits for other maintenance to end.
    pub fn turn(&self) -> Turn<'_> {
        Turn(self, Some(self.maintenance.lock()))
    }

    /// Makes the index again, equal to what it was. Reads go on with the old one, if that answers; changes wait
    /// once the memtable is full. With `accept_loss`, what the log no longer says is given up.
    ///
    /// # Errors
    /// `Corrupt` where the log has holes, and the old index may have what they held; those of the disk. Then the old index
    /// stays in use.
    pub fn rebuild(&self, accept_loss: bool) -> Result<()> {
        let _turn = self.turn();
        let holes = self.rebuild_now(accept_loss)?;
        if accept_loss { self.note_holes(&holes) } else { Ok(()) }
    }

    /// As [`Engine::rebuild`], for the checkpointer: other maintenance may be waiting for it, so it does not wait.
    ///
    /// # Errors
    /// `Unavailable` while other maintenance runs; else those of [`Engine::rebuild`].
    pub fn rebuild_if_free(&self) -> Result<()> {
        let turn = self.maintenance.try_lock();
        let outcome = match turn {
            Some(_) => self.rebuild_now(false).map(drop),
            None => Err(Error::unavailable("the index is made again once other maintenance has ended")),
        };
        if let Err(error) = &outcome {
            let mut work = self.work.lock();
            work.tried += 1;
            // The next read that fails asks again, or the maintenance when it ends.
            work.rebuild = false;
            work.failed = Some(Error::new(error.kind(), error.to_string()));
            self.work_changed.notify_all();
        }
        outcome
    }

    fn rebuild_now(&self, accept_loss: bool) -> Result<Vec<Hole>> {
        // Held to the end: no checkpoint starts.
        let mut superblock = self.superblock.lock();
        let end = self.appender.end();
        self.appender.wait_durable(end)?;
        let usable = !self.work.lock().index_lost;
        let mut next = *superblock;
        if !usable {
            superblock.index = IndexState::Lost;
            self.disk.replace(superblock::NAME, &superblock.encode())?;
        }
        next.generation += 1;
        next.checkpoint = end;
        let fresh = Index::next_to(&self.disk.path(index::FOLDER), self.settings.index_cache_bytes)?;
        let made = self.make(&fresh, next.generation, end, accept_loss).and_then(|(hash, holes)| {
            let incomplete = holes::told(&holes).filter(|_| !accept_loss);
            match &incomplete {
                Some(holes) if usable => return Err(refused(holes)),
                Some(holes) => {
                    tracing::error!(%holes, "the index lacks what damaged records of the log hold")
                }
                None => {}
            }
            next.index = if incomplete.is_some() { IndexState::Lost } else { IndexState::Sealed(hash) };
            self.disk.replace(superblock::NAME, &next.encode())?;
            Ok((holes, incomplete))
        });
        let (holes, incomplete) = match made {
            Ok(made) => made,
            Err(error) => {
                fresh.abandon();
                return Err(error);
            }
        };
        *superblock = next;
        self.exchange_index(fresh);
        let mut work = self.work.lock();
        work.tried += 1;
        work.rebuild = false;
        work.index_lost = false;
        work.incomplete = incomplete;
        work.failed = None;
        work.checkpoint = end;
        self.work_changed.notify_all();
        Ok(holes)
    }

    /// Makes `fresh` from the log up to `end`; returns its hash, and the holes that it was made in spite of.
    fn make(
        &self,
        fresh: &Index,
        generation: u64,
        end: Position,
        accept_loss: bool,
    ) -> Result<([u8; 32], Vec<Hole>)> {
        let damage = if accept_loss { Damage::Skipped } else { Damage::SkippedIfRead };
        let holes = self.refill(fresh, self.first()..end, damage)?;
        fresh.sync(generation)?;
        let hash = index::fingerprint(fresh.folder());
        Ok((hash.ok_or_else(|| Error::corrupt("the index has no files"))?, holes))
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

    /// Fills `fresh` from the log of `span`; returns the holes that may have held what it now lacks.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn refill(&self, fresh: &Index, span: Range<Position>, damage: Damage) -> Result<Vec<Hole>> {
        let mut refill = Refill::new(fresh, false);
        refill.spill_at = Some(self.settings.memtable_bytes);
        let replayed = replay(&self.segments, &self.codec, span, |_| damage, |found| refill.take(found))?;
        self.quarantined.fetch_or(refill.quarantined, Ordering::AcqRel);
        fresh.apply(&refill.table)?;
        holes::unknown(replayed.holes, |key| fresh.get(key).map(|slot| slot.is_some()))
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

fn refused(holes: &str) -> Error {
    Error::corrupt(format!(
        "the log is damaged ({holes}) and the index may have what it said there; `larder scrub` appends that again"
    ))
}
