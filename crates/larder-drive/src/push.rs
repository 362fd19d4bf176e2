//! Telling a server what was changed on this device: first the chunks that it lacks, then the entries of the queue, in their
//! order. What it refuses is resolved so that nothing that was written is lost.

use crate::{Actor, Drive};
use bytes::Bytes;
use larder_core::{ChunkId, Error, Head, Kind, Manifest, Result, Timestamp};
use larder_store::catalog::{QueueState, Queued, Step};
use larder_store::origin::{ASKED_MAX, Mirror, Origin, PUSHED_MAX, Refused, SENT_MAX_BYTES};
use larder_store::{Durability, Op};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Content that entries told at once bring, unless one alone brings more.
const BATCH_BYTES: u64 = 64 << 20;
/// A change waits so long for others that say it in fewer words.
const GATHER: Duration = Duration::from_millis(100);
/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// How often an entry is told again where nothing shows why it is refused.
const TRIES: u32 = 3;
/// How often one entry may be refused before it waits like any failure.
const REFUSALS_MAX: u32 = 4096;

/// How often the first entry of the queue was refused.
#[derive(Default)]
struct Refusals {
    number: u64,
    count: u32,
    /// Without anything that shows why.
    unresolved: u32,
}

/// Writes what tells a copy from the server's file, at a time: "conflict from laptop, 2026-11-21".
pub type Label = Box<dyn Fn(Timestamp) -> String + Send + Sync>;

/// What is not told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushStatus {
    /// Changes.
    pub entries: u64,
    /// Why they wait, where they do.
    pub trouble: Option<String>,
    /// Bytes of content sent since the start.
    pub sent_bytes: u64,
    /// Changes that the server refused since the start, and that were resolved.
    pub resolved: u64,
}

/// Tells a server of changes until it is ended.
pub struct Pusher {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    drive: Arc<Drive>,
    mirror: Arc<Mirror>,
    origin: Arc<dyn Origin>,
    actor: Actor,
    label: Label,
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Default)]
struct State {
    ended: bool,
    /// Something was queued since the queue was looked at.
    rung: bool,
    status: PushStatus,
}

impl Pusher {
    /// Tells `origin` of what `drive`, which is over `mirror`, queues; what the server says of it, `actor` commits.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(
        drive: Arc<Drive>,
        mirror: Arc<Mirror>,
        origin: Arc<dyn Origin>,
        actor: Actor,
        label: Label,
    ) -> Result<Self> {
        let (state, rung) = (Mutex::new(State { rung: true, ..State::default() }), Condvar::new());
        let shared = Arc::new(Shared { drive, mirror, origin, actor, label, state, rung });
        let ringing = Arc::downgrade(&shared);
        shared.mirror.ring(Box::new(move || {
            if let Some(shared) = ringing.upgrade() {
                shared.state.lock().rung = true;
                shared.rung.notify_all();
            }
        }));
        let pushing = shared.clone();
        let started = std::thread::Builder::new().name("larder-push".into()).spawn(move || pushing.run());
        let thread = Mutex::new(Some(started.map_err(|e| Error::io("starting a thread", e))?));
        Ok(Self { shared, thread })
    }

    /// Says what is not told yet.
    ///
    /// # Errors
    /// Those of the index.
    pub fn status(&self) -> Result<PushStatus> {
        let QueueState { len: entries, .. } = self.shared.mirror.queue_len()?;
        Ok(PushStatus { entries, ..self.shared.state.lock().status.clone() })
    }

    /// Waits until everything is told, at most for `limit`; says whether it is.
    ///
    /// # Errors
    /// Those of the index.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        let deadline = std::time::Instant::now() + limit;
        loop {
            // Before the look: what is told behind it rings.
            let mut state = self.shared.state.lock();
            if self.shared.mirror.queue_len()?.len == 0 {
                return Ok(true);
            }
            if state.ended || self.shared.rung.wait_until(&mut state, deadline).timed_out() {
                return Ok(false);
            }
        }
    }

    /// Ends it, and every call to the server.
    pub fn end(&self) {
        self.shared.state.lock().ended = true;
        self.shared.rung.notify_all();
        self.shared.origin.end();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn run(&self) {
        let (mut pause, mut refusals) = (PAUSE, Refusals::default());
        loop {
            match self.step(&mut refusals) {
                Ok(true) => {
                    pause = PAUSE;
                    self.state.lock().status.trouble = None;
                    self.rung.notify_all();
                    if self.is_over() {
                        return;
                    }
                }
                Ok(false) => {
                    if !self.await_work() {
                        return;
                    }
                }
                Err(error) => {
                    if !self.rest(pause, &error) {
                        return;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.state.lock().ended
    }

    /// Waits until something is queued, and a moment longer; false says that everything ends.
    fn await_work(&self) -> bool {
        let mut state = self.state.lock();
        self.rung.wait_while(&mut state, |state| !state.rung && !state.ended);
        state.rung = false;
        self.rung.wait_while_for(&mut state, |state| !state.ended, GATHER);
        !state.ended
    }

    fn rest(&self, pause: Duration, error: &Error) -> bool {
        let mut state = self.state.lock();
        if state.ended {
            return false;
        }
        let trouble = error.to_string();
        if state.status.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(%error, "changes made here wait to be told");
            state.status.trouble = Some(trouble);
        }
        self.rung.wait_while_for(&mut state, |state| !state.ended, pause);
        !state.ended
    }

    fn commit(&self, ops: Vec<Op>) -> Result<()> {
        self.drive.commit(&self.actor, Vec::new(), ops, Durability::Process).map(drop)
    }

    /// Tells the server of the first entries; false where there are none.
    fn step(&self, refusals: &mut Refusals) -> Result<bool> {
        let entries = self.batch()?;
        if entries.is_empty() {
            if self.mirror.queue_len()?.in_doubt {
                self.mirror.compare(|ops| self.commit(ops))?;
            }
            return Ok(false);
        }
        self.send_bodies(&entries)?;
        let answer = self.mirror.push(&entries, |ops| self.commit(ops))?;
        let Some((why, news)) = answer.refused else { return Ok(true) };
        let entry = &entries[answer.done];
        if refusals.number != entry.number {
            *refusals = Refusals { number: entry.number, ..Refusals::default() };
        }
        if !matches!(&why, Refused::Failed(error) if is_temporary(error.kind())) {
            refusals.count += 1;
        }
        match why {
            Refused::Lacks(ids) if refusals.count < REFUSALS_MAX => self.send(&ids).map(|()| true),
            Refused::Lacks(_) => Err(Error::unavailable("the server loses what it is sent")),
            Refused::Failed(error) if is_temporary(error.kind()) || refusals.count >= REFUSALS_MAX => {
                Err(error)
            }
            Refused::Failed(error) => {
                let label = (self.label)(self.drive.now());
                let last = refusals.unresolved >= TRIES;
                let Some(instead) = self.mirror.resolve(entry, &error, &news, &label, last)? else {
                    refusals.unresolved += 1;
                    return Err(error);
                };
                tracing::info!(%error, ?instead, "somebody else was first");
                self.mirror.restate(instead, news, |ops| self.commit(ops))?;
                self.state.lock().status.resolved += 1;
                Ok(true)
            }
        }
    }

    /// The first entries, as many as are told at once.
    fn batch(&self) -> Result<Vec<Queued>> {
        let mut bytes = 0;
        let mut entries = self.mirror.take(PUSHED_MAX)?;
        let fits = |entry: &Queued| {
            let heads = entry.steps.iter().filter_map(Step::head);
            let is_first = bytes == 0;
            bytes += heads.map(|head| head.allocated_bytes).sum::<u64>();
            is_first || bytes <= BATCH_BYTES
        };
        let len = entries.iter().map(fits).take_while(|fits| *fits).count();
        entries.truncate(len);
        Ok(entries)
    }

    /// Sends those chunks of the entries' contents that the server lacks.
    fn send_bodies(&self, entries: &[Queued]) -> Result<()> {
        let mut asked: Vec<ChunkId> = Vec::new();
        for head in entries.iter().flat_map(|entry| &entry.steps).filter_map(Step::head) {
            self.add_chunks(head, &mut asked)?;
            if asked.len() >= ASKED_MAX {
                self.send_missing(&mut asked)?;
            }
        }
        self.send_missing(&mut asked)
    }

    /// Adds the chunks and pages of a content. A page that is not here was not made here: the server has it, and all below.
    fn add_chunks(&self, head: &Head, asked: &mut Vec<ChunkId>) -> Result<()> {
        let mut pages = Vec::new();
        let manifest = Manifest::load(head, |id| {
            pages.push(*id);
            self.drive.chunks().get(id)
        });
        match manifest {
            Ok(manifest) => asked.extend(manifest.extents().iter().map(|e| e.id).filter(|id| !id.is_hole())),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
        asked.extend(pages);
        Ok(())
    }

    fn send_missing(&self, ids: &mut Vec<ChunkId>) -> Result<()> {
        ids.sort_unstable();
        ids.dedup();
        for ids in ids.chunks(ASKED_MAX) {
            let missing = self.origin.missing(ids)?;
            self.send(&missing)?;
        }
        ids.clear();
        Ok(())
    }

    /// Sends chunks, several in one request.
    fn send(&self, ids: &[ChunkId]) -> Result<()> {
        let (mut bodies, mut bytes): (Vec<Bytes>, usize) = (Vec::new(), 0);
        for id in ids {
            let body = self.drive.chunks().get(id).map_err(|error| match error.kind() {
                Kind::NotFound => Error::corrupt(format!("chunk {id} is neither here nor at the server")),
                _ => error,
            })?;
            if bytes + body.len() > SENT_MAX_BYTES {
                self.send_some(&mut bodies, &mut bytes)?;
            }
            bytes += body.len();
            bodies.push(body);
        }
        self.send_some(&mut bodies, &mut bytes)
    }

    fn send_some(&self, bodies: &mut Vec<Bytes>, bytes: &mut usize) -> Result<()> {
        if bodies.is_empty() {
            return Ok(());
        }
        if self.is_over() {
            return Err(Error::unavailable("this mount is about to end"));
        }
        self.origin.send(bodies)?;
        self.state.lock().status.sent_bytes += *bytes as u64;
        bodies.clear();
        *bytes = 0;
        Ok(())
    }
}

/// What passes, or what somebody has to do something about.
fn is_temporary(kind: Kind) -> bool {
    matches!(kind, Kind::Unavailable | Kind::NoSpace | Kind::Denied | Kind::Corrupt | Kind::Unsupported)
}
