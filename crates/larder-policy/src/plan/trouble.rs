//! Trouble of the server or the way to it: holds up a whole direction, as the next request would meet the same.

use super::class::Class;
use super::words::RequestId;
use crate::Tick;
use crate::retry::{self, Retry};
use std::time::Duration;

/// What the last failures say about when to start again.
pub(super) struct Trouble {
    bulk: Retry,
    urgent: Retry,
    bulk_until: Tick,
    urgent_until: Tick,
    /// What a server asked for; no success and no urgency shortens it.
    asked_until: Tick,
    /// Requests from this one on were started after the trouble that was counted last.
    counted_to: RequestId,
}

impl Trouble {
    pub(super) fn new() -> Self {
        Self {
            bulk: Retry::new(retry::CEILING),
            urgent: Retry::new(retry::URGENT_CEILING),
            bulk_until: Tick(0),
            urgent_until: Tick(0),
            asked_until: Tick(0),
            counted_to: RequestId(0),
        }
    }

    /// Takes note that `request` met trouble, `next` being the request that comes next. Says whether it was counted:
    /// eight requests that fail by one lost connection are one failure.
    pub(super) fn came(
        &mut self,
        request: RequestId,
        next: RequestId,
        now: Tick,
        (retry_after, jitter): (Option<Duration>, u32),
    ) -> bool {
        let asked = retry_after.unwrap_or_default().min(retry::RETRY_AFTER_MAX);
        self.asked_until = self.asked_until.max(now.after(asked));
        if request < self.counted_to {
            return false;
        }
        self.counted_to = next;
        self.bulk_until = self.bulk_until.max(self.bulk.failed(now, retry_after, jitter));
        self.urgent_until = self.urgent_until.max(self.urgent.failed(now, retry_after, jitter));
        true
    }

    /// An answer came, or the network did.
    pub(super) fn over(&mut self) {
        self.bulk.succeeded();
        self.urgent.succeeded();
        (self.bulk_until, self.urgent_until) = (Tick(0), Tick(0));
    }

    /// From when on requests of `class` may start.
    pub(super) fn over_at(&self, class: Class) -> Tick {
        self.asked_until.max(if class.is_urgent() { self.urgent_until } else { self.bulk_until })
    }
}
