//! Errors as HTTP tells them: one match from kinds to statuses, and the bodies of RFC 4918 § 16.

use crate::body::Body;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use larder_core::{Error, Kind};

/// How long a client waits before it tries again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    /// The precondition or postcondition code. Source: RFC 4918 § 16.
    condition: Option<&'static str>,
    what: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Somebody changed what the request had looked at: it may find something else at another look.
    disturbed: bool,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, what: impl Into<String>) -> Self {
        Self { status, condition: None, what: what.into(), headers: Vec::new(), disturbed: false }
    }

    pub(crate) fn bad_request(what: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, what)
    }

    /// Adds the element of RFC 4918 § 16 that names what failed.
    pub(crate) fn condition(mut self, element: &'static str) -> Self {
        self.condition = Some(element);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Says that it may go otherwise at another look.
    pub(crate) fn disturbed(mut self) -> Self {
        self.disturbed = true;
        self
    }

    pub(crate) fn is_disturbed(&self) -> bool {
        self.disturbed
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        if self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED {
            tracing::warn!(status = self.status.as_u16(), what = self.what, "request failed");
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.extend(self.headers.into_iter().map(|(name, value)| (Some(name), value)));
        if self.status == StatusCode::NOT_MODIFIED {
            return response;
        }
        let (kind, text) = match self.condition {
            Some(element) => (
                "application/xml; charset=utf-8",
                format!(
                    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:error xmlns:D=\"DAV:\">{element}</D:error>\n"
                ),
            ),
            None => ("text/plain; charset=utf-8", format!("{}\n", self.what)),
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        *response.body_mut() = Body::whole(text.into());
        response
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Exists | Kind::IsADirectory => StatusCode::METHOD_NOT_ALLOWED,
            Kind::NotADirectory | Kind::NotEmpty => StatusCode::CONFLICT,
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Denied => StatusCode::FORBIDDEN,
            Kind::Conflict if larder_drive::is_locked(&error) => StatusCode::LOCKED,
            Kind::Conflict => StatusCode::PRECONDITION_FAILED,
            Kind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Corrupt => StatusCode::INTERNAL_SERVER_ERROR,
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        };
        let failure = Failure::new(status, error.to_string());
        match status {
            StatusCode::PRECONDITION_FAILED => failure.disturbed(),
            StatusCode::LOCKED => failure.condition("<D:lock-token-submitted/>"),
            StatusCode::SERVICE_UNAVAILABLE => failure.header(header::RETRY_AFTER, RETRY_AFTER),
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
            (Kind::NotADirectory, 409),
            (Kind::Invalid, 400),
            (Kind::Denied, 403),
            (Kind::Conflict, 412),
            (Kind::NoSpace, 507),
            (Kind::Unavailable, 503),
            (Kind::Corrupt, 500),
            (Kind::Unsupported, 501),
        ] {
            assert_eq!(Failure::from(Error::new(kind, "x")).status(), status, "{kind:?}");
        }
    }
}
