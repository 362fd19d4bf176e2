//! A connection as hyper reads and writes it: shaped, guarded, counted, and given up when it stalls.
//!
//! Up is what clients send, down what they get. A message whose length could be read in two ways is replaced by a
//! byte that hyper refuses, so that it gets a 400 and the connection ends before anything acts on it.

use crate::framing::Framing;
use crate::metrics::Metrics;
use crate::shaping::{Shaper, Share};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a peer may take no bytes, or in the middle of a message send none, before it is given up.
pub const STALL: Duration = Duration::from_secs(60);

/// The shapers of both directions.
#[derive(Clone)]
pub struct Shapers {
    /// What clients send.
    pub up: Arc<Shaper>,
    /// What clients get.
    pub down: Arc<Shaper>,
}

/// A guarded connection.
pub struct Stream<S> {
    inner: S,
    up: Share,
    down: Share,
    metrics: Arc<Metrics>,
    framing: Option<Framing>,
    poisoned: bool,
    stall: Pin<Box<Sleep>>,
    stalling: bool,
}

impl<S> Stream<S> {
    /// Guards `inner`; `framed` says that it carries HTTP/1.
    pub fn new(inner: S, shapers: &Shapers, metrics: Arc<Metrics>, framed: bool) -> Self {
        Self {
            inner,
            up: Share::new(shapers.up.clone()),
            down: Share::new(shapers.down.clone()),
            metrics,
            framing: framed.then(Framing::default),
            poisoned: false,
            stall: Box::pin(tokio::time::sleep(STALL)),
            stalling: false,
        }
    }

    /// Runs while the peer is the one who must move; ends with an error once it has not for [`STALL`].
    fn poll_stall<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.stalling {
            self.stalling = true;
            self.stall.as_mut().reset(Instant::now() + STALL);
        }
        ready!(self.stall.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

use std::future::Future;

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.poisoned {
            return Poll::Ready(Ok(()));
        }
        let allowed = ready!(this.up.poll_allowed(context, buffer.remaining()));
        let before = buffer.filled().len();
        let polled = if allowed >= buffer.remaining() {
            Pin::new(&mut this.inner).poll_read(context, buffer)
        } else {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(allowed));
            let polled = Pin::new(&mut this.inner).poll_read(context, &mut part);
            let got = part.filled().len();
            buffer.advance(got);
            polled
        };
        match polled {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending if this.framing.as_ref().is_some_and(Framing::inside_body) => {
                return this.poll_stall(context);
            }
            Poll::Pending => return Poll::Pending,
        }
        this.stalling = false;
        let got = buffer.filled().len() - before;
        this.up.moved(got);
        this.metrics.received_bytes.fetch_add(got as u64, Ordering::Relaxed);
        if let Some(framing) = &mut this.framing
            && let Err(fine) = framing.feed(&buffer.filled()[before..])
        {
            this.poisoned = true;
            let keep = before + fine;
            buffer.set_filled(keep);
            // A NUL is legal nowhere in a head: hyper answers 400 to whatever came before it.
            buffer.put_slice(b"\0");
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    fn written(
        &mut self,
        polled: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Pending => self.poll_stall(context),
            Poll::Ready(Ok(bytes)) => {
                self.stalling = false;
                self.down.moved(bytes);
                self.metrics.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                Poll::Ready(Ok(bytes))
            }
            failed => failed,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let allowed = ready!(this.down.poll_allowed(context, bytes.len()));
        let polled = Pin::new(&mut this.inner).poll_write(context, &bytes[..allowed.min(bytes.len())]);
        this.written(polled, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let total = parts.iter().map(|part| part.len()).sum();
        let allowed = ready!(this.down.poll_allowed(context, total));
        let polled = if allowed >= total {
            Pin::new(&mut this.inner).poll_write_vectored(context, parts)
        } else {
            let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
            Pin::new(&mut this.inner).poll_write(context, &first[..allowed.min(first.len())])
        };
        this.written(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_flush(context) {
            Poll::Pending => this.poll_stall(context),
            done => done,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}
