//! Holes of the log: records that are damaged or cannot be read, and what only they said.
//!
//! An index made from a log with holes may lack names and chunks. Nothing is dropped by such an index, and no usable one
//! is given up for it. Where the index in use was made before the damage, scrub compares the two and appends what is
//! lacking again; from then on the holes are known to hold nothing, by a key each in the log itself:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | `h` |
//! | 1 | 8 | number of the segment and offset where the hole begins, big endian |
//! | 9 | 8 | and where it ends |

use super::engine::Engine;
use super::index::{self, Index};
use super::moving::{MOVE_BATCH_BYTES, OwnedEdit};
use super::position::Position;
use super::record::HEADER_BYTES;
use super::replay::{Damage, Hole};
use super::scrub::Scrubbed;
use super::slot::{self, Location, Slot};
use crate::kv::Batch;
use larder_core::{Error, Kind, Result};
use std::ops::Bound;

/// First byte of the keys of holes.
const HOLE: u8 = b'h';
/// The place of a value that the index itself holds.
const NOWHERE: Location = Location { position: Position(0), stored_len: 0, raw_len: 0, flags: 0 };

/// Those of `holes` that may hold something: there is no key that says otherwise.
///
/// # Errors
/// Those of `is_there`.
pub fn unknown(mut holes: Vec<Hole>, is_there: impl Fn(&[u8]) -> Result<bool>) -> Result<Vec<Hole>> {
    let mut outcome = Ok(());
    holes.retain(|hole| match is_there(&key(hole)) {
        Ok(there) => !there,
        Err(error) => {
            outcome = Err(error);
            true
        }
    });
    outcome.map(|()| holes)
}

/// Tells how many there are and where, if there are any.
pub fn told(holes: &[Hole]) -> Option<String> {
    let (first, last) = (holes.first()?, holes.last()?);
    Some(match holes.len() {
        1 => format!("at {}", first.start),
        count => format!("{count} places from {} to {}", first.start, last.end),
    })
}

fn key(hole: &Hole) -> Vec<u8> {
    [&[HOLE][..], &hole.start.0.to_be_bytes(), &hole.end.0.to_be_bytes()].concat()
}

impl Engine {
    /// Says whether the index has all that the log ever said.
    ///
    /// # Errors
    /// `Corrupt` where not.
    pub fn check_complete(&self) -> Result<()> {
        let Some(holes) = &self.work.lock().incomplete else { return Ok(()) };
        Err(Error::corrupt(format!(
            "the log is damaged ({holes}) and the index lacks what it said there; nothing is dropped before a start could \
             read all of it, or `larder rebuild --accept-loss` went on without that"
        )))
    }

    /// Notes in the log that these hold nothing that it lacks.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk.
    pub fn note_holes(&self, holes: &[Hole]) -> Result<()> {
        if holes.is_empty() {
            return Ok(());
        }
        let edits = holes.iter().map(|hole| (key(hole), Some(Vec::new()))).collect();
        self.apply(Batch { edits, changes: Vec::new() }).map(drop)
    }

    /// Appends again what only damaged records said and the index still has.
    ///
    /// # Errors
    /// `Corrupt` where the index was made without those records; those of the disk and the index.
    pub fn restate(&self, scrubbed: &mut Scrubbed) -> Result<()> {
        self.check_complete()?;
        if self.work.lock().index_lost {
            return Err(Error::unavailable("the index is being made again"));
        }
        let span = self.first()..self.appender.end();
        let fresh = Index::next_to(&self.disk.path(index::FOLDER), self.settings.index_cache_bytes)?;
        let outcome = self.refill(&fresh, span, Damage::Skipped).and_then(|holes| match holes.is_empty() {
            true => Ok(()),
            false => self.restate_over(&fresh, &holes, scrubbed),
        });
        fresh.abandon();
        outcome
    }

    /// Where the log begins.
    pub fn first(&self) -> Position {
        let number = self.segments.numbers().first().copied().unwrap_or(1);
        Position::new(number, HEADER_BYTES as u32)
    }

    /// Appends what the index has and `fresh`, made from a log with `holes`, has not.
    fn restate_over(&self, fresh: &Index, holes: &[Hole], scrubbed: &mut Scrubbed) -> Result<()> {
        let (mut waiting, mut waiting_bytes) = (Vec::new(), 0);
        self.each_difference(fresh, |key| {
            match self.current(&key) {
                Ok(Some((place, edit))) => {
                    waiting_bytes += edit.0.len() + edit.1.as_ref().map_or(0, Vec::len);
                    waiting.push((place, edit));
                    scrubbed.restated += 1;
                }
                Ok(None) => scrubbed.restated += 1,
                Err(error) if error.kind() == Kind::NoSpace => return Err(error),
                Err(error) => {
                    tracing::error!(key = %key.escape_ascii(), %error, "only a damaged record had this");
                    scrubbed.lost += 1;
                }
            }
            if waiting_bytes >= MOVE_BATCH_BYTES {
                self.move_edits(std::mem::take(&mut waiting))?;
                waiting_bytes = 0;
            }
            Ok(())
        })?;
        self.move_edits(waiting)?;
        // What the holes held is on the disk before they are said to hold nothing.
        self.appender.wait_durable(self.appender.end())?;
        if scrubbed.lost == 0 { self.note_holes(holes) } else { Ok(()) }
    }

    /// The edit that makes what the index has for `key`; `None` for a chunk, which was stored again.
    fn current(&self, key: &[u8]) -> Result<Option<(Location, OwnedEdit)>> {
        let Some(slot) = self.slot(key)? else { return Ok(Some((NOWHERE, (key.to_vec(), None)))) };
        let place = match Slot::decode(&slot)? {
            Slot::Chunk(location) => {
                let id = slot::chunk_of(key)?;
                self.read_chunk(&id, location)?;
                return self.store_again(&id, location).map(|()| None);
            }
            Slot::Pointer(location) => location,
            Slot::Inline(_) | Slot::Sealed(_) => NOWHERE,
        };
        Ok(Some((place, (key.to_vec(), self.value(key)?))))
    }

    /// Calls `visit` with each key of which the index in use and `fresh` do not say the same.
    fn each_difference(&self, fresh: &Index, mut visit: impl FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        let mut others = fresh.range(Bound::Unbounded).peekable();
        self.each_slot(&[], |key, slot| {
            let before = |other: &Result<(sled::IVec, sled::IVec)>| other.as_ref().is_ok_and(|o| *o.0 < *key);
            while let Some(other) = others.next_if(before) {
                visit(other?.0.to_vec())?;
            }
            let same =
                |other: &Result<(sled::IVec, sled::IVec)>| other.as_ref().map_or(true, |o| *o.0 == *key);
            let other = others.next_if(same).transpose()?;
            if other.is_none_or(|(_, other)| *other != *slot) { visit(key) } else { Ok(()) }
        })?;
        others.try_for_each(|other| visit(other?.0.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_golden() {
        let hole = Position::new(2, 64)..Position::new(2, 0x0105);
        assert_eq!(key(&hole), *b"h\0\0\0\x02\0\0\0\x40\0\0\0\x02\0\0\x01\x05");
    }
}
