//! What a device keeps, as of now and as of the last sync: a power cut goes back to that.

use larder_core::Result;
use larder_store::Change;
use larder_store::catalog::Cursor;
use larder_store::kv::{Batch, Kv, Pair};
use larder_store::memory::MemoryKv;
use parking_lot::Mutex;
use std::sync::Arc;

/// An index that knows what of it is on the disk.
#[derive(Clone, Default)]
pub struct Disk(Arc<State>);

#[derive(Default)]
struct State {
    now: MemoryKv,
    durable: Mutex<Vec<Pair>>,
}

impl Disk {
    fn of(pairs: Vec<Pair>) -> Self {
        let edits = pairs.iter().cloned().map(|(key, value)| (key, Some(value))).collect();
        let disk = Self::default();
        disk.0.now.apply(Batch { edits, changes: Vec::new() }).expect("copied");
        *disk.0.durable.lock() = pairs;
        disk
    }

    fn all(&self) -> Vec<Pair> {
        self.0.now.scan(b"", None, usize::MAX).expect("pairs")
    }

    /// Everything is on the disk: chunks and index are of one log.
    pub fn sync(&self) {
        *self.0.durable.lock() = self.all();
    }

    /// What is there after the death of the process.
    pub fn after_death(&self) -> Self {
        Self::of(self.all())
    }

    /// What is there after a power cut.
    pub fn after_power_cut(&self) -> Self {
        Self::of(self.0.durable.lock().clone())
    }
}

impl Kv for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.0.now.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>> {
        self.0.now.scan(prefix, after, limit)
    }

    fn apply(&self, batch: Batch) -> Result<u64> {
        self.0.now.apply(batch)
    }

    fn wait_durable(&self, _: u64) -> Result<()> {
        self.sync();
        Ok(())
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)> {
        self.0.now.changes(after, limit)
    }

    fn now(&self) -> Cursor {
        self.0.now.now()
    }
}
