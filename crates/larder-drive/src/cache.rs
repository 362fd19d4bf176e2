//! What was read and verified lately: chunks and long manifests, bounded in bytes.

use bytes::Bytes;
use larder_core::{ChunkId, Head, Manifest, Result};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Bytes of one manifest entry in memory: 40 of the extent, 8 of its end.
const ENTRY_BYTES: u64 = 48;

#[derive(Clone)]
pub(crate) struct BodyWeight;

impl Weighter<ChunkId, Bytes> for BodyWeight {
    fn weight(&self, _id: &ChunkId, body: &Bytes) -> u64 {
        body.len() as u64 + 64
    }
}

#[derive(Clone)]
pub(crate) struct ManifestWeight;

impl Weighter<Head, Arc<Manifest>> for ManifestWeight {
    fn weight(&self, _head: &Head, manifest: &Arc<Manifest>) -> u64 {
        manifest.extents().len() as u64 * ENTRY_BYTES + 4096
    }
}

/// The caches of a drive.
pub(crate) struct Caches {
    chunks: Cache<ChunkId, Bytes, BodyWeight>,
    manifests: Cache<Head, Arc<Manifest>, ManifestWeight>,
}

impl Caches {
    pub(crate) fn new(chunk_bytes: usize, manifest_bytes: usize) -> Self {
        let items = (chunk_bytes / larder_core::chunker::AVG_BYTES).max(64);
        Self {
            chunks: Cache::with_weighter(items, chunk_bytes as u64, BodyWeight),
            manifests: Cache::with_weighter(64, manifest_bytes as u64, ManifestWeight),
        }
    }

    pub(crate) fn peek(&self, id: &ChunkId) -> Option<Bytes> {
        self.chunks.get(id)
    }

    pub(crate) fn keep(&self, id: &ChunkId, body: &Bytes) {
        self.chunks.insert(*id, body.clone());
    }

    /// The chunk, loaded once however many ask for it at the same time.
    pub(crate) fn chunk(&self, id: &ChunkId, load: impl FnOnce() -> Result<Bytes>) -> Result<Bytes> {
        self.chunks.get_or_insert_with(id, load)
    }

    pub(crate) fn manifest(
        &self,
        head: &Head,
        load: impl FnOnce() -> Result<Arc<Manifest>>,
    ) -> Result<Arc<Manifest>> {
        // A short manifest is its head: nothing to keep.
        if head.depth == 0 { load() } else { self.manifests.get_or_insert_with(head, load) }
    }

    /// The manifest of a long head, if it is at hand.
    pub(crate) fn known_manifest(&self, head: &Head) -> Option<Arc<Manifest>> {
        self.manifests.get(head)
    }
}
