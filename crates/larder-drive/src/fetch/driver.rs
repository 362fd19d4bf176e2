//! The planner and the calls that it has started.

use super::reader::Readers;
use super::requested::Requested;
use super::{BATCH, Settings, Shared};
use bytes::Bytes;
use larder_core::{ChunkId, Error, Kind, NodeId, Result};
use larder_policy::plan::{
    self, Action, Amount, Event, Failure, JobId, Planner, Request, RequestId, Scope, Urgency, Wish,
};
use larder_policy::{Direction, Tick};
use larder_store::Lease;
use larder_store::origin::{Cancel, Link};
use parking_lot::MutexGuard;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// What is wished for, and what is under way.
pub(super) struct Driver {
    pub(super) planner: Planner,
    pub(super) readers: Readers,
    pub(super) requested: Requested,
    next_job: u64,
    /// Calls that wait for a thread: at most as many as the planner has places.
    ready: VecDeque<Call>,
    /// Requests that were started and neither answered nor abandoned, by the call that each is part of.
    live: HashMap<RequestId, RequestId>,
    /// What ends those calls, and how many requests of each are live.
    calls: HashMap<RequestId, (Cancel, usize)>,
    /// When whoever keeps time looks again.
    looks_at: Option<Tick>,
    pub(super) ended: bool,
    pub(super) link: Link,
}

/// Chunks to ask for in one call.
pub(super) struct Call {
    with: RequestId,
    of: NodeId,
    parts: Vec<(RequestId, ChunkId)>,
    cancel: Cancel,
}

impl Call {
    /// Says whether chunk `id` is all that it brings.
    fn is_only(&self, id: &ChunkId) -> bool {
        matches!(self.parts[..], [(_, only)] if only == *id)
    }
}

impl Driver {
    pub(super) fn new(settings: &Settings, requested: Requested) -> Self {
        let planner = Planner::new(settings_of(settings, settings.pause_holds_readers));
        let (ready, live, calls) = Default::default();
        let readers = Readers::default();
        let mut driver = Self {
            planner,
            readers,
            requested,
            next_job: 0,
            ready,
            live,
            calls,
            looks_at: None,
            ended: false,
            link: Link::default(),
        };
        let switches = driver.requested.switches();
        for (scope, is_paused) in switches.scopes() {
            if is_paused {
                driver.tell(Tick(0), Event::Pause(scope));
            }
        }
        driver
    }

    pub(super) fn set_pause_holds_readers(&mut self, now: Tick, settings: &Settings, holds: bool) {
        self.tell(now, Event::Set(settings_of(settings, holds)));
    }

    /// Tells the planner anything but a wish.
    pub(super) fn tell(&mut self, now: Tick, event: Event) {
        self.planner.handle(now, event).expect("only wishes are refused");
    }

    /// Wishes for chunks of file `of`; the new job.
    pub(super) fn wish(
        &mut self,
        now: Tick,
        (of, urgency): (NodeId, Urgency),
        chunks: Vec<(ChunkId, u32)>,
        here: Amount,
        (deadline, ttl): (Option<Tick>, Option<Duration>),
    ) -> Result<JobId> {
        self.next_job += 1;
        let job = JobId(self.next_job);
        let wish = Wish { job, direction: Direction::Down, urgency, of, chunks, here, deadline, ttl };
        self.planner.handle(now, Event::Wish(wish)).map(|()| job)
    }

    pub(super) fn cancel(&mut self, now: Tick, job: JobId) {
        self.tell(now, Event::Cancel(Scope::Job(job)));
    }

    /// The call that brings nothing but chunk `id` and that nobody carries out yet.
    pub(super) fn take_only(&mut self, id: &ChunkId) -> Option<Call> {
        let index = self.ready.iter().position(|call| call.is_only(id))?;
        self.ready.remove(index)
    }

    fn start(&mut self, request: Request) {
        let Request { id, chunk, of, with, urgency, .. } = request;
        self.live.insert(id, with);
        let (cancel, live) = self.calls.entry(with).or_default();
        *live += 1;
        if has_reader(urgency) {
            cancel.hurry();
        }
        match self.ready.back_mut().filter(|call| call.with == with) {
            Some(call) => call.parts.push((id, chunk)),
            None => {
                let (parts, cancel) = (vec![(id, chunk)], cancel.clone());
                self.ready.push_back(Call { with, of, parts, cancel });
            }
        }
    }

    /// A program waits for what a request brings: its call goes before others.
    fn hurry(&self, request: RequestId) {
        if let Some((cancel, _)) = self.live.get(&request).and_then(|with| self.calls.get(with)) {
            cancel.hurry();
        }
    }

    /// The request is over; says whether it was live. A call without live requests is ended.
    fn close(&mut self, request: RequestId) -> bool {
        let Some(with) = self.live.remove(&request) else { return false };
        if let Some((cancel, live)) = self.calls.get_mut(&with) {
            *live -= 1;
            if *live == 0 {
                cancel.cancel();
                self.calls.remove(&with);
                self.ready.retain(|call| call.with != with);
            }
        }
        true
    }
}

impl Shared {
    /// Carries out what the planner says; `cause` is why the chunk failed that was told of last.
    pub(super) fn pump(&self, driver: &mut Driver, cause: Option<&Error>) {
        let starts = self.plan(driver, cause);
        self.have_done(starts);
    }

    /// Has threads carry out so many calls.
    pub(super) fn have_done(&self, calls: usize) {
        (0..calls).for_each(|_| _ = self.ready.notify_one());
    }

    /// Does what [`Shared::pump`] does, but for calls that begin: returns how many do.
    pub(super) fn plan(&self, driver: &mut Driver, cause: Option<&Error>) -> usize {
        let (now, mut starts) = (self.now(), 0);
        while let Some(action) = driver.planner.poll(now) {
            match action {
                Action::Start(request) => {
                    starts += usize::from(request.with == request.id);
                    driver.start(request);
                }
                Action::Reclass(request, urgency) if has_reader(urgency) => driver.hurry(request),
                Action::Reclass(..) => {}
                Action::Abandon(request) => _ = driver.close(request),
                Action::Ended(job, outcome) => {
                    if driver.readers.ended(job, outcome, cause) {
                        self.answered.notify_all();
                    } else if driver.requested.ended(job, outcome, cause, now) {
                        self.hungry.notify_one();
                    }
                }
            }
        }
        let wake_at = driver.planner.wake_at();
        if wake_at.is_some_and(|at| driver.looks_at.is_none_or(|looks_at| at < looks_at)) {
            self.sooner.notify_one();
        }
        starts.min(driver.ready.len())
    }

    /// Carries out calls until the end.
    pub(super) fn work(&self) {
        let mut driver = self.driver.lock();
        while !driver.ended {
            match driver.ready.pop_front() {
                Some(call) => MutexGuard::unlocked(&mut driver, || self.carry_out(&call)),
                None => self.ready.wait(&mut driver),
            }
        }
    }

    /// Has the planner do what is due, until the end.
    pub(super) fn keep_time(&self) {
        let mut driver = self.driver.lock();
        while !driver.ended {
            self.pump(&mut driver, None);
            driver.looks_at = driver.planner.wake_at();
            match driver.looks_at {
                Some(at) => _ = self.sooner.wait_until(&mut driver, self.instant(at)),
                None => self.sooner.wait(&mut driver),
            }
        }
    }

    /// Asks for the chunks of a call, checks and keeps each, and tells the planner.
    pub(super) fn carry_out(&self, call: &Call) {
        let lease = self.chunks.lease();
        let ids: Vec<ChunkId> = call.parts.iter().map(|(_, id)| *id).collect();
        let mut next = 0;
        let asked = self.origin.chunks(call.of, &ids, &call.cancel, &mut |at, body| {
            next = at + 1;
            self.came(&lease, call.of, call.parts[at], body);
            Ok(())
        });
        if let Err(error) = asked {
            self.broke(&call.parts[next..], &error);
        }
    }

    /// What came for a request.
    fn came(&self, lease: &Lease, of: NodeId, (request, id): (RequestId, ChunkId), body: Option<Bytes>) {
        let body = match body {
            None => Err((Failure::Refused(Kind::Conflict), gone(&id))),
            Some(body) if ChunkId::of(&body) == id => Ok(body),
            Some(_) => {
                let error = Error::corrupt(format!("the server sent other bytes than chunk {id}"));
                tracing::warn!(%error, "asked for again");
                Err((Failure::WrongBody, error))
            }
        };
        let kept = match &body {
            Ok(body) => self.chunks.put(lease, &id, body).map(drop).inspect_err(|error| {
                tracing::warn!(%error, "a chunk is not kept on this device");
            }),
            Err(_) => Ok(()),
        };
        let mut driver = self.driver.lock();
        if let Ok(body) = &body {
            let why = Self::why(&driver.requested, of, driver.readers.program(of, &id));
            self.causes.lock().note(of, why, body.len() as u64, self.clock.now());
        }
        let (body, failure) = match (body, kept) {
            (Ok(body), Ok(())) => (Some(body), None),
            // Whoever waits for it may have it all the same.
            (Ok(body), Err(error)) => (Some(body), Some((Failure::Refused(error.kind()), error))),
            (Err(failure), _) => (None, Some(failure)),
        };
        if let Some(body) = body {
            let came = driver.readers.came(&id, &body);
            if let Some(cache) = self.cache.get().filter(|_| came.is_next) {
                // Checked already, and at hand: else it would be read from the store and checked again.
                cache.keep(&id, &body);
            }
            if came.is_awaited {
                self.answered.notify_all();
            }
        }
        // Nobody may want it any more; it is kept all the same.
        if driver.close(request) {
            let now = self.now();
            driver.tell(
                now,
                match &failure {
                    None => Event::Arrived(request),
                    Some((failure, _)) => Event::Failed(request, *failure, self.jitter()),
                },
            );
            self.pump(&mut driver, failure.as_ref().map(|(_, error)| error));
        }
    }

    /// A call ended before these requests of it were answered.
    fn broke(&self, parts: &[(RequestId, ChunkId)], error: &Error) {
        let failure = match error.kind() {
            Kind::Unavailable => Failure::Unavailable { retry_after: error.asked_wait() },
            Kind::Corrupt => Failure::WrongBody,
            kind => Failure::Refused(kind),
        };
        // They are tried again together.
        let jitter = self.jitter();
        let mut driver = self.driver.lock();
        for (request, _) in parts {
            if driver.close(*request) {
                tracing::debug!(%error, "a chunk did not come");
                let now = self.now();
                driver.tell(now, Event::Failed(*request, failure, jitter));
            }
        }
        self.pump(&mut driver, Some(error));
    }

    fn jitter(&self) -> u32 {
        let mut bytes = [0; 4];
        (self.random)(&mut bytes);
        u32::from_le_bytes(bytes)
    }
}

fn settings_of(settings: &Settings, pause_holds_readers: bool) -> plan::Settings {
    plan::Settings { pause_holds_readers, reader_wait: settings.deadline, batch: BATCH }
}

/// Says whether a program reads, or is about to.
fn has_reader(urgency: Urgency) -> bool {
    matches!(urgency, Urgency::Reader | Urgency::Opener | Urgency::Readahead)
}

fn gone(id: &ChunkId) -> Error {
    Error::conflict(format!("the server has chunk {id} no more: the file changed while it was read"))
}
