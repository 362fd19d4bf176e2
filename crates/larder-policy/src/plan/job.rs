//! One job: what is left of it, when it ends by itself, how fast it is.

use super::class::Class;
use super::words::{Amount, Progress, Settings, State};
use crate::{Direction, Tick};
use std::time::Duration;

/// Over how many seconds speed is taken.
const SPEED_S: usize = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// A wish that has not ended.
pub(super) struct Job {
    pub(super) direction: Direction,
    pub(super) class: Class,
    pub(super) is_paused: bool,
    /// Slots of the chunks it came with; those that arrived are not taken out.
    pub(super) slots: Vec<u32>,
    pub(super) done: Amount,
    pub(super) total: Amount,
    pub(super) deadline: Option<Tick>,
    pub(super) ttl: Option<Duration>,
    pub(super) moved_at: Tick,
    /// The tick at which the planner's timers have it.
    pub(super) timer: Option<Tick>,
    pub(super) speed: Speed,
}

impl Job {
    /// The class in which its chunks are served; `None` while it is paused.
    pub(super) fn served_as(&self, settings: &Settings) -> Option<Class> {
        let goes_on = self.class == Class::READER && !settings.pause_holds_readers;
        (!self.is_paused || goes_on).then_some(self.class)
    }

    /// A Reader never waits without an end.
    pub(super) fn wait_as_reader(&mut self, now: Tick, settings: &Settings) {
        if self.class == Class::READER {
            self.deadline.get_or_insert(now.after(settings.reader_wait));
        }
    }

    /// When it ends by itself unless something moves.
    pub(super) fn ends_at(&self) -> Option<Tick> {
        let expires = self.ttl.map(|ttl| self.moved_at.after(ttl));
        [self.deadline, expires].into_iter().flatten().min()
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.chunks == self.total.chunks
    }

    pub(super) fn moved(&mut self, now: Tick, bytes: u32) {
        self.moved_at = now;
        self.speed.moved(now, bytes);
    }

    pub(super) fn progress(&self, state: State, now: Tick) -> Progress {
        let speed_bytes_per_s = self.speed.bytes_per_s(now);
        let left_bytes = self.total.bytes.saturating_sub(self.done.bytes);
        let left = Duration::try_from_secs_f64(left_bytes as f64 / speed_bytes_per_s).ok();
        Progress { state, done: self.done, total: self.total, speed_bytes_per_s, left }
    }
}

/// Bytes of the last ten seconds, second by second.
#[derive(Default)]
pub(super) struct Speed {
    moved_bytes: [u64; SPEED_S],
    /// The newest second that has bytes.
    newest_s: u64,
    /// When something moved first after ten seconds of nothing.
    since: Tick,
}

impl Speed {
    fn moved(&mut self, now: Tick, bytes: u32) {
        let second = now.0 / SECOND_NS;
        let passed = second.saturating_sub(self.newest_s).min(SPEED_S as u64);
        for old in 0..passed {
            self.moved_bytes[((second - old) % SPEED_S as u64) as usize] = 0;
        }
        self.newest_s = self.newest_s.max(second);
        if self.moved_bytes.iter().all(|bytes| *bytes == 0) {
            self.since = now;
        }
        self.moved_bytes[(second % SPEED_S as u64) as usize] += u64::from(bytes);
    }

    /// The mean of the window, or of the time since something moves; of one second at least, so that the first bytes
    /// are not taken for a wonder.
    fn bytes_per_s(&self, now: Tick) -> f64 {
        let second = now.0 / SECOND_NS;
        let ages = (0..SPEED_S as u64).filter_map(|age| second.checked_sub(age));
        let recent =
            ages.filter(|second| *second <= self.newest_s && self.newest_s - second < SPEED_S as u64);
        let bytes: u64 = recent.map(|second| self.moved_bytes[(second % SPEED_S as u64) as usize]).sum();
        let window_ns = (SPEED_S as u64 - 1) * SECOND_NS + now.0 % SECOND_NS;
        let over_ns = window_ns.min(now.0.saturating_sub(self.since.0)).max(SECOND_NS);
        bytes as f64 * 1e9 / over_ns as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Tick {
        Tick(ms * 1_000_000)
    }

    #[test]
    fn speed_is_that_of_the_last_ten_seconds() {
        let mut speed = Speed::default();
        let close = |speed: &Speed, ms, expected: f64| {
            let found = speed.bytes_per_s(at_ms(ms));
            assert!((found - expected).abs() <= expected * 0.02, "{ms} ms: {found}, not {expected}");
        };
        close(&speed, 5, 0.0);
        for tenth in 0..300 {
            speed.moved(at_ms(5_000 + tenth * 100), 1000);
        }
        close(&speed, 35_000, 10_000.0);
        for tenth in 0..200 {
            speed.moved(at_ms(35_000 + tenth * 100), 50);
        }
        close(&speed, 55_000, 500.0);
        close(&speed, 60_500, 2000.0 / 9.5);
        close(&speed, 66_000, 0.0);
        speed.moved(at_ms(3_600_000), 700);
        close(&speed, 3_600_001, 700.0);
    }
}
