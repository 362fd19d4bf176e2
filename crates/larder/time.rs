//! Points in time as people write and read them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use larder_core::{Error, Result, Timestamp};
use larder_policy::WeekMinute;
use std::time::Duration;

const UNITS: [(&str, i64); 5] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)];

/// Writes `at` in UTC, to the second. Source: RFC 3339.
pub fn rfc3339(at: Timestamp) -> String {
    let second = jiff::Timestamp::from_second(at.secs());
    second.map_or_else(|_| format!("@{}", at.secs()), |second| second.to_string())
}

/// Writes the day of `at` in this machine's zone: 2026-11-20.
pub fn day(at: Timestamp) -> String {
    let second = jiff::Timestamp::from_second(at.secs());
    second.map_or_else(
        |_| format!("@{}", at.secs()),
        |second| second.to_zoned(TimeZone::system()).date().to_string(),
    )
}

/// Writes an RFC 3339 time in this machine's zone; what is none stays as it is.
pub fn local(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => text.to_string(),
    }
}

/// Reads `2026-11-20T18:00:00Z`, `2026-11-20 18:00` (this machine's zone), `2026-11-20`, or how long ago: `90m`, `2h`,
/// `3d`.
///
/// # Errors
/// `Invalid`, telling what a time looks like.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp> {
    let wrong = || {
        Error::invalid(format!(
            "time {text:?}: write it as 2026-11-20T18:00:00Z, \"2026-11-20 18:00\" or 2h (ago)"
        ))
    };
    let text = text.trim();
    let ago = UNITS.iter().find_map(|(unit, seconds)| {
        let count: i64 = text.strip_suffix(unit)?.parse().ok()?;
        (count >= 0).then(|| count.saturating_mul(*seconds).saturating_mul(1_000_000_000))
    });
    if let Some(ago) = ago {
        return Ok(Timestamp(now.0.saturating_sub(ago)));
    }
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        Err(_) => {
            let civil: DateTime = text.parse().map_err(|_| wrong())?;
            civil.to_zoned(TimeZone::system()).map_err(|_| wrong())?.timestamp()
        }
    };
    i64::try_from(at.as_nanosecond()).map(Timestamp).map_err(|_| wrong())
}

/// The minute of the week in this machine's zone.
pub fn week_minute() -> WeekMinute {
    let now = now();
    let part = |number: i8| u8::try_from(number).unwrap_or(0);
    WeekMinute::new(part(now.weekday().to_monday_zero_offset()), part(now.hour()), part(now.minute()))
}

/// How long it takes until another minute is on the clock.
pub fn until_next_minute() -> Duration {
    let now = now();
    let passed =
        Duration::new(u64::try_from(now.second()).unwrap_or(0), now.subsec_nanosecond().unsigned_abs());
    Duration::from_secs(60).saturating_sub(passed).max(Duration::from_millis(1))
}

fn now() -> jiff::Zoned {
    let ns = i128::from(larder_drive::Clock::system().now().0);
    let now = jiff::Timestamp::from_nanosecond(ns).expect("64 bits of nanoseconds lie within its years");
    now.to_zoned(TimeZone::system())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        let now = Timestamp::new(1_800_000_000, 0);
        let read = |text: &str| parse(text, now).expect(text).secs();
        assert_eq!(read("2h"), 1_800_000_000 - 7200);
        assert_eq!(read("2026-11-20T18:00:00Z"), 1_795_197_600);
        assert_eq!(read("2026-11-20T19:00:00+01:00"), 1_795_197_600);
        assert!(read("2026-11-20") > 1_795_000_000);
        assert!(read("2026-11-20 18:00") > 1_795_000_000);
        for bad in ["", "yesterday", "-2h", "2026-13-01"] {
            assert!(parse(bad, now).is_err(), "{bad}");
        }
        assert_eq!(rfc3339(Timestamp::new(1_795_197_600, 5)), "2026-11-20T18:00:00Z");
    }
}
