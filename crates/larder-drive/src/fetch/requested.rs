//! Files that a user asked for: where each stands, and whose turn it is.

use super::records::Wish;
use larder_core::{Error, Kind, NodeId};
use larder_policy::plan::{self, Amount, JobId, Outcome};
use larder_policy::{Direction, Tick};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// Chunks of one priority that are offered to the planner, beyond which no file is looked over: with
/// [`super::survey::PIECE`] more for each priority, well within what it takes.
const OFFERED_MAX: usize = 8192;
/// Files that ended and are still told of.
const ENDED_MAX: usize = 1000;
/// How often a file whose chunks the server does not have any more is looked over again: the news of its change may be under way.
const CHANGED_MAX: u32 = 10;
/// How long after.
const CHANGED_WAIT: Duration = Duration::from_secs(1);

/// What is paused as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// Everything.
    pub all: bool,
    /// All fetches.
    pub down: bool,
    /// All pushes.
    pub up: bool,
}

impl Switches {
    pub(super) fn scopes(self) -> [(plan::Scope, bool); 3] {
        let direction = plan::Scope::Direction;
        [
            (plan::Scope::All, self.all),
            (direction(Direction::Down), self.down),
            (direction(Direction::Up), self.up),
        ]
    }
}

/// Where a file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// To be looked over.
    Waiting,
    /// Being looked over.
    Looked,
    /// The planner has some of its chunks, or pages.
    Moving {
        job: JobId,
        chunks: usize,
        are_pages: bool,
    },
    /// To be looked over at its timer.
    Resting,
    Paused,
    Done,
    Cancelled,
    Failed(String),
}

impl Phase {
    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Phase::Done | Phase::Cancelled | Phase::Failed(_))
    }
}

/// A file that was asked for.
pub(super) struct File {
    pub(super) wish: Wish,
    pub(super) phase: Phase,
    /// All of it, and what is here, when it was looked over last.
    pub(super) known: Option<(Amount, Amount)>,
    /// So many extents at its beginning are here.
    pub(super) from: usize,
    changed: u32,
    timer: Option<Tick>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Requested {
    pub(super) files: BTreeMap<NodeId, File>,
    moving: HashMap<JobId, NodeId>,
    waiting: BTreeSet<(Reverse<u8>, u64, NodeId)>,
    timers: BTreeSet<(Tick, NodeId)>,
    /// Those that ended, the oldest first.
    ended: VecDeque<NodeId>,
    /// Of them, those whose records are still there.
    pub(super) kept: Vec<NodeId>,
    offered: [usize; 11],
    pub(super) next_order: u64,
    switches: Switches,
}

impl Requested {
    pub(super) fn switches(&self) -> Switches {
        self.switches
    }

    pub(super) fn set_switches(&mut self, switches: Switches) {
        self.switches = switches;
    }

    /// Files that have not ended.
    pub(super) fn unfinished(&self) -> usize {
        self.files.len() - self.ended.len()
    }

    pub(super) fn is_held(&self, id: NodeId) -> bool {
        self.files.get(&id).is_some_and(|file| file.phase == Phase::Paused)
    }

    /// Adds a file that is not there or has ended.
    pub(super) fn add(&mut self, id: NodeId, wish: Wish, known: Option<(Amount, Amount)>, now: Tick) {
        if self.files.contains_key(&id) {
            self.ended.retain(|ended| *ended != id);
        }
        self.next_order = self.next_order.max(wish.order + 1);
        let (phase, timer) = (Phase::Paused, None);
        self.files.insert(id, File { wish, phase, known, from: 0, changed: 0, timer });
        let phase = if wish.is_paused { Phase::Paused } else { Phase::Waiting };
        self.enter(id, phase, now);
    }

    pub(super) fn is_waiting(&self, id: NodeId) -> bool {
        self.files.get(&id).is_some_and(|file| file.phase == Phase::Waiting)
    }

    /// Gives a file that has not ended another wish; nothing for any other. The job that the planner has, or had, of it.
    pub(super) fn rewish(&mut self, id: NodeId, wish: Wish, now: Tick) -> Option<Option<JobId>> {
        let file = self.files.get(&id).filter(|file| !file.phase.has_ended())?;
        let job = if let Phase::Moving { job, .. } = file.phase { Some(job) } else { None };
        // The planner's job keeps the ttl that it had.
        let is_anew = job.is_some() && file.wish.ttl_ms != wish.ttl_ms;
        let phase = if is_anew { Phase::Waiting } else { file.phase.clone() };
        // Out of the places that go by its priority, and back in.
        self.enter(id, Phase::Looked, now);
        self.files.get_mut(&id)?.wish = wish;
        self.enter(id, phase, now);
        Some(job)
    }

    /// Takes a file from its phase, which ends, into another.
    pub(super) fn enter(&mut self, id: NodeId, phase: Phase, now: Tick) {
        let Some(file) = self.files.get_mut(&id) else { return };
        let place = (Reverse(file.wish.priority), file.wish.order, id);
        self.waiting.remove(&place);
        if let Some(timer) = file.timer.take() {
            self.timers.remove(&(timer, id));
        }
        if let Phase::Moving { job, chunks, .. } = file.phase {
            self.moving.remove(&job);
            self.offered[usize::from(file.wish.priority)] -= chunks;
        }
        file.timer = match &phase {
            Phase::Resting => Some(now.after(CHANGED_WAIT)),
            Phase::Waiting | Phase::Paused => {
                file.wish.ttl_ms.map(|ttl| now.after(Duration::from_millis(ttl)))
            }
            _ => None,
        };
        self.timers.extend(file.timer.map(|timer| (timer, id)));
        match &phase {
            Phase::Waiting => _ = self.waiting.insert(place),
            Phase::Moving { job, chunks, .. } => {
                self.moving.insert(*job, id);
                self.offered[usize::from(file.wish.priority)] += chunks;
            }
            Phase::Paused => file.from = 0,
            ended if ended.has_ended() => {
                self.ended.push_back(id);
                self.kept.push(id);
            }
            _ => {}
        }
        file.phase = phase;
        if self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.files.remove(&oldest);
        }
    }

    /// A job of the planner's ended; says whether it was one of these.
    pub(super) fn ended(&mut self, job: JobId, outcome: Outcome, cause: Option<&Error>, now: Tick) -> bool {
        let Some(id) = self.moving.get(&job).copied() else { return false };
        let Some(file) = self.files.get_mut(&id) else { return false };
        let why = || cause.map_or_else(|| "the server's bytes are wrong".to_owned(), ToString::to_string);
        let phase = match outcome {
            Outcome::Done => {
                file.changed = 0;
                Phase::Waiting
            }
            Outcome::Refused(Kind::Conflict | Kind::NotFound) if file.changed < CHANGED_MAX => {
                (file.changed, file.from) = (file.changed + 1, 0);
                Phase::Resting
            }
            Outcome::Expired | Outcome::TimedOut => Phase::Failed(expired(&file.wish)),
            Outcome::Cancelled => Phase::Cancelled,
            Outcome::Corrupt | Outcome::Refused(_) => Phase::Failed(why()),
        };
        self.enter(id, phase, now);
        true
    }

    /// Does what timers say, and returns the next one.
    pub(super) fn wake(&mut self, now: Tick) -> Option<Tick> {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            let Some(file) = self.files.get(&id) else {
                self.timers.remove(&(at, id));
                continue;
            };
            let phase = match file.phase {
                Phase::Resting => Phase::Waiting,
                _ => Phase::Failed(expired(&file.wish)),
            };
            self.enter(id, phase, now);
        }
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next file to look over, where there is room for its chunks.
    pub(super) fn next(&mut self, now: Tick) -> Option<(NodeId, usize)> {
        let (id, from) = (0..=10).rev().find_map(|priority: u8| {
            let first = (Reverse(priority), 0, NodeId(0))..=(Reverse(priority), u64::MAX, NodeId(u64::MAX));
            let (_, _, id) = self.waiting.range(first).next()?;
            let has_room = self.offered[usize::from(priority)] < OFFERED_MAX;
            has_room.then(|| (*id, self.files[id].from))
        })?;
        self.enter(id, Phase::Looked, now);
        Some((id, from))
    }
}

fn expired(wish: &Wish) -> String {
    let ttl_s = wish.ttl_ms.unwrap_or_default() as f64 / 1000.0;
    format!("it moved nothing for {ttl_s} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(priority: u8, order: u64) -> Wish {
        Wish { priority, ttl_ms: None, order, is_paused: false, limit_bytes_per_s: None }
    }

    /// Files 1 to `count`, asked for in this order.
    fn files(count: u64, priority: impl Fn(u64) -> u8) -> Requested {
        let mut requested = Requested::default();
        (1..=count).for_each(|id| requested.add(NodeId(id), wish(priority(id), id), None, Tick(0)));
        requested
    }

    fn moving(requested: &mut Requested, id: NodeId, chunks: usize) {
        let phase = Phase::Moving { job: JobId(id.0), chunks, are_pages: false };
        requested.enter(id, phase, Tick(0));
    }

    #[test]
    fn full_priority_holds_up_no_other() {
        let mut requested = files(6, |id| if id % 2 == 0 { 9 } else { 3 });
        let next = |requested: &mut Requested| requested.next(Tick(0)).map(|(id, _)| id.0);
        assert_eq!(next(&mut requested), Some(2));
        moving(&mut requested, NodeId(2), OFFERED_MAX);
        assert_eq!([next(&mut requested), next(&mut requested)], [Some(1), Some(3)], "4 and 6 have no room");
        moving(&mut requested, NodeId(1), OFFERED_MAX);
        assert_eq!(next(&mut requested), None);
        requested.rewish(NodeId(2), wish(5, 2), Tick(0));
        assert_eq!(next(&mut requested), Some(4), "its chunks count for its new priority");
        requested.ended(JobId(1), Outcome::Done, None, Tick(0));
        assert_eq!([next(&mut requested), next(&mut requested)], [Some(6), Some(1)]);
        assert_eq!(requested.offered.iter().sum::<usize>(), OFFERED_MAX);
    }

    #[test]
    fn only_so_many_that_ended_are_remembered() {
        let count = ENDED_MAX as u64 + 50;
        let mut requested = files(count, |_| 5);
        (1..count).for_each(|id| requested.enter(NodeId(id), Phase::Done, Tick(0)));
        assert_eq!((requested.files.len(), requested.unfinished()), (ENDED_MAX + 1, 1));
        assert!(!requested.files.contains_key(&NodeId(1)), "the oldest goes first");
        requested.add(NodeId(count - 1), wish(5, count + 1), None, Tick(0));
        assert_eq!((requested.files.len(), requested.unfinished()), (ENDED_MAX + 1, 2));
    }

    #[test]
    fn file_whose_chunks_are_gone_is_looked_over_again_and_not_for_ever() {
        let mut requested = files(1, |_| 5);
        let (mut now, mut tries) = (Tick(0), 0);
        while let Some((id, _)) = requested.next(now) {
            moving(&mut requested, id, 1);
            requested.ended(JobId(1), Outcome::Refused(Kind::Conflict), None, now);
            assert_eq!(requested.next(now), None, "not at once");
            now = now.after(CHANGED_WAIT);
            requested.wake(now);
            tries += 1;
        }
        assert_eq!(tries, CHANGED_MAX + 1);
        assert!(matches!(requested.files[&NodeId(1)].phase, Phase::Failed(_)));
    }
}
