//! Bodies in and out: JSON, bytes, and what a request carries.

use crate::failure::Failure;
use crate::{Body, Incoming};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use larder_core::Kind;
use serde::Serialize;

/// Content types that requests carry.
pub(crate) const JSON: &str = "application/json";
pub(crate) const BYTES: &str = "application/octet-stream";

/// `value` in JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_vec(value).expect("plain values become JSON");
    let mut response = bytes(JSON, text.into());
    *response.status_mut() = status;
    // It is of one user, and of one moment.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `bytes` as they are.
pub(crate) fn bytes(media: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// A status without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A request's body of one type and of a bounded length, piece by piece.
pub(crate) struct Carried {
    body: Incoming,
    left: usize,
    limit: usize,
}

impl Carried {
    /// Will read up to `limit` bytes of type `media`. A request that tells no type is believed to carry that one.
    ///
    /// # Errors
    /// 415 for another type.
    pub(crate) fn new(
        headers: &HeaderMap,
        body: Incoming,
        media: &'static str,
        limit: usize,
    ) -> Result<Self, Failure> {
        let told = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let own = |told: &str| told.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media);
        if !told.is_none_or(own) {
            let what = format!("Content-Type: this takes {media}");
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Kind::Invalid, what));
        }
        Ok(Self { body, left: limit, limit })
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// 413 over the limit, 400 where the connection breaks.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| Failure::invalid("body", error))?;
            let Ok(data) = frame.into_data() else { continue };
            self.left = self.left.checked_sub(data.len()).ok_or_else(|| {
                let what = format!("body: more than {} bytes", self.limit);
                Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Kind::Invalid, what)
            })?;
            return Ok(Some(data));
        }
        Ok(None)
    }
}

/// Reads a body of type `media` whole.
///
/// # Errors
/// Those of [`Carried`].
pub(crate) async fn whole(
    headers: &HeaderMap,
    body: Incoming,
    media: &'static str,
    limit: usize,
) -> Result<Vec<u8>, Failure> {
    let mut body = Carried::new(headers, body, media, limit)?;
    let mut whole = Vec::new();
    while let Some(piece) = body.piece().await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}
