//! Bodies in and out: JSON, bytes, and what a request carries.

use crate::failure::Failure;
use crate::{BODY_BYTES, Body, Incoming};
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

/// Reads a body of type `media` whole. A request that tells no type is believed to carry that one.
///
/// # Errors
/// 415 for another type, 413 over [`BODY_BYTES`], 400 where the connection breaks.
pub(crate) async fn whole(
    headers: &HeaderMap,
    mut body: Incoming,
    media: &'static str,
) -> Result<Vec<u8>, Failure> {
    let told = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let own = |told: &str| told.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media);
    if !told.is_none_or(own) {
        let what = format!("Content-Type: this takes {media}");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Kind::Invalid, what));
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::invalid("body", error))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > BODY_BYTES {
            let what = format!("body: more than {BODY_BYTES} bytes");
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, Kind::Invalid, what));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}
