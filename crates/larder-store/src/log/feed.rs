//! The change feed is the log itself: a cursor is a position in it.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | position of a record, little endian |
//! | 8 | 4 | entries of that record that were already read |

use super::edits;
use super::engine::Engine;
use super::position::Position;
use super::record::{HEADER_BYTES, RecordKind};
use super::walk::Walk;
use crate::catalog::{Change, Cursor};
use larder_core::{Error, Kind, Result};

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
        let (mut at, mut skip) = match after.0.as_slice() {
            // The beginning, where the log still has it.
            [] => (Position::new(1, HEADER_BYTES as u32), 0),
            bytes => parse(bytes)?,
        };
        let void = || Error::conflict("the feed does not reach back so far");
        let mut changes = Vec::new();
        while changes.len() < limit && at < end {
            if !self.segments.reaches(at.segment(), end.segment()) {
                return Err(void());
            }
            let mut walk = Walk::open(&self.segments, at).map_err(|error| match error.kind() {
                Kind::NotFound => void(),
                _ => error,
            })?;
            while changes.len() < limit && walk.position() < end {
                if walk.at_end() {
                    break;
                }
                let header = walk.header()?.ok_or_else(void)?;
                if header.kind == RecordKind::Meta {
                    let payload = walk.payload(&header)?.ok_or_else(void)?;
                    let plain = self.codec.decode_meta(header.flags, payload)?;
                    let found = edits::decode(&plain)?.changes()?;
                    let left = limit - changes.len();
                    let entries = found.len();
                    changes.extend(found.into_iter().skip(skip as usize).take(left));
                    if entries > skip as usize + left {
                        return Ok((changes, cursor(header.position, skip + left as u32)));
                    }
                }
                skip = 0;
                walk.skip(&header);
            }
            at = walk.position();
            if walk.at_end() && at < end && at.segment() < end.segment() {
                at = Position::new(at.segment() + 1, HEADER_BYTES as u32);
            }
        }
        if at > end && at.segment() >= end.segment() && changes.is_empty() && skip > 0 {
            return Err(void());
        }
        Ok((changes, cursor(at, 0)))
    }
}

fn cursor(position: Position, skip: u32) -> Cursor {
    let mut bytes = position.0.to_le_bytes().to_vec();
    bytes.extend_from_slice(&skip.to_le_bytes());
    Cursor(bytes)
}

fn parse(bytes: &[u8]) -> Result<(Position, u32)> {
    let bytes: &[u8; 12] = bytes.try_into().map_err(|_| Error::invalid("cursor"))?;
    let position = u64::from_le_bytes(bytes[..8].try_into().expect("8 of 12 bytes"));
    let skip = u32::from_le_bytes(bytes[8..].try_into().expect("4 of 12 bytes"));
    Ok((Position(position), skip))
}
