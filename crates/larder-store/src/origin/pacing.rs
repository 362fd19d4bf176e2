//! How fast the bytes of calls may move, and whether calls may be made at all: as whoever made the connection says.

use super::Cancel;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use larder_core::{Error, NodeId};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

/// How the way to the server may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// Freely.
    #[default]
    Online,
    /// For what programs wait for; what can wait is not sent.
    Metered,
    /// Not at all.
    Offline,
}

impl Link {
    /// Why a call is not made, where it is not; `waits` says that nobody needs its answer now.
    pub fn refusal(self, waits: bool) -> Option<Error> {
        match self {
            Link::Offline => Some(Error::unavailable(
                "this mount is offline because somebody said so: `larder limit --online`",
            )),
            Link::Metered if waits => {
                let what = "the way to the server is metered: it is told after `larder limit --online`";
                Some(Error::unavailable(what))
            }
            Link::Online | Link::Metered => None,
        }
    }
}

/// Which way the bytes of a stream go, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the server.
    Up,
    /// From it; of a file, where it is content.
    Down(Option<NodeId>),
}

/// Says when bytes may move.
pub trait Pace: Send + Sync {
    /// Returns what says so for one stream.
    fn stream(&self, flow: Flow) -> Box<dyn Meter>;
}

/// Says when the bytes of one stream may move.
pub trait Meter: Send {
    /// Returns how many of `wanted` bytes may move now: at least one, or with 0 wanted none, once everything that moved
    /// before is paid for. `urgent` says that an application waits for them.
    fn poll_allowed(&mut self, context: &mut Context<'_>, urgent: bool, wanted: usize) -> Poll<usize>;

    /// Says how many bytes moved.
    fn moved(&mut self, bytes: usize);
}

/// Lets everything through.
pub struct Free;

impl Pace for Free {
    fn stream(&self, _: Flow) -> Box<dyn Meter> {
        Box::new(Free)
    }
}

impl Meter for Free {
    fn poll_allowed(&mut self, _: &mut Context<'_>, _: bool, wanted: usize) -> Poll<usize> {
        Poll::Ready(wanted)
    }

    fn moved(&mut self, _: usize) {}
}

/// What comes of an answer, paid for after it came: the next is not read before.
pub(super) struct Incoming {
    pub(super) meter: Box<dyn Meter>,
    pub(super) urgency: Option<Cancel>,
}

impl Incoming {
    /// Returns once `bytes` that came are paid for.
    pub(super) async fn pay(&mut self, bytes: usize) {
        self.meter.moved(bytes);
        loop {
            let waiting = self.urgency.as_ref().filter(|urgency| !urgency.is_urgent());
            let paid = std::future::poll_fn(|context| self.meter.poll_allowed(context, waiting.is_none(), 0));
            let Some(urgency) = waiting else {
                paid.await;
                return;
            };
            tokio::select! {
                _ = paid => return,
                // From here on it goes before others.
                () = urgency.hurried() => {}
            }
        }
    }
}

/// Whether a body is on its way: one that waits for its turn is no sign of a dead server.
#[derive(Default)]
pub(super) struct Sending {
    sent_bytes: AtomicU64,
    waits: AtomicBool,
}

impl Sending {
    /// Says whether anything moved since `seen`, or it is us who hold it up.
    pub(super) fn goes_on(&self, seen: &mut u64) -> bool {
        let sent_bytes = self.sent_bytes.load(Ordering::Relaxed);
        std::mem::replace(seen, sent_bytes) != sent_bytes || self.waits.load(Ordering::Relaxed)
    }
}

/// A body that is sent as its meter allows.
pub(super) struct Outgoing {
    left: Bytes,
    is_urgent: bool,
    meter: Box<dyn Meter>,
    sending: Arc<Sending>,
}

impl Outgoing {
    pub(super) fn new(body: Vec<u8>, is_urgent: bool, meter: Box<dyn Meter>) -> (Self, Arc<Sending>) {
        let sending = Arc::new(Sending::default());
        (Self { left: Bytes::from(body), is_urgent, meter, sending: sending.clone() }, sending)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.left.is_empty() {
            return Poll::Ready(None);
        }
        this.sending.waits.store(true, Ordering::Relaxed);
        let allowed = ready!(this.meter.poll_allowed(context, this.is_urgent, this.left.len()));
        this.sending.waits.store(false, Ordering::Relaxed);
        let piece = this.left.split_to(allowed.clamp(1, this.left.len()));
        this.meter.moved(piece.len());
        this.sending.sent_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
