//! The limits of a server: what was set last, kept in the catalog, and what of it holds at this time of the week.

use crate::shaping::Shaper;
use crate::stream::Shapers;
use crate::{actor, time};
use larder_core::{Error, Result};
use larder_drive::Drive;
use larder_policy::{Direction, Rate, Timetable};
use larder_store::catalog::Table;
use larder_store::{Durability, Op};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const DOWN: &[u8] = b"limit-down";
const UP: &[u8] = b"limit-up";
/// The clock on the wall is looked at so often: it may be set, and the machine may have slept.
const LOOK: Duration = Duration::from_secs(10);

/// Limits to set; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What the server sends.
    pub down: Option<Timetable>,
    /// What it receives.
    pub up: Option<Timetable>,
}

impl Limits {
    /// Reads limits; with `window` they hold within it only.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn parse(down: Option<&str>, up: Option<&str>, window: Option<&str>) -> Result<Self> {
        if window.is_some() && down.is_none() && up.is_none() {
            return Err(Error::invalid("--window is for what --down or --up set"));
        }
        let parse = |text: Option<&str>, direction| {
            let limit = |text: &str| match window {
                Some(window) => Timetable::within(Rate::parse_limit(text)?, window),
                None => Timetable::parse(text, direction),
            };
            text.map(limit).transpose()
        };
        Ok(Self { down: parse(down, Direction::Down)?, up: parse(up, Direction::Up)? })
    }

    /// Returns what was set last.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn saved(drive: &Drive) -> Result<Self> {
        let read = |key, direction| {
            let found = drive.catalog().record(Table::Settings, key)?;
            let text = found.map(|text| String::from_utf8_lossy(&text).into_owned());
            text.map(|text| Timetable::parse(&text, direction)).transpose()
        };
        Ok(Self { down: read(DOWN, Direction::Down)?, up: read(UP, Direction::Up)? })
    }

    /// Keeps them for the next start.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn save(&self, drive: &Drive) -> Result<()> {
        let record = |key: &[u8], limit: &Option<Timetable>| {
            let value = Some(limit.as_ref()?.to_string().into_bytes());
            Some(Op::SetRecord { table: Table::Settings, key: key.to_vec(), value })
        };
        let ops: Vec<Op> = [record(DOWN, &self.down), record(UP, &self.up)].into_iter().flatten().collect();
        if ops.is_empty() {
            return Ok(());
        }
        drive.commit(&actor::server(), Vec::new(), ops, Durability::Power).map(|_| ())
    }

    /// These where they say something, `others` where not.
    pub fn or(self, others: Self) -> Self {
        Self { down: self.down.or(others.down), up: self.up.or(others.up) }
    }

    /// As JSON: what was set, and what of it holds now.
    pub fn shown(&self) -> Value {
        let off = Timetable::always(None);
        let (down, up) = (self.down.as_ref().unwrap_or(&off), self.up.as_ref().unwrap_or(&off));
        let now = time::week_minute();
        let holds = |limit: &Timetable| Timetable::always(limit.at(now)).to_string();
        json!({
            "down": down.to_string(),
            "up": up.to_string(),
            "down_now": holds(down),
            "up_now": holds(up),
        })
    }
}

/// Has the shapers keep what is set.
pub struct Limiter {
    shapers: Shapers,
    limits: Mutex<Limits>,
    changed: Notify,
}

impl Limiter {
    /// Keeps `limits` from now on; [`Limiter::run`] must run as long as it is used.
    pub fn new(limits: Limits) -> Arc<Self> {
        let shapers = Shapers { down: Shaper::new(None), up: Shaper::new(None) };
        let limiter = Self { shapers, limits: Mutex::new(limits), changed: Notify::new() };
        limiter.apply();
        Arc::new(limiter)
    }

    /// The shapers.
    pub fn shapers(&self) -> &Shapers {
        &self.shapers
    }

    /// Keeps `change` from now on.
    pub fn set(&self, change: Limits) {
        let mut limits = self.limits.lock();
        *limits = change.or(std::mem::take(&mut limits));
        drop(limits);
        self.apply();
        self.changed.notify_one();
    }

    /// What is set, as JSON.
    pub fn shown(&self) -> Value {
        self.limits.lock().shown()
    }

    /// Follows the clock, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let changes = {
                let limits = self.limits.lock();
                [&limits.down, &limits.up].into_iter().flatten().any(|limit| !limit.is_constant())
            };
            let next = time::until_next_minute().min(LOOK);
            tokio::select! {
                () = tokio::time::sleep(next), if changes => self.apply(),
                () = self.changed.notified() => {}
            }
        }
    }

    fn apply(&self) {
        let limits = self.limits.lock();
        let now = time::week_minute();
        for (shaper, limit) in [(&self.shapers.down, &limits.down), (&self.shapers.up, &limits.up)] {
            shaper.set_limit(limit.as_ref().and_then(|limit| limit.at(now)));
        }
    }
}
