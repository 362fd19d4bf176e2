//! The bytes of a segment: its first 64, and the header before each record's payload.
//!
//! All numbers are little endian. A segment begins with
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `LRDSEGM1` |
//! | 8 | 4 | number of the segment |
//! | 12 | 16 | id of the store |
//! | 28 | 4 | bytes of the segment before it when this one was begun; zeros where that is not known |
//! | 32 | 28 | zeros |
//! | 60 | 4 | CRC32C of bytes 0 to 59 |
//!
//! and then holds records, each a header and its payload:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `LRD1` |
//! | 4 | 1 | kind: 1 CHUNK, 2 META, 3 COMMIT |
//! | 5 | 1 | flags: 1 compressed by zstd, 2 encrypted |
//! | 6 | 2 | zeros |
//! | 8 | 4 | bytes of the payload as stored |
//! | 12 | 4 | CHUNK, META: bytes of the payload in plain; COMMIT: number of META records it ends |
//! | 16 | 8 | offset in the segment and number of the segment |
//! | 24 | 32 | CHUNK: id; else zeros |
//! | 56 | 4 | CHUNK, META: CRC32C of the payload as stored; COMMIT: CRC32C of those of its META records |
//! | 60 | 4 | CRC32C of bytes 0 to 59, begun with the CRC32C of the store's id |
//!
//! A header names its own place and its store: neither stale blocks of the disk nor a copy of a segment that was
//! put into the drive as a file's content is ever taken for a record.

use super::position::Position;
use larder_core::ChunkId;

/// The bytes of a segment's and of a record's header.
pub const HEADER_BYTES: usize = 64;
/// Set in [`Header::flags`] where the payload is compressed.
pub const ZSTD: u8 = 1;
/// Set in [`Header::flags`] where the payload is encrypted.
pub const ENCRYPTED: u8 = 2;
/// No payload is longer: a chunk is at most 1 MiB, a META part less than 2 MiB, and each grows little when sealed.
pub const PAYLOAD_MAX_BYTES: u32 = 8 << 20;

const MAGIC: [u8; 4] = *b"LRD1";
const SEGMENT_MAGIC: [u8; 8] = *b"LRDSEGM1";
const CRC_AT: usize = 60;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A chunk's body.
    Chunk = 1,
    /// Part of a batch.
    Meta = 2,
    /// The end of a batch: the META records before it count.
    Commit = 3,
}

/// What all headers of one store have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Id of the store.
    pub store_id: [u8; 16],
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: RecordKind,
    /// [`ZSTD`], [`ENCRYPTED`].
    pub flags: u8,
    /// Bytes that follow.
    pub stored_len: u32,
    /// Bytes in plain; for a COMMIT the number of META records.
    pub raw_len: u32,
    /// Where the header lies.
    pub position: Position,
    /// The chunk.
    pub id: ChunkId,
    /// Checksum of what follows, or of the META records' checksums.
    pub payload_crc: u32,
}

impl Header {
    /// Bytes of the record, header and payload.
    pub fn record_bytes(&self) -> u32 {
        HEADER_BYTES as u32 + self.stored_len
    }

    /// The position just behind the record.
    pub fn end(&self) -> Position {
        Position(self.position.0 + u64::from(self.record_bytes()))
    }
}

impl Format {
    /// Writes a record's header.
    pub fn encode(&self, header: &Header) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = header.kind as u8;
        bytes[5] = header.flags;
        bytes[8..12].copy_from_slice(&header.stored_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&header.raw_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&header.position.0.to_le_bytes());
        bytes[24..56].copy_from_slice(&header.id.0);
        bytes[56..60].copy_from_slice(&header.payload_crc.to_le_bytes());
        let crc = self.header_crc(&bytes);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header that lies at `position`; `None` where there is no header of this store and place.
    pub fn decode(&self, bytes: &[u8; HEADER_BYTES], position: Position) -> Option<Header> {
        if bytes[..4] != MAGIC || word(bytes, CRC_AT) != self.header_crc(bytes) {
            return None;
        }
        let kind = match bytes[4] {
            1 => RecordKind::Chunk,
            2 => RecordKind::Meta,
            3 => RecordKind::Commit,
            _ => return None,
        };
        let place = u64::from(word(bytes, 20)) << 32 | u64::from(word(bytes, 16));
        let header = Header {
            kind,
            flags: bytes[5],
            stored_len: word(bytes, 8),
            raw_len: word(bytes, 12),
            position: Position(place),
            id: ChunkId(bytes[24..56].try_into().expect("32 bytes")),
            payload_crc: word(bytes, 56),
        };
        (header.position == position && header.stored_len <= PAYLOAD_MAX_BYTES).then_some(header)
    }

    /// Writes the first bytes of segment `number`, begun when the one before it had `predecessor_bytes`.
    pub fn encode_segment(&self, number: u32, predecessor_bytes: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&number.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.store_id);
        bytes[28..32].copy_from_slice(&predecessor_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the first bytes of segment `number`: whose it is, and the bytes of the segment before it, where they are
    /// whole.
    pub fn decode_segment(bytes: &[u8; HEADER_BYTES], number: u32) -> Option<(Format, u32)> {
        let whole = bytes[..8] == SEGMENT_MAGIC
            && word(bytes, 8) == number
            && word(bytes, CRC_AT) == crc32c::crc32c(&bytes[..CRC_AT]);
        let store_id = bytes[12..28].try_into().expect("16 bytes");
        whole.then_some((Format { store_id }, word(bytes, 28)))
    }

    fn header_crc(&self, bytes: &[u8; HEADER_BYTES]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.store_id), &bytes[..CRC_AT])
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { store_id: [9; 16] };

    fn header() -> Header {
        Header {
            kind: RecordKind::Chunk,
            flags: ZSTD,
            stored_len: 0x0102,
            raw_len: 0x0304,
            position: Position::new(7, 64),
            id: ChunkId([5; 32]),
            payload_crc: 0xA1B2_C3D4,
        }
    }

    #[test]
    fn record_header_is_golden() {
        let bytes = FORMAT.encode(&header());
        assert_eq!(bytes[..16], *b"LRD1\x01\x01\0\0\x02\x01\0\0\x04\x03\0\0");
        assert_eq!(bytes[16..24], [64, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(bytes[24..56], [5; 32]);
        assert_eq!(bytes[56..60], [0xD4, 0xC3, 0xB2, 0xA1]);
        assert_eq!(FORMAT.decode(&bytes, Position::new(7, 64)), Some(header()));
    }

    #[test]
    fn header_of_another_place_or_store_is_none() {
        let bytes = FORMAT.encode(&header());
        assert_eq!(FORMAT.decode(&bytes, Position::new(7, 65)), None);
        assert_eq!(Format { store_id: [8; 16] }.decode(&bytes, Position::new(7, 64)), None);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let good = FORMAT.encode(&header());
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FORMAT.decode(&bytes, Position::new(7, 64)), None, "bit {bit}");
        }
    }

    #[test]
    fn segment_header_is_golden() {
        let bytes = FORMAT.encode_segment(3, 0x0506);
        assert_eq!(bytes[..12], *b"LRDSEGM1\x03\0\0\0");
        assert_eq!(bytes[12..28], [9; 16]);
        assert_eq!(bytes[28..60], *b"\x06\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(Format::decode_segment(&bytes, 3), Some((FORMAT, 0x0506)));
        assert_eq!(Format::decode_segment(&bytes, 4), None);
    }
}
