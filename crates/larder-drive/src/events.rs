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
    /// The changes, in order; never empty.
    pub changes: &'a [Change],
}

type Callback = Box<dyn Fn(&Event<'_>) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Subscribers(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    next: u64,
    callbacks: Vec<(u64, Callback)>,
}

/// A place among the subscribers; dropping it ends the calls.
pub struct Subscription {
    number: u64,
    subscribers: Weak<RwLock<Inner>>,
}

impl Subscribers {
    pub(crate) fn add(&self, callback: Callback) -> Subscription {
        let mut inner = self.0.write();
        inner.next += 1;
        let number = inner.next;
        inner.callbacks.push((number, callback));
        Subscription { number, subscribers: Arc::downgrade(&self.0) }
    }

    pub(crate) fn tell(&self, door: Door, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let event = Event { door, changes };
        self.0.read().callbacks.iter().for_each(|(_, callback)| callback(&event));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(subscribers) = self.subscribers.upgrade() {
            subscribers.write().callbacks.retain(|(number, _)| *number != self.number);
        }
    }
}
