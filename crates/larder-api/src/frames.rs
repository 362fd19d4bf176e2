//! Many chunks as one stream, in the order in which they were asked for.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the chunk, little endian; 0xFFFFFFFF for one that is not there |
//! | length | the plain body |
//!
//! What the kernel has in memory is read when the socket asks for it. Anything else is read in batches on a blocking
//! thread, one ahead of the socket. So a request holds at most two batches, and a slow device no thread.

use crate::Body;
use crate::gate::{Gate, join};
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use larder_core::{ChunkId, Error, Kind, NodeId, Result};
use larder_drive::{Drive, Hold};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What stands for a chunk that is not there.
const ABSENT: Bytes = Bytes::from_static(&[0xFF; 4]);
/// Bytes of one batch, and the chunk that passes it.
const BATCH_BYTES: usize = 1 << 20;
/// Chunks that the disk is asked for ahead of the socket: about 8 MiB.
const AHEAD: usize = 32;

/// The chunks of one request.
pub(crate) struct Frames {
    pub(crate) drive: Arc<Drive>,
    /// Whose chunks they are.
    pub(crate) node: NodeId,
    /// Each with whether the node holds it.
    pub(crate) ids: Vec<(ChunkId, bool)>,
    /// Keeps them from being purged.
    pub(crate) _hold: Hold,
}

/// How far a stream is.
struct Progress {
    frames: Frames,
    at: usize,
    /// Up to where the disk was asked to read.
    asked: usize,
}

enum Work {
    Idle(Progress),
    Making(JoinHandle<Result<(Progress, VecDeque<Bytes>)>>),
    Done,
}

struct Sending {
    gate: Gate,
    ready: VecDeque<Bytes>,
    work: Work,
}

impl Frames {
    /// The body of the answer.
    ///
    /// Where a stored chunk cannot be read it ends before its time, so that nobody takes a part for the whole.
    pub(crate) fn body(self, gate: Gate) -> Body {
        let progress = Progress { frames: self, at: 0, asked: 0 };
        let sending = Sending { gate, ready: VecDeque::new(), work: Work::Idle(progress) };
        let frames = stream::unfold(sending, |mut sending| async {
            let next = sending.next().await.transpose()?;
            if let Err(error) = &next {
                tracing::warn!(%error, "answer cut short");
            }
            Some((next.map(Frame::data), sending))
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

impl Sending {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            match std::mem::replace(&mut self.work, Work::Done) {
                Work::Done => return Ok(None),
                Work::Idle(progress) if progress.at >= progress.frames.ids.len() => {}
                Work::Idle(mut progress) => {
                    if progress.near(&mut self.ready) {
                        self.work = Work::Idle(progress);
                    } else {
                        self.make(progress);
                    }
                }
                Work::Making(job) => {
                    let (progress, batch) = join(job).await?;
                    self.ready = batch;
                    if progress.at < progress.frames.ids.len() {
                        self.make(progress);
                    }
                }
            }
        }
    }

    fn make(&mut self, mut progress: Progress) {
        self.work = Work::Making(self.gate.spawn(move || {
            let mut batch = VecDeque::new();
            progress.batch(&mut batch)?;
            Ok((progress, batch))
        }));
    }
}

impl Progress {
    /// Adds the next frame if that waits for nothing; says whether it did.
    fn near(&mut self, into: &mut VecDeque<Bytes>) -> bool {
        let (id, held) = self.frames.ids[self.at];
        if !held {
            into.push_back(ABSENT);
        } else if let Some(body) = self.frames.drive.try_chunk_once(&id) {
            add(into, body);
        } else {
            return false;
        }
        self.at += 1;
        true
    }

    /// Adds frames up to [`BATCH_BYTES`], at least one.
    fn batch(&mut self, into: &mut VecDeque<Bytes>) -> Result<()> {
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some((id, held)) = self.frames.ids.get(self.at).copied()
        {
            self.ask_ahead();
            self.at += 1;
            match if held {
                self.frames.drive.chunk_once(self.frames.node, &id)
            } else {
                Err(Error::not_found(""))
            } {
                Ok(body) => {
                    bytes += body.len();
                    add(into, body);
                }
                Err(error) if error.kind() == Kind::NotFound => into.push_back(ABSENT),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has the disk read what comes next, half of the window at a time.
    fn ask_ahead(&mut self) {
        if self.asked > self.at + AHEAD / 2 || self.asked == self.frames.ids.len() {
            return;
        }
        let end = (self.at + AHEAD).min(self.frames.ids.len());
        let ahead = &self.frames.ids[self.asked.max(self.at)..end];
        let ids: Vec<ChunkId> = ahead.iter().filter(|(_, held)| *held).map(|(id, _)| *id).collect();
        self.frames.drive.chunks().prefetch(&ids);
        self.asked = end;
    }
}

fn add(into: &mut VecDeque<Bytes>, body: Bytes) {
    let length = u32::try_from(body.len()).expect("a chunk has at most 1 MiB");
    into.push_back(Bytes::copy_from_slice(&length.to_le_bytes()));
    into.push_back(body);
}
