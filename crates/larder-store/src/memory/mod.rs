//! The memory backend: for tests, and the plainest statement of what a backend does.

use crate::catalog::{Change, Cursor};
use crate::chunks::{ChunkStore, Lease, Leases, Put};
use crate::kv::{Batch, Kv, Pair};
use bytes::Bytes;
use larder_core::{ChunkId, Error, Result};
use parking_lot::RwLock;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// Chunks in memory.
#[derive(Default)]
pub struct MemoryChunks {
    bodies: RwLock<HashMap<ChunkId, Bytes>>,
    leases: Leases,
}

impl MemoryChunks {
    /// Returns how many chunks there are and the bytes of their bodies.
    pub fn size(&self) -> (usize, u64) {
        let bodies = self.bodies.read();
        (bodies.len(), bodies.values().map(|body| body.len() as u64).sum())
    }

    /// Drops every chunk that `live` refuses and no lease holds.
    pub fn sweep(&self, live: impl Fn(&ChunkId) -> bool) {
        self.bodies.write().retain(|id, _| live(id) || self.leases.holds(id));
    }

    /// The leases on these chunks.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }
}

impl ChunkStore for MemoryChunks {
    fn get(&self, id: &ChunkId) -> Result<Bytes> {
        let body = self.bodies.read().get(id).cloned();
        body.ok_or_else(|| Error::not_found(format!("chunk {id}")))
    }

    fn try_get(&self, id: &ChunkId) -> Option<Bytes> {
        self.get(id).ok()
    }

    fn prefetch(&self, _ids: &[ChunkId]) {}

    fn put(&self, lease: &Lease, id: &ChunkId, body: &[u8]) -> Result<Put> {
        lease.hold(id);
        let mut bodies = self.bodies.write();
        if bodies.contains_key(id) {
            return Ok(Put::Known);
        }
        bodies.insert(*id, Bytes::copy_from_slice(body));
        Ok(Put::New { stored_bytes: body.len() as u64 })
    }

    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        let bodies = self.bodies.read();
        Ok(ids.iter().filter(|id| !bodies.contains_key(id)).copied().collect())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn lease(&self) -> Lease {
        self.leases.start()
    }
}

/// The index in memory.
#[derive(Default)]
pub struct MemoryKv(RwLock<Inner>);

#[derive(Default)]
struct Inner {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    feed: Vec<Change>,
    applied: u64,
}

impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.read().pairs.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let inner = self.0.read();
        let pairs = inner.pairs.range::<[u8], _>((start, Bound::Unbounded));
        Ok(pairs
            .take_while(|(k, _)| k.starts_with(prefix))
            .take(limit)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect())
    }

    fn apply(&self, batch: Batch) -> Result<u64> {
        let inner = &mut *self.0.write();
        for (key, value) in batch.edits {
            match value {
                Some(value) => inner.pairs.insert(key, value),
                None => inner.pairs.remove(&key),
            };
        }
        inner.feed.extend(batch.changes);
        inner.applied += 1;
        Ok(inner.applied)
    }

    fn wait_durable(&self, _position: u64) -> Result<()> {
        Ok(())
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)> {
        let inner = self.0.read();
        let from = match after.0.as_slice() {
            [] => 0,
            bytes => bytes.try_into().map(u64::from_be_bytes).map_err(|_| Error::invalid("cursor"))? as usize,
        };
        let rest = inner.feed.get(from..).ok_or_else(|| Error::conflict("cursor is of another store"))?;
        let changes: Vec<Change> = rest.iter().take(limit).cloned().collect();
        let cursor = Cursor(((from + changes.len()) as u64).to_be_bytes().to_vec());
        Ok((changes, cursor))
    }

    fn now(&self) -> Cursor {
        Cursor((self.0.read().feed.len() as u64).to_be_bytes().to_vec())
    }
}
