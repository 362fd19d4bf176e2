//! Rates as people write them: `2MiB/s`, `500 KiB/s`, `1.5MB/s`.

use larder_core::{Error, Result};
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// The slowest rate that can be set: below it not even the answer to a listing arrives in time.
pub const RATE_MIN_BYTES_PER_S: u64 = 1024;
/// The fastest rate that can be set; what is faster is `off`.
pub const RATE_MAX_BYTES_PER_S: u64 = 100 << 30;

const UNITS: [(&str, f64); 9] = [
    ("tib", 1_099_511_627_776.0),
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("mbit", 125_000.0),
    ("b", 1.0),
];

/// Bytes per second, within [`RATE_MIN_BYTES_PER_S`] and [`RATE_MAX_BYTES_PER_S`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// Takes `bytes_per_s` as a rate; what lies outside the bounds becomes the nearest within.
    pub fn new(bytes_per_s: u64) -> Self {
        let bounded = bytes_per_s.clamp(RATE_MIN_BYTES_PER_S, RATE_MAX_BYTES_PER_S);
        Rate(NonZeroU64::new(bounded).unwrap_or(NonZeroU64::MIN))
    }

    /// The rate of `mib` MiB a second, at least one.
    pub const fn mib_per_s(mib: u32) -> Self {
        let mib = if mib == 0 { 1 } else { mib as u64 };
        match NonZeroU64::new(mib << 20) {
            Some(rate) => Rate(rate),
            None => Rate(NonZeroU64::MIN),
        }
    }

    /// Bytes per second.
    pub fn bytes_per_s(self) -> u64 {
        self.0.get()
    }

    /// Reads a rate, or `off` as no limit.
    ///
    /// # Errors
    /// `Invalid` with what a rate looks like.
    pub fn parse_limit(text: &str) -> Result<Option<Rate>> {
        match text.trim() {
            "off" => Ok(None),
            rate => rate.parse().map(Some),
        }
    }
}

/// Reads a number with its unit, in lower case, as bytes; else says what is wrong with it.
fn amount(text: &str) -> std::result::Result<f64, &'static str> {
    let (unit, factor) = UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or("has no unit")?;
    let number = text[..text.len() - unit.len()].trim().parse::<f64>();
    number.map(|number| number * factor).map_err(|_| "does not start with a number")
}

/// Reads a size as people write it, `10GiB` or `500 MB`, as bytes.
///
/// # Errors
/// `Invalid` with what a size looks like.
pub fn parse_size(text: &str) -> Result<u64> {
    let wrong = |why: &str| Error::invalid(format!("size {text:?} {why}; write it as 500MiB or 10GiB"));
    let lower = text.trim().to_ascii_lowercase();
    let bytes = if lower.ends_with("bit") { Err("has no unit") } else { amount(&lower) }.map_err(wrong)?;
    if !(0.0..=u64::MAX as f64 / 2.0).contains(&bytes) {
        return Err(wrong("is too large or below zero"));
    }
    Ok(bytes.round() as u64)
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            |why: &str| Error::invalid(format!("rate {text:?} {why}; write it as 2MiB/s, 500KiB/s or off"));
        let lower = text.trim().to_ascii_lowercase();
        let per_second = lower.strip_suffix("/s").or(lower.strip_suffix("ps")).unwrap_or(&lower).trim();
        let bytes_per_s = amount(per_second).map_err(wrong)?;
        if !(RATE_MIN_BYTES_PER_S as f64..=RATE_MAX_BYTES_PER_S as f64).contains(&bytes_per_s) {
            return Err(wrong("is not between 1KiB/s and 100GiB/s"));
        }
        Ok(Rate::new(bytes_per_s.round() as u64))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes_per_s();
        let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}/s", bytes / size),
            None => write!(f, "{bytes}B/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_as_people_write_them() {
        for (text, bytes) in [
            ("2MiB/s", 2 << 20),
            ("500KiB/s", 500 << 10),
            (" 1.5 mb/s", 1_500_000),
            ("4096B/s", 4096),
            ("8Mbit/s", 1_000_000),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(text.parse::<Rate>().expect(text).bytes_per_s(), bytes, "{text}");
        }
        assert_eq!(Rate::parse_limit("off").expect("off"), None);
    }

    #[test]
    fn bad_rates_say_how_a_rate_looks() {
        for text in ["", "fast", "2", "MiB/s", "-1MiB/s", "1B/s", "nanKiB/s", "1e300GiB/s", "infMiB/s"] {
            let error = text.parse::<Rate>().expect_err(text).to_string();
            assert!(error.contains("write it as 2MiB/s"), "{error}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [("500MiB", 500 << 20), (" 1.5 gb", 1_500_000_000), ("2TiB", 2 << 40), ("9B", 9)]
        {
            assert_eq!(parse_size(text).expect(text), bytes, "{text}");
        }
        for text in ["", "much", "7", "-1MiB", "8Mbit", "1MiB/s", "nanKiB", "1e300GiB"] {
            let error = parse_size(text).expect_err(text).to_string();
            assert!(error.contains("write it as 500MiB"), "{error}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read() {
        for bytes in [1024, 500 << 10, 2 << 20, 1_500_000, 3 << 30] {
            let rate = Rate::new(bytes);
            assert_eq!(rate.to_string().parse::<Rate>().expect("a rate"), rate);
        }
    }
}
