//! Chunk boundaries: FastCDC over whatever pieces the bytes arrive in.
//!
//! The boundaries are a storage format: parameters and crate version are pinned, and golden vectors in the tests
//! hold them. The same bytes give the same chunks however they are cut into writes.

use crate::ChunkId;
use bytes::{Bytes, BytesMut};
use fastcdc::v2020::FastCDC;

/// The smallest chunk but the last of a file, in bytes.
pub const MIN_BYTES: usize = 64 * 1024;
/// The average that the boundary mask aims at, in bytes.
pub const AVG_BYTES: usize = 256 * 1024;
/// The largest chunk, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Returns the length of the first chunk of `bytes`.
///
/// The answer depends on the bytes up to the cut only, so it is final once `bytes` has [`MAX_BYTES`] or is the end of
/// the file; with less it may be the whole of `bytes`.
pub fn cut(bytes: &[u8]) -> usize {
    if bytes.len() <= MIN_BYTES {
        return bytes.len();
    }
    let window = &bytes[..bytes.len().min(MAX_BYTES)];
    let mut cdc = FastCDC::new(window, MIN_BYTES, AVG_BYTES, MAX_BYTES);
    cdc.next().map_or(window.len(), |chunk| chunk.length)
}

/// Cuts a stream of writes into chunks.
#[derive(Debug, Default)]
pub struct Chunker {
    pending: BytesMut,
}

impl Chunker {
    /// Starts at a chunk boundary with nothing pending.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes; call [`Chunker::next_chunk`] until it is `None` after each call to keep memory at 1 MiB and the write.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Returns the next chunk whose end is certain, with its id.
    pub fn next_chunk(&mut self) -> Option<(ChunkId, Bytes)> {
        (self.pending.len() >= MAX_BYTES).then(|| self.split())
    }

    /// Returns what remains at the end of the stream, a chunk at a time.
    pub fn finish(&mut self) -> Option<(ChunkId, Bytes)> {
        (!self.pending.is_empty()).then(|| self.split())
    }

    /// The number of bytes taken and not yet returned.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    fn split(&mut self) -> (ChunkId, Bytes) {
        let body = self.pending.split_to(cut(&self.pending)).freeze();
        (ChunkId::of(&body), body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64 (Steele, Lea, Flood 2014): the golden input must not depend on a crate.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0u64;
        let next = std::iter::repeat_with(|| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        next.take(len / 8).flat_map(u64::to_le_bytes).collect()
    }

    fn chunks(bytes: &[u8], write: usize) -> Vec<(ChunkId, Bytes)> {
        let mut chunker = Chunker::new();
        let mut out = Vec::new();
        for piece in bytes.chunks(write) {
            chunker.push(piece);
            out.extend(std::iter::from_fn(|| chunker.next_chunk()));
        }
        out.extend(std::iter::from_fn(|| chunker.finish()));
        out
    }

    #[test]
    fn boundaries_are_golden() {
        let lengths: Vec<usize> =
            chunks(&noise(4 << 20), 1 << 20).iter().map(|(_, body)| body.len()).collect();
        assert_eq!(lengths, GOLDEN);
        let zeros: Vec<usize> =
            chunks(&vec![0; 3 << 20], 1 << 20).iter().map(|(_, body)| body.len()).collect();
        assert_eq!(zeros, [MAX_BYTES; 3]);
    }

    const GOLDEN: [usize; 17] = [
        263_641, 459_576, 320_113, 418_623, 98_103, 172_460, 443_813, 175_474, 255_295, 133_096, 283_577,
        276_396, 76_725, 318_851, 100_302, 303_247, 95_012,
    ];

    #[test]
    fn writes_do_not_move_boundaries() {
        let bytes = noise(5 << 20);
        let whole = chunks(&bytes, bytes.len());
        for write in [4096, 65_537, 1 << 20] {
            assert_eq!(chunks(&bytes, write), whole, "writes of {write}");
        }
        assert_eq!(whole.iter().flat_map(|(_, body)| body.iter().copied()).collect::<Vec<u8>>(), bytes);
    }

    #[test]
    fn a_changed_byte_changes_few_chunks() {
        let mut bytes = noise(8 << 20);
        let before: Vec<ChunkId> = chunks(&bytes, 1 << 20).iter().map(|(id, _)| *id).collect();
        bytes[4 << 20] ^= 1;
        let new = chunks(&bytes, 1 << 20).iter().filter(|(id, _)| !before.contains(id)).count();
        assert!((1..=3).contains(&new), "{new} new chunks");
    }
}
