//! Limits as they are set, kept in the catalog over a restart: of the whole, of users and devices, and whether a device asks
//! its server at all.

use crate::payers::Who;
use crate::{actor, time, users};
use larder_api::devices;
use larder_core::{Error, Result};
use larder_drive::Drive;
use larder_policy::{Direction, Rate, Timetable};
use larder_store::catalog::Table;
use larder_store::origin::Link;
use larder_store::{Catalog, Durability, Op};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DOWN: &str = "limit-down";
const UP: &str = "limit-up";
const TOTAL: &str = "limit-total";
const LINK: &str = "limit-link";
/// Before the name of a user whose limits these are, as JSON.
const OF_USER: &str = "limit-user/";
/// Before the id of a device.
const OF_DEVICE: &str = "limit-device/";
/// Users and devices that have limits.
const WHO_MAX: usize = 10_000;

/// Limits to set; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What the server sends, or the device receives.
    pub down: Option<Timetable>,
    /// The other way.
    pub up: Option<Timetable>,
    /// Both together.
    pub total: Option<Timetable>,
}

/// Limits as somebody wrote them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Written {
    /// As [`Limits::down`].
    pub down: Option<String>,
    /// As [`Limits::up`].
    pub up: Option<String>,
    /// As [`Limits::total`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// When they hold, if not always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
}

impl Limits {
    /// Reads limits; with a window they hold within it only.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn parse(written: &Written) -> Result<Self> {
        let Written { down, up, total, window } = written;
        if window.is_some() && down.is_none() && up.is_none() && total.is_none() {
            return Err(Error::invalid("--window is for what --down, --up or --total set"));
        }
        let parse = |text: &Option<String>, direction| {
            let limit = |text: &String| match window {
                Some(window) => Timetable::within(Rate::parse_limit(text)?, window),
                None => Timetable::parse(text, direction),
            };
            text.as_ref().map(limit).transpose()
        };
        let (down, up) = (parse(down, Direction::Down)?, parse(up, Direction::Up)?);
        Ok(Self { down, up, total: parse(total, Direction::Down)? })
    }

    /// These where they say something, `others` where not.
    pub fn or(self, others: Self) -> Self {
        Self {
            down: self.down.or(others.down),
            up: self.up.or(others.up),
            total: self.total.or(others.total),
        }
    }

    fn all(&self) -> [(&'static str, &'static str, &Option<Timetable>); 3] {
        [("down", DOWN, &self.down), ("up", UP, &self.up), ("total", TOTAL, &self.total)]
    }

    /// Says whether the clock changes any of them.
    pub fn follow_clock(&self) -> bool {
        self.all().iter().any(|(.., limit)| limit.as_ref().is_some_and(|limit| !limit.is_constant()))
    }

    /// As JSON: what was set, and what of it holds now.
    pub fn shown(&self) -> Value {
        let (off, now) = (Timetable::always(None), time::week_minute());
        let mut shown = json!({});
        for (name, _, limit) in self.all() {
            let limit = limit.as_ref().unwrap_or(&off);
            shown[name] = json!(limit.to_string());
            shown[format!("{name}_now")] = json!(Timetable::always(limit.at(now)).to_string());
        }
        shown
    }

    fn written(&self) -> Written {
        let text = |limit: &Option<Timetable>| Some(limit.as_ref()?.to_string());
        let [down, up, total] = [&self.down, &self.up, &self.total].map(text);
        Written { down, up, total, window: None }
    }
}

/// Everything that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Of the whole.
    pub whole: Limits,
    /// Of single users and devices.
    pub of: BTreeMap<Who, Limits>,
    /// How a device may use its way to the server.
    pub link: Link,
}

/// What to change of it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Whose limits; nobody's in particular means the whole's.
    pub who: Option<Who>,
    /// The limits.
    pub limits: Limits,
    /// The link.
    pub link: Option<Link>,
}

impl Set {
    /// Returns what was set last.
    ///
    /// # Errors
    /// Those of the catalog; `Corrupt`.
    pub fn saved(catalog: &dyn Catalog) -> Result<Self> {
        let mut set = Self::default();
        let corrupt = |e: serde_json::Error| Error::corrupt("a record of limits").because(e);
        let timetable = |text: &str, direction| Timetable::parse(text, direction).map(Some);
        for (key, value) in catalog.records(Table::Settings)? {
            let (key, text) = (String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
            match &*key {
                DOWN => set.whole.down = timetable(&text, Direction::Down)?,
                UP => set.whole.up = timetable(&text, Direction::Up)?,
                TOTAL => set.whole.total = timetable(&text, Direction::Down)?,
                LINK => set.link = serde_json::from_str(&text).map_err(corrupt)?,
                key => {
                    let user = key.strip_prefix(OF_USER).map(|name| Who::User(name.to_owned()));
                    let device = key.strip_prefix(OF_DEVICE).map(|id| Who::Device(id.to_owned()));
                    if let Some(who) = user.or(device) {
                        let written = serde_json::from_str(&text).map_err(corrupt)?;
                        set.of.insert(who, Limits::parse(&written)?);
                    }
                }
            }
        }
        Ok(set)
    }

    /// What there is after `change`.
    ///
    /// # Errors
    /// `Unavailable` beyond so many users and devices.
    pub fn changed(&self, change: Change) -> Result<Self> {
        let mut set = self.clone();
        set.link = change.link.unwrap_or(set.link);
        match change.who {
            None => set.whole = change.limits.or(set.whole),
            Some(who) => {
                let old = set.of.remove(&who).unwrap_or_default();
                let new = change.limits.or(old);
                let off = Timetable::always(None);
                if new.all().iter().any(|(.., limit)| limit.as_ref().is_some_and(|limit| *limit != off)) {
                    set.of.insert(who, new);
                }
            }
        }
        match set.of.len() <= WHO_MAX {
            true => Ok(set),
            false => Err(Error::unavailable(format!("more than {WHO_MAX} users and devices with limits"))),
        }
    }

    /// What there is without the limits of users and devices that `drive` has no more: a later user of that name is another
    /// one.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn without_gone(&self, drive: &Drive) -> Result<Self> {
        let mut set = self.clone();
        if !set.of.is_empty() {
            let (users, devices) = (users::list(drive)?, devices::list(drive)?);
            set.of.retain(|who, _| match who {
                Who::User(name) => users.iter().any(|user| user.name == *name),
                Who::Device(id) => devices.iter().any(|device| device.id == *id),
                Who::File(_) | Who::Fetch(_) => true,
            });
        }
        Ok(set)
    }

    /// Keeps what differs from `before` for the next start.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn save(&self, drive: &Drive, before: &Self) -> Result<()> {
        let mut ops = Vec::new();
        let mut keep = |key: String, value: Option<String>| {
            let (key, value) = (key.into_bytes(), value.map(String::into_bytes));
            ops.push(Op::SetRecord { table: Table::Settings, key, value });
        };
        for ((_, key, limit), (.., old)) in self.whole.all().into_iter().zip(before.whole.all()) {
            if limit != old {
                keep(key.to_owned(), limit.as_ref().map(ToString::to_string));
            }
        }
        if self.link != before.link {
            keep(LINK.to_owned(), Some(json!(self.link).to_string()));
        }
        for who in self.of.keys().chain(before.of.keys()) {
            let key = match who {
                Who::User(name) => format!("{OF_USER}{name}"),
                Who::Device(id) => format!("{OF_DEVICE}{id}"),
                Who::File(_) | Who::Fetch(_) => continue,
            };
            if self.of.get(who) != before.of.get(who) {
                keep(key, self.of.get(who).map(|limits| json!(limits.written()).to_string()));
            }
        }
        if ops.is_empty() {
            return Ok(());
        }
        drive.commit(&actor::server(), Vec::new(), ops, Durability::Power).map(drop)
    }

    /// As JSON: of `who`, or of the whole and with it of everybody else.
    pub fn shown(&self, who: Option<&Who>) -> Value {
        if let Some(who) = who {
            return self.of.get(who).cloned().unwrap_or_default().shown();
        }
        let mut shown = self.whole.shown();
        for (who, limits) in &self.of {
            match who {
                Who::User(name) => shown["users"][name] = limits.shown(),
                Who::Device(id) => shown["devices"][id] = limits.shown(),
                Who::File(_) | Who::Fetch(_) => {}
            }
        }
        shown
    }
}
