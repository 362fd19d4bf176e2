//! The device protocol over a drive: what a device asks of its server and tells it. `PROTOCOL.md` beside this crate says
//! it with examples, which a test plays.
//!
//! An adapter: it translates requests to calls of [`larder_drive::Drive`] and errors to problems (RFC 9457). It keeps
//! nothing between two requests but places of open streams and lists of chunks that it can make again. Who asks is
//! told by the caller; TLS, throttling and time limits are above it, in the command.

mod answer;
mod caller;
mod changes;
mod chunks;
mod commits;
mod contents;
mod describe;
pub mod devices;
mod enrolment;
mod epochs;
mod failure;
mod frames;
mod gate;
mod holdings;
mod news;
mod query;
mod ranges;
mod received;
mod route;
pub mod rules;
mod tree;

pub use caller::{Caller, Proof, Refusal, Role};

use bytes::Bytes;
use caller::Takes;
use epochs::Epochs;
use failure::Failure;
use gate::Gate;
use holdings::Holdings;
use http::{Method, Request, Response, StatusCode, request};
use http_body_util::BodyExt;
use larder_core::{Error, Kind};
use larder_drive::Drive;
use news::News;
use query::Query;
use route::Route;
use std::sync::Arc;
use std::time::Duration;

/// Calls of the drive at a time; more wait their turn.
pub const JOBS: usize = 64;
/// Streams of news that one user may have open.
pub const STREAMS: usize = 64;
/// A silent stream of news says that it lives so often.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// The longest body of a request of which nothing else is said: 256 ids of chunks, or a small piece of JSON.
pub const BODY_BYTES: usize = 8 << 10;

/// How a drive is served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Fills a slice with unpredictable bytes.
    pub random: fn(&mut [u8]),
    /// Calls of the drive at a time.
    pub jobs: usize,
    /// Streams of news that one user may have open.
    pub streams: usize,
    /// A silent stream of news says that it lives so often.
    pub heartbeat: Duration,
}

impl Settings {
    /// The usual bounds.
    pub fn new(random: fn(&mut [u8])) -> Self {
        Self { random, jobs: JOBS, streams: STREAMS, heartbeat: HEARTBEAT }
    }
}

/// Any error of a request's body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Error>;
/// A request's body, whatever it came from.
type Incoming = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// Serves a drive to devices; clones share everything.
#[derive(Clone)]
pub struct Api(Arc<Service>);

pub(crate) struct Service {
    drive: Arc<Drive>,
    settings: Settings,
    gate: Gate,
    holdings: Holdings,
    news: News,
    epochs: Epochs,
}

impl Api {
    /// Serves `drive` as `settings` say.
    ///
    /// # Errors
    /// Those of noting that this begins.
    pub fn new(drive: Arc<Drive>, settings: Settings) -> larder_core::Result<Self> {
        let (gate, news) = (Gate::new(settings.jobs), News::of(&drive));
        let epochs = Epochs::begin(&drive, settings.random)?;
        Ok(Self(Arc::new(Service { drive, settings, gate, holdings: Holdings::default(), news, epochs })))
    }

    /// Answers a request below `/api/` of `who`; must run on a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing half done: a change that has begun is completed.
    pub async fn handle<B>(&self, request: Request<B>, who: Result<Caller, Refusal>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (head, body) = request.into_parts();
        let answered = match arrive(&head, who) {
            Ok((route, caller)) => {
                self.answer(route, caller, &head, body.map_err(Into::into).boxed_unsync()).await
            }
            Err(failure) => Err(failure),
        };
        answered.unwrap_or_else(Failure::into_response)
    }

    /// Ends open streams of news, and those that begin from now on, so that their connections can end.
    pub fn end_streams(&self) {
        self.0.news.end();
    }

    async fn answer(
        &self,
        route: Route,
        caller: Caller,
        head: &request::Parts,
        body: Incoming,
    ) -> Result<Response<Body>, Failure> {
        let service = self.0.clone();
        let query = Query::of(&head.uri)?;
        match route {
            Route::Devices if head.method == Method::POST => {
                enrolment::make(service, caller, head, body).await
            }
            Route::Devices => enrolment::list(service, caller).await,
            Route::Device(id) => enrolment::remove(service, caller, id).await,
            Route::Rules(id) => rules::call(service, caller, id, head, body).await,
            Route::Project => tree::project(service, caller.role).await,
            Route::Node(id) => tree::node(service, id).await,
            Route::Entries(id) => tree::entries(service, id, &query).await,
            Route::Lookup(id) => tree::lookup(service, id, &query).await,
            Route::Chunks(id) => chunks::many(service, id, head, body).await,
            Route::Chunk(id, chunk) => chunks::one(service, id, chunk, head).await,
            Route::Changes => changes::changes(service, &query).await,
            Route::News => news::open(service, caller, &query, head).await,
            Route::Missing => received::missing(service, head, body).await,
            Route::Bodies => received::store(service, head, body).await,
            Route::Commits => commits::carry_out(service, caller, head, body).await,
            Route::Ranges => ranges::grant(service, caller, head, body).await,
        }
    }
}

/// What is asked, and by whom, once it is sure that they may.
fn arrive(head: &request::Parts, who: Result<Caller, Refusal>) -> Result<(Route, Caller), Failure> {
    let route = Route::parse(head.uri.path())?;
    let takes = match route {
        // A stolen token must not make more of them.
        Route::Devices if head.method == Method::POST => Takes::Password,
        Route::Devices | Route::Device(_) | Route::Rules(_) => Takes::Either,
        _ => Takes::Token,
    };
    route.check_method(&head.method)?;
    let caller = who.map_err(|refusal| Failure::refused(refusal, takes))?;
    match (takes, &caller.proof) {
        (Takes::Password, Proof::Token(_)) | (Takes::Token, Proof::Password) => {
            Err(Failure::refused(Refusal::Unknown, takes))
        }
        _ if route.is_for_writers() && caller.role == Role::Viewer => {
            Err(Failure::new(StatusCode::FORBIDDEN, Kind::Denied, "this user may only read"))
        }
        _ => Ok((route, caller)),
    }
}
