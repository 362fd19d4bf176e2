//! Requests to a server, in bounded time.
//!
//! Asynchronous inside, for requests that are given up on; callers block.

use super::cancel::Cancel;
use super::pacing::{Flow, Free, Incoming as Paid, Link, Outgoing, Pace};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use larder_core::{Error, Kind, NodeId, Result};
use parking_lot::RwLock;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Connecting takes no longer.
const CONNECT: Duration = Duration::from_secs(10);
/// A server begins to answer, and goes on, within this time.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// An answer comes no slower than this once that time is over: one that drips would hold whoever waits for ever.
const SLOWEST_BYTES_S: u64 = 256;
/// Half of the bytes of an answer that are taken from the socket before they are paid for. With the usual 400 KiB in all, a call
/// that has 8 KiB/s took nothing for 50 s, and a server gives up on who takes nothing for 30 s.
const READ_BYTES: usize = 32 << 10;
/// The longest answer in JSON.
const JSON_MAX_BYTES: usize = 64 << 20;
/// Returns the token by which this device is known by now: somebody may have logged in again.
pub type Again = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// A server that is asked, over connections that are kept and used again.
pub struct Connection {
    client: Client<HttpsConnector<HttpConnector>, Outgoing>,
    /// `https://host:port`, without a slash at the end.
    server: String,
    authorization: RwLock<String>,
    /// What may be said instead where that is not known any more.
    again: Option<Again>,
    /// What a refusal of that means.
    unknown: String,
    runtime: Handle,
    pace: Arc<dyn Pace>,
    link: watch::Sender<Link>,
    /// Rung when calls are to end.
    ended: watch::Sender<bool>,
    /// Where the run time of the connections lives, and what ends it.
    thread: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

/// What a call is for.
#[derive(Clone, Copy, Default)]
pub(super) struct Purpose<'a> {
    /// The file whose content it brings.
    pub(super) of: Option<NodeId>,
    /// What says whether somebody waits for it; without that somebody does.
    pub(super) urgency: Option<&'a Cancel>,
    /// Nobody waits for its answer.
    pub(super) waits: bool,
    /// It is answered by little, for long.
    pub(super) lasts: bool,
}

/// An answer of which the head came.
pub(super) struct Begun {
    pub(super) answer: http::Response<Incoming>,
    paid: Paid,
    /// What said who asks.
    authorization: String,
}

/// An answer whose body is read piece by piece.
pub(super) struct Answer {
    body: Incoming,
    paid: Paid,
    /// How long the server may take for the rest.
    left: Option<Duration>,
}

/// Who asks.
pub enum Credentials<'a> {
    /// A device by its token.
    Token(&'a str),
    /// A person, to make a device.
    Password(&'a str, &'a str),
}

impl Connection {
    /// Will ask `server`. `roots` are certificates in DER that are trusted instead of those of the system.
    ///
    /// # Errors
    /// `Invalid` for certificates that are none; those of starting a thread.
    pub fn new(server: &str, credentials: &Credentials<'_>, roots: Vec<Vec<u8>>) -> Result<Self> {
        let server = server.trim_end_matches('/').to_owned();
        let (authorization, unknown) = match credentials {
            Credentials::Token(token) => {
                let unknown = format!("{server} does not know this device: run `larder login {server}`");
                (format!("Bearer {token}"), unknown)
            }
            Credentials::Password(user, password) => {
                let pair = STANDARD.encode(format!("{user}:{password}"));
                (format!("Basic {pair}"), format!("{server} does not know user {user} with this password"))
            }
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(super::tls::config(roots)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(READ_BYTES)
            .build(connector);
        let (ended, over) = (watch::Sender::new(false), watch::Sender::new(false));
        let (runtime, thread) = spawn_runtime(over.subscribe())?;
        let thread = Some((over, thread));
        let (pace, link): (Arc<dyn Pace>, _) = (Arc::new(Free), watch::Sender::default());
        let authorization = RwLock::new(authorization);
        Ok(Self { client, server, authorization, again: None, unknown, runtime, pace, link, ended, thread })
    }

    /// Asks `again` for a token where the server does not know the one that it was told.
    pub fn renewed(mut self, again: Again) -> Self {
        self.again = Some(again);
        self
    }

    /// Has bytes move as `pace` says.
    pub fn paced(mut self, pace: Arc<dyn Pace>) -> Self {
        self.pace = pace;
        self
    }

    /// Uses the way to the server so from now on; calls under way that it does not allow are cut.
    pub(super) fn set_link(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Asks for what `path` below `/api/v1/` is, in JSON, and reads the answer.
    ///
    /// # Errors
    /// Those of every call, and what the server says.
    pub fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T> {
        self.json_for((method, path), body, Purpose::default())
    }

    /// Posts JSON whose answer nobody waits for.
    pub(super) fn json_later<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T> {
        self.json_for((Method::POST, path), body, Purpose { waits: true, ..Purpose::default() })
    }

    fn json_for<T: DeserializeOwned>(
        &self,
        asked: (Method, &str),
        body: Vec<u8>,
        purpose: Purpose<'_>,
    ) -> Result<T> {
        let bytes = self.block_on(async {
            let answer = self.send(asked, "application/json", body, purpose).await?;
            self.collect(answer).await
        })?;
        serde_json::from_slice(&bytes).map_err(|e| self.strange("an answer that makes no sense").because(e))
    }

    /// Ends every call under way, and fails those to come.
    pub(super) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Does what [`Connection::block_on`] does, unless `cancel` ends it.
    pub(super) fn block_unless<T>(
        &self,
        cancel: &Cancel,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.block_on(async {
            tokio::select! {
                done = work => done,
                () = cancel.cancelled() => Err(Error::unavailable("nobody waits for it any more")),
            }
        })
    }

    /// Waits for `work`, or for the end of everything.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let (mut ended, mut link) = (self.ended.subscribe(), self.link.subscribe());
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = ended.wait_for(|ended| *ended) => Err(Error::unavailable("this mount is about to end")),
                _ = link.wait_for(|link| *link == Link::Offline) => Err(offline()),
                done = work => done,
            }
        })
    }

    /// Sends a request whose body is of media type `kind`, as the answer's is; what the server refuses is an error.
    pub(super) async fn send(
        &self,
        asked: (Method, &str),
        kind: &str,
        body: Vec<u8>,
        purpose: Purpose<'_>,
    ) -> Result<Answer> {
        let begun = self.ask(asked, &[(header::CONTENT_TYPE, kind)], body, purpose).await?;
        self.meant(begun, kind, purpose).await
    }

    /// Sends a request with these fields; its answer, whatever it is.
    pub(super) async fn ask(
        &self,
        (method, path): (Method, &str),
        fields: &[(HeaderName, &str)],
        body: Vec<u8>,
        purpose: Purpose<'_>,
    ) -> Result<Begun> {
        if let Some(refusal) = self.link.borrow().refusal(purpose.waits) {
            return Err(refusal);
        }
        let (body, sending) = Outgoing::new(body, !purpose.waits, self.pace.stream(Flow::Up));
        let authorization = self.authorization.read().clone();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1/{path}", self.server))
            .header(header::AUTHORIZATION, &authorization);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(name, *value));
        let request =
            request.body(body).map_err(|e| Error::invalid(format!("address {}", self.server)).because(e))?;
        let (mut answer, mut seen) = (std::pin::pin!(self.client.request(request)), 0);
        let answer = loop {
            match tokio::time::timeout(CONNECT + PATIENCE, &mut answer).await {
                Ok(answer) => break answer.map_err(|e| self.unreachable(e))?,
                Err(_) if sending.goes_on(&mut seen) => {}
                Err(_) => return Err(self.silent()),
            }
        };
        let meter = self.pace.stream(Flow::Down(purpose.of));
        Ok(Begun { answer, paid: Paid { meter, urgency: purpose.urgency.cloned() }, authorization })
    }

    /// The answer, if it is one of media type `kind`; what the server refuses is an error.
    pub(super) async fn meant(&self, begun: Begun, kind: &str, purpose: Purpose<'_>) -> Result<Answer> {
        let Begun { answer, paid, authorization } = begun;
        let (status, is_meant) = (answer.status(), is_of(&answer, kind));
        match status.is_success() {
            true if is_meant => {
                let left = (!purpose.lasts).then_some(PATIENCE);
                Ok(Answer { body: answer.into_body(), paid, left })
            }
            true => Err(self.stranger(status)),
            false => Err(self.refusal(answer, paid, &authorization).await),
        }
    }

    /// The whole body of a short answer.
    async fn collect(&self, mut answer: Answer) -> Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.piece(&mut answer).await? {
            if all.len() + piece.len() > JSON_MAX_BYTES {
                return Err(self.strange("an answer without end"));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// The next bytes of an answer, which come within [`PATIENCE`]; then they wait for their turn.
    pub(super) async fn piece(&self, answer: &mut Answer) -> Result<Option<Bytes>> {
        loop {
            let (asked, limit) = (tokio::time::Instant::now(), answer.left.unwrap_or(PATIENCE).min(PATIENCE));
            let frame = tokio::time::timeout(limit, answer.body.frame()).await;
            let frame = frame.map_err(|_| self.silent())?.transpose().map_err(|e| self.unreachable(e))?;
            match frame.map(|frame| frame.into_data()) {
                None => return Ok(None),
                Some(Ok(data)) if !data.is_empty() => {
                    let earned = Duration::from_millis(data.len() as u64 * 1000 / SLOWEST_BYTES_S);
                    answer.left = answer.left.map(|left| left.saturating_sub(asked.elapsed()) + earned);
                    answer.paid.pay(data.len()).await;
                    return Ok(Some(data));
                }
                Some(_) => {}
            }
        }
    }

    /// What the server said instead of an answer.
    async fn refusal(&self, answer: http::Response<Incoming>, paid: Paid, asked_by: &str) -> Error {
        let status = answer.status();
        let told = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        // The other form, a date, would need a clock that agrees with the server's.
        let wait = told.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
        let is_problem = is_of(&answer, "application/problem+json");
        let answer = Answer { body: answer.into_body(), paid, left: Some(PATIENCE) };
        let body = if is_problem { self.collect(answer).await.ok() } else { None };
        let problem = body.and_then(|bytes| serde_json::from_slice::<Problem>(&bytes).ok());
        let Some(problem) = problem else { return self.stranger(status).retry_after(wait) };
        let kind = match status {
            StatusCode::UNAUTHORIZED => return self.not_known(asked_by),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Kind::Unavailable,
            _ => Kind::of_word(&problem.kind).unwrap_or(Kind::Unavailable),
        };
        Error::new(kind, format!("{}: {}", self.server, problem.what)).retry_after(wait)
    }

    /// What says that the server does not know this device, unless it is known by another token by now.
    fn not_known(&self, asked_by: &str) -> Error {
        let renewed = self.again.as_ref().and_then(|again| again()).map(|token| format!("Bearer {token}"));
        if let Some(renewed) = renewed.filter(|renewed| renewed != asked_by) {
            *self.authorization.write() = renewed;
            return Error::unavailable(format!("{}: somebody logged in again just now", self.server));
        }
        Error::denied(self.unknown.clone())
    }

    /// A proxy before the server, or the page of a network that wants a login: what it says of a file means nothing.
    fn stranger(&self, status: StatusCode) -> Error {
        Error::unavailable(format!("something that is not Larder answers at {}: {status}", self.server))
    }

    pub(super) fn silent(&self) -> Error {
        Error::unavailable(format!("{} does not answer", self.server))
    }

    pub(super) fn unreachable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        let source = source.into();
        if super::tls::is_of_certificate(&*source) {
            let what = format!(
                "{}: its certificate is not trusted; `larder login --ca FILE` trusts one",
                self.server
            );
            return Error::denied(what).because(source);
        }
        Error::unavailable(format!("{} cannot be reached", self.server)).because(source)
    }

    pub(super) fn strange(&self, what: &str) -> Error {
        Error::corrupt(format!("{} sent {what}", self.server))
    }
}

fn offline() -> Error {
    Link::Offline.refusal(false).expect("nothing is asked offline")
}

/// Starts a thread that drives connections until `over` says so: callers may be of any run time, or of none.
fn spawn_runtime(mut over: watch::Receiver<bool>) -> Result<(Handle, JoinHandle<()>)> {
    let failed = |e| Error::io("starting a thread", e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    let wait = move || {
        // An error says that nobody is left who could ring.
        let _ = runtime.block_on(over.wait_for(|over| *over));
    };
    let thread = std::thread::Builder::new().name("larder-http".into()).spawn(wait).map_err(failed)?;
    Ok((handle, thread))
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some((over, thread)) = self.thread.take() {
            over.send_replace(true);
            let _ = thread.join();
        }
    }
}

/// The error body. Source: RFC 9457.
#[derive(Deserialize)]
struct Problem {
    kind: String,
    what: String,
}

fn is_of(answer: &http::Response<Incoming>, media: &str) -> bool {
    let told = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = told.unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(media)
}
