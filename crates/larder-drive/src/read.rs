//! Reading one committed version of a file.

use crate::{Drive, Hold};
use bytes::Bytes;
use larder_core::{ChunkId, Error, Kind, Manifest, Node, Result, chunker};
use std::sync::Arc;

/// What holes read as.
pub(crate) static ZEROS: [u8; chunker::MAX_BYTES] = [0; chunker::MAX_BYTES];

/// Reads the version that was current when it was made, whatever happens to the file meanwhile.
pub struct Reader {
    drive: Arc<Drive>,
    node: Node,
    manifest: Arc<Manifest>,
    _hold: Hold,
}

impl Drive {
    /// Starts reading `node` as it is given.
    ///
    /// # Errors
    /// `IsADirectory` and `Invalid` for what is no file; those of reading the manifest.
    pub fn reader(self: &Arc<Self>, node: &Node) -> Result<Reader> {
        // Held before the manifest is read: from here on nothing of it can be purged.
        let hold = self.hold();
        let head = node.head().ok_or_else(|| {
            let kind = if node.is_folder() { Kind::IsADirectory } else { Kind::Invalid };
            Error::new(kind, format!("node {} is no file", node.id))
        })?;
        let manifest = self.manifest(head)?;
        Ok(Reader { drive: self.clone(), node: node.clone(), manifest, _hold: hold })
    }
}

impl Reader {
    /// Size of the version in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.manifest.size_bytes()
    }

    /// The node as it was.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The manifest of the version.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Returns bytes from `offset` on: at least one and at most `max_bytes`, no further than the end of a chunk, and
    /// none only at the end of the file. No bytes are copied.
    ///
    /// # Errors
    /// `Corrupt` where stored bytes are not what was written.
    pub fn read(&self, offset: u64, max_bytes: usize) -> Result<Bytes> {
        let piece = self.piece(offset, max_bytes, |id| self.drive.chunk(id).map(Some))?;
        Ok(piece.unwrap_or_default())
    }

    /// Does what [`Reader::read`] does if the bytes are in memory; never blocks.
    pub fn try_read(&self, offset: u64, max_bytes: usize) -> Option<Bytes> {
        self.piece(offset, max_bytes, |id| Ok(self.drive.cached_chunk(id))).ok().flatten()
    }

    fn piece(
        &self,
        offset: u64,
        max_bytes: usize,
        body: impl Fn(&ChunkId) -> Result<Option<Bytes>>,
    ) -> Result<Option<Bytes>> {
        let Some(located) = self.manifest.locate(offset).next() else { return Ok(Some(Bytes::new())) };
        let skip = offset - located.start;
        let rest = located.extent.len_bytes - skip;
        if located.extent.id.is_hole() {
            let len = rest.min(max_bytes as u64).min(ZEROS.len() as u64) as usize;
            return Ok(Some(Bytes::from_static(&ZEROS[..len])));
        }
        let Some(body) = body(&located.extent.id)? else { return Ok(None) };
        if body.len() as u64 != located.extent.len_bytes {
            return Err(Error::corrupt(format!(
                "chunk {} has another length than its extent",
                located.extent.id
            )));
        }
        let len = rest.min(max_bytes as u64) as usize;
        Ok(Some(body.slice(skip as usize..skip as usize + len)))
    }
}
