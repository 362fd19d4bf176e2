//! The horizon: how far back somebody still reads.
//!
//! A reader keeps the version that it started with. History that ended before the oldest reader began is nobody's
//! any more; what ended later may be in use and is not purged.

use larder_core::Timestamp;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A hold reaches back so far: a commit has the time at which it was begun, and may wait for others, while what it
/// replaces is still read; and a clock may be set back a little.
const MARGIN_NS: i64 = 10 * 1_000_000_000;

#[derive(Clone, Default)]
pub(crate) struct Horizon(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    next: u64,
    since: BTreeSet<(Timestamp, u64)>,
}

/// Keeps every version that was current at some time since it was made from being purged.
pub struct Hold {
    horizon: Horizon,
    key: (Timestamp, u64),
}

impl Horizon {
    pub(crate) fn hold(&self, at: Timestamp) -> Hold {
        let mut held = self.0.lock();
        held.next += 1;
        let key = (Timestamp(at.0.saturating_sub(MARGIN_NS)), held.next);
        held.since.insert(key);
        Hold { horizon: self.clone(), key }
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
