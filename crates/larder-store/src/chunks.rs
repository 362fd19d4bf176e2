//! The chunk store: immutable bodies named by their hash.

use bytes::Bytes;
use larder_core::{ChunkId, Result};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What [`ChunkStore::put`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The body was stored and takes so many bytes, compressed and framed.
    New {
        /// Bytes that the store grew by.
        stored_bytes: u64,
    },
    /// A chunk of this name was there already; nothing was written.
    Known,
}

/// Immutable chunks by name. Every body that comes out has been checked against its name.
pub trait ChunkStore: Send + Sync {
    /// Returns the plain body of chunk `id`, verified.
    ///
    /// # Errors
    /// `NotFound` where the store does not have it; `Corrupt` where what it has is not what was put.
    fn get(&self, id: &ChunkId) -> Result<Bytes>;

    /// Returns what [`ChunkStore::get`] does where that takes microseconds and waits for nothing; `None` says that it
    /// would not, or might fail, and nothing of whether the chunk is there.
    fn try_get(&self, id: &ChunkId) -> Option<Bytes>;

    /// Hears that these chunks will be read soon, in this order. A hint: it waits for no body and has no errors.
    fn prefetch(&self, ids: &[ChunkId]);

    /// Stores `body`, whose hash is `id`, and holds it against the sweep for as long as `lease` lives.
    ///
    /// It is durable after the next [`ChunkStore::sync`] or the next durable commit of the catalog over this store.
    ///
    /// # Errors
    /// `NoSpace` where it does not fit; then nothing changed.
    fn put(&self, lease: &Lease, id: &ChunkId, body: &[u8]) -> Result<Put>;

    /// Returns those of `ids` that the store lacks, in their order.
    ///
    /// # Errors
    /// Those of the index.
    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>>;

    /// Returns once everything put before is durable.
    ///
    /// # Errors
    /// Those of fdatasync(2); after one, the store refuses further writes until it is opened again.
    fn sync(&self) -> Result<()>;

    /// Starts a lease: chunks put under it are not swept before it is dropped.
    fn lease(&self) -> Lease;
}

/// The chunks that writers hold against the sweep, by the first eight bytes of their names.
#[derive(Clone, Default)]
pub struct Leases(Arc<LeasesInner>);

#[derive(Default)]
struct LeasesInner {
    next: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_lease: HashMap<u64, HashSet<u64>>,
    /// While a sweep runs: what leases dropped since its start have held.
    retired: Option<HashSet<u64>>,
}

impl Leases {
    /// Starts a lease.
    pub fn start(&self) -> Lease {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.held.lock().by_lease.insert(number, HashSet::new());
        Lease { number, leases: self.clone() }
    }

    /// Starts a sweep: from now on leases that end are remembered until [`Leases::end_sweep`].
    pub fn begin_sweep(&self) {
        self.0.held.lock().retired = Some(HashSet::new());
    }

    /// Ends a sweep.
    pub fn end_sweep(&self) {
        self.0.held.lock().retired = None;
    }

    /// Says whether a lease holds `id`, or held it since the sweep began.
    pub fn holds(&self, id: &ChunkId) -> bool {
        let held = self.0.held.lock();
        let prefix = id.prefix();
        held.retired.as_ref().is_some_and(|r| r.contains(&prefix))
            || held.by_lease.values().any(|set| set.contains(&prefix))
    }
}

/// Holds the chunks that one writer has put or is about to refer to; dropping it lets them go.
pub struct Lease {
    number: u64,
    leases: Leases,
}

impl Lease {
    /// Holds `id`; a store calls this before it looks whether the chunk is there.
    pub fn hold(&self, id: &ChunkId) {
        let mut held = self.leases.0.held.lock();
        held.by_lease.entry(self.number).or_default().insert(id.prefix());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.0.held.lock();
        let ids = held.by_lease.remove(&self.number).unwrap_or_default();
        if let Some(retired) = &mut held.retired {
            retired.extend(ids);
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({})", self.number)
    }
}
