//! Holes, and copies inside the drive.

use super::file::{SIZE_MAX_BYTES, WorkingFile, too_big};
use super::layer::{Piece, Source};
use super::{Allocate, Handle, Mount, Seek};
use bytes::Bytes;
use larder_core::{Error, Result};
use larder_store::Lease;
use rustix::io::Errno;
use std::ops::ControlFlow;
use std::sync::Arc;

impl Mount {
    /// Changes what a range of the file is made of. Source: fallocate(2).
    ///
    /// # Errors
    /// `Invalid` for an empty range (and EFBIG, EBADF); `NoSpace`.
    pub fn allocate(&self, handle: Handle, offset: u64, len: u64, how: Allocate) -> Result<()> {
        let open = self.table.handle(handle)?;
        open.for_writing(handle)?;
        if len == 0 {
            return Err(Error::invalid("an empty range"));
        }
        let end = offset.checked_add(len).filter(|end| *end <= SIZE_MAX_BYTES);
        open.file.allocate(offset, end.ok_or_else(|| too_big("fallocate"))?, how)
    }

    /// Returns where the next data or hole begins, at or behind `offset`; a hole follows the end of every file.
    /// Source: lseek(2).
    ///
    /// # Errors
    /// `Invalid` (ENXIO) where `offset` is at or behind the end, or no data follows.
    pub fn seek(&self, handle: Handle, offset: u64, what: Seek) -> Result<u64> {
        self.table.handle(handle)?.file.seek(offset, what)
    }

    /// Copies up to `len` bytes from one open file to another, or within one; returns how many: fewer at
    /// the end of the source, and where much of it is in no chunk yet: such bytes are copied, chunks are referred to.
    /// Source: copy_file_range(2).
    ///
    /// # Errors
    /// `Invalid` for overlapping ranges of one file (and EBADF, EFBIG); `NoSpace`.
    pub fn copy_range(&self, from: (Handle, u64), to: (Handle, u64), len: u64) -> Result<u64> {
        let (source, target) = (self.table.handle(from.0)?, self.table.handle(to.0)?);
        target.for_writing(to.0)?;
        let (from, at) = (from.1, to.1);
        let end = |start: u64| start.checked_add(len).filter(|end| *end <= SIZE_MAX_BYTES);
        let (from_end, at_end) = (end(from), end(at));
        let (Some(from_end), Some(at_end)) = (from_end, at_end) else { return Err(too_big("copy")) };
        if Arc::ptr_eq(&source.file, &target.file) && from < at_end && at < from_end {
            return Err(Error::invalid("the ranges overlap"));
        }
        let (parts, _lease) = source.file.parts(from, from_end)?;
        let mut copied = 0;
        for part in parts {
            let len = part.len();
            let pasted = match part {
                Part::Bytes(bytes) => target.file.write(Some(at + copied), &bytes).map(|len| len as u64),
                Part::Piece(piece) => target.file.refer(at + copied, piece),
            };
            match pasted {
                Ok(pasted) if pasted == len => copied += pasted,
                Ok(pasted) => return Ok(copied + pasted),
                Err(error) if copied == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(copied)
    }
}

/// What one copy reads into memory; the caller goes on behind it.
const COPIED_MAX_BYTES: u64 = 4 << 20;

/// A part of a file to be copied: bytes, or a reference.
enum Part {
    Bytes(Bytes),
    Piece(Piece),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Piece(piece) => piece.len,
        }
    }
}

impl WorkingFile {
    fn allocate(&self, offset: u64, end: u64, how: Allocate) -> Result<()> {
        let mut data = self.ready_to_change()?;
        let grows = matches!(how, Allocate::Extend | Allocate::ZeroRange { keep_size: false });
        let clears = matches!(how, Allocate::PunchHole | Allocate::ZeroRange { .. });
        let size = data.size;
        let changes = (grows && end > size) || (clears && offset < size);
        if !changes {
            return Ok(());
        }
        self.wait_for_cut(&mut data);
        if clears && end > data.settled_end() {
            data.end_stream()?;
        }
        let until = end.min(data.size);
        if clears && offset < until {
            data.cover(Piece { at: offset, len: until - offset, source: Source::Hole });
        }
        if grows && end > data.size {
            data.resize(end)?;
        }
        self.changed(&mut data);
        Ok(())
    }

    fn seek(&self, offset: u64, what: Seek) -> Result<u64> {
        // What has no holes needs no look at its pages.
        let mut data = self.ready_for(&(0..0))?;
        if data.hole_bytes > 0 {
            drop(data);
            data = self.ready()?;
        }
        let nowhere = || Error::invalid("nothing there to seek").because(std::io::Error::from(Errno::NXIO));
        if offset >= data.size {
            return Err(nowhere());
        }
        if data.hole_bytes == 0 {
            return Ok(if what == Seek::Data { offset } else { data.size });
        }
        let (settled, mut found) = (data.settled_end(), None);
        if offset < settled {
            data.walk(offset, settled, &mut |piece| {
                if (piece.source == Source::Hole) == (what == Seek::Hole) {
                    found = Some(piece.at);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            });
        }
        match (found, what) {
            (Some(at), _) => Ok(at),
            (None, Seek::Hole) => Ok(data.size),
            (None, Seek::Data) if settled < data.size => Ok(settled.max(offset)),
            (None, Seek::Data) => Err(nowhere()),
        }
    }

    /// The parts from `from` on, up to `to`, the end of the file, or as many bytes as one copy reads; and what keeps
    /// chunks among them that are not committed.
    fn parts(&self, from: u64, to: u64) -> Result<(Vec<Part>, Option<Arc<Lease>>)> {
        let mut data = self.ready()?;
        self.wait_for_cut(&mut data);
        let lease = data.lease.clone();
        let to = to.min(data.size);
        let below = to.min(data.settled_end());
        let (mut parts, mut room, mut failed) = (Vec::new(), COPIED_MAX_BYTES, None);
        if from < below {
            data.walk(from, below, &mut |piece| {
                if piece.source != Source::Staged {
                    parts.push(Part::Piece(piece));
                    return ControlFlow::Continue(());
                }
                let len = piece.len.min(room);
                room -= len;
                match data.staging.part(piece.at, len).and_then(|part| part.bytes()) {
                    Ok(bytes) => parts.push(Part::Bytes(bytes)),
                    Err(error) => failed = Some(error),
                }
                if room == 0 || failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
        failed.map_or(Ok(()), Err)?;
        if room == 0 {
            return Ok((parts, lease));
        }
        if let Some(stream) = data.stream.as_ref().filter(|stream| to > from.max(stream.start())) {
            for bytes in stream.slices(from.max(stream.start()), to) {
                parts.push(Part::Bytes(Bytes::copy_from_slice(bytes)));
            }
        }
        Ok((parts, lease))
    }

    /// Makes the range at `at` refer to what `piece` of another range does.
    fn refer(&self, at: u64, piece: Piece) -> Result<u64> {
        let mut data = self.ready_to_change()?;
        self.wait_for_cut(&mut data);
        if at + piece.len > data.settled_end() {
            data.end_stream()?;
        }
        if at > data.size {
            data.resize(at)?;
        }
        if let Source::Chunk { id, .. } = piece.source {
            self.lease(&mut data).hold(&id);
        }
        data.cover(Piece { at, ..piece });
        self.changed(&mut data);
        Ok(piece.len)
    }
}
