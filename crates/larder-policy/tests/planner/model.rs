//! Random histories: after each step the planner is compared with a model that looks at everything each time.

use crate::world::{DOWN, SIZE_BYTES, UP, number, requested, wish};
use larder_core::{Kind, NodeId};
use larder_policy::plan::{
    Action, Event, Failure, IN_FLIGHT_MAX, JobId, Outcome, Planner, RequestId, Scope, Settings, Urgency, Wish,
};
use larder_policy::{Direction, Tick, retry};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Wish { job: u64, urgency: u8, up: bool, chunks: u16, wait_ms: Option<u64>, ttl_ms: Option<u64> },
    Urge(u64, u8),
    Pause(u8, bool),
    Cancel(u8),
    Arrive(u8),
    Move(u8, u32),
    Fail(u8, u8, u32),
    Online(bool),
    HoldReaders(bool),
    Pass(u64),
    PassToWake,
}

fn step() -> impl Strategy<Value = Step> {
    let wait = || prop::option::weighted(0.3, 1..20_000u64);
    prop_oneof![
        6 => (0..7u64, 0..14u8, any::<bool>(), any::<u16>(), wait(), wait()).prop_map(
            |(job, urgency, up, chunks, wait_ms, ttl_ms)| Step::Wish { job, urgency, up, chunks, wait_ms, ttl_ms }),
        1 => (0..7u64, 0..14u8).prop_map(|(job, urgency)| Step::Urge(job, urgency)),
        3 => (0..10u8, any::<bool>()).prop_map(|(scope, is)| Step::Pause(scope, is)),
        1 => (0..10u8).prop_map(Step::Cancel),
        8 => any::<u8>().prop_map(Step::Arrive),
        2 => (any::<u8>(), 0..400_000u32).prop_map(|(which, bytes)| Step::Move(which, bytes)),
        3 => (any::<u8>(), 0..8u8, any::<u32>()).prop_map(|(which, how, jitter)| Step::Fail(which, how, jitter)),
        1 => any::<bool>().prop_map(Step::Online),
        1 => any::<bool>().prop_map(Step::HoldReaders),
        3 => (0..5000u64).prop_map(Step::Pass),
        3 => Just(Step::PassToWake),
    ]
}

fn urgency_of(rank: u8) -> Urgency {
    match rank {
        0 => Urgency::Reader,
        1 => Urgency::Opener,
        2 => Urgency::Readahead,
        3..=12 => requested(13 - rank),
        _ => Urgency::Pin,
    }
}

/// Jobs 0 to 6, then the directions, then all.
fn scope_of(number: u8) -> Scope {
    match number {
        0..=6 => Scope::Job(JobId(u64::from(number))),
        7 => Scope::Direction(UP),
        8 => Scope::Direction(DOWN),
        _ => Scope::All,
    }
}

struct Job {
    direction: Direction,
    rank: u8,
    missing: BTreeSet<u32>,
    is_paused: bool,
    deadline: Option<Tick>,
    ttl: Option<Duration>,
    moved_at: Tick,
    /// How it must end at the next poll.
    ending: Option<Outcome>,
}

type Place = (bool, u32);

struct Machine {
    planner: Planner,
    now: Tick,
    settings: Settings,
    jobs: BTreeMap<u64, Job>,
    /// Where, how urgent, and with which it shares a call.
    in_flight: BTreeMap<RequestId, (Place, u8, RequestId)>,
    moved: BTreeMap<RequestId, u32>,
    /// Chunks that may wait for a next try until the tick.
    excused: BTreeMap<Place, Tick>,
    is_offline: bool,
    /// Up, down, all.
    paused: [bool; 3],
}

impl Machine {
    fn served(&self, job: &Job) -> Option<u8> {
        let goes_on = job.rank == 0 && !self.settings.pause_holds_readers;
        (goes_on || !job.is_paused).then_some(job.rank)
    }

    /// The rank in which a chunk is wanted by jobs that are not paused.
    fn rank(&self, (up, number): Place) -> Option<u8> {
        let wants = |job: &&Job| (job.direction == UP) == up && job.missing.contains(&number);
        self.jobs.values().filter(wants).filter_map(|job| self.served(job)).min()
    }

    fn lets(&self, up: bool, rank: u8) -> bool {
        let is_paused = self.paused[2] || self.paused[usize::from(!up)];
        !self.is_offline && (!is_paused || (rank == 0 && !self.settings.pause_holds_readers))
    }

    fn wanted(&self) -> BTreeSet<Place> {
        let places = |job: &Job| {
            let up = job.direction == UP;
            job.missing.iter().map(move |number| (up, *number)).collect::<Vec<_>>()
        };
        self.jobs.values().flat_map(places).collect()
    }

    fn is_in_flight(&self, place: Place) -> bool {
        self.in_flight.values().any(|(other, ..)| *other == place)
    }

    /// Carries out what the planner says and checks each of its words.
    fn drain(&mut self) {
        while let Some(action) = self.planner.poll(self.now) {
            match action {
                Action::Start(request) => {
                    let place = (request.direction == UP, number(request.chunk));
                    let rank = self.rank(place).expect("nobody wants it");
                    assert_eq!(request.urgency, urgency_of(rank));
                    assert!(self.lets(place.0, rank), "{request:?} is held");
                    assert!(!self.is_in_flight(place), "{request:?} twice at once");
                    for other in self.wanted() {
                        let is_higher =
                            other.0 == place.0 && self.rank(other).is_some_and(|other| other < rank);
                        let may_wait = self.excused.get(&other).is_some_and(|until| *until > self.now);
                        assert!(
                            !is_higher || may_wait || self.is_in_flight(other),
                            "{request:?} before {other:?}"
                        );
                    }
                    self.in_flight.insert(request.id, (place, rank, request.with));
                    self.check_places(place.0);
                }
                Action::Abandon(request) => _ = self.in_flight.remove(&request).expect("in flight"),
                Action::Reclass(request, urgency) => {
                    let (place, _, with) = self.in_flight[&request];
                    let rank = self.rank(place).expect("nobody wants it");
                    assert_eq!(urgency, urgency_of(rank));
                    self.in_flight.insert(request, (place, rank, with));
                }
                Action::Ended(id, outcome) => {
                    let job = self.jobs.remove(&id.0).expect("it ends once");
                    let expired = job.ttl.is_some_and(|ttl| job.moved_at.after(ttl) <= self.now);
                    let timed_out = job.deadline.is_some_and(|deadline| deadline <= self.now);
                    let expected = job.ending.or(timed_out.then_some(Outcome::TimedOut));
                    assert_eq!(Some(outcome), expected.or(expired.then_some(Outcome::Expired)), "{id:?}");
                }
            }
        }
    }

    /// The calls in flight in a direction: their chunks, by rank.
    fn calls(&self, up: bool) -> BTreeMap<RequestId, Vec<u8>> {
        let mut calls: BTreeMap<RequestId, Vec<u8>> = BTreeMap::new();
        for (place, _, with) in self.in_flight.values().filter(|(place, ..)| place.0 == up) {
            calls.entry(*with).or_default().push(self.rank(*place).expect("wanted"));
        }
        calls
    }

    fn check_places(&self, up: bool) {
        let calls = self.calls(up);
        assert!(calls.len() <= IN_FLIGHT_MAX);
        assert!(calls.values().all(|ranks| ranks.len() <= self.settings.batch));
        let bulk = calls.values().filter(|ranks| ranks.iter().any(|rank| *rank > 1)).count();
        assert!(bulk < IN_FLIGHT_MAX, "no place kept");
    }

    fn check(&self) {
        for (place, rank, _) in self.in_flight.values() {
            assert_eq!(self.rank(*place), Some(*rank), "{place:?} in flight as {rank}");
            assert!(self.lets(place.0, *rank), "{place:?} is in flight and held");
        }
        for (id, job) in &self.jobs {
            let is_over = job.deadline.is_some_and(|deadline| deadline <= self.now)
                || job.ttl.is_some_and(|ttl| job.moved_at.after(ttl) <= self.now);
            assert!(job.ending.is_none() && !is_over && !job.missing.is_empty(), "job {id} did not end");
            let progress = self.planner.progress(JobId(*id), self.now).expect("it is there");
            assert_eq!(progress.total.chunks - progress.done.chunks, job.missing.len() as u64);
        }
        let census = self.planner.census();
        assert_eq!(
            (census.jobs, census.chunks, census.in_flight),
            (self.jobs.len(), self.wanted().len(), self.calls(true).len() + self.calls(false).len())
        );
        let wake_at = self.planner.wake_at();
        assert!(wake_at.is_none_or(|at| at > self.now), "a busy loop: {wake_at:?} at {:?}", self.now);
        for place in self.wanted() {
            let is_free = self.rank(place).is_some_and(|rank| self.lets(place.0, rank));
            let is_idle = !self.in_flight.values().any(|(other, ..)| other.0 == place.0);
            assert!(!is_free || !is_idle || wake_at.is_some(), "{place:?} waits for nothing");
        }
    }

    fn end_wanting(&mut self, (up, number): Place, outcome: Outcome) {
        let wants = |job: &&mut Job| (job.direction == UP) == up && job.missing.contains(&number);
        self.jobs.values_mut().filter(wants).for_each(|job| job.ending = Some(outcome));
    }

    fn wish(&mut self, job: u64, rank: u8, up: bool, chunks: u16, wait: [Option<u64>; 2]) {
        let missing: BTreeSet<u32> = (0..16).filter(|bit| chunks >> bit & 1 == 1).collect();
        let [wait, ttl] = wait.map(|ms| ms.map(Duration::from_millis));
        let direction = if up { UP } else { DOWN };
        let deadline = wait.map(|wait| self.now.after(wait));
        let of = NodeId(job % 2);
        let wish =
            Wish { direction, of, deadline, ttl, ..wish(job, urgency_of(rank), missing.iter().copied()) };
        let told = self.planner.handle(self.now, Event::Wish(wish));
        assert_eq!(told.is_err(), self.jobs.contains_key(&job));
        if told.is_ok() {
            let ending = missing.is_empty().then_some(Outcome::Done);
            let reader = (rank == 0).then(|| self.now.after(self.settings.reader_wait));
            let deadline = deadline.or(reader);
            let made =
                Job { direction, rank, missing, is_paused: false, deadline, ttl, moved_at: self.now, ending };
            self.jobs.insert(job, made);
        }
    }

    fn picked(&self, which: u8) -> Option<(RequestId, Place)> {
        let count = self.in_flight.len().max(1);
        self.in_flight.iter().nth(usize::from(which) % count).map(|(id, (place, ..))| (*id, *place))
    }

    fn touch(&mut self, (up, number): Place, is_here: bool) {
        let now = self.now;
        for job in self.jobs.values_mut().filter(|job| (job.direction == UP) == up) {
            if job.missing.contains(&number) {
                job.moved_at = now;
                if is_here {
                    job.missing.remove(&number);
                    job.ending = job.missing.is_empty().then_some(Outcome::Done);
                }
            }
        }
    }

    fn answer(&mut self, step: &Step, request: RequestId, place: Place) -> Event {
        match *step {
            Step::Arrive(_) => {
                self.touch(place, true);
                self.in_flight.remove(&request);
                self.excused.remove(&place);
                Event::Arrived(request)
            }
            Step::Move(_, bytes) => {
                let moved = self.moved.entry(request).or_default();
                let bytes_counted = bytes.min(SIZE_BYTES - *moved);
                *moved += bytes_counted;
                if bytes_counted > 0 {
                    self.touch(place, false);
                }
                Event::Moved(request, bytes)
            }
            Step::Fail(_, how, jitter) => {
                self.in_flight.remove(&request);
                self.excused.insert(place, self.now.after(retry::CEILING));
                let retry_after = (how == 1).then_some(Duration::from_secs(7));
                let failure = match how {
                    0..=4 => Failure::Unavailable { retry_after },
                    5 | 6 => Failure::WrongBody,
                    _ => Failure::Refused(Kind::Denied),
                };
                if how == 7 {
                    self.end_wanting(place, Outcome::Refused(Kind::Denied));
                }
                Event::Failed(request, failure, jitter)
            }
            _ => unreachable!("only answers to requests"),
        }
    }

    fn take(&mut self, step: &Step) {
        let event = match *step {
            Step::Wish { job, urgency, up, chunks, wait_ms, ttl_ms } => {
                return self.wish(job, urgency, up, chunks, [wait_ms, ttl_ms]);
            }
            Step::Urge(id, rank) => {
                let reader = self.now.after(self.settings.reader_wait);
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.rank = rank;
                    if rank == 0 {
                        job.deadline.get_or_insert(reader);
                    }
                }
                Event::Urge(JobId(id), urgency_of(rank))
            }
            Step::Pause(scope, is_paused) => {
                match self.jobs.get_mut(&u64::from(scope)) {
                    Some(job) => job.is_paused = is_paused,
                    None if scope >= 7 => self.paused[usize::from(scope) - 7] = is_paused,
                    None => {}
                }
                if is_paused { Event::Pause(scope_of(scope)) } else { Event::Resume(scope_of(scope)) }
            }
            Step::Cancel(scope) => {
                for (id, job) in &mut self.jobs {
                    let is_meant = match scope_of(scope) {
                        Scope::Job(named) => named.0 == *id,
                        Scope::Direction(direction) => job.direction == direction && job.rank != 0,
                        Scope::All => job.rank != 0,
                    };
                    job.ending = job.ending.or(is_meant.then_some(Outcome::Cancelled));
                }
                Event::Cancel(scope_of(scope))
            }
            Step::Arrive(which) | Step::Move(which, _) | Step::Fail(which, ..) => {
                let Some((request, place)) = self.picked(which) else { return };
                self.answer(step, request, place)
            }
            Step::Online(is_online) => {
                self.is_offline = !is_online;
                if is_online {
                    self.excused.clear();
                }
                if is_online { Event::Online } else { Event::Offline }
            }
            Step::HoldReaders(holds) => {
                self.settings.pause_holds_readers = holds;
                Event::Set(self.settings)
            }
            Step::Pass(ms) => return self.now = self.now.after(Duration::from_millis(ms)),
            Step::PassToWake => return self.now = self.planner.wake_at().unwrap_or(self.now),
        };
        self.planner.handle(self.now, event).expect("only wishes are refused");
    }

    /// At the end everything may move and arrives: every wish ends.
    fn finish(&mut self) {
        for step in [Step::Online(true), Step::Pause(7, false), Step::Pause(8, false), Step::Pause(9, false)]
        {
            self.take(&step);
        }
        (0..7).for_each(|job| self.take(&Step::Pause(job, false)));
        for _ in 0..1000 {
            self.drain();
            self.check();
            match self.in_flight.is_empty() {
                true if self.jobs.is_empty() => break,
                true => self.take(&Step::PassToWake),
                false => self.take(&Step::Arrive(0)),
            }
        }
        assert_eq!(self.planner.census().chunks + self.planner.census().jobs, 0, "a wish did not end");
        assert_eq!(self.planner.census().waiting, 0);
        assert_eq!(self.planner.wake_at(), None);
    }
}

fn history(batch: usize, steps: &[Step]) {
    let settings = Settings { batch, ..Settings::default() };
    let mut machine = Machine {
        planner: Planner::new(settings),
        now: Tick(1),
        settings,
        jobs: BTreeMap::new(),
        in_flight: BTreeMap::new(),
        moved: BTreeMap::new(),
        excused: BTreeMap::new(),
        is_offline: false,
        paused: [false; 3],
    };
    for step in steps {
        machine.take(step);
        machine.drain();
        machine.check();
    }
    machine.finish();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn planner_does_what_a_look_at_everything_says(
        batch in 1..4usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        history(batch, &steps);
    }
}
