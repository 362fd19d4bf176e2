//! What the index keeps for a key.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | 0: the value follows; 1: where a META record holds the value; 2: where a chunk lies; 3: the value follows, encrypted |
//! | 1 | 8 | offset in the segment and number of the segment, little endian |
//! | 9 | 4 | bytes of the payload as stored |
//! | 13 | 4 | bytes of the payload in plain |
//! | 17 | 1 | flags of the record |

use super::position::Position;
use super::record::Header;
use larder_core::{ChunkId, Error, Result};

/// First byte of the keys of chunks.
pub const CHUNK: u8 = b'c';
/// First byte of the keys of chunks that scrub found damaged.
pub const QUARANTINED: u8 = b'q';

const INLINE: u8 = 0;
const POINTER: u8 = 1;
const LOCATION: u8 = 2;
const SEALED: u8 = 3;

/// Where a record lies, with what it takes to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Of the header.
    pub position: Position,
    /// Bytes behind the header.
    pub stored_len: u32,
    /// Those bytes in plain.
    pub raw_len: u32,
    /// Flags of the record.
    pub flags: u8,
}

impl Location {
    /// The place of the record that `header` begins.
    pub fn of(header: &Header) -> Self {
        let Header { position, stored_len, raw_len, flags, .. } = *header;
        Self { position, stored_len, raw_len, flags }
    }

    /// As the slot of a chunk.
    pub fn chunk_slot(&self) -> Vec<u8> {
        self.encode(LOCATION)
    }

    /// As the slot of a value in a META record of its own.
    pub fn pointer_slot(&self) -> Vec<u8> {
        self.encode(POINTER)
    }

    fn encode(&self, tag: u8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(18);
        bytes.push(tag);
        bytes.extend_from_slice(&self.position.0.to_le_bytes());
        bytes.extend_from_slice(&self.stored_len.to_le_bytes());
        bytes.extend_from_slice(&self.raw_len.to_le_bytes());
        bytes.push(self.flags);
        bytes
    }
}

/// A slot, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot<'a> {
    /// The value.
    Inline(&'a [u8]),
    /// The value, encrypted.
    Sealed(&'a [u8]),
    /// The META record whose only edit has the value.
    Pointer(Location),
    /// The CHUNK record.
    Chunk(Location),
}

impl<'a> Slot<'a> {
    /// Reads a slot.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&INLINE, value)) => Ok(Slot::Inline(value)),
            Some((&SEALED, value)) => Ok(Slot::Sealed(value)),
            Some((&POINTER, rest)) => location(rest).map(Slot::Pointer),
            Some((&LOCATION, rest)) => location(rest).map(Slot::Chunk),
            _ => Err(Error::corrupt("index entry of an unknown format")),
        }
    }

    /// Where the chunk lies, where this is the slot of one.
    pub fn chunk(self) -> Option<Location> {
        match self {
            Slot::Chunk(location) => Some(location),
            Slot::Inline(_) | Slot::Sealed(_) | Slot::Pointer(_) => None,
        }
    }
}

/// The slot of a value that the index keeps itself.
pub fn inline(value: &[u8]) -> Vec<u8> {
    [&[INLINE], value].concat()
}

/// The slot of a value that the index keeps itself, encrypted.
pub fn sealed(value: &[u8]) -> Vec<u8> {
    [&[SEALED], value].concat()
}

/// The key of a chunk.
pub fn chunk_key(id: &ChunkId) -> Vec<u8> {
    [&[CHUNK], &id.0[..]].concat()
}

/// The key under which a damaged chunk is remembered.
pub fn quarantine_key(id: &ChunkId) -> Vec<u8> {
    [&[QUARANTINED], &id.0[..]].concat()
}

/// The chunk that a key of a chunk names.
///
/// # Errors
/// `Corrupt`.
pub fn chunk_of(key: &[u8]) -> Result<ChunkId> {
    let id = key.get(1..).and_then(|id| id.try_into().ok());
    id.map(ChunkId).ok_or_else(|| Error::corrupt("index key of a chunk"))
}

fn location(bytes: &[u8]) -> Result<Location> {
    let bytes: &[u8; 17] = bytes.try_into().map_err(|_| Error::corrupt("index entry of a record"))?;
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let position = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
    Ok(Location { position: Position(position), stored_len: word(8), raw_len: word(12), flags: bytes[16] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_golden() {
        let place = Location { position: Position::new(2, 64), stored_len: 5, raw_len: 9, flags: 3 };
        assert_eq!(place.chunk_slot(), [2, 64, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 3]);
        assert_eq!(Slot::decode(&place.chunk_slot()).expect("a slot"), Slot::Chunk(place));
        assert_eq!(Slot::decode(&place.pointer_slot()).expect("a slot"), Slot::Pointer(place));
        assert_eq!(Slot::decode(&inline(b"x")).expect("a slot"), Slot::Inline(b"x"));
        assert!(Slot::decode(&[2, 1]).is_err() && Slot::decode(&[]).is_err() && Slot::decode(&[9]).is_err());
    }
}
