//! Reading an open file: from its changes where it has some, and from chunks, here or elsewhere.

use super::data::Data;
use super::file::WorkingFile;
use super::layer::{Piece, Source};
use crate::read::ZEROS;
use bytes::Bytes;
use larder_core::{ChunkId, Error, Result};
use std::ops::{ControlFlow, Range};

impl WorkingFile {
    /// Reads up to `len` bytes from `offset` on; fewer only at the end of the file.
    ///
    /// # Errors
    /// `Corrupt`, and those of reading chunks and the staging area.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<Bytes>> {
        let data = self.ready_for(&(offset..offset.saturating_add(len as u64)))?;
        let end = data.size.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Ok(Vec::new());
        }
        let below = end.min(data.settled_end());
        let mut pieces = Vec::new();
        if offset < below {
            data.walk(offset, below, &mut |piece| {
                pieces.push(piece);
                ControlFlow::Continue(())
            });
        }
        let mut staged = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.source == Source::Staged) {
            staged.push(data.staging.part(piece.at, piece.len)?);
        }
        let tail = match &data.stream {
            Some(stream) if end > stream.start() => {
                stream.slices(offset.max(stream.start()), end).map(Bytes::copy_from_slice)
            }
            _ => Default::default(),
        };
        let _lease = data.lease.clone();
        let soon = if self.shared.drive.fetches() { self.soon(&data, offset..end) } else { Vec::new() };
        drop(data);
        if self.shared.drive.fetches() {
            self.shared.drive.will_read(
                self.id,
                &pieces.iter().filter_map(Piece::chunk).collect::<Vec<_>>(),
                &soon,
            );
        }
        let mut out = Vec::with_capacity(pieces.len() + 2);
        let mut staged = staged.into_iter();
        for piece in pieces {
            match piece.source {
                Source::Staged => out.push(staged.next().expect("one for each").bytes()?),
                _ => self.fetch(piece, &mut out)?,
            }
        }
        out.extend(tail.into_iter().filter(|bytes| !bytes.is_empty()));
        Ok(out)
    }

    /// The chunks that who reads `range` will read next, or the pages that list them.
    fn soon(&self, data: &Data, range: Range<u64>) -> Vec<ChunkId> {
        let mut chunks = Vec::new();
        if let Some(ahead) = self.ahead.lock().read(&range, data.size) {
            data.walk(ahead.start, ahead.end.min(data.settled_end()), &mut |piece| {
                chunks.extend(piece.chunk());
                ControlFlow::Continue(())
            });
        }
        chunks
    }

    /// Adds the bytes of a hole or a chunk.
    pub fn fetch(&self, piece: Piece, out: &mut Vec<Bytes>) -> Result<()> {
        let Source::Chunk { id, skip, whole } = piece.source else {
            let mut rest = piece.len as usize;
            while rest > 0 {
                let len = rest.min(ZEROS.len());
                out.push(Bytes::from_static(&ZEROS[..len]));
                rest -= len;
            }
            return Ok(());
        };
        let body = self.shared.drive.chunk(self.id, &id)?;
        if body.len() != whole as usize {
            return Err(Error::corrupt(format!("chunk {id} has another length than its extent")));
        }
        out.push(body.slice(skip as usize..skip as usize + piece.len as usize));
        Ok(())
    }
}
