//! WebDAV over a drive: RFC 4918 class 1, 2 and 3, with what clients in the field expect beside it.
//!
//! An adapter: it translates requests to calls of [`larder_drive::Drive`] and errors to statuses, and keeps nothing
//! between two requests. Authentication, TLS, throttling and time limits are above it, in the command.
//!
//! Who does what:
//!
//! | method | by | because |
//! |---|---|---|
//! | LOCK, UNLOCK, MKCOL, DELETE | dav-server, over [`bridge`] and [`locking`] | its protocol is right; locks and trees are the drive's |
//! | GET, HEAD | [`get`] | ranges, read-ahead, no padding of short reads |
//! | PUT, PATCH | [`put`] | published whole or not at all |
//! | COPY, MOVE | [`copy_move`] | one commit, whatever is replaced |
//! | PROPFIND, PROPPATCH | [`propfind`], [`proppatch`] | streaming, exact properties, atomic changes |
//! | OPTIONS | [`options`] | Allow lists what the resource really allows |
//!
//! The URL, the conditions (If among them) and the role are checked here before any method runs, so dav-server never
//! sees a header that it could trip over. A change, once started, runs to its end: it is a job of its own that a
//! disconnect does not cut.
//!
//! Symlinks are followed inside of a project (see [`path`]); links that lead nowhere, device nodes, FIFOs and sockets
//! are hidden. MOVE and DELETE act on the link itself.

mod body;
mod bridge;
mod call;
mod checksum;
mod conditions;
mod copy_move;
mod date;
mod dead;
mod evaluate;
mod failure;
mod gate;
mod get;
mod if_header;
mod listing;
mod locking;
mod options;
mod partial;
mod path;
mod propfind;
mod proppatch;
mod props;
mod put;
mod ranges;
mod walk;
mod xml;
mod xml_scope;

pub use body::Body;
pub use path::Project;

use bytes::Bytes;
use call::Call;
use failure::Failure;
use gate::Gate;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use larder_drive::Drive;
use std::sync::Arc;

/// Calls of the drive at a time; more wait their turn.
pub const JOBS: usize = 128;
/// The longest XML body, in bytes.
pub const XML_BYTES: usize = 1 << 20;
/// The longest a lock lives without a refresh, in seconds: a week.
pub const LOCK_S: u64 = 7 * 24 * 3600;
/// The most ranges of one GET.
pub const RANGES: usize = 64;

/// Bounds of what one request may ask for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls of the drive at a time.
    pub jobs: usize,
    /// The longest XML body.
    pub xml_bytes: usize,
    /// The longest a lock lives without a refresh, in seconds.
    pub lock_s: u64,
    /// The most ranges of one GET.
    pub ranges: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { jobs: JOBS, xml_bytes: XML_BYTES, lock_s: LOCK_S, ranges: RANGES }
    }
}

/// How a drive is shown.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL path of the list of projects, without a slash at its end.
    pub prefix: String,
    /// The projects.
    pub projects: Vec<Project>,
    /// Owner of what is made over WebDAV.
    pub uid: u32,
    /// Group of what is made over WebDAV.
    pub gid: u32,
    /// Fills a slice with unpredictable bytes.
    pub random: fn(&mut [u8]),
    /// Bounds.
    pub limits: Limits,
}

impl Settings {
    /// Shows the root of the drive as `/dav/home`.
    pub fn home(uid: u32, gid: u32, random: fn(&mut [u8])) -> Self {
        let name = larder_core::Name::new("home").expect("a valid name");
        let projects = vec![Project { name, root: larder_core::NodeId::ROOT }];
        Self { prefix: "/dav".to_owned(), projects, uid, gid, random, limits: Limits::default() }
    }
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Owner,
    /// Read and write.
    Editor,
    /// Read.
    Viewer,
}

/// An authenticated user.
#[derive(Clone, Debug)]
pub struct User {
    /// The name.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// Any error of a request's body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A request's body, whatever it came from.
type Incoming = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// Serves a drive over WebDAV; clones share everything.
#[derive(Clone)]
pub struct DavService(Arc<Service>);

pub(crate) struct Service {
    drive: Arc<Drive>,
    settings: Settings,
    gate: Gate,
}

impl DavService {
    /// Serves `drive` as `settings` say.
    pub fn new(drive: Arc<Drive>, settings: Settings) -> Self {
        let gate = Gate::new(settings.limits.jobs);
        Self(Arc::new(Service { drive, settings, gate }))
    }

    /// The same with `drive` instead of its own: another view of the same one.
    pub fn over(&self, drive: Arc<Drive>) -> Self {
        let (settings, gate) = (self.0.settings.clone(), self.0.gate.clone());
        Self(Arc::new(Service { drive, settings, gate }))
    }

    /// Answers a request of `user`; must run on a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future aborts an upload whose bytes have not all come; a change that has begun is completed.
    pub async fn handle<B>(&self, request: Request<B>, user: User) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (head, body) = request.into_parts();
        let answer = match Call::new(self.0.clone(), user, head) {
            Ok(call) => dispatch(call, body).await,
            Err(failure) => Err(failure),
        };
        answer.unwrap_or_else(Failure::into_response)
    }
}

async fn dispatch<B>(call: Call, body: B) -> Result<Response<Body>, Failure>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    let incoming = || body.map_err(Into::into).boxed_unsync();
    match call.method().as_str() {
        "GET" | "HEAD" => get::get(&call).await,
        "OPTIONS" => options::options(&call),
        "PUT" => put::put(call, incoming()).await,
        "PATCH" => put::patch(call, incoming()).await,
        "PROPFIND" => propfind::propfind(call, incoming()).await,
        "PROPPATCH" => proppatch::proppatch(call, incoming()).await,
        "COPY" | "MOVE" => copy_move::copy_move(call).await,
        "MKCOL" | "DELETE" | "LOCK" | "UNLOCK" => bridge::pass(call, incoming()).await,
        "POST" | "REPORT" | "TRACE" | "CONNECT" | "SEARCH" | "ACL" | "MKCALENDAR" => {
            Err(options::not_allowed(&call))
        }
        other => Err(Failure::new(StatusCode::NOT_IMPLEMENTED, format!("method {other}"))),
    }
}

/// Reads a body whole.
///
/// # Errors
/// 413 beyond `limit` bytes; 400 where the connection breaks.
async fn whole(mut body: Incoming, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::bad_request(format!("request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if out.len() + data.len() > limit {
            return Err(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("request body over {limit} bytes"),
            ));
        }
        out.extend_from_slice(&data);
    }
    Ok(out)
}
