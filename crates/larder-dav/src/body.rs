//! Response bodies: nothing, one buffer, or bytes made while the socket takes those before.
//!
//! What is at hand is made when the socket asks for it. Anything else is made in batches, each by one job on a blocking
//! thread while the socket takes the batch before. So a request holds at most two batches, and a slow client no thread.

use crate::gate::Gate;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use larder_core::{Error, Result};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// What can be had without waiting.
pub(crate) enum Near {
    /// The next bytes, some.
    Bytes(Bytes),
    /// Nothing: a job must make the next batch.
    Far,
    /// Nothing more: this was all.
    End,
}

/// Makes the bytes of a response.
pub(crate) trait Batches: Send + 'static {
    /// Makes the next bytes if that takes a fraction of a millisecond and waits for nothing.
    fn try_next(&mut self) -> Near {
        Near::Far
    }

    /// Adds the next batch to `into`, in order, on a blocking thread; says whether there may be more.
    ///
    /// # Errors
    /// Any: the connection is then closed, so that the client does not take the part for the whole.
    fn next(&mut self, into: &mut VecDeque<Bytes>) -> Result<bool>;
}

/// The body of a response.
pub struct Body(Inner);

enum Inner {
    Empty,
    Whole(Bytes),
    Feed(Box<Feed>),
}

struct Feed {
    gate: Gate,
    ready: VecDeque<Bytes>,
    /// Bytes still to come, where the length was promised.
    left: Option<u64>,
    state: State,
    /// The last bytes came from a job: the next are made ahead.
    far: bool,
}

type Made = (Box<dyn Batches>, VecDeque<Bytes>, bool);

enum State {
    Idle(Box<dyn Batches>),
    Making(JoinHandle<Result<Made>>),
    Done,
}

impl Body {
    pub(crate) fn empty() -> Self {
        Body(Inner::Empty)
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Body(if bytes.is_empty() { Inner::Empty } else { Inner::Whole(bytes) })
    }

    /// A body made by `batches`, `len` bytes long where that is known.
    pub(crate) fn feed(gate: Gate, batches: impl Batches, len: Option<u64>) -> Self {
        let state = State::Idle(Box::new(batches));
        Body(Inner::Feed(Box::new(Feed { gate, ready: VecDeque::new(), left: len, state, far: false })))
    }
}

impl Feed {
    /// Makes the next bytes, or starts the job that does.
    fn advance(&mut self) {
        let State::Idle(batches) = &mut self.state else { return };
        let near = batches.try_next();
        self.far = matches!(near, Near::Far);
        match near {
            Near::Bytes(bytes) => self.ready.push_back(bytes),
            Near::End => self.state = State::Done,
            Near::Far => {
                if let State::Idle(mut batches) = std::mem::replace(&mut self.state, State::Done) {
                    self.state = State::Making(self.gate.spawn(move || {
                        let mut into = VecDeque::new();
                        let more = batches.next(&mut into)?;
                        Ok((batches, into, more))
                    }));
                }
            }
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            if self.far || self.ready.is_empty() {
                self.advance();
            }
            if let Some(bytes) = self.ready.pop_front() {
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                return Poll::Ready(Some(Ok(bytes)));
            }
            let State::Making(job) = &mut self.state else { return Poll::Ready(None) };
            let made = ready!(Pin::new(job).poll(cx));
            self.state = State::Done;
            match made {
                Ok(Ok((batches, batch, more))) => {
                    self.ready = batch;
                    if more {
                        self.state = State::Idle(batches);
                    }
                }
                Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
                Err(panic) => return Poll::Ready(Some(Err(Error::corrupt("response body").because(panic)))),
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        match &mut this.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Feed(feed) => {
                let polled = feed.poll_bytes(cx);
                if let Poll::Ready(Some(Err(error))) = &polled {
                    tracing::warn!(%error, "response cut short");
                }
                polled.map(|next| next.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Empty => true,
            Inner::Whole(_) => false,
            Inner::Feed(feed) => feed.ready.is_empty() && matches!(feed.state, State::Done),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Feed(feed) => feed.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
