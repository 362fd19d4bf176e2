//! What there is to tell a device, and when.

use super::Place;
use crate::devices::{self, Device};
use crate::query::cursor_text;
use crate::{Service, rules};
use larder_core::{Kind, Result as Outcome};
use larder_drive::Drive;
use larder_store::catalog::Cursor;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The shortest time between two of them.
const PAUSE: Duration = Duration::from_millis(50);

/// One piece of news; nothing in it is a sign of life.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The feed goes on to here.
    pub(super) cursor: Option<String>,
    /// The device has rules of this version.
    pub(super) rules: Option<u64>,
}

/// What one stream knows.
pub(super) struct Listener {
    service: Arc<Service>,
    told: watch::Receiver<u64>,
    ended: watch::Receiver<bool>,
    device: Option<Device>,
    /// The cursor that was told last; nothing before the first where the device came with one of changes that are lost.
    sent: Option<Cursor>,
    /// The version of the rules that the device knows; `None` for one that asks for none.
    rules: Option<u64>,
    /// Something may be behind it.
    due: bool,
    /// No event before this.
    next: Instant,
    /// The next sign of life.
    beat: Instant,
    _place: Place,
}

/// Where the feed is, and whether there are changes behind `after`. Its end moves with every chunk that somebody uploads: to
/// tell that would send devices round in circles.
pub(super) fn ahead(drive: &Drive, after: Option<&Cursor>) -> Outcome<(Cursor, bool)> {
    let Some(after) = after else { return Ok((drive.catalog().now(), true)) };
    match drive.catalog().changes(after, 1) {
        Ok((changes, next)) if changes.is_empty() => Ok((next, false)),
        Ok(_) => Ok((drive.catalog().now(), true)),
        // The device hears why when it asks for the changes.
        Err(error) if matches!(error.kind(), Kind::Conflict | Kind::Corrupt) => {
            Ok((drive.catalog().now(), true))
        }
        Err(error) => Err(error),
    }
}

enum Woken {
    Ended,
    Told,
    May,
    Beat,
}

impl Listener {
    pub(super) fn new(
        service: Arc<Service>,
        device: Option<Device>,
        (sent, rules): (Option<Cursor>, Option<u64>),
        place: Place,
    ) -> Self {
        let now = Instant::now();
        Self {
            told: service.news.told.subscribe(),
            ended: service.news.ended.subscribe(),
            device,
            sent,
            rules,
            due: true,
            next: now,
            beat: now + service.settings.heartbeat,
            service,
            _place: place,
        }
    }

    /// How often a sign of life is due.
    pub(super) fn heartbeat(&self) -> Duration {
        self.service.settings.heartbeat
    }

    /// What to tell next; `None` at the end.
    ///
    /// # Cancel safety
    /// What a dropped call was about to tell, the next one tells.
    pub(super) async fn next(&mut self) -> Outcome<Option<Told>> {
        loop {
            let woken = tokio::select! {
                biased;
                _ = self.ended.wait_for(|ended| *ended) => Woken::Ended,
                () = sleep_until(self.next), if self.due => Woken::May,
                told = self.told.changed(), if !self.due => if told.is_ok() { Woken::Told } else { Woken::Ended },
                () = sleep_until(self.beat) => Woken::Beat,
            };
            match woken {
                Woken::Ended => return Ok(None),
                Woken::Told => self.due = true,
                Woken::May => {
                    if let Some(told) = self.news().await? {
                        return Ok(Some(told));
                    }
                }
                Woken::Beat => {
                    let may_listen = self.may_listen().await?;
                    self.beat = Instant::now() + self.service.settings.heartbeat;
                    return Ok(may_listen.then(Told::default));
                }
            }
        }
    }

    /// What there is, if there are changes behind what was told, or other rules.
    async fn news(&mut self) -> Outcome<Option<Told>> {
        // Before the feed is asked: a commit in between is told once too often, not once too little.
        self.told.borrow_and_update();
        let (drive, sent) = (self.service.drive.clone(), self.sent.clone());
        let device = self.device.clone().filter(|_| self.rules.is_some());
        let look = move || {
            let version = device.map(|device| rules::of(&drive, &device.id)).transpose()?;
            ahead(&drive, sent.as_ref()).map(|ahead| (ahead, version.map(|rules| rules.version)))
        };
        let ((now, any), rules) = self.service.gate.call(look).await?;
        self.due = false;
        let mut told = Told::default();
        if any {
            told.cursor = Some(cursor_text(&self.service.epochs.told(&now)));
        }
        self.sent = Some(now);
        told.rules = rules.filter(|_| rules != self.rules);
        if told == Told::default() {
            return Ok(None);
        }
        self.rules = rules;
        self.next = Instant::now() + PAUSE;
        Ok(Some(told))
    }

    /// Says whether the device was not removed meanwhile.
    async fn may_listen(&self) -> Outcome<bool> {
        let Some(device) = self.device.clone() else { return Ok(true) };
        let drive = self.service.drive.clone();
        self.service.gate.call(move || Ok(devices::list(&drive)?.contains(&device))).await
    }
}
