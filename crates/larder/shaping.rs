//! Turns a [`Throttle`] into waiting: one per direction, shared by all connections.
//!
//! A connection asks for a piece and sleeps until its slot has one. One task per direction grants them; it sleeps
//! until the throttle's next tick, or until somebody asks or the rate changes.

use crate::clock::{instant, tick};
use larder_policy::{Class, Rate, Step, Throttle, Ticket};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// One direction of the server.
pub struct Shaper {
    state: Mutex<State>,
    /// Something changed that the granting task must see.
    changed: Notify,
    /// Lets connections skip everything where nothing limits.
    limited: AtomicBool,
}

struct State {
    throttle: Throttle,
    waiting: HashMap<Ticket, Waker>,
    granted: HashMap<Ticket, u64>,
}

impl Shaper {
    /// Makes a shaper; [`Shaper::run`] must run as long as it is used.
    pub fn new(limit: Option<Rate>) -> Arc<Self> {
        let throttle = Throttle::new(limit, tick());
        let state = State { throttle, waiting: HashMap::new(), granted: HashMap::new() };
        let limited = AtomicBool::new(limit.is_some());
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), limited })
    }

    /// The rate in force.
    pub fn limit(&self) -> Option<Rate> {
        self.state.lock().throttle.limit()
    }

    /// Changes the rate at once.
    pub fn set_limit(&self, limit: Option<Rate>) {
        self.state.lock().throttle.set_limit(limit, tick());
        self.limited.store(limit.is_some(), Ordering::Release);
        self.changed.notify_one();
    }

    /// Grants pieces, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let step = self.grant_due();
            match step {
                Step::Wait(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(instant(at)) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Step::Idle | Step::Grant(..) => self.changed.notified().await,
            }
        }
    }

    fn grant_due(&self) -> Step {
        let mut state = self.state.lock();
        loop {
            match state.throttle.poll(tick()) {
                Step::Grant(ticket, bytes) => {
                    state.granted.insert(ticket, bytes);
                    if let Some(waker) = state.waiting.remove(&ticket) {
                        waker.wake();
                    }
                }
                other => return other,
            }
        }
    }
}

/// One stream's share of a shaper.
pub struct Share {
    shaper: Arc<Shaper>,
    asked: Option<Ticket>,
    /// Bytes granted and not moved yet; below zero: moved and not granted yet.
    balance_bytes: i64,
}

impl Share {
    /// Takes part in `shaper`.
    pub fn new(shaper: Arc<Shaper>) -> Self {
        Self { shaper, asked: None, balance_bytes: 0 }
    }

    /// Returns how many of `wanted` bytes may move now: at least one, or with 0 wanted none, once everything that
    /// moved before is paid for. Call [`Share::moved`] with what did.
    pub fn poll_allowed(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<usize> {
        if !self.shaper.limited.load(Ordering::Acquire) && self.asked.is_none() {
            self.balance_bytes = 0;
            return Poll::Ready(wanted);
        }
        let least = i64::from(wanted > 0);
        while self.balance_bytes < least {
            let mut state = self.shaper.state.lock();
            let ticket = match self.asked {
                Some(ticket) => ticket,
                None => {
                    let missing = (wanted as u64).saturating_add_signed(-self.balance_bytes);
                    let ticket = state.throttle.request(Class::Bulk, missing, tick());
                    self.shaper.changed.notify_one();
                    *self.asked.insert(ticket)
                }
            };
            match state.granted.remove(&ticket) {
                Some(bytes) => {
                    self.balance_bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
                    self.asked = None;
                }
                None => {
                    state.waiting.insert(ticket, context.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(wanted.min(usize::try_from(self.balance_bytes).unwrap_or(usize::MAX)))
    }

    /// Says how many bytes moved.
    pub fn moved(&mut self, bytes: usize) {
        self.balance_bytes = self.balance_bytes.saturating_sub_unsigned(bytes as u64);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(ticket) = self.asked {
            let mut state = self.shaper.state.lock();
            state.throttle.cancel(ticket);
            state.waiting.remove(&ticket);
            state.granted.remove(&ticket);
            drop(state);
            self.shaper.changed.notify_one();
        }
    }
}
