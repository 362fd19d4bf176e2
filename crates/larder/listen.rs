//! Connections: accepted up to a limit, guarded, served, and ended in order at shutdown.

use crate::metrics::Metrics;
use crate::payers::{Payer, Payers};
use crate::stream::{Seat, Stream};
use crate::tls::Tls;
use crate::web::Web;
use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 1024;
/// A TLS handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The head of a request takes no longer, and so long an idle connection is kept.
const HEADER_READ: Duration = Duration::from_secs(30);
/// The longest head; the framing guard has the same bound.
const HEADER_MAX_BYTES: usize = crate::framing::HEAD_MAX_BYTES;
/// Fields of a head.
const HEADERS_MAX: usize = 100;
/// At shutdown a connection on which nothing was asked so far has so long to begin.
const FIRST_REQUEST: Duration = Duration::from_secs(2);
/// At shutdown requests under way may take so long to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Wait after accept(2) failed, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket and what serves its connections.
pub struct Listening {
    /// The socket.
    pub listener: TcpListener,
    /// The certificate, if any.
    pub tls: Option<Arc<Tls>>,
    /// What answers.
    pub web: Web,
    /// Who pays for bytes.
    pub payers: Arc<Payers>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Listening {
    /// Serves until `stop` says so, then lets requests under way end.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let Self { listener, tls, web, payers, metrics } = self;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let (told, api) = (stop.clone(), web.api.clone());
        let mut serve = |socket, peer| {
            while connections.try_join_next().is_some() {}
            let Ok(place) = places.clone().try_acquire_owned() else {
                metrics.refused.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let seat = Arc::new(Seat::new(place, metrics.clone()));
            let (web, payers, stop) = (web.clone(), payers.clone(), told.clone());
            let connection = Connection { peer, web, payers, seat, stop };
            let tls = tls.as_ref().map(|tls| tls.acceptor());
            connections.spawn(connection.accept(socket, tls));
        };
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((socket, peer)) => serve(socket, peer),
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // They last as long as their devices do; the connections would not end.
        api.end_streams();
        waiting(listener).into_iter().for_each(|(socket, peer)| serve(socket, peer));
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("requests did not end in time; they are cut");
        }
    }
}

/// Closes a listening socket; returns the connections that the kernel had made and nobody had taken.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accepted = std::iter::from_fn(|| listener.accept().ok());
    let ready = |(socket, peer): (std::net::TcpStream, _)| {
        socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket)).ok().zip(Some(peer))
    };
    accepted.take(CONNECTIONS_MAX).filter_map(ready).collect()
}

struct Connection {
    peer: SocketAddr,
    web: Web,
    payers: Arc<Payers>,
    seat: Arc<Seat>,
    stop: watch::Receiver<bool>,
}

impl Connection {
    async fn accept(self, socket: TcpStream, tls: Option<tokio_rustls::TlsAcceptor>) {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        match tls {
            None => self.serve(socket).await,
            Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => self.serve(stream).await,
                Ok(Err(error)) => tracing::debug!(peer = %self.peer, %error, "TLS handshake"),
                Err(_) => tracing::debug!(peer = %self.peer, "TLS handshake took too long"),
            },
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, socket: S) {
        let payer = Arc::new(Payer::new(&self.payers));
        let stream = Stream::new(socket, payer.clone(), self.seat.clone());
        let address = self.peer.ip();
        let asked = Notify::new();
        let service = service_fn(|request| {
            asked.notify_one();
            let (web, payer, seat) = (self.web.clone(), payer.clone(), self.seat.clone());
            async move {
                let response = web.answer(request, address, &payer).await;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    seat.upgrade();
                }
                Ok::<_, Infallible>(response)
            }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ)
            .max_header_size(HEADER_MAX_BYTES)
            .max_headers(HEADERS_MAX)
            .half_close(true);
        let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut told = self.stop;
        let stopped = async move { drop(told.wait_for(|stop| *stop).await) };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped => {
                // A peer that never asked may be about to: hyper would close its connection without a look.
                let first = tokio::time::timeout(FIRST_REQUEST, asked.notified());
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    _ = first => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %self.peer, %error, "connection");
        }
    }
}
