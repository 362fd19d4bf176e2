//! A connection as hyper reads and writes it: shaped, guarded, counted, and given up when it stalls.
//!
//! Up is what clients send, down what they get. A message whose length could be read in two ways is replaced by a
//! few bytes that hyper refuses, so that it gets a 400 and the connection ends before anything acts on it.

use crate::framing::Framing;
use crate::metrics::Metrics;
use crate::payers::Payer;
use crate::shaping::Share;
use larder_policy::Class;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// How long a peer may take no bytes, or in the middle of a message send too few, before it is given up.
const STALL: Duration = Duration::from_secs(30);
/// What a peer in the middle of a message must send in that time.
const PROGRESS_MIN_BYTES: usize = 1024;

/// After a refusal what the peer still sends is read for so long: a socket closed over unread bytes is reset, and
/// the peer may never see the answer. Source: RFC 9112 § 9.6.
const LINGER: Duration = Duration::from_secs(2);
/// What is read of it at most.
const LINGER_MAX_BYTES: usize = 4 << 20;

/// Takes the place of a doubtful message: a NUL is legal nowhere in a head, and hyper looks at a head that came in
/// pieces only when it sees its end.
const POISON: &[u8] = b"\0\r\n\r\n";

/// A connection's place among all, until its socket is closed.
pub struct Seat {
    metrics: Arc<Metrics>,
    /// It carries something else than HTTP now.
    upgraded: AtomicBool,
    _place: OwnedSemaphorePermit,
}

impl Seat {
    /// Counts a connection that took `place`.
    pub fn new(place: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self { metrics, upgraded: AtomicBool::new(false), _place: place }
    }

    /// Says that HTTP ends here: what comes next is no message of it.
    pub fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A guarded connection.
pub struct Stream<S> {
    inner: S,
    payer: Arc<Payer>,
    /// The state of `payer` that the shares are of.
    payer_seen: usize,
    up: Share,
    down: Share,
    framing: Option<Framing>,
    seat: Arc<Seat>,
    /// What is left of [`POISON`], once the peer's bytes count no more.
    poison: Option<&'static [u8]>,
    read_stall: Stall,
    write_stall: Stall,
    /// Bytes that came since the peer last made enough progress.
    progress_bytes: usize,
    /// Bytes read and dropped since our side was closed; `None` while it is open.
    lingered_bytes: Option<usize>,
}

impl<S> Stream<S> {
    /// Guards `inner`, which carries HTTP/1 until `seat` says that it was upgraded.
    pub fn new(inner: S, payer: Arc<Payer>, seat: Arc<Seat>) -> Self {
        let mut payer_seen = 0;
        let tiers = payer.changed(&mut payer_seen).expect("what was not looked at yet is new");
        Self {
            inner,
            payer,
            payer_seen,
            up: Share::new(tiers.up.clone()),
            down: Share::new(tiers.down.clone()),
            framing: Some(Framing::default()),
            seat,
            poison: None,
            read_stall: Stall::new(),
            write_stall: Stall::new(),
            progress_bytes: 0,
            lingered_bytes: None,
        }
    }

    /// Has whoever pays now pay for what moves next.
    fn settle_payer(&mut self) {
        if let Some(tiers) = self.payer.changed(&mut self.payer_seen) {
            self.up.enter(&tiers.up);
            self.down.enter(&tiers.down);
        }
    }
}

/// Runs while the peer is the one who must move.
struct Stall {
    timer: Pin<Box<Sleep>>,
    running: bool,
}

impl Stall {
    fn new() -> Self {
        Self { timer: Box::pin(tokio::time::sleep(STALL)), running: false }
    }

    /// The peer moved, or need not.
    fn end(&mut self) {
        self.running = false;
    }

    /// Waits for the peer; an error once that took [`STALL`].
    fn poll<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if !self.running {
            self.running = true;
            self.timer.as_mut().reset(Instant::now() + STALL);
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(poison) = &mut this.poison {
            give(poison, buffer);
            return Poll::Ready(Ok(()));
        }
        if this.seat.upgraded.load(Ordering::Acquire) {
            this.framing = None;
        }
        let inside_body = this.framing.as_ref().is_some_and(Framing::inside_body);
        // Bodies are paid for before they are read, heads after: who waits for a request need not queue.
        let wanted = if inside_body { buffer.remaining() } else { 0 };
        this.settle_payer();
        let Poll::Ready(allowed) = this.up.poll_allowed(context, Class::Bulk, wanted) else {
            this.read_stall.end();
            return Poll::Pending;
        };
        let allowed = if inside_body { allowed } else { buffer.remaining() };
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
            Poll::Pending if inside_body => return this.read_stall.poll(context),
            Poll::Pending => {
                this.read_stall.end();
                return Poll::Pending;
            }
        }
        let got = buffer.filled().len() - before;
        this.progress_bytes += got;
        if this.progress_bytes >= PROGRESS_MIN_BYTES {
            this.read_stall.end();
            this.progress_bytes = 0;
        }
        this.up.moved(got);
        this.seat.metrics.received_bytes.fetch_add(got as u64, Ordering::Relaxed);
        if let Some(framing) = &mut this.framing
            && let Err(fine) = framing.feed(&buffer.filled()[before..])
        {
            buffer.set_filled(before + fine);
            give(this.poison.insert(POISON), buffer);
        }
        Poll::Ready(Ok(()))
    }
}

/// Moves what fits of `poison` to `buffer`; nothing left is the end of the stream.
fn give(poison: &mut &'static [u8], buffer: &mut ReadBuf<'_>) {
    let (now, later) = poison.split_at(poison.len().min(buffer.remaining()));
    buffer.put_slice(now);
    *poison = later;
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    fn written(
        &mut self,
        polled: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Pending => self.write_stall.poll(context),
            Poll::Ready(Ok(bytes)) => {
                self.write_stall.end();
                self.down.moved(bytes);
                self.seat.metrics.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                Poll::Ready(Ok(bytes))
            }
            failed => failed,
        }
    }
}

impl<S: AsyncRead + Unpin> Stream<S> {
    /// Reads until the peer closes its side, or it was enough.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 4096];
        while self.lingered_bytes.is_some_and(|bytes| bytes < LINGER_MAX_BYTES) {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingered_bytes = self.lingered_bytes.map(|bytes| bytes + buffer.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(self.read_stall.timer.as_mut().poll(context));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.settle_payer();
        let allowed = ready!(this.down.poll_allowed(context, Class::Bulk, bytes.len()));
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
        this.settle_payer();
        let allowed = ready!(this.down.poll_allowed(context, Class::Bulk, total));
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
            Poll::Pending => this.write_stall.poll(context),
            done => done,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingered_bytes.is_none() {
            ready!(Pin::new(&mut this.inner).poll_shutdown(context))?;
            if this.poison.is_none() && this.framing.as_ref().is_none_or(Framing::between_messages) {
                return Poll::Ready(Ok(()));
            }
            this.lingered_bytes = Some(0);
            this.read_stall.timer.as_mut().reset(Instant::now() + LINGER);
        }
        this.poll_linger(context)
    }
}
