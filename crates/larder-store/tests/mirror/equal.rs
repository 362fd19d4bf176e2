//! Equal trees that are made on two devices become one, and what that costs grows with the tree.

use crate::device::Device;
use crate::server::Server;
use crate::{ROOT, tree};
use larder_core::Result;
use larder_store::Change;
use larder_store::catalog::Cursor;
use larder_store::kv::{Batch, Kv, Pair};
use larder_store::memory::MemoryKv;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files in each folder.
const FILES: usize = 20;

/// An index that counts the pairs which are read.
struct Counted(MemoryKv, Arc<AtomicU64>);

impl Kv for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>> {
        let pairs = self.0.scan(prefix, after, limit)?;
        self.1.fetch_add(1 + pairs.len() as u64, Ordering::Relaxed);
        Ok(pairs)
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

/// Makes `folders` folders with files, in which `content` is.
fn fill<K: Kv + 'static>(device: &Device<K>, folders: usize, content: u8) {
    for number in 0..folders {
        let folder = device.make(ROOT, &format!("folder {number}"), None).expect("made");
        for file in 0..FILES {
            device.make(folder, &format!("file {file}"), Some(content)).expect("made");
        }
    }
}

/// The pairs that a device reads while it tells of a tree that another one has told of, with `content` in its files.
fn read(folders: usize, content: u8) -> u64 {
    let server = Server::new();
    let count = Arc::new(AtomicU64::new(0));
    let (one, two) =
        (Device::new(&server), Device::over(Counted(MemoryKv::default(), count.clone()), &server));
    fill(&one, folders, 1);
    fill(&two, folders, content);
    one.settle();
    count.store(0, Ordering::Relaxed);
    two.push_all();
    let read = count.load(Ordering::Relaxed);
    two.settle();
    let there = tree(&server.catalog);
    assert_eq!(there.len(), folders * if content == 1 { 1 + FILES } else { 1 + 2 * FILES });
    assert_eq!(tree(&two.mirror), there);
    read
}

#[test]
fn what_an_equal_tree_costs_grows_with_it() {
    for content in [1, 2] {
        let (small, large) = (read(10, content), read(40, content));
        println!("{small} pairs of 210 nodes, {large} of 840, content {content}");
        assert!(large < 6 * small, "{small} and {large} of four times as many, content {content}");
    }
}
