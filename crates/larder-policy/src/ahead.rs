//! How far ahead of a reader to fetch: nothing for who jumps about, more and more for who reads on.

use std::ops::Range;

/// A window is not worth a request below this.
const WINDOW_MIN_BYTES: u64 = 256 << 10;
/// No window is longer.
const WINDOW_MAX_BYTES: u64 = 8 << 20;
/// Reads that begin so near the end of those before still read on: a kernel asks for parts out of order.
const SLACK_BYTES: u64 = 2 << 20;

/// What is known of one reader.
#[derive(Clone, Debug, Default)]
pub struct ReadAhead {
    /// Behind what was read.
    next: u64,
    /// Bytes read in a row.
    run: u64,
    /// Behind what was asked for.
    asked: u64,
}

impl ReadAhead {
    /// Notes that `range` of a file of `size` bytes is read now; returns what to fetch beyond it, if anything. The window
    /// is half as long as what was read in a row, up to 8 MiB, and is asked for again when half of it is used: who reads
    /// only the head of a file moves half as much again.
    pub fn read(&mut self, range: &Range<u64>, size: u64) -> Option<Range<u64>> {
        let near = range.start.abs_diff(self.next) <= SLACK_BYTES;
        if !near {
            *self = Self { next: range.end, run: 0, asked: range.end };
            return None;
        }
        self.run += range.end.saturating_sub(self.next);
        self.next = self.next.max(range.end);
        let window = (self.run / 2).min(WINDOW_MAX_BYTES);
        let from = self.asked.max(self.next);
        let to = self.next.saturating_add(window).min(size);
        if window < WINDOW_MIN_BYTES || from >= to || from - self.next > window / 2 {
            return None;
        }
        self.asked = to;
        Some(from..to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 30;
    const STEP: u64 = 128 << 10;

    #[test]
    fn a_sequential_reader_is_never_caught_up_with_and_nothing_is_asked_twice() {
        let (mut ahead, mut asked) = (ReadAhead::default(), 0);
        for at in (0..SIZE).step_by(STEP as usize) {
            if at > 2 << 20 {
                assert!(asked >= (at + STEP).min(SIZE), "{at} was not asked for");
            }
            if let Some(range) = ahead.read(&(at..at + STEP), SIZE) {
                assert!(range.start >= asked && range.end <= SIZE, "{range:?} after {asked}");
                assert!(range.end <= at + STEP + WINDOW_MAX_BYTES);
                asked = range.end;
            }
        }
        assert_eq!(asked, SIZE);
    }

    #[test]
    fn the_window_is_half_of_what_was_read() {
        let mut ahead = ReadAhead::default();
        let asked = (0..1 << 20).step_by(STEP as usize).filter_map(|at| ahead.read(&(at..at + STEP), SIZE));
        let end = asked.last().expect("something is asked for").end;
        assert_eq!(end, 3 << 19, "a head of 1 MiB moves half as much again");
    }

    #[test]
    fn a_reader_who_jumps_gets_nothing_ahead() {
        let mut ahead = ReadAhead::default();
        for i in 1..1000 {
            let at = (i * 7_919 * STEP) % (SIZE - STEP);
            assert_eq!(ahead.read(&(at..at + STEP), SIZE), None, "{at}");
        }
        // From where it stops jumping on, it is sequential again.
        let found = (0..16).any(|i| ahead.read(&(i * STEP..(i + 1) * STEP), SIZE).is_some());
        assert!(found);
    }

    #[test]
    fn parts_out_of_order_are_one_reader() {
        let mut ahead = ReadAhead::default();
        let parts = (0..64u64).map(|i| (i ^ 1) * STEP);
        assert!(parts.filter_map(|at| ahead.read(&(at..at + STEP), SIZE)).count() > 2);
    }
}
