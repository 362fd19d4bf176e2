//! The clock: the only way for this crate and those above it to learn the time.

use larder_core::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Tells the time: the system's, or one that a test moves.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Clock(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`].
    pub fn manual(start: Timestamp) -> Self {
        Clock(Source::Manual(Arc::new(AtomicI64::new(start.0))))
    }

    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else takes")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::Manual(time) => Timestamp(time.load(Ordering::Acquire)),
            Source::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                let nanos = since.map_or(0, |d| d.as_nanos());
                Timestamp(i64::try_from(nanos).unwrap_or(i64::MAX))
            }
        }
    }

    /// Moves a manual clock by `nanos`; the system's stays.
    pub fn advance(&self, nanos: i64) {
        if let Source::Manual(time) = &self.0 {
            time.fetch_add(nanos, Ordering::AcqRel);
        }
    }
}
