//! Spans of time as people write them: `90s`, `2h`, `1h30m`, `7d`.

use crate::mistake::misplaced;
use larder_core::{Error, Result};
use std::time::Duration;

/// The longest span: ten years.
pub const SPAN_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Reads a span: whole numbers, each with its unit.
///
/// # Errors
/// `Invalid`, with what is wrong and where.
pub fn parse_span(text: &str) -> Result<Duration> {
    let wrong = |word: &str, why: &str| misplaced("time", text, word, why);
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(Error::invalid(format!("time {text:?} is empty; write it as 90s, 2h, 1h30m or 7d")));
    }
    let mut whole_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|letter: char| letter.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        if number.is_empty() {
            return Err(wrong(unit, "is no whole number; write it as 90s, 2h, 1h30m or 7d"));
        }
        let Some((_, unit_ms)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let word = if unit.is_empty() { number } else { unit };
            return Err(wrong(word, "is no unit of time; write it as 90s, 2h, 1h30m or 7d"));
        };
        let part_ms = number.parse().ok().and_then(|number: u64| number.checked_mul(*unit_ms));
        let sum_ms = part_ms.and_then(|part_ms| whole_ms.checked_add(part_ms));
        whole_ms = sum_ms
            .filter(|sum_ms| u128::from(*sum_ms) <= SPAN_MAX.as_millis())
            .ok_or_else(|| wrong(number, "is too long; ten years is the longest"))?;
        rest = behind;
    }
    if whole_ms == 0 {
        return Err(wrong(text, "is no time at all"));
    }
    Ok(Duration::from_millis(whole_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        for (text, ms) in [
            ("90s", 90_000),
            (" 2h ", 7_200_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1w1d", 691_200_000),
        ] {
            assert_eq!(parse_span(text).expect(text), Duration::from_millis(ms), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_span_is_named_with_its_place() {
        for (text, what) in [
            ("", "is empty"),
            ("soon", "\"soon\" at character 1 is no whole number"),
            ("1h3x", "\"x\" at character 4 is no unit"),
            ("90", "\"90\" at character 1 is no unit"),
            ("1.5h", "\".\" at character 2 is no unit"),
            ("-2h", "\"-\" at character 1 is no whole number"),
            ("2h99999999999w", "\"99999999999\" at character 3 is too long"),
            ("0s", "is no time at all"),
        ] {
            let error = parse_span(text).expect_err(text).to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
