//! Rates as people write them: `2MiB/s`, `500 KiB/s`, `1.5MB/s`.

use crate::mistake::misplaced;
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

/// Reads a number with its unit, at the beginning of `words`, a part of `text`, as bytes.
fn amount(what: &str, text: &str, words: &str, advice: &str) -> Result<f64> {
    let wrong = |word: &str, why: &str| misplaced(what, text, word, &format!("{why}; {advice}"));
    if words.is_empty() {
        return Err(Error::invalid(format!("{what} {text:?} is empty; {advice}")));
    }
    let end = words.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(words.len());
    let (number, unit) = (&words[..end], words[end..].trim());
    if number.is_empty() {
        return Err(wrong(words, "does not start with a number"));
    }
    let amount: f64 = number.parse().map_err(|_| wrong(number, "is no number"))?;
    if unit.is_empty() {
        return Err(wrong(number, "has no unit"));
    }
    let known = UNITS.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name));
    known.map(|(_, factor)| amount * factor).ok_or_else(|| wrong(unit, "is no unit"))
}

/// Reads a size as people write it, `10GiB` or `500 MB`, as bytes.
///
/// # Errors
/// `Invalid` with what is wrong, where, and what a size looks like.
pub fn parse_size(text: &str) -> Result<u64> {
    let advice = "write it as 500MiB or 10GiB";
    let words = text.trim();
    if let Some(at) = words.to_ascii_lowercase().find("bit") {
        return Err(misplaced("size", text, &words[at..], &format!("is no unit; {advice}")));
    }
    let bytes = amount("size", text, words, advice)?;
    if bytes > u64::MAX as f64 / 2.0 {
        return Err(misplaced("size", text, words, &format!("is too large; {advice}")));
    }
    Ok(bytes.round() as u64)
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let advice = "write it as 2MiB/s, 500KiB/s or off";
        let words = text.trim();
        let is_end = |end: &str| words.len() > end.len() && words.to_ascii_lowercase().ends_with(end);
        let per_second = if is_end("/s") || is_end("ps") { words[..words.len() - 2].trim() } else { words };
        let bytes_per_s = amount("rate", text, per_second, advice)?;
        if !(RATE_MIN_BYTES_PER_S as f64..=RATE_MAX_BYTES_PER_S as f64).contains(&bytes_per_s) {
            let why = format!("is not between 1KiB/s and 100GiB/s; {advice}");
            return Err(misplaced("rate", text, words, &why));
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
    fn what_is_wrong_in_a_rate_is_named_with_its_place() {
        for (text, what) in [
            ("2 MiBs", "\"MiBs\" at character 3 is no unit"),
            (" fast", "\"fast\" at character 2 does not start with a number"),
            ("1.2.3MiB/s", "\"1.2.3\" at character 1 is no number"),
            ("17", "\"17\" at character 1 has no unit"),
            ("1B/s", "\"1B/s\" at character 1 is not between"),
            ("2µB/s", "\"µB\" at character 2 is no unit"),
        ] {
            let error = text.parse::<Rate>().expect_err(text).to_string();
            assert!(error.contains(what), "{error}");
        }
        let error = parse_size("10 GiBi").expect_err("no unit").to_string();
        assert!(error.contains("\"GiBi\" at character 4 is no unit"), "{error}");
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
