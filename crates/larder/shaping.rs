//! Turns a [`Throttle`] into waiting: one for everything that a process sends and receives.
//!
//! A stream has a place in a tree of limits, a [`Tier`]. It asks there for a piece and grants what is due itself; where it
//! has to wait, one task sleeps until the throttle's next tick, or until somebody asks or a rate changes.

use crate::clock::{instant, tick};
use larder_policy::{Class, Level, Rate, Step, Throttle, Ticket};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Grants pieces to streams.
pub struct Shaper {
    state: Mutex<State>,
    /// Something changed that the granting task must see.
    changed: Notify,
}

struct State {
    throttle: Throttle,
    waiting: HashMap<Ticket, Waker>,
    granted: HashMap<Ticket, u64>,
}

impl Shaper {
    /// Makes a shaper; [`Shaper::run`] must run as long as it is used. What it returns is above everything.
    pub fn start() -> (Arc<Self>, Arc<Tier>) {
        let throttle = Throttle::new(None, tick());
        let state = State { throttle, waiting: HashMap::new(), granted: HashMap::new() };
        let shaper = Arc::new(Self { state: Mutex::new(state), changed: Notify::new() });
        let is_limited = AtomicBool::new(false);
        let top = Tier { shaper: shaper.clone(), level: Level::ROOT, above: None, is_limited };
        (shaper, Arc::new(top))
    }

    /// Grants pieces, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let step = self.state.lock().grant_due();
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
}

impl State {
    fn grant_due(&mut self) -> Step {
        loop {
            match self.throttle.poll(tick()) {
                Step::Grant(ticket, bytes) => {
                    self.granted.insert(ticket, bytes);
                    if let Some(waker) = self.waiting.remove(&ticket) {
                        waker.wake();
                    }
                }
                other => return other,
            }
        }
    }

    fn forget(&mut self, ticket: Ticket) {
        self.throttle.cancel(ticket);
        self.waiting.remove(&ticket);
        self.granted.remove(&ticket);
    }
}

/// A limit, below others; gone when nobody holds it.
pub struct Tier {
    shaper: Arc<Shaper>,
    level: Level,
    above: Option<Arc<Tier>>,
    /// Lets streams skip everything where nothing limits.
    is_limited: AtomicBool,
}

impl Tier {
    /// Makes one below this, which limits nothing yet.
    pub fn below(self: &Arc<Self>) -> Arc<Tier> {
        let level = self.shaper.state.lock().throttle.add(self.level, None, tick());
        let (shaper, above) = (self.shaper.clone(), Some(self.clone()));
        Arc::new(Tier { shaper, level, above, is_limited: AtomicBool::new(false) })
    }

    /// The rate in force here; those above hold as well.
    pub fn limit(&self) -> Option<Rate> {
        self.shaper.state.lock().throttle.limit(self.level)
    }

    /// Changes the rate at once.
    pub fn set_limit(&self, limit: Option<Rate>) {
        // Where it is to be limited, streams see that first; else last, and those that wait are granted all the same.
        if limit.is_some() {
            self.is_limited.store(true, Ordering::Release);
        }
        let mut state = self.shaper.state.lock();
        state.throttle.set_limit(self.level, limit, tick());
        self.is_limited.store(limit.is_some(), Ordering::Release);
        drop(state);
        self.shaper.changed.notify_one();
    }

    fn is_limited(&self) -> bool {
        let mut tiers = std::iter::successors(Some(self), |tier| tier.above.as_deref());
        tiers.any(|tier| tier.is_limited.load(Ordering::Acquire))
    }
}

impl Drop for Tier {
    fn drop(&mut self) {
        if self.above.is_some() {
            self.shaper.state.lock().throttle.remove(self.level);
        }
    }
}

/// One stream's share of a tier.
pub struct Share {
    tier: Arc<Tier>,
    asked: Option<Ticket>,
    /// Bytes granted and not moved yet; below zero: moved and not granted yet.
    balance_bytes: i64,
}

impl Share {
    /// Takes part in `tier`.
    pub fn new(tier: Arc<Tier>) -> Self {
        Self { tier, asked: None, balance_bytes: 0 }
    }

    /// Takes part in another tier of the same shaper from now on.
    pub fn enter(&mut self, tier: &Arc<Tier>) {
        if !Arc::ptr_eq(&self.tier, tier) {
            self.give_up();
            self.tier = tier.clone();
        }
    }

    /// Returns how many of `wanted` bytes may move now: at least one, or with 0 wanted none, once everything that
    /// moved before is paid for. Call [`Share::moved`] with what did.
    pub fn poll_allowed(&mut self, context: &mut Context<'_>, class: Class, wanted: usize) -> Poll<usize> {
        if self.asked.is_none() && !self.tier.is_limited() {
            self.balance_bytes = 0;
            return Poll::Ready(wanted);
        }
        let least = i64::from(wanted > 0);
        while self.balance_bytes < least {
            let shaper = &self.tier.shaper;
            let mut state = shaper.state.lock();
            let ticket = match self.asked {
                Some(ticket) => ticket,
                None => {
                    let missing = (wanted as u64).saturating_add_signed(-self.balance_bytes);
                    let ticket = state.throttle.request(self.tier.level, class, missing, tick());
                    state.grant_due();
                    *self.asked.insert(ticket)
                }
            };
            match state.granted.remove(&ticket) {
                Some(bytes) => {
                    self.balance_bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
                    self.asked = None;
                }
                None => {
                    if state.waiting.insert(ticket, context.waker().clone()).is_none() {
                        shaper.changed.notify_one();
                    }
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

    fn give_up(&mut self) {
        if let Some(ticket) = self.asked.take() {
            self.tier.shaper.state.lock().forget(ticket);
            self.tier.shaper.changed.notify_one();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_up();
    }
}
