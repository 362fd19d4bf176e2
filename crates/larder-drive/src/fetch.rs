//! Chunks that are not on the device: asked for at the server, checked, and kept.
//!
//! Whoever waits for a chunk asks for it in its own thread; a few threads ask for what will be read soon. A chunk is asked
//! for once at a time however many want it.

use bytes::Bytes;
use larder_core::{ChunkId, Error, Kind, NodeId, Result};
use larder_store::ChunkStore;
use larder_store::origin::Origin;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Threads that ask for what will be read soon.
const THREADS: usize = 4;
/// Chunks asked for in one request: about 4 MiB.
const BATCH: usize = 16;
/// Chunks that may wait to be asked for; a hint beyond them is dropped.
const QUEUE_MAX: usize = 1024;
/// How often a chunk that came wrong is asked for again.
const WRONG_MAX: u32 = 3;
/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Fetches chunks.
pub struct Fetch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    origin: Arc<dyn Origin>,
    chunks: Arc<dyn ChunkStore>,
    deadline: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What will be read soon, and the files that hold it.
    queue: VecDeque<(NodeId, ChunkId)>,
    queued: HashSet<ChunkId>,
    /// What is being asked for.
    asked: HashSet<ChunkId>,
    ended: bool,
}

impl Fetch {
    /// Fetches from `origin` into `chunks`. A reader waits up to `deadline`.
    ///
    /// # Errors
    /// Those of starting threads.
    pub fn start(origin: Arc<dyn Origin>, chunks: Arc<dyn ChunkStore>, deadline: Duration) -> Result<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { origin, chunks, deadline, state, changed });
        let mut threads = Vec::with_capacity(THREADS);
        for _ in 0..THREADS {
            let shared = shared.clone();
            let started =
                std::thread::Builder::new().name("larder-fetch".into()).spawn(move || shared.work());
            threads.push(started.map_err(|e| Error::io("starting a thread", e))?);
        }
        Ok(Self { shared, threads })
    }

    /// Fetches chunk `id`, which the content of file `of` holds.
    ///
    /// # Errors
    /// `Unavailable` where it did not come in time, or fetching has ended; `Corrupt` where the server sends other bytes. That it
    /// cannot be kept is none.
    pub fn get(&self, of: NodeId, id: &ChunkId) -> Result<Bytes> {
        let shared = &*self.shared;
        let end = Instant::now() + shared.deadline;
        let (mut pause, mut wrong) = (PAUSE, 0);
        loop {
            let Some(claim) = shared.claim(id, end)? else {
                // Somebody else has asked for it meanwhile.
                match shared.chunks.get(id) {
                    Err(error) if error.kind() == Kind::NotFound => continue,
                    got => return got,
                }
            };
            let mut body = None;
            let asked = shared.ask(of, claim, Some(end), &mut |came| body = came);
            match (asked, body) {
                (Ok(()), Some(body)) => return Ok(body),
                (Ok(()), None) => return Err(gone(id)),
                (Err(error), _) if error.kind() == Kind::Corrupt && wrong < WRONG_MAX => {
                    tracing::warn!(%error, "asked for again");
                    wrong += 1;
                }
                (Err(error), _) if error.kind() == Kind::Unavailable && Instant::now() + pause < end => {
                    tracing::debug!(%error, "asked for again");
                    shared.rest(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Ends fetching: whoever waits gets an error, and so does whoever comes.
    pub fn end(&self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_all();
        self.shared.origin.end();
    }

    /// Hears that a reader of file `of` waits for the chunks `now` and will read those `soon`. A hint.
    pub fn will_read(&self, of: NodeId, now: &[ChunkId], soon: &[ChunkId]) {
        let shared = &*self.shared;
        // One chunk is asked for by the reader itself.
        let now = if now.len() > 1 { now } else { &[] };
        let (Ok(now), Ok(soon)) = (shared.chunks.missing(now), shared.chunks.missing(soon)) else { return };
        if now.is_empty() && soon.is_empty() {
            return;
        }
        let mut state = shared.state.lock();
        for id in now.into_iter().rev() {
            state.queue(of, id, true);
        }
        for id in soon {
            state.queue(of, id, false);
        }
        drop(state);
        shared.changed.notify_all();
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.end();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl State {
    fn queue(&mut self, of: NodeId, id: ChunkId, first: bool) {
        if self.queue.len() >= QUEUE_MAX || self.asked.contains(&id) {
            return;
        }
        match (self.queued.insert(id), first) {
            (_, true) => self.queue.push_front((of, id)),
            (true, false) => self.queue.push_back((of, id)),
            (false, false) => {}
        }
    }
}

/// Chunks that somebody asks for now; others wait until each has come, or this is dropped.
struct Claim<'a> {
    shared: &'a Shared,
    ids: Vec<ChunkId>,
    /// So many of them, from the first on, others need no longer wait for.
    done: usize,
}

impl Claim<'_> {
    /// The next one has come.
    fn came(&mut self) {
        self.shared.state.lock().asked.remove(&self.ids[self.done]);
        self.done += 1;
        self.shared.changed.notify_all();
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        self.ids[self.done..].iter().for_each(|id| {
            state.asked.remove(id);
        });
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Claims `id`, or waits until nobody asks for it any more.
    fn claim(&self, id: &ChunkId, end: Instant) -> Result<Option<Claim<'_>>> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(Error::unavailable("this mount is about to end"));
        }
        if state.asked.insert(*id) {
            return Ok(Some(Claim { shared: self, ids: vec![*id], done: 0 }));
        }
        while state.asked.contains(id) && !state.ended {
            if self.changed.wait_until(&mut state, end).timed_out() {
                return Err(Error::unavailable(format!("chunk {id} did not come in time")));
            }
        }
        Ok(None)
    }

    /// Waits for `pause`, or until everything ends.
    fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.ended && !self.changed.wait_until(&mut state, end).timed_out() {}
    }

    /// Asks for chunks, checks and keeps each, and hands it over; what the server does not have is passed over.
    fn ask(
        &self,
        of: NodeId,
        mut claim: Claim<'_>,
        by: Option<Instant>,
        each: &mut dyn FnMut(Option<Bytes>),
    ) -> Result<()> {
        let lease = self.chunks.lease();
        let ids = claim.ids.clone();
        self.origin.chunks(of, &ids, by, &mut |at, body| {
            let id = &ids[at];
            if let Some(body) = &body {
                if ChunkId::of(body) != *id {
                    return Err(Error::corrupt(format!("the server sent other bytes than chunk {id}")));
                }
                if let Err(error) = self.chunks.put(&lease, id, body) {
                    tracing::warn!(%error, "a chunk is not kept on this device");
                }
            }
            claim.came();
            each(body);
            Ok(())
        })
    }

    /// Asks for what will be read soon, until the end.
    fn work(&self) {
        while let Some((of, claim)) = self.next() {
            if let Err(error) = self.ask(of, claim, None, &mut |_| {}) {
                // Whoever waits for it asks itself; nobody else is worse off.
                tracing::debug!(%error, "fetching ahead");
                self.rest(PAUSE);
            }
        }
    }

    /// The next chunks of one file, or nothing at the end.
    fn next(&self) -> Option<(NodeId, Claim<'_>)> {
        let mut state = self.state.lock();
        loop {
            self.changed.wait_while(&mut state, |state| state.queue.is_empty() && !state.ended);
            if state.ended {
                return None;
            }
            let of = state.queue.front().map(|(of, _)| *of)?;
            let mut ids = Vec::with_capacity(BATCH);
            while ids.len() < BATCH
                && let Some((_, id)) = state.queue.pop_front_if(|(next, _)| *next == of)
            {
                // One that was moved to the front is there twice.
                if state.queued.remove(&id) && state.asked.insert(id) {
                    ids.push(id);
                }
            }
            if !ids.is_empty() {
                return Some((of, Claim { shared: self, ids, done: 0 }));
            }
        }
    }
}

fn gone(id: &ChunkId) -> Error {
    Error::conflict(format!("the server has chunk {id} no more: the file changed while it was read"))
}
