//! How much of a file is on this machine, as tools are told: without the network, and without reading its content.

use crate::Drive;
use larder_core::{Node, Result};

/// What is here of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was made and never committed.
    BeingWritten,
    /// All of it is here, and its server has not been told of it or of its last change.
    Pending,
    /// All of it is here.
    Available,
    /// Some of it.
    Partial,
    /// Nothing.
    OnlineOnly,
}

impl Kept {
    /// The word for tools, which does not change.
    pub fn word(self) -> &'static str {
        match self {
            Kept::BeingWritten => "being written",
            Kept::Pending => "pending",
            Kept::Available => "available",
            Kept::Partial => "partial",
            Kept::OnlineOnly => "online-only",
        }
    }
}

impl Drive {
    /// How much of `node` is here, and of a file how many percent: 100 only for all of it.
    ///
    /// # Errors
    /// Those of the index.
    pub fn kept(&self, node: &Node) -> Result<(Kept, u64)> {
        if node.draft {
            return Ok((Kept::BeingWritten, 100));
        }
        if !self.fetches() {
            return Ok((Kept::Available, 100));
        }
        let (here_bytes, size_bytes) = (self.here(node)?.bytes, node.size_bytes());
        let percent = match size_bytes {
            0 => 100,
            _ if !node.is_file() => 100,
            size_bytes => u128::from(here_bytes) * 100 / u128::from(size_bytes),
        };
        let kept = match percent {
            100 if self.catalog().is_queued(node.id)? => Kept::Pending,
            100 => Kept::Available,
            _ if here_bytes > 0 => Kept::Partial,
            _ => Kept::OnlineOnly,
        };
        Ok((kept, percent as u64))
    }
}
