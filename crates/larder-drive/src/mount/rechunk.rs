//! Chunks for a changed file: those that did not change stay, and cutting goes on behind a change only until it meets
//! an old boundary again.

use super::layer::{Piece, Source};
use larder_core::chunker::{self, MAX_BYTES, MIN_BYTES};
use larder_core::{ChunkId, Manifest, Result};

/// Shorter holes behind data become zeros in its chunk: a chunk for every few pages would cost more than it saves.
const HOLE_MIN_BYTES: u64 = MIN_BYTES as u64;
/// How much is read at a time.
const STEP_BYTES: u64 = 2 * MAX_BYTES as u64;

/// Reads a piece, adding its bytes to the buffer.
pub(super) type Read<'a> = &'a mut dyn FnMut(Piece, &mut Vec<u8>) -> Result<()>;
/// Stores a chunk.
pub(super) type Put<'a> = &'a mut dyn FnMut(&ChunkId, &[u8]) -> Result<()>;

/// Turns the pieces of a file, given in order, into a manifest.
pub(super) struct Rechunker<'a> {
    read: Read<'a>,
    put: Put<'a>,
    manifest: Manifest,
    /// Bytes not yet cut, from `cut` on.
    pending: Vec<u8>,
    cut: usize,
    /// A small chunk that stays unless new bytes follow it: it ended where the file did, not where content said.
    small: Option<Piece>,
}

impl<'a> Rechunker<'a> {
    pub fn new(read: Read<'a>, put: Put<'a>) -> Self {
        Self { read, put, manifest: Manifest::default(), pending: Vec::new(), cut: 0, small: None }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// Those of reading and storing.
    pub fn piece(&mut self, piece: Piece) -> Result<()> {
        let is_new = !piece.is_whole_chunk() && piece.source != Source::Hole;
        self.decide_small(is_new)?;
        match piece.source {
            Source::Hole if self.is_idle() || piece.len >= HOLE_MIN_BYTES => {
                self.end_run()?;
                self.manifest.push(ChunkId::HOLE, piece.len);
                Ok(())
            }
            _ if !piece.is_whole_chunk() => self.feed(piece),
            _ if self.is_idle() => {
                self.keep_or_wait(piece);
                Ok(())
            }
            _ => self.meet(piece),
        }
    }

    /// Takes bytes from memory as the next piece.
    ///
    /// # Errors
    /// Those of storing.
    pub fn bytes(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.decide_small(!bytes.is_empty())?;
        if self.is_idle() {
            while bytes.len() >= MAX_BYTES {
                let (chunk, rest) = bytes.split_at(chunker::cut(bytes));
                store(&mut self.manifest, self.put, chunk)?;
                bytes = rest;
            }
        }
        self.pending.extend_from_slice(bytes);
        self.cut_certain()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of storing.
    pub fn finish(mut self) -> Result<Manifest> {
        self.decide_small(false)?;
        self.end_run()?;
        Ok(self.manifest)
    }

    fn is_idle(&self) -> bool {
        self.cut == self.pending.len()
    }

    fn decide_small(&mut self, new_bytes_follow: bool) -> Result<()> {
        match self.small.take() {
            Some(small) if new_bytes_follow => self.feed(small),
            Some(small) => {
                self.keep(small);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn keep_or_wait(&mut self, piece: Piece) {
        if piece.len < MIN_BYTES as u64 { self.small = Some(piece) } else { self.keep(piece) }
    }

    fn keep(&mut self, piece: Piece) {
        if let Source::Chunk { id, .. } = piece.source {
            self.manifest.push(id, piece.len);
        }
    }

    /// Adds the bytes of `piece`, storing what is certain on the way.
    fn feed(&mut self, piece: Piece) -> Result<()> {
        let mut at = piece.at;
        while at < piece.end() {
            let part = piece.part(at, piece.end().min(at + STEP_BYTES));
            self.pending.drain(..self.cut);
            self.cut = 0;
            match part.source {
                Source::Hole => self.pending.resize(self.pending.len() + part.len as usize, 0),
                _ => (self.read)(part, &mut self.pending)?,
            }
            self.cut_certain()?;
            at = part.end();
        }
        Ok(())
    }

    /// Reads an unchanged chunk behind changed bytes and sees whether a cut falls on its start.
    fn meet(&mut self, piece: Piece) -> Result<()> {
        self.cut_certain()?;
        if self.is_idle() {
            self.keep_or_wait(piece);
            return Ok(());
        }
        self.pending.drain(..self.cut);
        self.cut = 0;
        (self.read)(piece, &mut self.pending)?;
        let meeting = self.pending.len() - piece.len as usize;
        // A cut before the end of what is there depends on nothing that follows.
        while self.cut < meeting {
            let len = chunker::cut(&self.pending[self.cut..]);
            if self.cut + len == self.pending.len() && len < MAX_BYTES {
                return Ok(());
            }
            store(&mut self.manifest, self.put, &self.pending[self.cut..self.cut + len])?;
            self.cut += len;
        }
        if self.cut == meeting {
            self.cut = self.pending.len();
            self.keep_or_wait(piece);
        }
        Ok(())
    }

    fn cut_certain(&mut self) -> Result<()> {
        while self.pending.len() - self.cut >= MAX_BYTES {
            self.cut_one()?;
        }
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        while !self.is_idle() {
            self.cut_one()?;
        }
        self.pending.clear();
        self.cut = 0;
        Ok(())
    }

    fn cut_one(&mut self) -> Result<()> {
        let rest = &self.pending[self.cut..];
        let len = chunker::cut(rest);
        store(&mut self.manifest, self.put, &rest[..len])?;
        self.cut += len;
        Ok(())
    }
}

fn store(
    manifest: &mut Manifest,
    put: &mut dyn FnMut(&ChunkId, &[u8]) -> Result<()>,
    body: &[u8],
) -> Result<()> {
    let id = ChunkId::of(body);
    put(&id, body)?;
    manifest.push(id, body.len() as u64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn noise(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    fn chunked(bytes: &[u8]) -> Manifest {
        let mut put = |_: &ChunkId, _: &[u8]| Ok(());
        let mut read = |_: Piece, _: &mut Vec<u8>| unreachable!("all bytes are given");
        let mut rechunker = Rechunker::new(&mut read, &mut put);
        rechunker.bytes(bytes).expect("stored");
        rechunker.finish().expect("stored")
    }

    #[test]
    fn a_change_in_the_middle_keeps_all_chunks_but_those_around_it() {
        let old = noise(16 << 20);
        let manifest = chunked(&old);
        let mut new = old.clone();
        new[8 << 20] ^= 1;
        let (mut read_bytes, mut stored) = (0, HashMap::new());
        let mut read = |piece: Piece, into: &mut Vec<u8>| {
            read_bytes += piece.len;
            into.extend_from_slice(&new[piece.at as usize..piece.end() as usize]);
            Ok(())
        };
        let mut put = |id: &ChunkId, body: &[u8]| {
            stored.insert(*id, body.len());
            Ok(())
        };
        let mut rechunker = Rechunker::new(&mut read, &mut put);
        for located in manifest.locate(0) {
            let len = located.extent.len_bytes;
            let whole = len as u32;
            let clean = Piece {
                at: located.start,
                len,
                source: Source::Chunk { id: located.extent.id, skip: 0, whole },
            };
            if located.start <= 8 << 20 && clean.end() > 8 << 20 {
                let mid = 8 << 20;
                if mid > clean.at {
                    rechunker.piece(clean.part(clean.at, mid)).expect("stored");
                }
                rechunker.piece(Piece { at: mid, len: 1, source: Source::Staged }).expect("stored");
                rechunker.piece(clean.part(mid + 1, clean.end())).expect("stored");
            } else {
                rechunker.piece(clean).expect("kept");
            }
        }
        let result = rechunker.finish().expect("stored");
        assert_eq!(result, chunked(&new));
        assert!(read_bytes < 4 << 20, "{read_bytes} bytes read");
        assert!(stored.values().sum::<usize>() < 3 << 20, "{stored:?}");
    }

    #[test]
    fn big_holes_stay_and_small_ones_join_the_data() {
        let mut put = |_: &ChunkId, _: &[u8]| Ok(());
        let mut read = |piece: Piece, into: &mut Vec<u8>| {
            into.resize(into.len() + piece.len as usize, 7);
            Ok(())
        };
        let mut rechunker = Rechunker::new(&mut read, &mut put);
        let pieces = [(0, 100, Source::Staged), (100, 50, Source::Hole), (150, 1 << 20, Source::Hole)];
        for (at, len, source) in pieces {
            rechunker.piece(Piece { at, len, source }).expect("stored");
        }
        let manifest = rechunker.finish().expect("stored");
        let lens: Vec<_> = manifest.extents().iter().map(|e| (e.id.is_hole(), e.len_bytes)).collect();
        assert_eq!(lens, [(false, 150), (true, 1 << 20)]);
    }
}
