//! Chunks and manifests of files, verified: from what was read lately, the store, or the server that has them.

use crate::Drive;
use bytes::Bytes;
use larder_core::{ChunkId, Head, Kind, Manifest, NodeId, Outline, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Pages that are asked for together: 2.5 MiB.
const PAGES_MAX: usize = 64;

impl Drive {
    /// Hears that a reader of file `of` waits for the chunks `now` and will read those `soon`.
    pub(crate) fn will_read(&self, of: NodeId, now: &[ChunkId], soon: &[ChunkId]) {
        match &self.fetch {
            Some(fetch) => fetch.will_read(of, now, soon),
            None => self.chunks().prefetch(soon),
        }
    }

    /// Returns a chunk of file `of`, verified, from the cache, the store, or the server that has it.
    ///
    /// # Errors
    /// Those of [`larder_store::ChunkStore::get`]; `Unavailable` where it has to be fetched and does not come in time.
    pub fn chunk(&self, of: NodeId, id: &ChunkId) -> Result<Bytes> {
        if self.fetch.is_none() {
            return self.caches.chunk(id, || self.body(of, id));
        }
        // Who waits for a server waits for no other's failure.
        let cached = self.caches.peek(id).map(Ok);
        cached.unwrap_or_else(|| self.body(of, id).inspect(|body| self.caches.keep(id, body)))
    }

    /// A chunk of file `of`, from the store or from where it is.
    fn body(&self, of: NodeId, id: &ChunkId) -> Result<Bytes> {
        match (self.chunks().get(id), &self.fetch) {
            // What was damaged here is whole there.
            (Err(error), Some(fetch)) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => {
                fetch.get(of, id)
            }
            (got, _) => got,
        }
    }

    /// Does what [`Drive::chunk`] does if that waits for nothing.
    pub fn try_chunk(&self, id: &ChunkId) -> Option<Bytes> {
        let cached = self.caches.peek(id);
        cached.or_else(|| self.chunks().try_get(id).inspect(|body| self.caches.keep(id, body)))
    }

    /// Does what [`Drive::chunk`] does without keeping the chunk: for a reader who takes all of it once.
    ///
    /// # Errors
    /// Those of [`Drive::chunk`].
    pub fn chunk_once(&self, of: NodeId, id: &ChunkId) -> Result<Bytes> {
        self.caches.peek(id).map_or_else(|| self.body(of, id), Ok)
    }

    /// Does what [`Drive::chunk_once`] does if that waits for nothing.
    pub fn try_chunk_once(&self, id: &ChunkId) -> Option<Bytes> {
        self.caches.peek(id).or_else(|| self.chunks().try_get(id))
    }

    /// Returns the manifest of a head of file `of`; long ones are cached.
    ///
    /// # Errors
    /// Those of reading its pages.
    pub fn manifest(&self, of: NodeId, head: &Head) -> Result<Arc<Manifest>> {
        self.caches.manifest(head, || {
            let (mut outline, all) = (Outline::new(head)?, 0..head.size_bytes);
            loop {
                if let Some(manifest) = outline.manifest() {
                    return Ok(manifest);
                }
                let pages = self.pages(of, &outline, &all)?;
                outline.unfold(&all, |id| Ok(pages.get(id).cloned()))?;
            }
        })
    }

    /// What is known of a head of file `of` without asking a server.
    ///
    /// # Errors
    /// As for [`Drive::manifest`].
    pub fn outline(&self, of: NodeId, head: &Head) -> Result<Outline> {
        if self.fetch.is_none() {
            return self.manifest(of, head).map(Outline::from);
        }
        self.caches.known_manifest(head).map_or_else(|| Outline::new(head), |known| Ok(known.into()))
    }

    /// The bodies of pages that have to be read next to know what is in `range` of file `of`, asked for together.
    ///
    /// # Errors
    /// As for [`Drive::chunk`].
    pub(crate) fn pages(
        &self,
        of: NodeId,
        outline: &Outline,
        range: &Range<u64>,
    ) -> Result<HashMap<ChunkId, Bytes>> {
        let ids = outline.pages(range, PAGES_MAX);
        self.will_read(of, &ids, &[]);
        ids.into_iter().map(|id| Ok((id, self.body(of, &id)?))).collect()
    }
}
