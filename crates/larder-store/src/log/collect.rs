//! Collection: chunks that nothing refers to go, and segments that hold little of use are compacted.
//!
//! What is alive is marked from the catalog each time; nothing is counted, so nothing can be counted wrong. A chunk
//! that a lease holds, or held since the sweep began, stays.

use super::engine::Engine;
use super::position::Position;
use super::record::HEADER_BYTES;
use super::slot::{self, CHUNK, QUARANTINED, Slot};
use crate::kv::Batch;
use larder_core::{ChunkId, Result};
use std::collections::BTreeMap;

/// Entries dropped at a time.
const DROPPED: usize = 1024;
/// Chunks dropped under one lock: about 50 microseconds.
const DROPS_PER_BATCH: usize = 64;
/// A segment is compacted where less than this share of it is of use.
pub const COMPACT_BELOW_PERCENT: u64 = 60;

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Chunks that went.
    pub chunks: u64,
    /// Bytes that they took.
    pub chunk_bytes: u64,
    /// Segments that were compacted away.
    pub segments: u64,
    /// Bytes that these segments took.
    pub segment_bytes: u64,
    /// Bytes of use that were moved out of them.
    pub moved_bytes: u64,
    /// Pages of manifests that could not be read: while there are any, no chunk goes, for they may list it.
    pub unread_pages: u64,
}

/// How fast maintenance may go: called with the bytes that it has just read, it returns when the next may be read.
pub type Pace<'a> = &'a mut dyn FnMut(u64);

/// Marks a chunk as alive.
pub type Mark<'a> = &'a mut dyn FnMut(&ChunkId);

/// A chunk to be dropped, with its key and slot.
pub type Dead = (ChunkId, Vec<u8>, Vec<u8>);

/// Says of a chunk, under the lock that drops it, that it is to stay after all.
pub type Spares<'a> = &'a dyn Fn(&ChunkId) -> bool;

/// Ends the sweep however it ends.
pub struct Sweep<'a>(pub &'a Engine);

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        self.0.leases.end_sweep();
    }
}

impl Engine {
    /// Drops every chunk that `mark` does not mark and no lease holds, unless that returns a number of pages that it could
    /// not read, then compacts.
    ///
    /// # Errors
    /// `Corrupt` where the index lacks something; those of `mark`: then nothing went; those of the disk: then what was
    /// done so far stays done.
    pub fn collect(&self, mark: impl FnOnce(Mark<'_>) -> Result<u64>, pace: Pace<'_>) -> Result<Collected> {
        let _turn = self.turn();
        self.check_complete()?;
        let mut collected = Collected::default();
        let used = {
            self.leases.begin_sweep();
            let _sweep = Sweep(self);
            let mut alive = Vec::new();
            collected.unread_pages = mark(&mut |id| alive.push(id.prefix()))?;
            alive.sort_unstable();
            alive.dedup();
            let alive = (collected.unread_pages == 0).then_some(alive.as_slice());
            self.sweep(QUARANTINED, alive, &mut Collected::default())?;
            self.sweep(CHUNK, alive, &mut collected)?
        };
        self.compact_emptied(&used, &mut collected, pace, &|| true)?;
        Ok(collected)
    }

    /// Compacts segments that hold little of use, as `used` says, as long as `go_on` does.
    ///
    /// # Errors
    /// Those of the disk; what was done so far stays done.
    pub fn compact_emptied(
        &self,
        used: &BTreeMap<u32, u64>,
        collected: &mut Collected,
        pace: Pace<'_>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<()> {
        let head = self.appender.end().segment();
        let mut victims = Vec::new();
        for number in self.segments.numbers().into_iter().filter(|number| *number < head) {
            let size = self.segments.file(number)?.len()?;
            let share = used.get(&number).copied().unwrap_or(0) * 100 / size.max(1);
            if share < COMPACT_BELOW_PERCENT {
                victims.push((share, number));
            }
        }
        // The emptiest first: it frees most for the least, which a full disk needs.
        victims.sort_unstable();
        for (_, number) in victims.into_iter().take_while(|_| go_on()) {
            self.compact(number, collected, pace)?;
        }
        Ok(())
    }

    /// Drops the entries of `kind` that are not in `alive`, none where that is not known; returns the bytes in use by
    /// segment.
    fn sweep(
        &self,
        kind: u8,
        alive: Option<&[u64]>,
        collected: &mut Collected,
    ) -> Result<BTreeMap<u32, u64>> {
        let is_dead = |id: &ChunkId| {
            alive.is_some_and(|alive| alive.binary_search(&id.prefix()).is_err()) && !self.leases.holds(id)
        };
        let (mut used, mut dead) = (BTreeMap::new(), Vec::new());
        self.each_slot(&[kind], |key, slot| {
            let id = slot::chunk_of(&key)?;
            if !is_dead(&id) {
                if let Slot::Chunk(location) = Slot::decode(&slot)? {
                    let bytes = HEADER_BYTES as u64 + u64::from(location.stored_len);
                    *used.entry(location.position.segment()).or_default() += bytes;
                }
                return Ok(());
            }
            dead.push((id, key, slot));
            if dead.len() >= DROPPED {
                self.drop_all(&dead, &|_| false, collected)?;
                dead.clear();
            }
            Ok(())
        })?;
        self.drop_all(&dead, &|_| false, collected)?;
        Ok(used)
    }

    /// Drops chunks but for those that a lease holds or `spares` accepts by then.
    ///
    /// # Errors
    /// Those of writing.
    pub fn drop_all(&self, dead: &[Dead], spares: Spares<'_>, collected: &mut Collected) -> Result<()> {
        dead.chunks(DROPS_PER_BATCH).try_for_each(|batch| self.drop_dead(batch, spares, collected))
    }

    fn drop_dead(&self, dead: &[Dead], spares: Spares<'_>, collected: &mut Collected) -> Result<()> {
        self.await_room()?;
        let mut head = self.appender.lock()?;
        // A writer holds the chunk, then looks it up. Under this lock either its hold is seen here, or it will see
        // the chunk gone.
        let mut tables = self.tables.write();
        let free = dead.iter().filter(|(id, ..)| !self.leases.holds(id) && !spares(id));
        let mut edits = Vec::with_capacity(dead.len());
        let mut bytes = 0;
        for (_, key, slot) in free {
            edits.push((key.clone(), None));
            if let Slot::Chunk(location) = Slot::decode(slot)? {
                bytes += HEADER_BYTES as u64 + u64::from(location.stored_len);
            }
        }
        if !edits.is_empty() {
            self.append_batch(
                &mut head,
                &self.payloads(&Batch { edits: edits.clone(), changes: Vec::new() }),
            )?;
        }
        collected.chunks += edits.len() as u64;
        collected.chunk_bytes += bytes;
        for (key, _) in edits {
            tables.active.set(key, None);
        }
        let full = tables.active.bytes() >= self.settings.memtable_bytes;
        drop(tables);
        self.appended(head, full);
        Ok(())
    }

    /// Moves what is of use out of segment `number` and deletes it, where that frees enough.
    fn compact(&self, number: u32, collected: &mut Collected, pace: Pace<'_>) -> Result<()> {
        if self.kept.lock().contains(&number) {
            return Ok(());
        }
        let size = self.segments.file(number)?.len()?;
        let oldest = self.segments.numbers().first() == Some(&number);
        let moved = match self.used_bytes(number, oldest, pace)? {
            Some(used) if used * 100 / size.max(1) >= COMPACT_BELOW_PERCENT => return Ok(()),
            Some(_) => self.move_used(number, oldest, pace)?.or_else(|| {
                // What was moved out of it would be moved again by each collection.
                self.kept.lock().insert(number);
                None
            }),
            None => None,
        };
        let Some(moved) = moved else {
            tracing::warn!(number, "a damaged segment is kept as it is");
            return Ok(());
        };
        self.appender.wait_durable(self.appender.end())?;
        if self.superblock.lock().checkpoint <= Position::new(number, u32::MAX) {
            self.checkpoint()?;
        }
        self.segments.remove(number)?;
        // Before the next one goes: its tombstones may have been dropped because this one is gone.
        self.segments.sync_names()?;
        self.reserve.renew();
        collected.segments += 1;
        collected.segment_bytes += size;
        collected.moved_bytes += moved;
        Ok(())
    }
}
