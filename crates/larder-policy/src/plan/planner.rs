//! The planner itself: jobs, and what events do to them.

use super::chunk::Chunk;
use super::class::Class;
use super::job::{Job, Speed};
use super::lane::{Gate, Lane};
use super::words::{
    Action, Amount, Census, Event, Failure, JobId, Outcome, Progress, RequestId, Scope, Settings, State,
    Urgency, Wish,
};
use super::{CHUNKS_MAX, JOBS_MAX, URGENT_ROOM, WRONG_BODIES_MAX};
use crate::{Direction, Tick};
use larder_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const DIRECTIONS: [Direction; 2] = [Direction::Up, Direction::Down];

/// Decides what moves next, in both directions.
pub struct Planner {
    settings: Settings,
    jobs: BTreeMap<JobId, Job>,
    /// When jobs end by themselves.
    timers: BTreeSet<(Tick, JobId)>,
    lanes: [Lane; 2],
    /// What to say before anything starts: a job ends once, and at most all flights are abandoned between two polls
    /// that start any, so this is bounded by [`JOBS_MAX`] and the flights.
    out: VecDeque<Action>,
    next_request: RequestId,
    is_offline: bool,
    is_all_paused: bool,
    is_paused: [bool; 2],
    wrong_bodies: u64,
    /// The latest time that anybody told.
    now: Tick,
}

impl Planner {
    /// A planner with nothing to do, with a server that can be reached.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            jobs: BTreeMap::new(),
            timers: BTreeSet::new(),
            lanes: DIRECTIONS.map(Lane::new),
            out: VecDeque::new(),
            next_request: RequestId(1),
            is_offline: false,
            is_all_paused: false,
            is_paused: [false; 2],
            wrong_bodies: 0,
            now: Tick(0),
        }
    }

    /// Takes note of what happened at `now`. Costs time in the number of chunks of the jobs named, else constant.
    ///
    /// # Errors
    /// Of a wish only, which then changes nothing: `Exists` for a job that is there, `Unavailable` where there is no
    /// room; offer it again when a job has ended.
    pub fn handle(&mut self, now: Tick, event: Event) -> Result<()> {
        self.now = self.now.max(now);
        self.lanes.iter_mut().for_each(Lane::close);
        match event {
            Event::Wish(wish) => return self.wish(wish),
            Event::Urge(id, urgency) => self.urge(id, urgency),
            Event::Pause(scope) => self.pause(scope, true),
            Event::Resume(scope) => self.pause(scope, false),
            Event::Cancel(scope) => self.cancel(scope),
            Event::Moved(request, bytes) => self.moved(request, bytes),
            Event::Arrived(request) => self.arrived(request),
            Event::Failed(request, failure, jitter) => self.failed(request, failure, jitter),
            Event::Offline => {
                self.is_offline = true;
                self.set_gates();
            }
            Event::Online => {
                self.is_offline = false;
                for lane in &mut self.lanes {
                    lane.trouble.over();
                    lane.queue_due(Tick(u64::MAX));
                }
                self.set_gates();
            }
            Event::Set(settings) => self.set(settings),
        }
        Ok(())
    }

    /// The next thing to do at `now`; call it until it says `None`. Constant time, but for what ends or is due.
    pub fn poll(&mut self, now: Tick) -> Option<Action> {
        self.now = self.now.max(now);
        self.end_overdue();
        if let Some(action) = self.out.pop_front() {
            return Some(action);
        }
        for lane in &mut self.lanes {
            lane.queue_due(self.now);
            if let Some(action) = lane.tell() {
                return Some(action);
            }
            if let Some(request) = lane.start(self.now, &mut self.next_request, self.settings.batch) {
                return Some(Action::Start(request));
            }
        }
        None
    }

    /// When to poll again if nothing happens before; `None` where only an event brings something to do. Once a poll
    /// said `None`, this lies behind the time of that poll.
    pub fn wake_at(&self) -> Option<Tick> {
        if !self.out.is_empty() || self.lanes.iter().any(|lane| lane.untold().is_some()) {
            return Some(self.now);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let earliest = self.lanes.iter().map(Lane::wake_at).chain([timer]).flatten().min()?;
        Some(earliest.max(self.now))
    }

    /// How far a job is at `now`; `None` once it has ended.
    pub fn progress(&self, id: JobId, now: Tick) -> Option<Progress> {
        let job = self.jobs.get(&id)?;
        let lane = &self.lanes[job.direction as usize];
        let is_moved = |slot| lane.chunks.is_wanted(slot, id);
        let state = if job.served_as(&self.settings).is_none() || self.holds(job) {
            State::Paused
        } else if lane.flights.iter().any(|flight| is_moved(flight.slot)) {
            State::Active
        } else {
            State::Queued
        };
        Some(job.progress(state, now.max(self.now)))
    }

    /// What there is.
    pub fn census(&self) -> Census {
        let sum = |count: fn(&Lane) -> usize| self.lanes.iter().map(count).sum();
        Census {
            jobs: self.jobs.len(),
            chunks: sum(|lane| lane.chunks.len()),
            waiting: sum(Lane::waiting),
            in_flight: sum(Lane::places),
            wrong_bodies: self.wrong_bodies,
        }
    }

    fn wish(&mut self, wish: Wish) -> Result<()> {
        let Wish { job: id, direction, urgency, of, chunks, here, deadline, ttl } = wish;
        if self.jobs.contains_key(&id) {
            return Err(Error::exists(format!("transfer {} is there already", id.0)));
        }
        let is_bulk = matches!(urgency, Urgency::Requested(_) | Urgency::Pin);
        let room = if is_bulk { 0 } else { URGENT_ROOM };
        let lane = &mut self.lanes[direction as usize];
        if self.jobs.len() + self.out.len() >= JOBS_MAX + room
            || lane.chunks.len() + chunks.len() > CHUNKS_MAX + room
        {
            return Err(Error::unavailable("too many transfers are queued"));
        }
        let mut job = Job {
            direction,
            class: Class::of(urgency),
            is_paused: false,
            slots: Vec::with_capacity(chunks.len()),
            done: here,
            total: here,
            deadline,
            ttl,
            moved_at: self.now,
            timer: None,
            speed: Speed::default(),
        };
        job.wait_as_reader(self.now, &self.settings);
        for (chunk, size_bytes) in chunks.into_iter().filter(|(chunk, _)| !chunk.is_hole()) {
            let slot = lane.want((chunk, size_bytes), (id, of), Some(job.class), self.now, &mut self.out);
            if let Some(slot) = slot {
                let size_bytes = u64::from(lane.chunks.at(slot).size_bytes);
                job.total = job.total.plus(Amount { bytes: size_bytes, chunks: 1 });
                job.slots.push(slot);
            }
        }
        let is_done = job.is_done();
        self.jobs.insert(id, job);
        if is_done {
            self.end(id, Outcome::Done);
        } else {
            self.set_timer(id);
        }
        Ok(())
    }

    fn urge(&mut self, id: JobId, urgency: Urgency) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.class = Class::of(urgency);
        job.wait_as_reader(self.now, &self.settings);
        self.set_timer(id);
        self.reclass(id);
    }

    fn pause(&mut self, scope: Scope, is_paused: bool) {
        match scope {
            Scope::Job(id) => {
                let Some(job) = self.jobs.get_mut(&id) else { return };
                job.is_paused = is_paused;
                self.reclass(id);
            }
            Scope::Direction(direction) => self.is_paused[direction as usize] = is_paused,
            Scope::All => self.is_all_paused = is_paused,
        }
        self.set_gates();
    }

    fn cancel(&mut self, scope: Scope) {
        let is_meant = |job: &Job| match scope {
            Scope::Job(_) => false,
            Scope::Direction(direction) => job.direction == direction && job.class != Class::READER,
            Scope::All => job.class != Class::READER,
        };
        let ids: Vec<JobId> = match scope {
            Scope::Job(id) => vec![id],
            _ => self.jobs.iter().filter(|(_, job)| is_meant(job)).map(|(id, _)| *id).collect(),
        };
        ids.into_iter().for_each(|id| self.end(id, Outcome::Cancelled));
    }

    fn set(&mut self, settings: Settings) {
        self.settings = settings;
        let paused: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| job.is_paused).map(|(id, _)| *id).collect();
        paused.into_iter().for_each(|id| self.reclass(id));
        self.set_gates();
    }

    fn moved(&mut self, request: RequestId, bytes: u32) {
        for lane in &mut self.lanes {
            let Some(flight) = lane.flights.iter_mut().find(|flight| flight.request == request) else {
                continue;
            };
            let chunk = lane.chunks.at(flight.slot);
            // A body that does not end is no progress.
            let bytes = bytes.min(chunk.size_bytes - flight.moved_bytes);
            flight.moved_bytes += bytes;
            let wanted_by = chunk.wanted_by.jobs().to_vec();
            if bytes > 0 {
                wanted_by.into_iter().for_each(|id| self.job_moved(id, bytes));
            }
            return;
        }
    }

    fn arrived(&mut self, request: RequestId) {
        let arrived = self.lanes.iter_mut().find_map(|lane| lane.arrived(request, self.now));
        let Some((Chunk { size_bytes, wanted_by, .. }, rest_bytes)) = arrived else { return };
        for id in wanted_by.jobs().iter().copied() {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.done = job.done.plus(Amount { bytes: u64::from(size_bytes), chunks: 1 });
            if job.is_done() {
                self.end(id, Outcome::Done);
            } else {
                self.job_moved(id, rest_bytes);
            }
        }
    }

    fn failed(&mut self, request: RequestId, failure: Failure, jitter: u32) {
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            let Some(flight) = lane.land(|flight| flight.request == request) else { continue };
            let outcome = match failure {
                Failure::Unavailable { retry_after } => {
                    lane.had_trouble(request, self.next_request, self.now, (retry_after, jitter));
                    None
                }
                Failure::WrongBody => {
                    self.wrong_bodies += 1;
                    let chunk = lane.chunks.at_mut(flight.slot);
                    chunk.wrong_bodies += 1;
                    (chunk.wrong_bodies >= WRONG_BODIES_MAX).then_some(Outcome::Corrupt)
                }
                Failure::Refused(kind) => Some(Outcome::Refused(kind)),
            };
            match outcome {
                None => lane.try_again(flight.slot, self.now, jitter, failure == Failure::WrongBody),
                Some(outcome) => {
                    let chunk = lane.remove(flight.slot, &mut self.out);
                    chunk.wanted_by.jobs().iter().for_each(|id| self.end(*id, outcome));
                }
            }
            return;
        }
    }

    fn job_moved(&mut self, id: JobId, bytes: u32) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.moved(self.now, bytes);
            self.set_timer(id);
        }
    }

    /// Ends a job; its chunks leave unless another one wants them.
    fn end(&mut self, id: JobId, outcome: Outcome) {
        let Some(job) = self.jobs.remove(&id) else { return };
        if let Some(timer) = job.timer {
            self.timers.remove(&(timer, id));
        }
        if !job.is_done() {
            let lane = &mut self.lanes[job.direction as usize];
            for slot in job.slots {
                if !lane.chunks.is_wanted(slot, id) {
                    continue;
                }
                if lane.chunks.unwant(slot, id) {
                    lane.remove(slot, &mut self.out);
                } else {
                    let class = highest(lane.chunks.at(slot), &self.jobs, &self.settings);
                    lane.reclass(slot, class, self.now, &mut self.out);
                }
            }
        }
        self.out.push_back(Action::Ended(id, outcome));
    }

    /// Moves all chunks of a job to the classes in which they are wanted now.
    fn reclass(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let lane = &mut self.lanes[job.direction as usize];
        for slot in job.slots.iter().copied() {
            if lane.chunks.is_wanted(slot, id) {
                let class = highest(lane.chunks.at(slot), &self.jobs, &self.settings);
                lane.reclass(slot, class, self.now, &mut self.out);
            }
        }
    }

    fn end_overdue(&mut self) {
        while self.timers.first().is_some_and(|(at, _)| *at <= self.now) {
            let Some((_, id)) = self.timers.pop_first() else { return };
            let deadline = self.jobs.get(&id).and_then(|job| job.deadline);
            let is_late = deadline.is_some_and(|deadline| deadline <= self.now);
            self.end(id, if is_late { Outcome::TimedOut } else { Outcome::Expired });
        }
    }

    fn set_timer(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let ends_at = job.ends_at();
        if let Some(old) = job.timer.filter(|old| Some(*old) != ends_at) {
            self.timers.remove(&(old, id));
        }
        job.timer = ends_at;
        self.timers.extend(ends_at.map(|at| (at, id)));
    }

    fn set_gates(&mut self) {
        for (lane, is_paused) in self.lanes.iter_mut().zip(self.is_paused) {
            let gate = match (self.is_all_paused || is_paused, self.settings.pause_holds_readers) {
                _ if self.is_offline => Gate::Shut,
                (false, _) => Gate::Open,
                (true, false) => Gate::Readers,
                (true, true) => Gate::Shut,
            };
            lane.set_gate(gate, &mut self.out);
        }
    }

    /// Says whether the job's direction or everything is paused for it.
    fn holds(&self, job: &Job) -> bool {
        let goes_on = job.class == Class::READER && !self.settings.pause_holds_readers;
        (self.is_all_paused || self.is_paused[job.direction as usize]) && !goes_on
    }
}

/// The highest class in which a chunk is wanted by jobs that are not paused.
fn highest(chunk: &Chunk, jobs: &BTreeMap<JobId, Job>, settings: &Settings) -> Option<Class> {
    let jobs = chunk.wanted_by.jobs().iter().filter_map(|id| jobs.get(id));
    jobs.filter_map(|job| job.served_as(settings)).min()
}
