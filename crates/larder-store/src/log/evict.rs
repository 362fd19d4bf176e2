//! Eviction: chunks that somebody else has, too, go until the log is short enough, those first that were not used for longest.
//!
//! As in a collection, what has to stay is marked from the catalog each time. Which segments a compaction would take is
//! forecast while chunks are chosen, so that what is counted is the space that comes back.

use super::collect::{COMPACT_BELOW_PERCENT, Collected, Mark, Sweep};
use super::engine::Engine;
use super::position::Position;
use super::record::HEADER_BYTES;
use super::slot::{self, CHUNK, Location, Slot};
use crate::kv::Pair;
use crate::recent::Recent;
use larder_core::{ChunkId, Result};
use std::collections::{BTreeMap, HashSet};

/// Chunks dropped at a time.
const DROPPED: usize = 1024;

/// How long a chunk was not used: its last use, and among those whose use is not known its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    last_use: u64,
    position: Position,
}

/// What an eviction goes by.
struct Plan<'a> {
    /// Sorted: the prefixes of what has to stay.
    kept: Vec<u64>,
    recent: &'a Recent,
    /// Only these may go; `None` for any.
    only: Option<&'a HashSet<ChunkId>>,
}

impl Plan<'_> {
    /// The age of a chunk that may go.
    fn age(&self, engine: &Engine, id: &ChunkId, location: &Location) -> Option<Age> {
        let stays = self.only.is_some_and(|only| !only.contains(id))
            || self.kept.binary_search(&id.prefix()).is_ok()
            || engine.leases.holds(id);
        (!stays).then(|| Age { last_use: self.recent.last_use(id), position: location.position })
    }
}

/// What an eviction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// What went, and what was moved for it.
    pub collected: Collected,
    /// What the log should have come down to, about, but for what was written meanwhile: more than it was told to where
    /// something has to stay.
    pub left_bytes: u64,
}

/// A segment as chunks are chosen.
#[derive(Default)]
struct Forecast {
    bytes: u64,
    used: u64,
    /// Written to, so that no compaction takes it.
    is_head: bool,
}

impl Forecast {
    /// What is left of it after a compaction.
    fn left(&self) -> u64 {
        let goes = !self.is_head && self.used * 100 / self.bytes.max(1) < COMPACT_BELOW_PERCENT;
        if goes { self.used } else { self.bytes }
    }
}

impl Engine {
    /// Bytes of the log, about; cheap.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn log_bytes(&self) -> Result<u64> {
        self.segments.bytes(self.appender.end())
    }

    /// Drops chunks that `mark` does not mark and no lease holds, the least recently used first, and compacts, until the log
    /// has `target_bytes` or nothing more may go; with `only` those alone. `go_on` is asked between segments. Where `mark` returns that it could not
    /// read some pages of manifests, nothing goes.
    ///
    /// # Errors
    /// As for a collection.
    pub fn evict(
        &self,
        target_bytes: u64,
        recent: &Recent,
        only: Option<&HashSet<ChunkId>>,
        mark: impl FnOnce(Mark<'_>) -> Result<u64>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Evicted> {
        let _turn = self.turn();
        self.check_complete()?;
        let Evicted { mut collected, mut left_bytes } = Evicted::default();
        let used = {
            self.leases.begin_sweep();
            let _sweep = Sweep(self);
            let mut kept = Vec::new();
            collected.unread_pages = mark(&mut |id| kept.push(id.prefix()))?;
            if collected.unread_pages > 0 {
                return Ok(Evicted { collected, left_bytes });
            }
            kept.sort_unstable();
            kept.dedup();
            let plan = Plan { kept, recent, only };
            let chosen;
            (chosen, left_bytes) = self.choose(&plan, target_bytes)?;
            self.drop_chosen(&plan, chosen, &mut collected)?
        };
        self.compact_emptied(&used, &mut collected, &mut |_| (), go_on)?;
        Ok(Evicted { collected, left_bytes })
    }

    /// Returns the age up to which chunks have to go, if any, and what is left then.
    fn choose(&self, plan: &Plan<'_>, target_bytes: u64) -> Result<(Option<Age>, u64)> {
        let head = self.appender.end().segment();
        let mut segments: BTreeMap<u32, Forecast> = BTreeMap::new();
        for number in self.segments.numbers() {
            let bytes = self.segments.file(number)?.len()?;
            segments.insert(number, Forecast { bytes, used: 0, is_head: number >= head });
        }
        let mut may_go = Vec::new();
        self.each_chunk(|id, location, _| {
            let bytes = record_bytes(&location);
            segments.entry(location.position.segment()).or_default().used += bytes;
            may_go.extend(plan.age(self, &id, &location).map(|age| (age, bytes)));
            Ok(())
        })?;
        may_go.sort_unstable();
        let mut left: u64 = segments.values().map(Forecast::left).sum();
        let mut chosen = None;
        for (age, bytes) in may_go {
            if left <= target_bytes {
                break;
            }
            let segment = segments.entry(age.position.segment()).or_default();
            left -= segment.left();
            segment.used -= bytes;
            left += segment.left();
            chosen = Some(age);
        }
        Ok((chosen, left))
    }

    /// Drops what may go and is no younger than `chosen`; returns the bytes in use by segment.
    fn drop_chosen(
        &self,
        plan: &Plan<'_>,
        chosen: Option<Age>,
        collected: &mut Collected,
    ) -> Result<BTreeMap<u32, u64>> {
        let (mut used, mut dead) = (BTreeMap::new(), Vec::new());
        let last_use = chosen.map_or(0, |chosen| chosen.last_use);
        // Used since it was chosen: somebody is reading it.
        let spares = |id: &ChunkId| plan.recent.last_use(id) > last_use;
        self.each_chunk(|id, location, (key, slot)| {
            let age = chosen.and_then(|chosen| plan.age(self, &id, &location).filter(|age| *age <= chosen));
            if age.is_none() {
                *used.entry(location.position.segment()).or_default() += record_bytes(&location);
                return Ok(());
            }
            dead.push((id, key, slot));
            if dead.len() >= DROPPED {
                self.drop_all(&dead, &spares, collected)?;
                dead.clear();
            }
            Ok(())
        })?;
        self.drop_all(&dead, &spares, collected)?;
        Ok(used)
    }

    fn each_chunk(&self, mut visit: impl FnMut(ChunkId, Location, Pair) -> Result<()>) -> Result<()> {
        self.each_slot(&[CHUNK], |key, slot| match Slot::decode(&slot)? {
            Slot::Chunk(location) => visit(slot::chunk_of(&key)?, location, (key, slot)),
            _ => Ok(()),
        })
    }
}

fn record_bytes(location: &Location) -> u64 {
    HEADER_BYTES as u64 + u64::from(location.stored_len)
}
