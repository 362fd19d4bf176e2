//! News: server-sent events that only say that the feed goes on, and how far, or that the device has other rules.
//!
//! Source: WHATWG HTML, § 9.2 Server-sent events.

use crate::caller::Caller;
use crate::devices::{self, Device};
use crate::failure::Failure;
use crate::query::{Query, cursor_text};
use crate::{Body, Service, rules};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use larder_core::{Kind, Result as Outcome};
use larder_drive::{Drive, Subscription};
use larder_store::catalog::Cursor;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The shortest time between two events of a stream.
const PAUSE: Duration = Duration::from_millis(50);
/// Whoever has too many streams open waits so long before the next try, in seconds.
const RETRY_AFTER_S: u64 = 30;
/// A comment: whoever reads knows that the connection lives, and so does whoever writes.
const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// Hears of commits, and knows who listens.
pub(crate) struct News {
    /// Counts commits.
    told: watch::Sender<u64>,
    ended: watch::Sender<bool>,
    places: Places,
    _subscription: Subscription,
}

impl News {
    pub(crate) fn of(drive: &Drive) -> Self {
        let told = watch::Sender::new(0);
        let teller = told.clone();
        let hear = move |_: &larder_drive::Event<'_>| teller.send_modify(|count| *count += 1);
        let _subscription = drive.subscribe(Box::new(hear), None);
        Self { told, ended: watch::Sender::new(false), places: Places::default(), _subscription }
    }

    /// Ends all streams.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }
}

/// Streams by user.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<HashMap<String, usize>>>);

/// One stream among those of a user.
struct Place {
    places: Places,
    user: String,
}

impl Places {
    fn take(&self, user: &str, max: usize) -> Option<Place> {
        let mut streams = self.0.lock();
        let count = streams.entry(user.to_owned()).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), user: user.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.places.0.lock();
        if let Some(count) = streams.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.user);
            }
        }
    }
}

/// Opens a stream.
pub(crate) async fn stream(
    service: Arc<Service>,
    caller: Caller,
    query: &Query<'_>,
) -> Result<Response<Body>, Failure> {
    let rules = query.rules()?;
    let invalid = || Failure::invalid("after", "no cursor");
    let sent = match service.epochs.read(&query.after_cursor()?) {
        Ok(sent) => Some(sent),
        // The device hears why when it asks for the changes.
        Err(error) if error.kind() == Kind::Conflict => None,
        Err(_) => return Err(invalid()),
    };
    let place = service.news.places.take(&caller.user, service.settings.streams).ok_or_else(|| {
        let what = format!("{} has {} streams open", caller.user, service.settings.streams);
        Failure::new(StatusCode::TOO_MANY_REQUESTS, Kind::Unavailable, what)
            .header(header::RETRY_AFTER, RETRY_AFTER_S.into())
    })?;
    let (drive, after) = (service.drive.clone(), sent.clone());
    let looked = service.gate.call(move || ahead(&drive, after.as_ref())).await;
    looked.map_err(|error| if error.kind() == Kind::Invalid { invalid() } else { error.into() })?;
    let now = Instant::now();
    let listener = Listener {
        told: service.news.told.subscribe(),
        ended: service.news.ended.subscribe(),
        device: caller.device().cloned(),
        sent,
        rules,
        due: true,
        next: now,
        beat: now + service.settings.heartbeat,
        service,
        _place: place,
    };
    let events = stream::unfold(listener, |mut listener| async {
        let bytes = listener.next().await.transpose()?;
        Some((bytes.map(Frame::data), listener))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What one stream knows.
struct Listener {
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
fn ahead(drive: &Drive, after: Option<&Cursor>) -> Outcome<(Cursor, bool)> {
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
    /// The next event; `None` at the end.
    async fn next(&mut self) -> Outcome<Option<Bytes>> {
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
                    if let Some(event) = self.news().await? {
                        return Ok(Some(event));
                    }
                }
                Woken::Beat => {
                    self.beat = Instant::now() + self.service.settings.heartbeat;
                    return Ok(self.may_listen().await?.then_some(HEARTBEAT));
                }
            }
        }
    }

    /// Events, if there are changes behind what was told, or other rules.
    async fn news(&mut self) -> Outcome<Option<Bytes>> {
        self.due = false;
        // Before the feed is asked: a commit in between is told once too often, not once too little.
        self.told.borrow_and_update();
        let (drive, sent) = (self.service.drive.clone(), self.sent.clone());
        let device = self.device.clone().filter(|_| self.rules.is_some());
        let look = move || {
            let version = device.map(|device| rules::of(&drive, &device.id)).transpose()?;
            ahead(&drive, sent.as_ref()).map(|ahead| (ahead, version.map(|rules| rules.version)))
        };
        let ((now, any), rules) = self.service.gate.call(look).await?;
        let mut events = String::new();
        if any {
            events = format!("event: news\ndata: {}\n\n", cursor_text(&self.service.epochs.told(&now)));
        }
        self.sent = Some(now);
        if let Some(version) = rules.filter(|_| rules != self.rules) {
            self.rules = rules;
            events += &format!("event: rules\ndata: {version}\n\n");
        }
        if events.is_empty() {
            return Ok(None);
        }
        self.next = Instant::now() + PAUSE;
        Ok(Some(events.into()))
    }

    /// Says whether the device was not removed meanwhile.
    async fn may_listen(&self) -> Outcome<bool> {
        let Some(device) = self.device.clone() else { return Ok(true) };
        let drive = self.service.drive.clone();
        self.service.gate.call(move || Ok(devices::list(&drive)?.contains(&device))).await
    }
}
