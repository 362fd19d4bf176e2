//! How many requests may be in flight: the window of one direction.
//!
//! Hill climbing: one more is tried, and kept where the throughput grew by at least half of what one more request can
//! bring; else it goes back and rests. So a window stays small behind a throttle or on a fast path, where more requests
//! only make each of them slower, and grows on a long one, where a request waits mostly for the round trip. Trouble
//! halves it, as in TCP (RFC 5681 § 3.1: additive increase, multiplicative decrease).

use crate::Tick;
use std::time::Duration;

/// Never fewer: one place of them is kept for applications that wait.
pub const IN_FLIGHT_MIN: usize = 2;
/// Never more: eight calls of a chunk of 256 KiB fill 100 Mbit/s at 160 ms, and each holds a connection and a chunk of memory.
pub const IN_FLIGHT_MAX: usize = 8;
/// Where a window starts: 1 MiB in flight fills 100 Mbit/s at 80 ms.
const IN_FLIGHT_START: usize = 4;
/// The shortest time over which throughput is measured; shorter ones measure the scheduler.
const MEASURE_MIN: Duration = Duration::from_millis(50);
/// Measurements between a try that did not pay and the next one.
const REST: u8 = 16;
/// Measurements between trouble and the next try.
const REST_AFTER_TROUBLE: u8 = 4;

/// The window: its size, and what it learns from arrivals.
pub(super) struct Window {
    size: usize,
    since: Tick,
    moved_bytes: u64,
    arrivals: usize,
    /// Throughput at the size before the one that is tried.
    base_bytes_per_s: f64,
    is_trying: bool,
    rest: u8,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            size: IN_FLIGHT_START,
            since: Tick(0),
            moved_bytes: 0,
            arrivals: 0,
            base_bytes_per_s: 0.0,
            is_trying: false,
            rest: 0,
        }
    }

    /// How many requests may be in flight.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Takes note of an arrival with `in_flight` requests at the time. A time in which fewer are in flight than bulk
    /// work may have says nothing about the window and is not measured.
    pub(super) fn arrived(&mut self, now: Tick, bytes: u32, in_flight: usize) {
        if in_flight + 1 < self.size {
            self.measure_anew(now);
            return;
        }
        self.moved_bytes += u64::from(bytes);
        self.arrivals += 1;
        let took = now.since(self.since);
        if self.arrivals >= 2 * self.size && took >= MEASURE_MIN {
            self.judge(self.moved_bytes as f64 / took.as_secs_f64());
            self.measure_anew(now);
        }
    }

    /// Halves the window.
    pub(super) fn shrink(&mut self, now: Tick) {
        self.size = (self.size / 2).max(IN_FLIGHT_MIN);
        self.is_trying = false;
        self.rest = REST_AFTER_TROUBLE;
        self.measure_anew(now);
    }

    fn judge(&mut self, bytes_per_s: f64) {
        if self.is_trying {
            // Bulk work has one place less than the window: size − 2 of them before, size − 1 now.
            let half_of_ideal = 1.0 + 0.5 / (self.size as f64 - 2.0);
            if bytes_per_s < self.base_bytes_per_s * half_of_ideal {
                self.size -= 1;
                self.is_trying = false;
                self.rest = REST;
                return;
            }
        }
        self.base_bytes_per_s = bytes_per_s;
        self.is_trying = self.rest == 0 && self.size < IN_FLIGHT_MAX;
        self.rest = self.rest.saturating_sub(1);
        self.size += usize::from(self.is_trying);
    }

    fn measure_anew(&mut self, now: Tick) {
        (self.since, self.moved_bytes, self.arrivals) = (now, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK_BYTES: u32 = 256 << 10;

    /// Moves chunks for `seconds` over a path of `rtt_ms` that lets `link` bytes a second through.
    fn run(window: &mut Window, start_s: u64, seconds: u64, rtt_ms: u64, link: f64) -> Vec<usize> {
        let (mut now, mut sizes) = (start_s as f64, Vec::new());
        while now < (start_s + seconds) as f64 {
            let in_flight = window.size() - 1;
            let by_trips = (rtt_ms as f64 / 1000.0) / in_flight as f64;
            now += by_trips.max(f64::from(CHUNK_BYTES) / link);
            window.arrived(Tick((now * 1e9) as u64), CHUNK_BYTES, in_flight);
            sizes.push(window.size());
        }
        sizes
    }

    #[test]
    fn long_path_gets_all_places() {
        let mut window = Window::new();
        run(&mut window, 0, 30, 200, 1e9);
        assert_eq!(window.size(), IN_FLIGHT_MAX);
    }

    #[test]
    fn what_does_not_pay_is_given_back() {
        let mut window = Window::new();
        let sizes = run(&mut window, 0, 60, 10, 12.5e6);
        assert!(sizes.iter().all(|size| *size <= IN_FLIGHT_START + 1), "{:?}", sizes.iter().max());
        let tries = sizes.iter().filter(|size| **size > IN_FLIGHT_START).count();
        assert!(tries > 0 && tries * 8 < sizes.len(), "{tries} of {}", sizes.len());
    }

    #[test]
    fn trouble_halves_and_a_good_path_grows_again() {
        let mut window = Window::new();
        run(&mut window, 0, 30, 200, 1e9);
        let now = Tick(30_000_000_000);
        let sizes: Vec<usize> = (0..4)
            .map(|_| {
                window.shrink(now);
                window.size()
            })
            .collect();
        assert_eq!(sizes, [4, 2, 2, 2]);
        run(&mut window, 30, 60, 200, 1e9);
        assert_eq!(window.size(), IN_FLIGHT_MAX);
    }

    #[test]
    fn idle_times_are_not_measured() {
        let mut window = Window::new();
        for second in 0..1000 {
            window.arrived(Tick(second * 1_000_000_000), CHUNK_BYTES, 1);
        }
        assert_eq!(window.size(), IN_FLIGHT_START);
    }
}
