//! The change feed is the log itself: a cursor is a position in it, written so that later ones are greater bytes.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | position of a record, big endian |
//! | 8 | 4 | entries of that record that were already read, big endian |

use super::edits;
use super::engine::Engine;
use super::position::Position;
use super::record::{HEADER_BYTES, RecordKind};
use super::walk::Walk;
use crate::catalog::{Change, Cursor};
use larder_core::{Error, Kind, Result};

/// Where a reader of the feed is.
struct Reader {
    at: Position,
    /// Entries of the record at `at` that were read before.
    skip: usize,
    changes: Vec<Change>,
    limit: usize,
}

impl Engine {
    /// The cursor behind the newest entry.
    pub fn now(&self) -> Cursor {
        cursor(self.appender.end(), 0)
    }

    /// Returns up to `limit` entries behind `after`, and the cursor behind the last.
    ///
    /// # Errors
    /// `Conflict` where the log no longer has what lies between; `Invalid` where `after` is no cursor.
    pub fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)> {
        let end = self.appender.end();
        let (at, skip) = parse(&after.0)?;
        if at > end {
            return Err(void());
        }
        let mut reader = Reader { at, skip, changes: Vec::new(), limit };
        while reader.changes.len() < limit && reader.at < end {
            // A segment that was compacted away has taken its part of the feed with it.
            if !self.segments.reaches(reader.at.segment(), end.segment()) {
                return Err(void());
            }
            let walk = Walk::open(&self.segments, reader.at);
            let mut walk = walk.map_err(|e| if e.kind() == Kind::NotFound { void() } else { e })?;
            self.read_feed(&mut walk, &mut reader, end)?;
        }
        Ok((reader.changes, cursor(reader.at, reader.skip)))
    }

    fn read_feed(&self, walk: &mut Walk, reader: &mut Reader, end: Position) -> Result<()> {
        while reader.changes.len() < reader.limit && reader.at < end {
            if walk.at_end() {
                reader.at = Position::new(reader.at.segment() + 1, HEADER_BYTES as u32);
                return Ok(());
            }
            let header = walk.header()?.ok_or_else(void)?;
            if header.kind == RecordKind::Meta {
                let payload = walk.payload(&header)?.ok_or_else(void)?;
                let plain = self.codec.decode_meta(header.flags, payload)?;
                let found = edits::decode(&plain)?.changes()?;
                let (entries, left) = (found.len(), reader.limit - reader.changes.len());
                reader.changes.extend(found.into_iter().skip(reader.skip).take(left));
                if entries > reader.skip + left {
                    reader.skip += left;
                    return Ok(());
                }
            }
            reader.skip = 0;
            walk.skip(&header);
            reader.at = walk.position();
        }
        Ok(())
    }
}

fn void() -> Error {
    Error::conflict("the feed does not reach back so far")
}

fn cursor(position: Position, skip: usize) -> Cursor {
    let mut bytes = position.0.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(skip as u32).to_be_bytes());
    Cursor(bytes)
}

fn parse(bytes: &[u8]) -> Result<(Position, usize)> {
    if bytes.is_empty() {
        // The beginning, where the log still has it.
        return Ok((Position::new(1, HEADER_BYTES as u32), 0));
    }
    let bytes: &[u8; 12] = bytes.try_into().map_err(|_| Error::invalid("cursor"))?;
    let position = u64::from_be_bytes(bytes[..8].try_into().expect("8 of 12 bytes"));
    let skip = u32::from_be_bytes(bytes[8..].try_into().expect("4 of 12 bytes"));
    let at = Position(position);
    // Cursors of a segment's first bytes mean its first record.
    Ok((at.max(Position::new(at.segment(), HEADER_BYTES as u32)), skip as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_golden() {
        let here = cursor(Position::new(2, 0x0103), 5);
        assert_eq!(here.0, [0, 0, 0, 2, 0, 0, 1, 3, 0, 0, 0, 5]);
        assert_eq!(parse(&here.0).expect("a cursor"), (Position::new(2, 0x0103), 5));
    }
}
