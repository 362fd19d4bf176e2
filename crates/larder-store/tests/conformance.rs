//! Every backend runs the conformance suite.

use larder_core::{Result, Timestamp};
use larder_store::kv::{Batch, Kv, Pair};
use larder_store::log::{LogKv, LogStore, Parts, Settings};
use larder_store::memory::{MemoryChunks, MemoryKv};
use larder_store::{Change, KvCatalog, catalog::Cursor, conformance};
use std::sync::Arc;
use tempfile::TempDir;

/// Small limits, so that segments roll and checkpoints happen within a case.
const SMALL: Settings = Settings {
    segment_bytes: 256 << 10,
    memtable_bytes: 16 << 10,
    checkpoint_log_bytes: 1 << 20,
    checkpoint_ns: i64::MAX,
    index_cache_bytes: 8 << 20,
    reserve_bytes: 1 << 20,
};

fn log(folder: &TempDir, key: Option<[u8; 32]>) -> Arc<LogStore> {
    let parts = Parts { boot_id: "boot".into(), random: |bytes| bytes.fill(7), key, tape: None };
    LogStore::open(folder.path(), SMALL, &parts).expect("the store opens")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A log whose folder goes when it does.
struct Owned(LogKv, #[expect(dead_code, reason = "deletes the folder when dropped")] TempDir);

impl Kv for Owned {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.0.get(key)
    }
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>> {
        self.0.scan(prefix, after, limit)
    }
    fn apply(&self, batch: Batch) -> Result<u64> {
        self.0.apply(batch)
    }
    fn wait_durable(&self, position: u64) -> Result<()> {
        self.0.wait_durable(position)
    }
    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)> {
        self.0.changes(after, limit)
    }
    fn now(&self) -> Cursor {
        self.0.now()
    }
}

fn over<K: Kv>(kv: K) -> KvCatalog<K> {
    KvCatalog::open(kv, Timestamp(0), (0, 0)).expect("an empty index")
}

#[test]
fn memory_chunks() {
    conformance::chunk_store(MemoryChunks::default);
}

#[test]
fn memory_catalog() {
    conformance::catalog(|| over(MemoryKv::default()));
}

#[test]
fn log_chunks() {
    for key in [None, Some([1; 32])] {
        let mut folders = Vec::new();
        conformance::chunk_store(|| {
            folders.push(folder());
            let folder = folders.last().expect("pushed just now");
            Arc::into_inner(log(folder, key)).expect("nobody else has it")
        });
    }
}

#[test]
fn log_catalog() {
    for key in [None, Some([1; 32])] {
        conformance::catalog(|| {
            let folder = folder();
            over(Owned(log(&folder, key).kv(), folder))
        });
    }
}
