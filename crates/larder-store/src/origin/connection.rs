//! Requests to a server, in bounded time.
//!
//! Asynchronous inside, for requests that are given up on; callers block.

use super::cancel::Cancel;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use larder_core::{Error, Kind, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Connecting takes no longer.
const CONNECT: Duration = Duration::from_secs(10);
/// A server begins to answer, and goes on, within this time.
const PATIENCE: Duration = Duration::from_secs(20);
/// A request is sent no slower than this.
const SLOWEST_BYTES_S: u64 = 64 << 10;
/// The longest answer in JSON.
const JSON_MAX_BYTES: usize = 64 << 20;
/// A server that is asked, over connections that are kept and used again.
pub struct Connection {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// `https://host:port`, without a slash at the end.
    server: String,
    authorization: String,
    /// What a refusal of that means.
    unknown: String,
    runtime: Handle,
    /// Rung when calls are to end.
    ended: watch::Sender<bool>,
    /// Where the run time of the connections lives, and what ends it.
    thread: Option<(watch::Sender<bool>, JoinHandle<()>)>,
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
            .build(connector);
        let (ended, over) = (watch::Sender::new(false), watch::Sender::new(false));
        let (runtime, thread) = spawn_runtime(over.subscribe())?;
        let thread = Some((over, thread));
        Ok(Self { client, server, authorization, unknown, runtime, ended, thread })
    }

    /// Asks for what `path` below `/api/v1/` is, in JSON, and reads the answer.
    ///
    /// # Errors
    /// Those of every call, and what the server says.
    pub fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T> {
        let bytes = self.block_on(async {
            let answer = self.send(method, path, "application/json", body).await?;
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
        let mut ended = self.ended.subscribe();
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                _ = ended.wait_for(|ended| *ended) => Err(Error::unavailable("this mount is about to end")),
            }
        })
    }

    /// Sends a request whose body is of media type `kind`, as the answer's is; what the server refuses is an error.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<http::Response<Incoming>> {
        let len = body.len() as u64;
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1/{path}", self.server))
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, kind)
            .body(Full::from(body))
            .map_err(|e| Error::invalid(format!("address {}", self.server)).because(e))?;
        let sending = Duration::from_secs(len / SLOWEST_BYTES_S);
        let answer = tokio::time::timeout(CONNECT + PATIENCE + sending, self.client.request(request));
        let answer = answer.await.map_err(|_| self.silent())?.map_err(|e| self.unreachable(e))?;
        match answer.status().is_success() {
            true if is_of(&answer, kind) => Ok(answer),
            true => Err(self.stranger(answer.status())),
            false => Err(self.refusal(answer).await),
        }
    }

    /// The whole body of a short answer.
    async fn collect(&self, answer: http::Response<Incoming>) -> Result<Bytes> {
        let mut body = answer.into_body();
        let mut all = BytesMut::new();
        while let Some(piece) = self.piece(&mut body).await? {
            if all.len() + piece.len() > JSON_MAX_BYTES {
                return Err(self.strange("an answer without end"));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// The next bytes of an answer, which come within [`PATIENCE`].
    pub(super) async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await.map_err(|_| self.silent())?;
            match frame.transpose().map_err(|e| self.unreachable(e))?.map(|frame| frame.into_data()) {
                None => return Ok(None),
                Some(Ok(data)) if !data.is_empty() => return Ok(Some(data)),
                Some(_) => {}
            }
        }
    }

    /// What the server said instead of an answer.
    async fn refusal(&self, answer: http::Response<Incoming>) -> Error {
        let status = answer.status();
        let told = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        // The other form, a date, would need a clock that agrees with the server's.
        let wait = told.and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
        let is_problem = is_of(&answer, "application/problem+json");
        let body = if is_problem { self.collect(answer).await.ok() } else { None };
        let problem = body.and_then(|bytes| serde_json::from_slice::<Problem>(&bytes).ok());
        let Some(problem) = problem else { return self.stranger(status).retry_after(wait) };
        let kind = match status {
            StatusCode::UNAUTHORIZED => return Error::denied(self.unknown.clone()),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Kind::Unavailable,
            _ => Kind::of_word(&problem.kind).unwrap_or(Kind::Unavailable),
        };
        Error::new(kind, format!("{}: {}", self.server, problem.what)).retry_after(wait)
    }

    /// A proxy before the server, or the page of a network that wants a login: what it says of a file means nothing.
    fn stranger(&self, status: StatusCode) -> Error {
        Error::unavailable(format!("something that is not Larder answers at {}: {status}", self.server))
    }

    fn silent(&self) -> Error {
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
