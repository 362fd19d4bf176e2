//! Errors as the protocol tells them: one match from kinds to statuses, and bodies of RFC 9457.

use crate::Body;
use crate::caller::{Refusal, Takes};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use larder_core::{Error, Kind};
use serde_json::json;

/// How long a client waits before it tries again, in seconds.
const RETRY_AFTER_S: u64 = 5;
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"Larder\", charset=\"UTF-8\"");
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"Larder\"");

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: Kind,
    what: String,
    hint: Option<&'static str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, kind: Kind, what: impl Into<String>) -> Self {
        Self { status, kind, what: what.into(), hint: None, headers: Vec::new() }
    }

    /// 400, for `field` of the request.
    pub(crate) fn invalid(field: &str, why: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Kind::Invalid, format!("{field}: {why}"))
    }

    /// What an unknown, or too eager, caller hears.
    pub(crate) fn refused(refusal: Refusal, takes: Takes) -> Self {
        let later = |status, what, wait_s: u64| {
            Self::new(status, Kind::Unavailable, what).header(header::RETRY_AFTER, wait_s.into())
        };
        match refusal {
            Refusal::TooMany(wait_s) => later(StatusCode::TOO_MANY_REQUESTS, "too many tries", wait_s),
            Refusal::Busy(wait_s) => later(StatusCode::SERVICE_UNAVAILABLE, "the server is busy", wait_s),
            Refusal::Unknown => {
                let (what, schemes): (_, &[HeaderValue]) = match takes {
                    Takes::Password => ("this takes the name and password of a user", &[BASIC]),
                    Takes::Token => ("this takes the token of a device", &[BEARER]),
                    Takes::Either => {
                        ("this takes the token of a device, or the password of a user", &[BEARER, BASIC])
                    }
                };
                let mut failure = Self::new(StatusCode::UNAUTHORIZED, Kind::Denied, what)
                    .hint("log in again: the password may be wrong, or the device removed");
                for scheme in schemes {
                    failure = failure.header(header::WWW_AUTHENTICATE, scheme.clone());
                }
                failure
            }
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let status = self.status;
        let mut problem = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "kind": self.kind.word(),
            "what": self.what,
        });
        if let Some(hint) = self.hint {
            problem["hint"] = json!(hint);
        }
        let bytes = Bytes::from(problem.to_string());
        let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Exists | Kind::NotADirectory | Kind::NotEmpty => StatusCode::CONFLICT,
            Kind::IsADirectory => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::Conflict if larder_drive::is_locked(&error) => StatusCode::LOCKED,
            Kind::Conflict => StatusCode::PRECONDITION_FAILED,
            Kind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Corrupt => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        };
        // Causes name places of the server: they go to its log, not to whoever asks.
        if status.is_server_error() {
            tracing::warn!(%error, "request failed");
        }
        let mut failure = Failure::new(status, error.kind(), error.what());
        failure.hint = error.hint();
        match status {
            StatusCode::SERVICE_UNAVAILABLE => failure.header(header::RETRY_AFTER, RETRY_AFTER_S.into()),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_statuses_of_the_design() {
        for (kind, status) in [
            (Kind::NotFound, 404),
            (Kind::Exists, 409),
            (Kind::NotADirectory, 409),
            (Kind::IsADirectory, 405),
            (Kind::NotEmpty, 409),
            (Kind::Invalid, 400),
            (Kind::Denied, 403),
            (Kind::Conflict, 412),
            (Kind::NoSpace, 507),
            (Kind::Unavailable, 503),
            (Kind::Corrupt, 500),
            (Kind::Unsupported, 501),
        ] {
            let response = Failure::from(Error::new(kind, "x")).into_response();
            assert_eq!(response.status().as_u16(), status, "{kind:?}");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503);
        }
    }
}
