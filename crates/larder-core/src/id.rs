//! Ids: what nodes, chunks and operations are called.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The stable id of a node; also its inode number in a mount. Ids are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the first project, `home`; 1 because FUSE gives its root that number (`fuse.h`, FUSE_ROOT_ID).
    pub const ROOT: NodeId = NodeId(1);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The BLAKE3-256 of a chunk's plain bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// Stands in an extent for a hole: bytes that read as zeros and are stored nowhere.
    pub const HOLE: ChunkId = ChunkId([0; 32]);

    /// Names `body`.
    pub fn of(body: &[u8]) -> Self {
        ChunkId(*blake3::hash(body).as_bytes())
    }

    /// Says whether this stands for a hole.
    pub fn is_hole(&self) -> bool {
        *self == Self::HOLE
    }

    /// The first eight bytes as a number, for tables that need only a few bits.
    pub fn prefix(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("32 bytes have 8"))
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkId({:016x}…)", self.prefix())
    }
}

/// The caller's id of one change: committing the same id twice changes nothing the second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpId(pub u128);
