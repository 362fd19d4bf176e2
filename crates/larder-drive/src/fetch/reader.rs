//! Who waits in a read, and what will be read next.

use super::asker::{self, Program};
use super::{Fetch, Shared, ending};
use bytes::Bytes;
use larder_core::{ChunkId, Error, Kind, NodeId, Result, chunker};
use larder_policy::Tick;
use larder_policy::plan::{Amount, Event, JobId, Outcome, Scope, Urgency};
use parking_lot::MutexGuard;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Chunks that may be wished for ahead of readers; a hint beyond them is dropped.
const AHEAD_MAX: usize = 1024;
/// A hint that came to nothing for so long is dropped.
const AHEAD_LIFE: Duration = Duration::from_secs(30);
/// How long a chunk is taken to be that somebody wants without saying its length.
const SIZE_BYTES: u32 = chunker::AVG_BYTES as u32;

/// The wishes of readers.
#[derive(Default)]
pub(super) struct Readers {
    wishes: HashMap<JobId, Reading>,
    ahead_chunks: usize,
}

/// One of them.
struct Reading {
    of: NodeId,
    /// The process, where it is known.
    who: Option<Arc<Program>>,
    for_whom: Whom,
}

enum Whom {
    /// A thread that waits for a chunk.
    Thread { chunk: ChunkId, answer: Option<Result<Bytes>> },
    /// A thread that will ask for each of these chunks in turn.
    Following(Vec<ChunkId>),
    /// Nobody yet.
    Ahead(Vec<ChunkId>),
}

/// For whom a chunk came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Came {
    /// Somebody waits for it.
    pub(super) is_awaited: bool,
    /// Somebody will ask for it soon.
    pub(super) is_next: bool,
}

impl Readers {
    fn add(&mut self, job: JobId, (of, who): (NodeId, Option<Arc<Program>>), for_whom: Whom) {
        if let Whom::Ahead(chunks) = &for_whom {
            self.ahead_chunks += chunks.len();
        }
        self.wishes.insert(job, Reading { of, who, for_whom });
    }

    /// The process that reads chunk `id` of file `of`, or is about to.
    pub(super) fn program(&self, of: NodeId, id: &ChunkId) -> Option<Arc<Program>> {
        let waits =
            |reading: &Reading| matches!(&reading.for_whom, Whom::Thread { chunk, .. } if chunk == id);
        let readings = || self.wishes.values().filter(|reading| reading.of == of);
        let reading = readings().find(|reading| waits(reading)).or_else(|| readings().next());
        reading.and_then(|reading| reading.who.clone())
    }

    fn remove(&mut self, job: JobId) {
        if let Some(Reading { for_whom: Whom::Ahead(chunks), .. }) = self.wishes.remove(&job) {
            self.ahead_chunks -= chunks.len();
        }
    }

    /// Hands a chunk to those who wait for it; says whom it is for.
    pub(super) fn came(&mut self, id: &ChunkId, body: &Bytes) -> Came {
        let mut came = Came::default();
        for reading in self.wishes.values_mut() {
            match &mut reading.for_whom {
                Whom::Thread { chunk, answer } if chunk == id => {
                    *answer = Some(Ok(body.clone()));
                    came.is_awaited = true;
                }
                Whom::Following(ids) | Whom::Ahead(ids) => came.is_next |= ids.contains(id),
                Whom::Thread { .. } => {}
            }
        }
        came
    }

    /// A wish ended; says whether it was a reader's. `cause` as for the driver's pump.
    pub(super) fn ended(&mut self, job: JobId, outcome: Outcome, cause: Option<&Error>) -> bool {
        let Some(reading) = self.wishes.get_mut(&job) else { return false };
        match &mut reading.for_whom {
            Whom::Thread { chunk, answer } => {
                if let Some(kind) = outcome.kind() {
                    answer.get_or_insert_with(|| Err(failure(kind, chunk, cause)));
                }
            }
            Whom::Following(_) | Whom::Ahead(_) => self.remove(job),
        }
        true
    }

    /// Answers all who wait, and returns what to tell the planner.
    pub(super) fn refuse(&mut self, refusal: &Error) -> Vec<Event> {
        let mut ended = Vec::new();
        for (job, reading) in &mut self.wishes {
            match &mut reading.for_whom {
                Whom::Thread { answer, .. } => {
                    answer.get_or_insert_with(|| Err(Error::new(refusal.kind(), refusal.to_string())));
                }
                Whom::Following(_) | Whom::Ahead(_) => ended.push(Event::Cancel(Scope::Job(*job))),
            }
        }
        ended
    }

    fn answer(&mut self, job: JobId) -> Option<Result<Bytes>> {
        match &mut self.wishes.get_mut(&job)?.for_whom {
            Whom::Thread { answer, .. } => answer.take(),
            Whom::Following(_) | Whom::Ahead(_) => None,
        }
    }

    /// What to tell the planner so that readers of file `of` wait, and nothing is fetched ahead of them.
    pub(super) fn hold(&self, of: NodeId) -> Vec<Event> {
        let own = self.wishes.iter().filter(|(_, reading)| reading.of == of);
        own.map(|(job, reading)| match reading.for_whom {
            Whom::Thread { .. } => Event::Pause(Scope::Job(*job)),
            Whom::Following(_) | Whom::Ahead(_) => Event::Cancel(Scope::Job(*job)),
        })
        .collect()
    }

    /// What to tell it so that they go on.
    pub(super) fn let_go(&self, of: NodeId) -> Vec<Event> {
        let own = self.wishes.iter().filter(|(_, reading)| reading.of == of);
        own.map(|(job, _)| Event::Resume(Scope::Job(*job))).collect()
    }
}

impl Fetch {
    /// Fetches chunk `id`, which the content of file `of` holds.
    ///
    /// # Errors
    /// `Unavailable` where it did not come in time, or fetching has ended; `Corrupt` where the server sends other bytes. That it
    /// cannot be kept is none.
    pub fn get(&self, of: NodeId, id: &ChunkId) -> Result<Bytes> {
        let shared = &*self.shared;
        let begun = shared.now();
        let deadline = begun.after(shared.settings.deadline);
        let who = shared.who_may();
        let mut driver = shared.driver.lock();
        if driver.ended {
            return Err(ending());
        }
        // It may have come since the caller looked.
        if shared.chunks.missing(std::slice::from_ref(id))?.is_empty()
            && let Ok(body) = MutexGuard::unlocked(&mut driver, || shared.chunks.get(id))
        {
            return Ok(body);
        }
        if let Some(refusal) = driver.link.refusal(false) {
            return Err(refusal);
        }
        let who = who?;
        let chunks = vec![(*id, SIZE_BYTES)];
        let job =
            driver.wish(begun, (of, Urgency::Reader), chunks, Amount::default(), (Some(deadline), None))?;
        driver.readers.add(job, (of, who), Whom::Thread { chunk: *id, answer: None });
        if shared.holds(&driver.requested, of) {
            driver.tell(begun, Event::Pause(Scope::Job(job)));
        }
        let starts = shared.plan(&mut driver, None);
        let own = driver.take_only(id);
        shared.have_done(starts.saturating_sub(usize::from(own.is_some())));
        if let Some(call) = own {
            MutexGuard::unlocked(&mut driver, || shared.carry_out(&call));
        }
        let answer = loop {
            if let Some(answer) = driver.readers.answer(job) {
                break answer;
            }
            if driver.ended {
                break Err(ending());
            }
            if shared.now() >= deadline {
                break Err(failure(Kind::Unavailable, id, None));
            }
            shared.answered.wait_until(&mut driver, shared.instant(deadline));
        };
        driver.readers.remove(job);
        driver.cancel(shared.now(), job);
        shared.pump(&mut driver, None);
        answer
    }

    /// Hears that a reader of file `of` waits for the chunks `now` and will read those `soon`. A hint.
    pub fn will_read(&self, of: NodeId, now: &[ChunkId], soon: &[ChunkId]) {
        let shared = &*self.shared;
        // One chunk is asked for by the reader itself.
        let now = if now.len() > 1 { now } else { &[] };
        if now.is_empty() && soon.is_empty() {
            return;
        }
        let mut driver = shared.driver.lock();
        if driver.link.refusal(false).is_some() {
            return;
        }
        let missing = |ids: &[ChunkId]| shared.chunks.missing(ids).unwrap_or_default();
        if missing(now).is_empty() && missing(soon).is_empty() {
            return;
        }
        let Ok(who) = MutexGuard::unlocked(&mut driver, || shared.who_may()) else { return };
        // Some may have come meanwhile, and would come again.
        let (now, mut soon) = (missing(now), missing(soon));
        soon.truncate(AHEAD_MAX - driver.readers.ahead_chunks.min(AHEAD_MAX));
        if (now.len() <= 1 && soon.is_empty()) || driver.ended || shared.holds(&driver.requested, of) {
            return;
        }
        let at = shared.now();
        let mut wish = |ids: Vec<ChunkId>, urgency, deadline: Tick, whom: fn(Vec<ChunkId>) -> Whom| {
            let chunks = ids.iter().map(|id| (*id, SIZE_BYTES)).collect();
            let wished = driver.wish(at, (of, urgency), chunks, Amount::default(), (Some(deadline), None));
            // Without room nobody is worse off: whoever reads asks.
            if let Ok(job) = wished {
                driver.readers.add(job, (of, who.clone()), whom(ids));
            }
        };
        if now.len() > 1 {
            wish(now, Urgency::Reader, at.after(shared.settings.deadline), Whom::Following);
        }
        if !soon.is_empty() {
            wish(soon, Urgency::Readahead, at.after(AHEAD_LIFE), Whom::Ahead);
        }
        shared.pump(&mut driver, None);
    }
}

fn failure(kind: Kind, chunk: &ChunkId, cause: Option<&Error>) -> Error {
    match (kind, cause) {
        (Kind::Unavailable, _) | (_, None) => Error::new(kind, format!("chunk {chunk} did not come in time")),
        (kind, Some(cause)) => Error::new(kind, cause.to_string()),
    }
}

impl Shared {
    /// The process that asks, where it is known.
    ///
    /// # Errors
    /// `Denied` for one that gets only what is here. Programs that sweep take that as a file that they may not read, and go
    /// on: "try again" would have some of them do so at once, and an error of the disk would alarm people.
    fn who_may(&self) -> Result<Option<Arc<Program>>> {
        let Some(program) = asker::who() else { return Ok(None) };
        if program.is_one_of(&self.indexers.read()) {
            return Err(Error::denied(format!("{} gets what is on this device only", program.name)));
        }
        Ok(Some(program))
    }

    /// Says whether reads of file `of` wait, as its fetch is paused.
    fn holds(&self, requested: &super::requested::Requested, of: NodeId) -> bool {
        self.holds_readers.load(Ordering::Relaxed) && requested.is_held(of)
    }
}
