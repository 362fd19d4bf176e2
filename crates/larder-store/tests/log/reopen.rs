//! What was stored is there after a proper close, after kill -9 and after the loss of the index.

use crate::fixture::*;
use larder_core::{ChunkId, Kind, Timestamp};
use larder_store::ChunkStore;
use larder_store::kv::Kv;
use larder_store::log::{LogStore, Settings};
use std::path::Path;
use std::sync::Arc;

fn fill(store: &Arc<LogStore>, count: u64) {
    for i in 0..count {
        put(store, &noise(i, 3000 + (i as usize * 997) % 40_000));
        set(store, &format!("nkey{i:05}"), Some(&noise(i, 200)));
        set(store, &format!("nkey{:05}", i / 2), Some(&noise(i, 100)));
        if i % 3 == 0 {
            set(store, &format!("nkey{:05}", i / 3), None);
        }
    }
    set(store, "xlong", Some(&noise(1, 60_000)));
}

fn contents(store: &Arc<LogStore>, count: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    for i in 0..count {
        let body = noise(i, 3000 + (i as usize * 997) % 40_000);
        assert_eq!(store.get(&ChunkId::of(&body)).expect("the chunk is there"), body);
    }
    let pairs = store.kv().scan(b"n", None, usize::MAX).expect("the index answers");
    for (key, value) in &pairs {
        assert_eq!(store.kv().get(key).expect("the index answers").as_ref(), Some(value));
    }
    assert_eq!(value(store, "xlong"), Some(noise(1, 60_000)));
    pairs
}

fn same_after(count: u64, change: impl Fn(&Path)) -> Arc<LogStore> {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let store = LogStore::open(&first, QUIET, &parts()).expect("the store opens");
    fill(&store, count / 2);
    store.checkpoint().expect("the index is written");
    fill(&store, count);
    let before = contents(&store, count);
    copy(&first, &second);
    change(&second);
    let again = open(&second);
    assert_eq!(contents(&again, count), before);
    again
}

#[test]
fn killed_store_has_everything() {
    assert!(!same_after(400, |_| ()).was_rebuilt());
}

#[test]
fn deleted_index_is_made_again() {
    let rebuilt = same_after(400, |folder| std::fs::remove_dir_all(folder.join("index")).expect("deleted"));
    assert!(rebuilt.was_rebuilt());
}

#[test]
fn deleted_superblock_is_made_again() {
    let rebuilt = same_after(400, |folder| std::fs::remove_file(folder.join("superblock")).expect("deleted"));
    assert!(rebuilt.was_rebuilt());
}

#[test]
fn closed_store_opens_without_a_replay_on_another_boot() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    fill(&store, 300);
    let before = contents(&store, 300);
    store.close().expect("closed");
    drop(store);
    let again = LogStore::open(folder.path(), SMALL, &boot("second boot")).expect("the store opens");
    assert!(!again.was_rebuilt());
    assert_eq!(contents(&again, 300), before);
}

#[test]
fn second_opener_is_told_who_has_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let _first = open(folder.path());
    let error = LogStore::open(folder.path(), SMALL, &parts()).err().expect("it is in use");
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn checkpoint_is_due_once_its_time_has_passed() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { checkpoint_ns: 1000, ..QUIET };
    let store = LogStore::open(folder.path(), settings, &parts()).expect("the store opens");
    let checkpoints = || store.stats().expect("stats").checkpoints;
    let before = checkpoints();
    for now in [0, 5000] {
        store.checkpoint_if_due(Timestamp(now));
    }
    set(&store, "nkey", Some(b"value"));
    store.checkpoint_if_due(Timestamp(5999));
    set(&store, "nkey2", Some(b"value"));
    store.checkpoint_if_due(Timestamp(7000));
    // The checkpointer empties the memtable; nothing else here does.
    while store.stats().expect("stats").memtable_bytes > 0 {
        std::thread::yield_now();
    }
    assert!(checkpoints() > before);
}
