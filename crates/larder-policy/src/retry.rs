//! When to try again what failed.
//!
//! Exponential back-off with full jitter: the wait is drawn evenly from nothing to `base × 2^n`, so that many devices
//! that lost one server do not come back to it at one moment. A server's Retry-After is waited out first. The
//! randomness comes in as a number. The planner calls this, and whoever repeats a request of its own.
//! Source: AWS Architecture Blog, "Exponential Backoff And Jitter"; RFC 9110 § 10.2.3.

use crate::Tick;
use std::time::Duration;

/// The most that a first wait takes: about six round trips of 40 ms.
pub const BASE: Duration = Duration::from_millis(250);
/// The most that any wait takes: a server that is back is found within a minute, and one request a minute is no load.
pub const CEILING: Duration = Duration::from_secs(60);
/// The most that is waited while an application waits for the answer.
pub const URGENT_CEILING: Duration = Duration::from_secs(2);
/// The longest Retry-After that is believed; a server does not keep a device away for longer by one wrong header.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The wait after the `failures`-th failure in a row: between nothing and [`BASE`] × 2^(`failures` − 1), at most
/// `ceiling`, at the place that `jitter` has between 0 and `u32::MAX`.
pub fn delay(failures: u32, ceiling: Duration, jitter: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let most = BASE.saturating_mul(1 << doublings).min(ceiling);
    // In nanoseconds: an hour times 2^32 is below 2^75.
    let nanos = most.as_nanos() * u128::from(jitter) / u128::from(u32::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What is tried again until it succeeds or its deadline comes.
#[derive(Clone, Debug)]
pub struct Retry {
    failures: u32,
    ceiling: Duration,
}

impl Retry {
    /// A row of tries with nothing failed yet; no wait takes more than `ceiling`, but for a server's Retry-After.
    pub fn new(ceiling: Duration) -> Self {
        Self { failures: 0, ceiling }
    }

    /// How many tries failed since the last that succeeded.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure and says when to try again: not before `retry_after` is over, and then after a drawn wait, as
    /// everybody who was turned away heard the same number.
    pub fn failed(&mut self, now: Tick, retry_after: Option<Duration>, jitter: u32) -> Tick {
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        now.after(asked).after(delay(self.failures, self.ceiling, jitter))
    }

    /// The same, and `None`, give up, where that tick is not before `deadline`; a background transfer has none.
    pub fn failed_by(
        &mut self,
        deadline: Option<Tick>,
        now: Tick,
        retry_after: Option<Duration>,
        jitter: u32,
    ) -> Option<Tick> {
        let again = self.failed(now, retry_after, jitter);
        deadline.is_none_or(|deadline| again < deadline).then_some(again)
    }

    /// Counts a success: the next failure is a first one.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling() {
        let mut retry = Retry::new(CEILING);
        let waits: Vec<u128> =
            (0..40).map(|_| retry.failed(Tick(7), None, u32::MAX).since(Tick(7)).as_millis()).collect();
        assert_eq!(waits[..9], [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000]);
        assert!(waits[9..].iter().all(|wait| *wait == 60_000));
        assert_eq!(retry.failures(), 40);
    }

    #[test]
    fn jitter_draws_from_all_of_the_wait() {
        for (jitter, millis) in [(0, 0), (u32::MAX / 4, 249), (u32::MAX / 2, 499), (u32::MAX, 1000)] {
            assert_eq!(delay(3, CEILING, jitter).as_millis(), millis, "{jitter}");
        }
        assert_eq!(delay(u32::MAX, Duration::MAX, u32::MAX), BASE * (1 << 31));
    }

    #[test]
    fn success_starts_anew() {
        let mut retry = Retry::new(CEILING);
        for _ in 0..5 {
            retry.failed(Tick(0), None, 1);
        }
        retry.succeeded();
        assert_eq!(retry.failed(Tick(0), None, u32::MAX), Tick(0).after(BASE));
    }

    #[test]
    fn retry_after_is_waited_out_and_not_believed_beyond_an_hour() {
        let minute = Duration::from_secs(60);
        let mut retry = Retry::new(CEILING);
        assert_eq!(retry.failed(Tick(0), Some(minute), 0), Tick(0).after(minute));
        assert_eq!(retry.failed(Tick(0), Some(minute), u32::MAX), Tick(0).after(minute + 2 * BASE));
        assert_eq!(retry.failed(Tick(0), Some(Duration::MAX), 0), Tick(0).after(RETRY_AFTER_MAX));
    }

    #[test]
    fn a_try_that_comes_too_late_is_not_waited_for() {
        let deadline = Some(Tick(0).after(Duration::from_secs(1)));
        let mut retry = Retry::new(CEILING);
        assert_eq!(retry.failed_by(deadline, Tick(0), None, u32::MAX), Some(Tick(0).after(BASE)));
        assert_eq!(
            retry.failed_by(deadline, Tick(0), Some(Duration::from_secs(1)), 0),
            None,
            "the deadline is no time to begin"
        );
        let later = retry.failed_by(None, Tick(0), Some(Duration::from_secs(1)), 0);
        assert_eq!(later, Some(Tick(0).after(Duration::from_secs(1))), "without a deadline nobody gives up");
    }
}
