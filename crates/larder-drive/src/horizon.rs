//! The horizon: how far back somebody still reads.
//!
//! A reader keeps the version that it started with. History that ended before the oldest reader began is nobody's
//! any more; what ended later may be in use and is not purged.

use larder_core::Timestamp;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Clone, Default)]
pub(crate) struct Horizon(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    next: u64,
    since: BTreeSet<(Timestamp, u64)>,
    /// The times of commits that are being made.
    pending: BTreeSet<(Timestamp, u64)>,
}

impl Held {
    fn key(&mut self, at: Timestamp) -> (Timestamp, u64) {
        self.next += 1;
        (at, self.next)
    }
}

/// Keeps every version that was current at some time since it was made from being purged.
pub struct Hold {
    horizon: Horizon,
    key: (Timestamp, u64),
}

/// A commit that is being made: what it replaces has its time, and may still be read after that.
pub(crate) struct Pending<'a> {
    horizon: &'a Horizon,
    key: (Timestamp, u64),
}

impl Pending<'_> {
    /// The time of the commit.
    pub(crate) fn at(&self) -> Timestamp {
        self.key.0
    }
}

impl Horizon {
    /// Holds everything that is current now, and what commits under way are about to replace.
    pub(crate) fn hold(&self, now: impl FnOnce() -> Timestamp) -> Hold {
        let mut held = self.0.lock();
        let now = now();
        let at = held.pending.first().map_or(now, |(oldest, _)| now.min(*oldest));
        let key = held.key(at);
        held.since.insert(key);
        Hold { horizon: self.clone(), key }
    }

    /// Begins a commit.
    pub(crate) fn begin(&self, now: impl FnOnce() -> Timestamp) -> Pending<'_> {
        let mut held = self.0.lock();
        let key = held.key(now());
        held.pending.insert(key);
        Pending { horizon: self, key }
    }

    /// The earlier of `limit` and the oldest hold.
    pub(crate) fn at_most(&self, limit: Timestamp) -> Timestamp {
        let held = self.0.lock();
        held.since.first().map_or(limit, |(oldest, _)| limit.min(*oldest))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.horizon.0.lock().since.remove(&self.key);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.horizon.0.lock().pending.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_reaches_back_to_commits_under_way() {
        let horizon = Horizon::default();
        let end = Timestamp(10);
        let slow = horizon.begin(|| Timestamp(3));
        assert_eq!((slow.at(), horizon.at_most(end)), (Timestamp(3), end));
        let hold = horizon.hold(|| Timestamp(5));
        drop(slow);
        assert_eq!(horizon.at_most(end), Timestamp(3), "what it replaced was current when the hold began");
        drop(hold);
        let hold = horizon.hold(|| Timestamp(6));
        assert_eq!(horizon.at_most(end), Timestamp(6));
        drop(hold);
        assert_eq!(horizon.at_most(end), end);
    }
}
