//! What things are in Larder: ids, names, paths, nodes, manifests, chunk boundaries and errors.
//!
//! Everything here is pure: no clock, no disk, no network, no randomness. Every other crate uses it; it uses none
//! of them.

pub mod chunker;
pub mod error;
pub mod id;
pub mod manifest;
pub mod name;
pub mod node;
pub mod outline;
pub mod time;

pub use chunker::Chunker;
pub use error::{Error, Kind, Result};
pub use id::{ChunkId, NodeId, OpId};
pub use manifest::{Extent, Head, Manifest};
pub use name::{DrivePath, Name};
pub use node::{Content, Node, NodeKind, XATTR_MAX_BYTES, XATTR_NAME_MAX_BYTES};
pub use outline::{Listed, Outline};
pub use time::Timestamp;
