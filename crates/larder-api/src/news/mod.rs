//! News: they only say that the feed goes on, and how far, or that the device has other rules. `listener` knows what there is to
//! tell, `events` and `socket` are the two ways to tell it.

mod events;
mod listener;
mod socket;

use crate::caller::Caller;
use crate::failure::Failure;
use crate::query::Query;
use crate::{Body, Service};
use http::{Response, StatusCode, header, request};
use larder_core::Kind;
use larder_drive::{Drive, Subscription};
use listener::Listener;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Whoever has too many streams open waits so long before the next try, in seconds.
const RETRY_AFTER_S: u64 = 30;

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

/// Opens a stream of news: a WebSocket where that is asked for and the connection can become one, else server-sent events.
pub(crate) async fn open(
    service: Arc<Service>,
    caller: Caller,
    query: &Query<'_>,
    head: &request::Parts,
) -> Result<Response<Body>, Failure> {
    let upgrade = socket::Upgrade::asked(head)?;
    let invalid = || Failure::invalid("after", "no cursor");
    let sent = match service.epochs.read(&query.after_cursor()?) {
        Ok(sent) => Some(sent),
        // The device hears why when it asks for the changes.
        Err(error) if error.kind() == Kind::Conflict => None,
        Err(_) => return Err(invalid()),
    };
    let rules = query.rules()?;
    let place = service.news.places.take(&caller.user, service.settings.streams).ok_or_else(|| {
        let what = format!("{} has {} streams open", caller.user, service.settings.streams);
        Failure::new(StatusCode::TOO_MANY_REQUESTS, Kind::Unavailable, what)
            .header(header::RETRY_AFTER, RETRY_AFTER_S.into())
    })?;
    let (drive, after) = (service.drive.clone(), sent.clone());
    let looked = service.gate.call(move || listener::ahead(&drive, after.as_ref())).await;
    looked.map_err(|error| if error.kind() == Kind::Invalid { invalid() } else { error.into() })?;
    let listener = Listener::new(service, caller.device().cloned(), (sent, rules), place);
    Ok(match upgrade {
        Some(upgrade) => upgrade.answer(listener),
        None => events::answer(listener),
    })
}
