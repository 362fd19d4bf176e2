//! Dates as HTTP and WebDAV write them, fast enough for a hundred thousand entries.

use larder_core::Timestamp;
use std::time::{Duration, UNIX_EPOCH};

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

struct Civil {
    year: i64,
    month: usize,
    day: u8,
    weekday: usize,
    second_of_day: i64,
}

/// Splits seconds of Unix time. Source: Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
fn civil(secs: i64) -> Civil {
    let days = secs.div_euclid(86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u8;
    let month = ((month_from_march + 2) % 12) as usize;
    let year = year_of_era + era * 400 + i64::from(month < 2);
    Civil { year, month, day, weekday: days.rem_euclid(7) as usize, second_of_day: secs.rem_euclid(86_400) }
}

fn digits(out: &mut Vec<u8>, value: i64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10i64.pow(place) % 10) as u8);
    }
}

fn clock(out: &mut Vec<u8>, second_of_day: i64) {
    digits(out, second_of_day / 3600, 2);
    out.push(b':');
    digits(out, second_of_day / 60 % 60, 2);
    out.push(b':');
    digits(out, second_of_day % 60, 2);
}

/// Writes `Sun, 06 Nov 1994 08:49:37 GMT`. Source: RFC 9110 § 5.6.7.
pub(crate) fn http(out: &mut Vec<u8>, time: Timestamp) {
    let date = civil(time.secs());
    out.extend_from_slice(DAYS[date.weekday]);
    out.extend_from_slice(b", ");
    digits(out, date.day.into(), 2);
    out.push(b' ');
    out.extend_from_slice(MONTHS[date.month]);
    out.push(b' ');
    digits(out, date.year, 4);
    out.push(b' ');
    clock(out, date.second_of_day);
    out.extend_from_slice(b" GMT");
}

/// Writes `1994-11-06T08:49:37Z`. Source: RFC 3339, as RFC 4918 § 15.1 wants it.
pub(crate) fn rfc3339(out: &mut Vec<u8>, time: Timestamp) {
    let date = civil(time.secs());
    digits(out, date.year, 4);
    out.push(b'-');
    digits(out, date.month as i64 + 1, 2);
    out.push(b'-');
    digits(out, date.day.into(), 2);
    out.push(b'T');
    clock(out, date.second_of_day);
    out.push(b'Z');
}

/// Reads any of the three forms of an HTTP date; `None` for anything else.
pub(crate) fn parse_http(text: &str) -> Option<Timestamp> {
    let time = httpdate::parse_http_date(text.trim()).ok()?;
    let secs = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok()?,
        Err(before) => -i64::try_from(before.duration().as_secs()).ok()?,
    };
    Some(Timestamp::new(secs, 0))
}

/// The time as the standard library has it, for dav-server.
pub(crate) fn system(time: Timestamp) -> std::time::SystemTime {
    match u64::try_from(time.0) {
        Ok(nanos) => UNIX_EPOCH + Duration::from_nanos(nanos),
        Err(_) => UNIX_EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: fn(&mut Vec<u8>, Timestamp), secs: i64) -> String {
        let mut out = Vec::new();
        write(&mut out, Timestamp::new(secs, 0));
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn dates_are_those_of_the_rfc() {
        assert_eq!(text(http, 784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(rfc3339, 784_111_777), "1994-11-06T08:49:37Z");
        assert_eq!(text(http, 951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(rfc3339, -1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn dates_read_back() {
        for secs in [0, 784_111_777, 951_782_400, 4_102_444_799] {
            assert_eq!(parse_http(&text(http, secs)), Some(Timestamp::new(secs, 0)));
        }
        assert_eq!(parse_http("yesterday"), None);
    }
}
