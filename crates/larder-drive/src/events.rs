//! Telling subscribers what changed, so that a mount can drop what the kernel remembers.

use crate::Door;
use larder_store::Change;
use parking_lot::RwLock;
use std::sync::{Arc, Weak};

/// What one commit changed.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The door it came through.
    pub door: Door,
    /// The changes, in order; none where records of the server's own changed that somebody waits for.
    pub changes: &'a [Change],
}

type Callback = Box<dyn Fn(&Event<'_>) + Send + Sync>;
type Settle = Arc<dyn Fn() + Send + Sync>;

struct Subscriber {
    number: u64,
    hear: Callback,
    /// Returns once what was heard has taken effect.
    settle: Option<Settle>,
}

#[derive(Clone, Default)]
pub(crate) struct Subscribers(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    next: u64,
    subscribers: Vec<Subscriber>,
}

/// A place among the subscribers; dropping it ends the calls.
pub struct Subscription {
    number: u64,
    subscribers: Weak<RwLock<Inner>>,
}

impl Subscribers {
    pub(crate) fn add(&self, hear: Callback, settle: Option<Settle>) -> Subscription {
        let mut inner = self.0.write();
        inner.next += 1;
        let number = inner.next;
        inner.subscribers.push(Subscriber { number, hear, settle });
        Subscription { number, subscribers: Arc::downgrade(&self.0) }
    }

    pub(crate) fn tell(&self, door: Door, changes: &[Change]) {
        if !changes.is_empty() {
            self.ring(door, changes);
        }
    }

    /// Calls everybody, also where nothing of the tree changed.
    pub(crate) fn ring(&self, door: Door, changes: &[Change]) {
        let event = Event { door, changes };
        self.0.read().subscribers.iter().for_each(|subscriber| (subscriber.hear)(&event));
    }

    /// Returns once what was told so far has taken effect.
    pub(crate) fn settle(&self) {
        let settle: Vec<Settle> =
            self.0.read().subscribers.iter().filter_map(|subscriber| subscriber.settle.clone()).collect();
        settle.iter().for_each(|settle| settle());
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(subscribers) = self.subscribers.upgrade() {
            subscribers.write().subscribers.retain(|subscriber| subscriber.number != self.number);
        }
    }
}
