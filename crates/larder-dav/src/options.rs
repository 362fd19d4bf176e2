//! OPTIONS, and what 405 has to say: the methods that a resource allows.

use crate::body::Body;
use crate::call::Call;
use crate::failure::Failure;
use crate::path::{Found, Last, Spot};
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};

/// Source: RFC 4918 § 10.1 and § 18; sabre/dav for the last.
const CLASSES: HeaderValue = HeaderValue::from_static("1, 2, 3, sabredav-partialupdate");
/// Says that `executable` is a property that can be set. Source: Apache mod_dav_fs; cadaver and davfs2 look for it.
const EXECUTABLE: HeaderValue = HeaderValue::from_static("<http://apache.org/dav/propset/fs/1>");

const FILE: &str = "OPTIONS, GET, HEAD, PUT, PATCH, DELETE, PROPFIND, PROPPATCH, COPY, MOVE, LOCK, UNLOCK";
const FOLDER: &str = "OPTIONS, GET, HEAD, DELETE, PROPFIND, PROPPATCH, COPY, MOVE, LOCK, UNLOCK";
const ROOT: &str = "OPTIONS, GET, HEAD, PROPFIND, PROPPATCH, COPY, LOCK, UNLOCK";
const TOP: &str = "OPTIONS, GET, HEAD, PROPFIND";
const FREE: &str = "OPTIONS, PUT, MKCOL, LOCK";

/// Answers OPTIONS.
pub(crate) fn options(call: &Call) -> Result<Response<Body>, Failure> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert("dav", CLASSES);
    headers.append("dav", EXECUTABLE);
    headers.insert("ms-author-via", HeaderValue::from_static("DAV"));
    headers.insert("accept-patch", HeaderValue::from_static("application/x-sabredav-partialupdate"));
    headers.insert(header::ALLOW, HeaderValue::from_static(allowed(call)?));
    Ok(response)
}

/// The answer to a method that the resource does not have.
pub(crate) fn not_allowed(call: &Call) -> Failure {
    let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} is not for this", call.method()));
    match allowed(call) {
        Ok(allow) => failure.header(HeaderName::from_static("allow"), HeaderValue::from_static(allow)),
        Err(failure) => failure,
    }
}

fn allowed(call: &Call) -> Result<&'static str, Failure> {
    Ok(match call.spot(Last::Follow)? {
        Spot::Top => TOP,
        Spot::Known(found) if found.is_root() => ROOT,
        Spot::Known(Found { node, .. }) if node.is_folder() => FOLDER,
        Spot::Known(_) => FILE,
        Spot::Free { .. } | Spot::Nowhere => FREE,
    })
}
