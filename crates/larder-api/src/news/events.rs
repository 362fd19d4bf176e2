//! News as server-sent events. Source: WHATWG HTML, § 9.2 Server-sent events.

use super::listener::{Listener, Told};
use crate::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

/// A comment: whoever reads knows that the connection lives, and so does whoever writes.
const HEARTBEAT: &str = ":\n\n";

/// An answer that tells what `listener` hears, until its end.
pub(super) fn answer(listener: Listener) -> Response<Body> {
    let events = stream::unfold(listener, |mut listener| async {
        let told = listener.next().await.transpose()?;
        Some((told.map(|told| Frame::data(Bytes::from(text(&told)))), listener))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text(told: &Told) -> String {
    let news = told.cursor.iter().map(|cursor| format!("event: news\ndata: {cursor}\n\n"));
    let rules = told.rules.iter().map(|version| format!("event: rules\ndata: {version}\n\n"));
    let events: String = news.chain(rules).collect();
    if events.is_empty() { HEARTBEAT.to_owned() } else { events }
}
