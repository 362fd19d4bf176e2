//! Telling a server what was changed on this device: first the chunks that it lacks, then the entries of the queue, in their
//! order. What it refuses is resolved so that nothing that was written is lost.

mod bodies;
mod held;
mod telling;
mod turn;

use crate::{Actor, Drive};
use larder_core::{Error, Result, Timestamp};
use larder_store::catalog::QueueState;
use larder_store::origin::{Mirror, Origin, Policy};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use telling::Telling;
use turn::Turn;
pub use turn::{After, Steps};

/// A change waits so long for others that say it in fewer words.
const GATHER: Duration = Duration::from_millis(100);

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

/// How conflicts end.
pub struct Conflicts {
    /// What tells a copy from the server's file.
    pub label: Label,
    /// Which content a file gets that both sides changed.
    pub policy: Policy,
}

struct Shared {
    telling: Telling,
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Default)]
struct State {
    ended: bool,
    /// Something was queued since the queue was looked at.
    rung: bool,
    /// A pause is to end.
    hurries: bool,
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
        conflicts: Conflicts,
    ) -> Result<Self> {
        let (state, rung) = (Mutex::new(State { rung: true, ..State::default() }), Condvar::new());
        let telling = Telling::new(drive, mirror, origin, actor, conflicts);
        let shared = Arc::new(Shared { telling, state, rung });
        let ringing = Arc::downgrade(&shared);
        shared.telling.mirror.ring(Box::new(move || {
            if let Some(shared) = ringing.upgrade() {
                // Once until the queue is looked at: who makes thousands of files would have the thread wake for each.
                if !std::mem::replace(&mut shared.state.lock().rung, true) {
                    shared.rung.notify_all();
                }
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
        let QueueState { len: entries, .. } = self.shared.telling.mirror.queue_len()?;
        let telling = &self.shared.telling;
        let (sent_bytes, resolved) = (telling.bodies.sent_bytes(), telling.resolved.load(Ordering::Relaxed));
        Ok(PushStatus { entries, sent_bytes, resolved, ..self.shared.state.lock().status.clone() })
    }

    /// Waits until everything is told, at most for `limit`; says whether it is.
    ///
    /// # Errors
    /// Those of the index.
    pub fn wait(&self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            // Before the look: what is told behind it rings.
            let mut state = self.shared.state.lock();
            if self.shared.telling.mirror.queue_len()?.len == 0 {
                return Ok(true);
            }
            if state.ended || self.shared.rung.wait_until(&mut state, deadline).timed_out() {
                return Ok(false);
            }
        }
    }

    /// Has conflicts end so from now on.
    pub fn set_policy(&self, policy: Policy) {
        *self.shared.telling.policy.lock() = policy;
    }

    /// Has what failed tried again at once: what held it up may be over.
    pub fn try_now(&self) {
        self.shared.state.lock().hurries = true;
        self.shared.rung.notify_all();
    }

    /// Ends it, and every call to the server.
    pub fn end(&self) {
        self.shared.state.lock().ended = true;
        self.shared.rung.notify_all();
        self.shared.telling.bodies.end();
        self.shared.telling.bodies.origin.end();
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
        let mut turn = Turn::new(Instant::now());
        while !self.is_over() {
            match turn.step(&self.telling, Instant::now()) {
                After::Told => {
                    if turn.held.is_empty() {
                        self.state.lock().status.trouble = None;
                    }
                    self.rung.notify_all();
                }
                After::Around => {}
                After::Idle => {
                    self.state.lock().status.trouble = None;
                    self.rung.notify_all();
                    self.await_work();
                }
                After::Paused => {
                    self.note(&bodies::paused());
                    self.await_work();
                }
                After::Held(wait) => {
                    if let Some(why) = turn.held.why() {
                        self.note(why);
                    }
                    if self.await_change(wait) {
                        turn.held.hurry();
                    }
                }
                After::Failed(error, pause) => {
                    self.note(&error);
                    self.rest(pause);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.state.lock().ended
    }

    /// Waits until something is queued, and a moment longer.
    fn await_work(&self) {
        let mut state = self.state.lock();
        self.rung.wait_while(&mut state, |state| !state.rung && !state.ended && !state.hurries);
        state.hurries = false;
        self.gather(&mut state);
    }

    /// Waits until something more is queued, at most for `pause`; says whether somebody does not want to wait so long.
    fn await_change(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        self.rung.wait_while_for(&mut state, |state| !state.rung && !state.ended && !state.hurries, pause);
        if state.rung {
            self.gather(&mut state);
        }
        std::mem::take(&mut state.hurries)
    }

    fn gather(&self, state: &mut MutexGuard<'_, State>) {
        state.rung = false;
        self.rung.wait_while_for(state, |state| !state.ended, GATHER);
    }

    fn rest(&self, pause: Duration) {
        let mut state = self.state.lock();
        self.rung.wait_while_for(&mut state, |state| !state.ended && !state.hurries, pause);
        state.hurries = false;
    }

    fn note(&self, error: &Error) {
        let mut state = self.state.lock();
        let trouble = error.to_string();
        if !state.ended && state.status.trouble.as_ref() != Some(&trouble) {
            tracing::warn!(%error, "changes made here wait to be told");
            state.status.trouble = Some(trouble);
        }
    }
}
