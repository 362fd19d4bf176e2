//! The superblock: what the store knows about itself outside log and index.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `LRDSUPER` |
//! | 8 | 4 | version of the format, 1 |
//! | 12 | 4 | index: 1 being written, 2 sealed, 3 to be made again |
//! | 16 | 16 | id of the store |
//! | 32 | 8 | generation: number of the newest checkpoint |
//! | 40 | 8 | position in the log up to which the index is complete |
//! | 48 | 16 | boot during which this was written |
//! | 64 | 32 | hash of the index's files where sealed |
//! | 96 | 12 | chunker: least, average and greatest bytes of a chunk |
//! | 108 | 4 | 1 where the store was closed properly |
//! | 112 | 8 | check of the encryption key; zeros without one |
//! | 120 | 4 | zeros |
//! | 124 | 4 | CRC32C of bytes 0 to 123 |

use super::position::Position;
use larder_core::chunker;

/// Name of the file.
pub const NAME: &str = "superblock";
/// Bytes of the superblock.
pub const BYTES: usize = 128;

const MAGIC: [u8; 8] = *b"LRDSUPER";
const VERSION: u32 = 1;

/// How far the index can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// A checkpoint is writing it: whole only while the machine has not lost power.
    Applying,
    /// Its files have this hash.
    Sealed([u8; 32]),
    /// It must be made again from the log.
    Lost,
}

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Id of the store.
    pub store_id: [u8; 16],
    /// How far the index can be trusted.
    pub index: IndexState,
    /// Number of the newest checkpoint.
    pub generation: u64,
    /// Up to here the index is complete.
    pub checkpoint: Position,
    /// During which boot this was written.
    pub boot: [u8; 16],
    /// The store was closed properly.
    pub clean: bool,
    /// Check of the encryption key.
    pub key_check: [u8; 8],
}

/// What [`Superblock::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A superblock.
    Whole(Superblock),
    /// Bytes that are none.
    Damaged,
    /// One of a program that is newer, or cuts chunks elsewhere.
    Foreign,
}

impl Superblock {
    /// Writes it.
    pub fn encode(&self) -> [u8; BYTES] {
        let (state, hash) = match self.index {
            IndexState::Applying => (1u32, [0; 32]),
            IndexState::Sealed(hash) => (2, hash),
            IndexState::Lost => (3, [0; 32]),
        };
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&state.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store_id);
        bytes[32..40].copy_from_slice(&self.generation.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.checkpoint.0.to_le_bytes());
        bytes[48..64].copy_from_slice(&self.boot);
        bytes[64..96].copy_from_slice(&hash);
        bytes[96..108].copy_from_slice(&chunker_bytes());
        bytes[108..112].copy_from_slice(&u32::from(self.clean).to_le_bytes());
        bytes[112..120].copy_from_slice(&self.key_check);
        let crc = crc32c::crc32c(&bytes[..124]);
        bytes[124..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads it.
    pub fn decode(bytes: &[u8]) -> Found {
        let Ok(bytes) = <&[u8; BYTES]>::try_from(bytes) else { return Found::Damaged };
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        if bytes[..8] != MAGIC || word(124) != crc32c::crc32c(&bytes[..124]) {
            return Found::Damaged;
        }
        if word(8) != VERSION || bytes[96..108] != chunker_bytes() {
            return Found::Foreign;
        }
        let index = match word(12) {
            1 => IndexState::Applying,
            2 => IndexState::Sealed(array(bytes, 64)),
            _ => IndexState::Lost,
        };
        Found::Whole(Self {
            store_id: array(bytes, 16),
            index,
            generation: u64::from_le_bytes(array(bytes, 32)),
            checkpoint: Position(u64::from_le_bytes(array(bytes, 40))),
            boot: array(bytes, 48),
            clean: word(108) & 1 == 1,
            key_check: array(bytes, 112),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("as many bytes")
}

fn chunker_bytes() -> [u8; 12] {
    let mut bytes = [0; 12];
    let sizes = [chunker::MIN_BYTES, chunker::AVG_BYTES, chunker::MAX_BYTES];
    for (at, size) in bytes.chunks_exact_mut(4).zip(sizes) {
        at.copy_from_slice(&(size as u32).to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superblock_is_golden() {
        let block = Superblock {
            store_id: [1; 16],
            index: IndexState::Sealed([2; 32]),
            generation: 0x0304,
            checkpoint: Position::new(5, 6),
            boot: [7; 16],
            clean: true,
            key_check: [8; 8],
        };
        let bytes = block.encode();
        assert_eq!(bytes[..16], *b"LRDSUPER\x01\0\0\0\x02\0\0\0");
        assert_eq!(bytes[16..32], [1; 16]);
        assert_eq!(bytes[32..48], [4, 3, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!((&bytes[48..64], &bytes[64..96]), (&[7; 16][..], &[2; 32][..]));
        assert_eq!(bytes[96..108], [0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 16, 0]);
        assert_eq!(bytes[108..120], [1, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8]);
        assert_eq!(Superblock::decode(&bytes), Found::Whole(block));
        for bit in 0..BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Superblock::decode(&bad), Found::Damaged, "bit {bit}");
        }
    }
}
