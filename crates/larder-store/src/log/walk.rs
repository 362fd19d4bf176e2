//! Reading the log from a position on: what opening, rebuilding, the feed and scrub have in common.

use super::disk::DiskFile;
use super::position::Position;
use super::record::{Format, HEADER_BYTES, Header, RecordKind};
use super::segments::Segments;
use larder_core::Result;
use std::sync::Arc;

/// Read at once where records are read one after the other.
const WINDOW_MAX_BYTES: usize = 256 << 10;
/// Read at once behind a body that was skipped: it is likely to be followed by another.
const WINDOW_MIN_BYTES: usize = 4 << 10;
/// Disks lose whole blocks: behind one that cannot be read, the next is tried.
const BLOCK_BYTES: usize = 4 << 10;
/// Where more in a row cannot be read, it is the disk that fails, not a place on it.
const UNREADABLE_MAX_BYTES: usize = 256 << 10;

/// Walks the records of one segment.
pub struct Walk {
    file: Arc<DiskFile>,
    format: Format,
    at: Position,
    len: u64,
    window_at: u64,
    window: Vec<u8>,
    window_bytes: usize,
}

impl Walk {
    /// Starts at `from`, which lies in its segment's first bytes or at a record.
    ///
    /// # Errors
    /// `NotFound` where the segment is gone; others of the disk.
    pub fn open(segments: &Segments, from: Position) -> Result<Self> {
        let file = segments.file(from.segment())?;
        let len = file.len()?;
        let at = from.max(Position::new(from.segment(), HEADER_BYTES as u32));
        let (window_at, window) = (0, Vec::new());
        let window_bytes = WINDOW_MIN_BYTES;
        Ok(Self { file, format: segments.format(), at, len, window_at, window, window_bytes })
    }

    /// Where the next record should begin.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Says whether the segment ends here.
    pub fn at_end(&self) -> bool {
        u64::from(self.at.offset()) >= self.len
    }

    /// Returns the header at the position; `None` where there is none, or its payload is cut off.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn header(&mut self) -> Result<Option<Header>> {
        let at = self.at;
        let format = self.format;
        let bytes = self.bytes(at.offset().into(), HEADER_BYTES)?;
        let header = bytes.as_array().and_then(|bytes| format.decode(bytes, at));
        Ok(header.filter(|header| u64::from(header.end().offset()) <= self.len))
    }

    /// Returns the payload of `header`, whole or not: `None` where its checksum says that it is damaged.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn payload(&mut self, header: &Header) -> Result<Option<Vec<u8>>> {
        let at = u64::from(header.position.offset()) + HEADER_BYTES as u64;
        let bytes = self.bytes(at, header.stored_len as usize)?.to_vec();
        Ok(is_whole(header, &bytes).then_some(bytes))
    }

    /// Goes behind the record of `header`.
    pub fn skip(&mut self, header: &Header) {
        if header.kind == RecordKind::Chunk && header.stored_len as usize > WINDOW_MIN_BYTES {
            self.window_bytes = WINDOW_MIN_BYTES;
        }
        self.at = header.end();
    }

    /// Goes to the next place that holds a whole header, or to the end of the segment, past what cannot be read; says
    /// whether all could be.
    ///
    /// # Errors
    /// Those of the disk where much in a row cannot be read.
    pub fn resync(&mut self) -> Result<bool> {
        let (mut ahead, mut unreadable, mut all_read) = (WINDOW_MAX_BYTES, 0, true);
        while !self.at_end() {
            self.at.0 += 1;
            let at = self.at.offset();
            let block = BLOCK_BYTES - at as usize % BLOCK_BYTES;
            self.window_bytes = ahead.max(block);
            match self.bytes(at.into(), ahead.max(block)) {
                Ok(bytes) => {
                    let skipped = bytes.iter().position(|byte| *byte == b'L');
                    self.at.0 += skipped.unwrap_or(bytes.len().max(1) - 1) as u64;
                    (ahead, unreadable) = ((ahead * 4).clamp(BLOCK_BYTES, WINDOW_MAX_BYTES), 0);
                }
                Err(_) if ahead > 0 => {
                    // Once more, up to the end of the block.
                    self.at.0 -= 1;
                    ahead = 0;
                    continue;
                }
                Err(error) if unreadable > UNREADABLE_MAX_BYTES => return Err(error),
                Err(_) => {
                    self.at.0 += block as u64 - 1;
                    unreadable += block;
                    all_read = false;
                    continue;
                }
            }
            match self.header() {
                Ok(Some(_)) => break,
                found => all_read &= found.is_ok(),
            }
        }
        self.at.0 = self.at.0.min(Position::new(self.at.segment(), self.len as u32).0);
        Ok(all_read)
    }

    /// Goes to the end of the segment.
    pub fn give_up(&mut self) {
        self.at = Position::new(self.at.segment(), self.len as u32);
    }

    /// Up to `len` bytes at `offset`: fewer only where the segment ends.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let have = self.window_at..self.window_at + self.window.len() as u64;
        let wanted = offset..(offset + len as u64).min(self.len);
        if wanted.is_empty() {
            return Ok(&[]);
        }
        if !(have.start <= wanted.start && wanted.end <= have.end) {
            // A walk that goes on where the last window ended reads more and more at once.
            let next = have.contains(&offset) || have.end == offset;
            self.window_bytes =
                if next { (self.window_bytes * 4).min(WINDOW_MAX_BYTES) } else { self.window_bytes };
            let read = self.file.read_at(offset, len.max(self.window_bytes));
            self.window = match read {
                // Perhaps only what was read ahead cannot be read.
                Err(_) if self.window_bytes > len => self.file.read_at(offset, len)?,
                outcome => outcome?,
            };
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        let to = (from + len).min(self.window.len());
        Ok(&self.window[from..to])
    }
}

/// Says whether `payload` is what `header` promises. A COMMIT has none; its checksum is of others' checksums.
pub fn is_whole(header: &Header, payload: &[u8]) -> bool {
    let right = || header.kind == RecordKind::Commit || crc32c::crc32c(payload) == header.payload_crc;
    payload.len() == header.stored_len as usize && right()
}
