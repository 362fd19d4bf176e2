//! What a URL names.

use crate::failure::Failure;
use http::{HeaderValue, Method, StatusCode, header};
use larder_core::{ChunkId, Kind, NodeId};

/// The one project so far.
pub(crate) const HOME: &str = "home";
/// The longest path below `/api/`; the longest call has an id of 20 digits and a hash of 64.
const PATH_MAX_BYTES: usize = 1024;

/// A call, without its method.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Devices,
    Device(String),
    Rules(String),
    Project,
    Node(NodeId),
    Entries(NodeId),
    Lookup(NodeId),
    Chunks(NodeId),
    Chunk(NodeId, ChunkId),
    Changes,
    News,
    Missing,
    Bodies,
    Commits,
    Ranges,
}

impl Route {
    /// Reads the path of a URL.
    ///
    /// # Errors
    /// 404 for what is no call, 400 for an id that is none.
    pub(crate) fn parse(path: &str) -> Result<Route, Failure> {
        let nothing =
            || Failure::new(StatusCode::NOT_FOUND, Kind::NotFound, "nothing of this protocol has that URL");
        let rest = path.strip_prefix("/api/v1/").filter(|_| path.len() <= PATH_MAX_BYTES);
        let segments: Vec<&str> = rest.ok_or_else(nothing)?.split('/').collect();
        let [first, ref rest @ ..] = segments[..] else { return Err(nothing()) };
        match (first, rest) {
            ("devices", []) => Ok(Route::Devices),
            ("devices", [id]) => Ok(Route::Device((*id).to_owned())),
            ("devices", [id, "rules"]) => Ok(Route::Rules((*id).to_owned())),
            ("projects", [HOME, rest @ ..]) => match rest {
                [] => Ok(Route::Project),
                ["changes"] => Ok(Route::Changes),
                ["news"] => Ok(Route::News),
                ["chunks", "missing"] => Ok(Route::Missing),
                ["chunks"] => Ok(Route::Bodies),
                ["commits"] => Ok(Route::Commits),
                ["ranges"] => Ok(Route::Ranges),
                ["nodes", id] => Ok(Route::Node(node(id)?)),
                ["nodes", id, "entries"] => Ok(Route::Entries(node(id)?)),
                ["nodes", id, "lookup"] => Ok(Route::Lookup(node(id)?)),
                ["nodes", id, "chunks"] => Ok(Route::Chunks(node(id)?)),
                ["nodes", id, "chunks", hash] => Ok(Route::Chunk(node(id)?, chunk(hash)?)),
                _ => Err(nothing()),
            },
            ("projects", [_, ..]) => {
                Err(Failure::new(StatusCode::NOT_FOUND, Kind::NotFound, "there is no such project"))
            }
            _ => Err(nothing()),
        }
    }

    /// Says whether this is for those who may change the project.
    pub(crate) fn is_for_writers(&self) -> bool {
        matches!(self, Route::Missing | Route::Bodies | Route::Commits | Route::Ranges)
    }

    /// Refuses what the call does not have.
    ///
    /// # Errors
    /// 405 with Allow.
    pub(crate) fn check_method(&self, method: &Method) -> Result<(), Failure> {
        let allowed = match self {
            Route::Devices => "GET, HEAD, POST",
            Route::Device(_) => "DELETE",
            Route::Rules(_) => "GET, HEAD, PUT",
            Route::Chunks(_) | Route::Missing | Route::Bodies | Route::Commits | Route::Ranges => "POST",
            Route::News => "GET",
            Route::Project
            | Route::Node(_)
            | Route::Entries(_)
            | Route::Lookup(_)
            | Route::Chunk(..)
            | Route::Changes => "GET, HEAD",
        };
        if allowed.split(", ").any(|allowed| allowed == method.as_str()) {
            return Ok(());
        }
        let what = format!("this takes {allowed}");
        let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, Kind::Unsupported, what);
        Err(failure.header(header::ALLOW, HeaderValue::from_static(allowed)))
    }
}

fn node(text: &str) -> Result<NodeId, Failure> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.map(NodeId).ok_or_else(|| Failure::invalid("node", "an id is a decimal number below 2^64"))
}

fn chunk(text: &str) -> Result<ChunkId, Failure> {
    let mut id = [0; 32];
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_hex {
        return Err(Failure::invalid("hash", "a hash has 64 hexadecimal digits"));
    }
    for (byte, at) in id.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    }
    Ok(ChunkId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_protocol_has_is_a_call() {
        let known = Route::parse("/api/v1/projects/home/nodes/7/chunks").expect("a call");
        assert_eq!(known, Route::Chunks(NodeId(7)));
        assert_eq!(Route::parse("/api/v1/projects/home/chunks").expect("a call"), Route::Bodies);
        let long = format!("/api/v1/devices/{}", "x".repeat(PATH_MAX_BYTES));
        let unknown = [
            "/api",
            "/api/",
            "/api/v1",
            "/api/v1/",
            "/api/v2/devices",
            "/api/v1/devices/",
            "/api/v1/devices/a/b",
            "/api/v1/projects",
            "/api/v1/projects/",
            "/api/v1/projects/work",
            "/api/v1/projects/home/",
            "/api/v1/projects/home/nodes",
            "/api/v1/projects/home/nodes/1/",
            "/api/v1/projects/home/chunks/",
            "/api/v1/projects/home/commits/1",
            "/api/v1/projects/../home",
            &long,
        ];
        for path in unknown {
            let answer = Route::parse(path).map_err(|failure| failure.into_response().status().as_u16());
            let expected =
                if path == "/api/v1/devices/" { Ok(Route::Device(String::new())) } else { Err(404) };
            assert_eq!(answer, expected, "{path}");
        }
        for id in ["", "+1", "-1", "1.0", "x", "18446744073709551616", "%31"] {
            let path = format!("/api/v1/projects/home/nodes/{id}");
            let answer = Route::parse(&path).map_err(|failure| failure.into_response().status().as_u16());
            assert_eq!(answer, Err(400), "{path}");
        }
    }
}
