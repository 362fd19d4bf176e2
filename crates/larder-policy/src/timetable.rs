//! Limits that change with the time of the week.
//!
//! Two ways to write one: a limit with a window, `2MiB/s` and `mon-fri 08:00-18:00`, and the grammar of rclone's
//! `--bwlimit`: `08:00,512k 19:00,10M 23:00,off`, with `Sat-10:00,off` for single days and `10M:100k` for upload and
//! download. Source: rclone.org/docs, --bwlimit. What time it is where the user lives is the caller's to know.

use crate::Rate;
use crate::mistake::misplaced;
use larder_core::{Error, Result};
use std::fmt;

/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;
/// Minutes of a week.
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// A timetable has no more entries.
const ENTRIES_MAX: usize = 500;

/// A minute of the local week, 0 is Monday 00:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WeekMinute(u16);

impl WeekMinute {
    /// The minute of `day`, 0 is Monday, at `hour` and `minute`; what lies outside the week is wrapped into it.
    pub fn new(day: u8, hour: u8, minute: u8) -> Self {
        let minutes = u32::from(day) * u32::from(DAY_MINUTES) + u32::from(hour) * 60 + u32::from(minute);
        Self((minutes % u32::from(WEEK_MINUTES)) as u16)
    }
}

impl fmt::Display for WeekMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, minute) = (self.0 / DAY_MINUTES, self.0 % DAY_MINUTES);
        write!(f, "{}-{:02}:{:02}", &DAYS[usize::from(day)][..3], minute / 60, minute % 60)
    }
}

/// Which way bytes go; of two rates that are written `UP:DOWN`, which one is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the device to the server.
    Up,
    /// From the server to the device.
    Down,
}

/// A limit for every minute of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// From when on which limit holds, ascending, neighbours different; the last one holds until the first.
    entries: Vec<(WeekMinute, Option<Rate>)>,
}

impl Timetable {
    /// The same limit at all times.
    pub fn always(limit: Option<Rate>) -> Self {
        Self { entries: vec![(WeekMinute(0), limit)] }
    }

    /// Reads a limit (`2MiB/s`, `off`) or a timetable.
    ///
    /// # Errors
    /// `Invalid`, naming the word that is wrong and where it stands.
    pub fn parse(text: &str, direction: Direction) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let is_timetable = words.first().is_some_and(|word| word.contains(','));
        if !is_timetable {
            return Ok(Self::always(Rate::parse_limit(text)?));
        }
        let mut entries = Vec::new();
        for word in words {
            let wrong = |why: &str| misplaced("timetable", text, word, why);
            let (when, limit) = word.split_once(',').ok_or_else(|| wrong("is not written TIME,RATE"))?;
            let limit = pair(limit, direction).map_err(|_| wrong("has no rate such as 512k, 10M or off"))?;
            let (days, time) = match when.split_once('-') {
                Some((day, time)) => (vec![day_of(day).ok_or_else(|| wrong("starts with no day"))?], time),
                None => ((0..7).collect(), when),
            };
            let minute = minute_of(time).filter(|minute| *minute < DAY_MINUTES);
            let minute = minute.ok_or_else(|| wrong("has no time of day such as 08:00"))?;
            entries.extend(days.into_iter().map(|day| (WeekMinute(day * DAY_MINUTES + minute), limit)));
        }
        if entries.len() > ENTRIES_MAX {
            return Err(Error::invalid(format!("timetable has more than {ENTRIES_MAX} entries")));
        }
        // Of two for the same minute the later one counts, as if it had been set after the other.
        entries.sort_by_key(|(minute, _)| *minute);
        Ok(Self::tidied(entries))
    }

    /// `limit` within the window, such as `mon-fri 08:00-18:00`, `sat,sun 22:00-06:00` or `12:00-13:00`; none outside.
    ///
    /// # Errors
    /// `Invalid`, naming the word that is wrong and where it stands.
    pub fn within(limit: Option<Rate>, window: &str) -> Result<Self> {
        let words: Vec<&str> = window.split_whitespace().collect();
        let (days, times) = match words[..] {
            [times] => ("mon-sun", times),
            [days, times] => (days, times),
            _ => {
                return Err(Error::invalid(format!("window {window:?}: write it as mon-fri 08:00-18:00")));
            }
        };
        let wrong = |word: &str, why: &str| misplaced("window", window, word, why);
        let between = times.split_once('-').and_then(|(from, to)| Some((minute_of(from)?, minute_of(to)?)));
        let (from, to) = between.ok_or_else(|| wrong(times, "is not written 08:00-18:00"))?;
        if from == to || from == DAY_MINUTES {
            return Err(wrong(times, "is empty"));
        }
        let length = if to > from { to - from } else { DAY_MINUTES - from + to };
        let mut limited = vec![false; usize::from(WEEK_MINUTES)];
        for part in days.split(',') {
            let range = days_of(part).ok_or_else(|| wrong(part, "names no days such as mon-fri or sat"))?;
            for start in range.map(|day| day * DAY_MINUTES + from) {
                (start..start + length).for_each(|minute| limited[usize::from(minute % WEEK_MINUTES)] = true);
            }
        }
        let limit_at = |is_limited: bool| if is_limited { limit } else { None };
        let minutes = (0..WEEK_MINUTES).zip(limited);
        Ok(Self::tidied(minutes.map(|(minute, is)| (WeekMinute(minute), limit_at(is))).collect()))
    }

    /// Drops entries that change nothing.
    fn tidied(sorted: Vec<(WeekMinute, Option<Rate>)>) -> Self {
        let mut entries: Vec<(WeekMinute, Option<Rate>)> = Vec::new();
        for entry in sorted {
            entries.pop_if(|last| last.0 == entry.0);
            if entries.last().is_none_or(|last| last.1 != entry.1) {
                entries.push(entry);
            }
        }
        if entries.len() > 1 && entries[0].1 == entries[entries.len() - 1].1 {
            entries.remove(0);
        }
        match entries[..] {
            [(_, limit)] => Self::always(limit),
            _ => Self { entries },
        }
    }

    /// Says whether it never changes.
    pub fn is_constant(&self) -> bool {
        self.entries.len() == 1
    }

    /// The limit at `minute`.
    pub fn at(&self, minute: WeekMinute) -> Option<Rate> {
        let before = self.entries.partition_point(|(start, _)| *start <= minute);
        let last = self.entries.len() - 1;
        self.entries[before.checked_sub(1).unwrap_or(last)].1
    }
}

/// As [`Timetable::parse`] reads it.
impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |limit: Option<Rate>| limit.map_or_else(|| "off".to_owned(), |rate| rate.to_string());
        if self.is_constant() {
            return f.write_str(&written(self.entries[0].1));
        }
        let entries = self.entries.iter().map(|(minute, limit)| format!("{minute},{}", written(*limit)));
        f.write_str(&entries.collect::<Vec<_>>().join(" "))
    }
}

fn pair(text: &str, direction: Direction) -> Result<Option<Rate>> {
    let half = match (text.split_once(':'), direction) {
        (Some((up, _)), Direction::Up) => up,
        (Some((_, down)), Direction::Down) => down,
        (None, _) => text,
    };
    Rate::parse_limit(half).or_else(|error| rclone_rate(half).ok_or(error))
}

/// `512k`, `10M`, `1.5G`, `100` (KiB): a second, powers of 1024.
fn rclone_rate(text: &str) -> Option<Option<Rate>> {
    let (number, shift) = match text.char_indices().last()? {
        (at, 'b' | 'B') => (&text[..at], 0),
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        _ => (text, 10),
    };
    let bytes = number.parse::<f64>().ok()? * f64::from(1u32 << shift);
    Rate::parse_limit(&format!("{bytes}B/s")).ok()
}

/// The day that `text` begins to name: `mon`, `Tues`, `Sunday`.
fn day_of(text: &str) -> Option<u16> {
    let text = text.to_ascii_lowercase();
    let day = DAYS.iter().position(|day| text.len() >= 3 && day.to_ascii_lowercase().starts_with(&text));
    day.map(|day| day as u16)
}

/// `mon`, or `fri-mon`, which goes on over the end of the week.
fn days_of(text: &str) -> Option<impl Iterator<Item = u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (day_of(from)?, day_of(to)?);
    let last = if to < from { to + 7 } else { to };
    Some((from..=last).map(|day| day % 7))
}

/// `08:00` as minutes; up to `24:00`.
fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    (minute < 60 && hour * 60 + minute <= DAY_MINUTES).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MON: u8 = 0;
    const FRI: u8 = 4;
    const SAT: u8 = 5;
    const SUN: u8 = 6;

    fn rate(text: &str) -> Option<Rate> {
        Rate::parse_limit(text).expect(text)
    }

    fn read(text: &str) -> Timetable {
        let read = Timetable::parse(text, Direction::Down).expect(text);
        assert_eq!(Timetable::parse(&read.to_string(), Direction::Down).expect("its own words"), read);
        read
    }

    #[test]
    fn limits_without_a_time_hold_always() {
        for text in ["2MiB/s", "off"] {
            let always = read(text);
            assert!(always.is_constant());
            assert_eq!(
                (always.at(WeekMinute::new(SUN, 23, 59)), always.to_string()),
                (rate(text), text.into())
            );
        }
    }

    #[test]
    fn rclones_timetables_are_read() {
        let daily = read("08:00,512k 12:00,10M 13:00,512k 18:00,30M 23:00,off");
        for day in MON..=SUN {
            let at = |hour, minute| daily.at(WeekMinute::new(day, hour, minute));
            assert_eq!((at(7, 59), at(8, 0), at(12, 30)), (None, rate("512KiB/s"), rate("10MiB/s")));
            assert_eq!((at(22, 59), at(23, 0), at(0, 0)), (rate("30MiB/s"), None, None));
        }
        let weekly = read("Mon-00:00,512 Fri-23:59,10M Sat-10:00,1M Sun-20:00,off");
        let at = |day, hour, minute| weekly.at(WeekMinute::new(day, hour, minute));
        assert_eq!((at(MON, 0, 0), at(FRI, 23, 58)), (rate("512KiB/s"), rate("512KiB/s")));
        assert_eq!(
            (at(FRI, 23, 59), at(SAT, 10, 0), at(SUN, 21, 0)),
            (rate("10MiB/s"), rate("1MiB/s"), None)
        );
        let both = "08:00,10M:100k 20:00,off:1M";
        let down = Timetable::parse(both, Direction::Down).expect("a pair");
        let up = Timetable::parse(both, Direction::Up).expect("a pair");
        let noon = WeekMinute::new(MON, 12, 0);
        assert_eq!((up.at(noon), down.at(noon)), (rate("10MiB/s"), rate("100KiB/s")));
        assert_eq!(up.at(WeekMinute::new(MON, 21, 0)), None);
    }

    #[test]
    fn windows_limit_within_and_not_outside() {
        let office = Timetable::within(rate("2MiB/s"), "mon-fri 08:00-18:00").expect("a window");
        let at = |day, hour, minute| office.at(WeekMinute::new(day, hour, minute));
        assert_eq!((at(MON, 7, 59), at(MON, 8, 0), at(FRI, 17, 59), at(FRI, 18, 0)), {
            let limit = rate("2MiB/s");
            (None, limit, limit, None)
        });
        assert_eq!((at(SAT, 12, 0), at(SUN, 12, 0)), (None, None));
        assert_eq!(office.to_string().split(' ').count(), 10);
        // Over midnight, and over the end of the week.
        let nights = Timetable::within(rate("1MiB/s"), "Sunday,fri-sat 22:00-06:00").expect("a window");
        let at = |day, hour| nights.at(WeekMinute::new(day, hour, 0)).is_some();
        assert_eq!((at(SUN, 23), at(MON, 5), at(MON, 6), at(MON, 23)), (true, true, false, false));
        assert_eq!((at(FRI, 5), at(FRI, 22), at(SAT, 5), at(SUN, 5)), (false, true, true, true));
        let whole = Timetable::within(rate("1MiB/s"), "00:00-24:00").expect("a window");
        assert_eq!(whole, Timetable::always(rate("1MiB/s")));
        for window in [&office, &nights] {
            read(&window.to_string());
        }
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, place) in [
            ("08:00,512k 25:00,1M", "\"25:00,1M\" at character 12 has no time of day"),
            ("08:00,fast", "\"08:00,fast\" at character 1 has no rate"),
            ("08:00,1M 09:00", "\"09:00\" at character 10 is not written"),
            ("Xyz-08:00,1M", "at character 1 starts with no day"),
            ("08:0x,1M", "has no time of day"),
            ("08:00,", "has no rate"),
            ("24:00,1M", "has no time of day"),
            ("quick", "write it as 2MiB/s"),
            ("", "write it as 2MiB/s"),
        ] {
            let error = Timetable::parse(text, Direction::Up).expect_err(text).to_string();
            assert!(error.contains(place), "{text}: {error}");
        }
        for (window, place) in [
            ("mon-fri 08:00", "\"08:00\" at character 9 is not written"),
            ("mon-fry 08:00-18:00", "\"mon-fry\" at character 1 names no days"),
            ("sat,,sun 08:00-18:00", "at character 5 names no days"),
            ("08:00-08:00", "is empty"),
            ("24:00-01:00", "is empty"),
            ("mon 08:00-25:00", "is not written"),
            ("", "write it as mon-fri"),
            ("mon tue 08:00-09:00", "write it as mon-fri"),
        ] {
            let error = Timetable::within(None, window).expect_err(window).to_string();
            assert!(error.contains(place), "{window}: {error}");
        }
    }
}
