//! The growing end of a file: bytes appended in order go straight into chunks.
//!
//! Appended bytes fill one block while another, full one is cut, hashed and stored. What is left of a block behind its
//! last certain cut goes in front of the next, which has room there.

use super::budget::{Budget, Reserved};
use larder_core::chunker::{self, MAX_BYTES};
use larder_core::{ChunkId, Result};
use std::sync::Arc;

/// A block is handed on for cutting when it holds so much: large enough that what is carried over (under 1 MiB) and
/// the wake-up of a thread count little, small enough for eight streams in the budget.
const BLOCK_BYTES: usize = 2 * MAX_BYTES;
/// Room in front of a block for what the one before leaves.
const HEAD_BYTES: usize = MAX_BYTES;
/// The longest write that a block takes: what the kernel sends at most.
pub(super) const WRITE_MAX_BYTES: usize = MAX_BYTES;
const FULL_BYTES: usize = HEAD_BYTES + BLOCK_BYTES + WRITE_MAX_BYTES;

/// A buffer of bytes in the order of the file: `bytes[from..to]`.
pub(super) struct Block {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
    reserved: Reserved,
}

impl Block {
    pub fn pending(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    fn new(budget: &Arc<Budget>, len: usize, from: usize) -> Option<Self> {
        let reserved = budget.reserve(len)?;
        Some(Self { bytes: vec![0; len], from, to: from, reserved })
    }

    fn len(&self) -> usize {
        self.to - self.from
    }

    /// Adds `bytes`; false where there is no memory for them.
    fn append(&mut self, bytes: &[u8]) -> bool {
        let end = self.to + bytes.len();
        if end > self.bytes.len() {
            let len = end.next_power_of_two().min(FULL_BYTES.max(end));
            if !self.reserved.grow_to(len) {
                return false;
            }
            self.bytes.resize(len, 0);
        }
        self.bytes[self.to..end].copy_from_slice(bytes);
        self.to = end;
        true
    }

    fn prepend(&mut self, bytes: &[u8]) {
        let from = self.from - bytes.len();
        self.bytes[from..self.from].copy_from_slice(bytes);
        self.from = from;
    }
}

/// The end of a file, from `start` on.
pub(super) struct Stream {
    start: u64,
    /// Full, and being cut; lies before `filling`.
    cutting: Option<Arc<Block>>,
    /// Somebody is cutting it now.
    pub in_flight: bool,
    filling: Block,
    spare: Option<Block>,
    /// Holds bytes that the layers below do not have.
    pub dirty: bool,
}

/// What became of a block: its chunks and their lengths, in order.
pub(super) type Cut = Vec<(ChunkId, usize)>;

/// Cuts what is certain of `bytes` and stores it.
///
/// # Errors
/// Those of `put`.
pub(super) fn cut(bytes: &[u8], mut put: impl FnMut(&ChunkId, &[u8]) -> Result<()>) -> Result<Cut> {
    let mut chunks = Vec::with_capacity(bytes.len() / chunker::AVG_BYTES);
    let mut rest = bytes;
    while rest.len() >= MAX_BYTES {
        let (body, behind) = rest.split_at(chunker::cut(rest));
        let id = ChunkId::of(body);
        put(&id, body)?;
        chunks.push((id, body.len()));
        rest = behind;
    }
    Ok(chunks)
}

impl Stream {
    /// Starts at `start`, a chunk boundary, with the bytes that the file has there; `None` where there is no memory.
    pub fn new(budget: &Arc<Budget>, start: u64, tail: &[u8]) -> Option<Self> {
        let mut filling = Block::new(budget, 0, 0)?;
        filling.append(tail).then_some(())?;
        Some(Self { start, cutting: None, in_flight: false, filling, spare: None, dirty: false })
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn end(&self) -> u64 {
        self.filling_start() + self.filling.len() as u64
    }

    /// Where the part begins that can still be changed.
    pub fn filling_start(&self) -> u64 {
        self.start + self.cutting.as_ref().map_or(0, |block| block.len() as u64)
    }

    pub fn is_cutting(&self) -> bool {
        self.cutting.is_some()
    }

    /// Says whether more must not be added before a block is cut.
    pub fn is_full(&self) -> bool {
        self.filling.to >= HEAD_BYTES + BLOCK_BYTES
    }

    /// Adds bytes at the end; false where there is no memory for them.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let done = self.filling.append(bytes);
        self.dirty |= done;
        done
    }

    /// Changes bytes at or behind [`Stream::filling_start`].
    pub fn overwrite(&mut self, at: u64, bytes: &[u8]) {
        let from = self.filling.from + (at - self.filling_start()) as usize;
        self.filling.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        self.dirty = true;
    }

    /// Drops what lies behind `end`, which is not before the start; nothing may be being cut.
    pub fn truncate(&mut self, end: u64) {
        if end < self.filling_start()
            && let Some(block) = self.cutting.take()
        {
            self.filling = Arc::into_inner(block).expect("who failed to cut it gave it back");
        }
        self.filling.to = self.filling.from + (end - self.filling_start()) as usize;
        self.dirty = true;
    }

    /// Drops what lies before `start`, which is not behind the end; nothing may be being cut.
    pub fn trim(&mut self, start: u64) {
        self.filling.from += (start - self.start) as usize;
        self.start = start;
    }

    /// The bytes from `from` to `to`, in at most two parts.
    pub fn slices(&self, from: u64, to: u64) -> [&[u8]; 2] {
        let middle = self.filling_start();
        let cutting = self.cutting.as_ref().map_or(&[][..], |block| block.pending());
        let part = |bytes: &'_ [u8], start: u64| {
            let clip = |at: u64| at.saturating_sub(start).min(bytes.len() as u64) as usize;
            clip(from)..clip(to)
        };
        let filling = self.filling.pending();
        [&cutting[part(cutting, self.start)], &filling[part(filling, middle)]]
    }

    /// Hands the full block on for cutting; `None` where the one before is not done, or there is no memory for another.
    pub fn rotate(&mut self, budget: &Arc<Budget>) -> Option<Arc<Block>> {
        if self.is_cutting() {
            return None;
        }
        let mut next = match self.spare.take() {
            Some(spare) => spare,
            None => Block::new(budget, FULL_BYTES, HEAD_BYTES)?,
        };
        (next.from, next.to) = (HEAD_BYTES, HEAD_BYTES);
        let full = Arc::new(std::mem::replace(&mut self.filling, next));
        self.cutting = Some(full.clone());
        self.in_flight = true;
        Some(full)
    }

    /// Takes the block being cut again, after cutting it failed.
    pub fn retry(&mut self) -> Option<Arc<Block>> {
        let block = self.cutting.clone().filter(|_| !self.in_flight);
        self.in_flight |= block.is_some();
        block
    }

    /// The block to cut in place, where there was no memory for a second one.
    pub fn cut_in_place(&mut self, put: impl FnMut(&ChunkId, &[u8]) -> Result<()>) -> Result<Cut> {
        let chunks = cut(self.filling.pending(), put)?;
        let done: usize = chunks.iter().map(|(_, len)| len).sum();
        let block = &mut self.filling;
        block.bytes.copy_within(block.from + done..block.to, 0);
        (block.from, block.to) = (0, block.len() - done);
        self.start += done as u64;
        Ok(chunks)
    }

    /// Notes that `block` was cut into chunks of `done` bytes in all.
    pub fn cut_done(&mut self, block: Arc<Block>, done: usize) {
        self.in_flight = false;
        self.cutting = None;
        self.start += done as u64;
        self.filling.prepend(&block.pending()[done..]);
        // The buffer serves again, unless it was a small first one.
        self.spare = Arc::try_unwrap(block).ok().filter(|block| block.bytes.len() >= FULL_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_those_of_the_whole_however_it_was_written() {
        let mut all = vec![0; 9 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut all);
        let budget = Arc::new(Budget::new(64 << 20));
        for write in [4096, 100_000, WRITE_MAX_BYTES] {
            let mut stream = Stream::new(&budget, 0, &[]).expect("memory");
            let mut chunks = Vec::new();
            for piece in all.chunks(write) {
                assert!(stream.append(piece));
                if stream.is_full() {
                    let block = stream.rotate(&budget).expect("nothing is being cut");
                    let cut = cut(block.pending(), |_, _| Ok(())).expect("stored");
                    stream.cut_done(block, cut.iter().map(|(_, len)| len).sum());
                    chunks.extend(cut);
                }
            }
            let [_, rest] = stream.slices(stream.start(), stream.end());
            assert_eq!(rest, &all[stream.start() as usize..], "writes of {write}");
            let expected = cut(&all, |_, _| Ok(())).expect("stored");
            assert_eq!(chunks, expected[..chunks.len()], "writes of {write}");
        }
    }
}
