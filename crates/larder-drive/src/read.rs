//! Reading one committed version of a file.

use crate::fetch::{self, Here};
use crate::{Drive, Hold};
use bytes::Bytes;
use larder_core::{ChunkId, Error, Kind, Manifest, Node, Result, chunker};
use std::ops::Range;
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
        let manifest = self.manifest(node.id, head)?;
        Ok(Reader { drive: self.clone(), node: node.clone(), manifest, _hold: hold })
    }
}

impl Drive {
    /// How much of `node` is here rather than at a server only; nothing is fetched to find out.
    ///
    /// # Errors
    /// Those of the store.
    pub fn here(&self, node: &Node) -> Result<Here> {
        let whole = Here { bytes: node.size_bytes(), ranges: u64::from(node.size_bytes() > 0) };
        match node.head() {
            Some(head) if self.fetches() => fetch::here(self.chunks(), head),
            _ => Ok(whole),
        }
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
        let piece =
            self.piece(offset, max_bytes as u64, |id, _| self.drive.chunk(self.node.id, id).map(Some))?;
        Ok(piece.unwrap_or_default())
    }

    /// Does what [`Reader::read`] does if that waits for nothing.
    pub fn try_read(&self, offset: u64, max_bytes: usize) -> Option<Bytes> {
        self.piece(offset, max_bytes as u64, |id, _| Ok(self.drive.try_chunk(id))).ok().flatten()
    }

    /// Does what [`Reader::read`] does, for a reader who goes on to `end`: chunks that it takes whole are not kept for
    /// others, so that their memory, still in the processor's caches, is used again for the next.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub fn stream(&self, offset: u64, end: u64) -> Result<Bytes> {
        let body = |id: &ChunkId, whole| match whole {
            true => self.drive.chunk_once(self.node.id, id).map(Some),
            false => self.drive.chunk(self.node.id, id).map(Some),
        };
        Ok(self.piece(offset, end.saturating_sub(offset), body)?.unwrap_or_default())
    }

    /// Does what [`Reader::stream`] does if that waits for nothing.
    pub fn try_stream(&self, offset: u64, end: u64) -> Option<Bytes> {
        let body = |id: &ChunkId, whole| match whole {
            true => Ok(self.drive.try_chunk_once(id)),
            false => Ok(self.drive.try_chunk(id)),
        };
        self.piece(offset, end.saturating_sub(offset), body).ok().flatten()
    }

    /// Has the chunks of `range` read from the disk, or fetched, in the background; asking takes up to a millisecond for 8 MiB.
    pub fn prefetch(&self, range: Range<u64>) {
        let inside = self.manifest.locate(range.start).take_while(|located| located.start < range.end);
        let ids = inside.map(|located| located.extent.id).filter(|id| !id.is_hole());
        self.drive.will_read(self.node.id, &[], &ids.collect::<Vec<_>>());
    }

    /// A piece of one chunk; `body` is told whether that is the whole of it.
    fn piece(
        &self,
        offset: u64,
        max_bytes: u64,
        body: impl Fn(&ChunkId, bool) -> Result<Option<Bytes>>,
    ) -> Result<Option<Bytes>> {
        let Some(located) = self.manifest.locate(offset).next() else { return Ok(Some(Bytes::new())) };
        let skip = offset - located.start;
        let rest = located.extent.len_bytes - skip;
        if located.extent.id.is_hole() {
            let len = rest.min(max_bytes).min(ZEROS.len() as u64) as usize;
            return Ok(Some(Bytes::from_static(&ZEROS[..len])));
        }
        let whole = skip == 0 && rest <= max_bytes;
        let Some(body) = body(&located.extent.id, whole)? else { return Ok(None) };
        if body.len() as u64 != located.extent.len_bytes {
            return Err(Error::corrupt(format!(
                "chunk {} has another length than its extent",
                located.extent.id
            )));
        }
        let len = rest.min(max_bytes) as usize;
        Ok(Some(body.slice(skip as usize..skip as usize + len)))
    }
}
