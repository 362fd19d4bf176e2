//! The chunks of entries that a server lacks.

use crate::{Drive, Fetch};
use bytes::Bytes;
use larder_core::{ChunkId, Error, Head, Kind, Listed, Outline, Result};
use larder_store::catalog::{Queued, Step};
use larder_store::origin::{ASKED_MAX, Origin, SENT_MAX_BYTES};
use parking_lot::Mutex;
use std::sync::Arc;

/// Sends chunks.
pub(super) struct Bodies {
    pub(super) drive: Arc<Drive>,
    pub(super) origin: Arc<dyn Origin>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: bool,
    sent_bytes: u64,
}

impl Bodies {
    pub(super) fn new(drive: Arc<Drive>, origin: Arc<dyn Origin>) -> Self {
        Self { drive, origin, state: Mutex::default() }
    }

    /// Bytes sent so far.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.state.lock().sent_bytes
    }

    /// Says whether somebody has paused what is sent.
    pub(super) fn is_paused(&self) -> bool {
        self.drive.fetching().is_some_and(Fetch::is_sending_paused)
    }

    /// Nothing more is sent.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
    }

    /// Sends those chunks of the entries' contents that the server lacks.
    ///
    /// # Errors
    /// `Corrupt` for one that is not here either; those of the server.
    pub(super) fn send_lacking(&self, entries: &[Queued]) -> Result<()> {
        let mut asked: Vec<ChunkId> = Vec::new();
        for head in entries.iter().flat_map(|entry| &entry.steps).filter_map(Step::head) {
            self.add_chunks(head, &mut asked)?;
            if asked.len() >= ASKED_MAX {
                self.send_missing(&mut asked)?;
            }
        }
        self.send_missing(&mut asked)
    }

    /// Adds the chunks and pages of a content. A page that is not here was not made here: the server has it, and all below.
    fn add_chunks(&self, head: &Head, asked: &mut Vec<ChunkId>) -> Result<()> {
        let (mut outline, all) = (Outline::new(head)?, 0..head.size_bytes);
        for _ in 0..head.depth {
            outline.unfold(&all, |id| match self.drive.chunks().get(id) {
                Ok(page) => {
                    asked.push(*id);
                    Ok(Some(page))
                }
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
                Err(error) => Err(error),
            })?;
        }
        asked.extend(outline.locate(0).filter_map(Listed::chunk));
        Ok(())
    }

    fn send_missing(&self, ids: &mut Vec<ChunkId>) -> Result<()> {
        ids.sort_unstable();
        ids.dedup();
        for ids in ids.chunks(ASKED_MAX) {
            let missing = self.origin.missing(ids)?;
            self.send(&missing)?;
        }
        ids.clear();
        Ok(())
    }

    /// Sends chunks, several in one request.
    ///
    /// # Errors
    /// As [`Bodies::send_lacking`].
    pub(super) fn send(&self, ids: &[ChunkId]) -> Result<()> {
        let (mut bodies, mut bytes): (Vec<Bytes>, usize) = (Vec::new(), 0);
        for id in ids {
            let body = self.drive.chunks().get(id).map_err(|error| match error.kind() {
                Kind::NotFound => Error::corrupt(format!("chunk {id} is neither here nor at the server")),
                _ => error,
            })?;
            if bytes + body.len() > SENT_MAX_BYTES {
                self.send_some(&mut bodies, &mut bytes)?;
            }
            bytes += body.len();
            bodies.push(body);
        }
        self.send_some(&mut bodies, &mut bytes)
    }

    fn send_some(&self, bodies: &mut Vec<Bytes>, bytes: &mut usize) -> Result<()> {
        if bodies.is_empty() {
            return Ok(());
        }
        if self.state.lock().ended {
            return Err(Error::unavailable("this mount is about to end"));
        }
        if self.is_paused() {
            return Err(paused());
        }
        self.origin.send(bodies)?;
        self.state.lock().sent_bytes += *bytes as u64;
        bodies.clear();
        *bytes = 0;
        Ok(())
    }
}

/// Why nothing is sent while somebody has paused it.
pub(super) fn paused() -> Error {
    Error::unavailable("what is sent is paused: `larder resume --up` or `--all` goes on")
}
