//! The bytes of an open file: the committed version, changes over it, and the growing end.

use super::budget::Budget;
use super::layer::{Layer, Piece, Source};
use super::staging::{Place, Staging};
use super::stream::{Block, Cut, Stream};
use larder_core::{Head, Listed, Outline, Result, Timestamp};
use larder_store::Lease;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A version of the file in chunks, of which bytes from `limit` on no longer count.
#[derive(Clone)]
pub(super) struct Base {
    pub outline: Arc<Outline>,
    pub limit: u64,
}

impl Base {
    fn walk(&self, from: u64, to: u64, visit: &mut dyn FnMut(Piece) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut at = from;
        let known = to.min(self.limit);
        if at < known {
            for listed in self.outline.locate(at) {
                // What does not fit is no chunk; reading it finds another length and says so.
                let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                let (located, whole) = match listed {
                    Listed::Extent(located) => (located, number(located.extent.len_bytes)),
                    // Nor is a page; who reads has them read before, and who reads ahead wishes for them.
                    Listed::Page(located) => (located, u32::MAX),
                };
                let id = located.extent.id;
                let end = (located.start + located.extent.len_bytes).min(known);
                let source = match id.is_hole() {
                    true => Source::Hole,
                    false => Source::Chunk { id, skip: number(at - located.start), whole },
                };
                visit(Piece { at, len: end - at, source })?;
                at = end;
                if at >= known {
                    break;
                }
            }
        }
        if at < to {
            visit(Piece { at, len: to - at, source: Source::Hole })
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Visits the pieces from `from` to `to`, each where the topmost of `layers` that has it says.
pub(super) fn walk(
    layers: &[&Layer],
    base: &Base,
    (from, to): (u64, u64),
    visit: &mut dyn FnMut(Piece) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let Some((top, below)) = layers.split_first() else { return base.walk(from, to, visit) };
    if top.is_empty() {
        return walk(below, base, (from, to), visit);
    }
    top.walk(from, to, &mut |from, to, source| match source {
        Some(source) => visit(Piece { at: from, len: to - from, source }),
        None => walk(below, base, (from, to), visit),
    })
}

/// What one fsync published and the next one replaces within this time was a step on the way, and no version to come
/// back to. A database that commits each second would keep 26 GB a day of them.
const INTERIM_MAX_NS: i64 = 60 * 1_000_000_000;

/// What a file holds. From the top down: `stream`, `live`, `frozen`, `base`.
pub(super) struct Data {
    pub size: u64,
    /// Bytes of holes, for st_blocks.
    pub hole_bytes: u64,
    /// The committed head that `outline` begins with.
    pub head: Head,
    /// `None` until somebody needs it.
    pub outline: Option<Arc<Outline>>,
    pub limit: u64,
    /// Changes that a commit is storing.
    pub frozen: Option<Arc<Layer>>,
    /// Changes since.
    pub live: Layer,
    pub stream: Option<Stream>,
    pub staging: Staging,
    /// Bytes staged since somebody looked how many of them still count.
    pub staged_since: u64,
    /// Holds chunks that no commit refers to yet.
    pub lease: Option<Arc<Lease>>,
    /// Counts changes.
    pub generation: u64,
    /// The generation that the catalog has.
    pub committed: u64,
    /// When an fsync published what the catalog has, if nobody who wrote closed the file since.
    pub interim_since: Option<Timestamp>,
    /// The smallest size since `frozen` was.
    pub low_water: u64,
    pub budget: Arc<Budget>,
}

impl Data {
    pub fn new(head: Head, place: Place, budget: Arc<Budget>) -> Self {
        let staging = Staging::new(place, budget.clone());
        Self {
            size: head.size_bytes,
            hole_bytes: head.size_bytes.saturating_sub(head.allocated_bytes),
            limit: head.size_bytes,
            outline: (head.size_bytes == 0).then(Arc::default),
            head,
            frozen: None,
            live: Layer::default(),
            stream: None,
            staging,
            staged_since: 0,
            lease: None,
            generation: 0,
            committed: 0,
            interim_since: None,
            low_water: 0,
            budget,
        }
    }

    pub fn is_clean(&self) -> bool {
        self.generation == self.committed && self.frozen.is_none()
    }

    /// The base; what will be looked at of its outline was read before.
    pub fn base(&self) -> Base {
        let outline = self.outline.clone().unwrap_or_default();
        Base { limit: self.limit.min(outline.size_bytes()), outline }
    }

    /// Where `stream` begins, or the end of the file.
    pub fn settled_end(&self) -> u64 {
        self.stream.as_ref().map_or(self.size, Stream::start)
    }

    /// Visits the pieces below the stream.
    pub fn walk(&self, from: u64, to: u64, visit: &mut dyn FnMut(Piece) -> ControlFlow<()>) {
        let base = self.base();
        let _ = match &self.frozen {
            Some(frozen) => walk(&[&self.live, frozen], &base, (from, to), visit),
            None => walk(&[&self.live], &base, (from, to), visit),
        };
    }

    /// Bytes of holes from `from` to `to`.
    pub fn holes_in(&self, from: u64, to: u64) -> u64 {
        let mut bytes = 0;
        self.walk(from, to.min(self.settled_end()), &mut |piece| {
            bytes += if piece.source == Source::Hole { piece.len } else { 0 };
            ControlFlow::Continue(())
        });
        bytes
    }

    /// Puts `piece` over what is there, keeping count of holes and size; not over the stream.
    pub fn cover(&mut self, piece: Piece) {
        if self.hole_bytes > 0 {
            self.hole_bytes -= self.holes_in(piece.at, piece.end().min(self.size));
        }
        if piece.source == Source::Hole {
            self.hole_bytes += piece.len;
        }
        self.live.insert(piece);
        self.size = self.size.max(piece.end());
    }

    /// Stages `bytes` at `at`, also behind the end; not over the stream.
    ///
    /// # Errors
    /// Those of the staging area; then nothing changed.
    pub fn stage(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.staging.write(at, bytes)?;
        self.staged_since += bytes.len() as u64;
        if at > self.size {
            self.cover(Piece { at: self.size, len: at - self.size, source: Source::Hole });
        }
        self.cover(Piece { at, len: bytes.len() as u64, source: Source::Staged });
        Ok(())
    }

    /// Writes bytes that end in the stream or behind it, without waiting; false where there is no memory for them.
    ///
    /// # Errors
    /// Those of the staging area, for bytes that begin before the stream; then nothing changed.
    pub fn write_to_stream(&mut self, at: u64, bytes: &[u8]) -> Result<bool> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let (start, end) = (stream.start(), stream.end());
        let split = |border: u64| border.saturating_sub(at).min(bytes.len() as u64) as usize;
        let (below, inside, behind) =
            (&bytes[..split(start)], &bytes[split(start)..split(end)], &bytes[split(end)..]);
        if !behind.is_empty() && !stream.append(behind) {
            return Ok(false);
        }
        let staged = if below.is_empty() { Ok(()) } else { self.stage(at, below) };
        let Some(stream) = &mut self.stream else { return Ok(false) };
        if let Err(error) = staged {
            stream.truncate(end);
            return Err(error);
        }
        if !inside.is_empty() {
            stream.overwrite(at.max(start), inside);
        }
        self.size = self.size.max(stream.end());
        Ok(true)
    }

    /// Says whether more than `max` bytes are staged; looks closely only once in `max` staged bytes.
    pub fn has_staged(&mut self, max: u64) -> bool {
        if self.staged_since <= max {
            return false;
        }
        self.staged_since = 0;
        self.live.staged_bytes() > max
    }

    /// Ends the stream, moving to the staging area what only it has; nothing may be being cut.
    ///
    /// # Errors
    /// Those of the staging area; then nothing changed.
    pub fn end_stream(&mut self) -> Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let (start, end) = (stream.start(), stream.end());
        if stream.dirty && end > start {
            let mut at = start;
            for bytes in stream.slices(start, end).into_iter().filter(|bytes| !bytes.is_empty()) {
                self.staging.write(at, bytes)?;
                at += bytes.len() as u64;
            }
            self.live.insert(Piece { at: start, len: end - start, source: Source::Staged });
        }
        self.stream = None;
        Ok(())
    }

    /// The chunk that ends where the file does, where the stream can go on from its start.
    pub fn last_chunk(&self) -> Option<Piece> {
        let mut last = None;
        self.walk(self.size.checked_sub(1)?, self.size, &mut |piece| {
            last = Some(piece);
            ControlFlow::Continue(())
        });
        let Source::Chunk { skip, whole, .. } = last?.source else { return None };
        let start = last?.at.checked_sub(u64::from(skip))?;
        if u64::from(skip) + 1 != u64::from(whole) || whole as usize >= larder_core::chunker::MAX_BYTES {
            return None;
        }
        let mut pieces = Vec::new();
        self.walk(start, self.size, &mut |piece| {
            pieces.push(piece);
            ControlFlow::Continue(())
        });
        matches!(pieces[..], [piece] if piece.is_whole_chunk()).then(|| pieces[0])
    }

    /// Takes in what cutting a block gave.
    pub fn cut_done(&mut self, block: Arc<Block>, cut: Result<Cut>) -> Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        match cut {
            Err(error) => {
                stream.in_flight = false;
                Err(error)
            }
            Ok(chunks) => {
                let start = stream.start();
                stream.cut_done(block, chunks.iter().map(|(_, len)| len).sum());
                self.chunks_at(start, chunks);
                Ok(())
            }
        }
    }

    /// Notes chunks that were cut off the stream, from `at` on.
    pub fn chunks_at(&mut self, mut at: u64, chunks: Cut) {
        for (id, len) in chunks {
            let source = Source::Chunk { id, skip: 0, whole: len as u32 };
            self.live.insert(Piece { at, len: len as u64, source });
            at += len as u64;
        }
    }

    /// Makes the file `size` bytes long; nothing may be being cut.
    ///
    /// # Errors
    /// Those of the staging area, where it grows and the stream has to end; then nothing changed.
    pub fn resize(&mut self, size: u64) -> Result<()> {
        if size > self.size {
            self.end_stream()?;
            self.cover(Piece { at: self.size, len: size - self.size, source: Source::Hole });
            return Ok(());
        }
        if self.hole_bytes > 0 {
            self.hole_bytes -= self.holes_in(size, self.size);
        }
        match &mut self.stream {
            Some(stream) if size > stream.start() => stream.truncate(size),
            _ => self.stream = None,
        }
        self.live.remove(size, u64::MAX);
        if let Some(frozen) = &mut self.frozen {
            Arc::make_mut(frozen).remove(size, u64::MAX);
        }
        self.limit = self.limit.min(size);
        self.low_water = self.low_water.min(size);
        self.size = size;
        Ok(())
    }

    /// What the catalog has, if that was only a step on the way to what is published `now`.
    pub fn interim(&self, now: Timestamp) -> Option<Head> {
        let age_ns = now.0.saturating_sub(self.interim_since?.0);
        (0..INTERIM_MAX_NS).contains(&age_ns).then(|| self.head.clone())
    }

    /// Follows a version that came through another door.
    pub fn rebase(&mut self, head: Head) {
        *self = Data {
            generation: self.generation,
            committed: self.committed,
            ..Data::new(head, self.staging.place(), self.budget.clone())
        };
    }
}
