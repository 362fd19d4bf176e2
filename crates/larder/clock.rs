//! Monotonic time as the policies take it.

use larder_policy::Tick;
use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since this process first asked.
pub fn tick() -> Tick {
    Tick(u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// The instant of a tick, for timers.
pub fn instant(tick: Tick) -> tokio::time::Instant {
    (*START + std::time::Duration::from_nanos(tick.0)).into()
}
