//! Points in time, as files carry them.

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds of Unix time, from the year 1677 to 2262 (i64).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time `secs` and `nanos` after 1970-01-01T00:00:00Z; what does not fit becomes the nearest that does.
    pub fn new(secs: i64, nanos: u32) -> Self {
        let total = i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        Timestamp(total.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    /// Whole seconds, rounded down.
    pub fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// The nanoseconds after [`Timestamp::secs`], 0 to 999,999,999.
    pub fn nanos(self) -> u32 {
        self.0.rem_euclid(1_000_000_000) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        let time = Timestamp::new(-5, 250);
        assert_eq!((time.secs(), time.nanos()), (-5, 250));
        assert_eq!(Timestamp::new(i64::MAX, 0), Timestamp(i64::MAX));
    }
}
