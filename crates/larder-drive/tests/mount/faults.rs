//! A chunk store in memory that can be full, that can make writers wait, and that counts syncs.

use bytes::Bytes;
use larder_core::{ChunkId, Error, Kind, Result};
use larder_store::memory::MemoryChunks;
use larder_store::{ChunkStore, Lease, Put};
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[derive(Default)]
pub struct FaultyChunks {
    pub memory: MemoryChunks,
    pub full: AtomicBool,
    pub syncs: AtomicUsize,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    /// Names of threads that it is closed to.
    held: HashSet<&'static str>,
    /// Names of threads that wait.
    waiting: Vec<String>,
}

impl FaultyChunks {
    /// From now on whoever stores a chunk waits.
    pub fn close_gate(&self) {
        self.gate.lock().closed = true;
    }

    /// Returns once somebody waits at the closed gate.
    pub fn somebody_waits(&self) {
        let mut gate = self.gate.lock();
        while gate.waiting.is_empty() {
            self.moved.wait(&mut gate);
        }
    }

    /// From now on the thread of this name waits where it stores a chunk.
    pub fn hold(&self, thread: &'static str) {
        self.gate.lock().held.insert(thread);
    }

    /// Returns once the thread of this name waits.
    pub fn waits(&self, thread: &str) {
        let mut gate = self.gate.lock();
        while !gate.waiting.iter().any(|name| name == thread) {
            self.moved.wait(&mut gate);
        }
    }

    /// Lets the thread of this name go on.
    pub fn free(&self, thread: &str) {
        self.gate.lock().held.remove(thread);
        self.moved.notify_all();
    }

    pub fn open_gate(&self) {
        self.gate.lock().closed = false;
        self.moved.notify_all();
    }

    /// Chunks and their bytes.
    pub fn size(&self) -> (usize, u64) {
        self.memory.size()
    }
}

impl ChunkStore for FaultyChunks {
    fn get(&self, id: &ChunkId) -> Result<Bytes> {
        self.memory.get(id)
    }

    fn try_get(&self, id: &ChunkId) -> Option<Bytes> {
        self.memory.try_get(id)
    }

    fn prefetch(&self, ids: &[ChunkId]) {
        self.memory.prefetch(ids);
    }

    fn put(&self, lease: &Lease, id: &ChunkId, body: &[u8]) -> Result<Put> {
        let mut gate = self.gate.lock();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        while gate.closed || gate.held.contains(thread.as_str()) {
            gate.waiting.push(thread.clone());
            self.moved.notify_all();
            self.moved.wait(&mut gate);
            gate.waiting.retain(|name| *name != thread);
        }
        drop(gate);
        if self.full.load(Ordering::Acquire) {
            return Err(Error::new(Kind::NoSpace, "the test says it is full"));
        }
        self.memory.put(lease, id, body)
    }

    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        self.memory.missing(ids)
    }

    fn sync(&self) -> Result<()> {
        self.syncs.fetch_add(1, Ordering::AcqRel);
        self.memory.sync()
    }

    fn lease(&self) -> Lease {
        self.memory.lease()
    }
}
