//! A disk that is full or fails: a clear error, nothing lost, and work again once it is better.

use crate::fixture::*;
use larder_core::{ChunkId, Kind};
use larder_store::ChunkStore;
use larder_store::kv::{Batch, Kv};
use larder_store::log::{Action, LogStore, Parts, Tape};
use std::path::Path;
use std::sync::Arc;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

fn with_tape(folder: &Path) -> (Arc<LogStore>, Arc<Tape>) {
    let tape = Arc::new(Tape::default());
    let parts = Parts { tape: Some(tape.clone()), ..parts() };
    (LogStore::open(folder, SMALL, &parts).expect("the store opens"), tape)
}

fn batch(i: u64) -> Batch {
    Batch { edits: vec![(format!("nkey{i:04}").into_bytes(), Some(noise(i, 300)))], changes: Vec::new() }
}

#[test]
fn full_disk_refuses_and_recovers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    let mut kept = Vec::new();
    for i in 0..300 {
        let action = if i % 7 == 3 { Action::Create } else { Action::Write };
        let (refuse, body) = (i % 3 == 1, noise(i, 9000));
        if refuse {
            tape.fail(action, 0, 1, ENOSPC);
        }
        let stored = store.put(&store.lease(), &ChunkId::of(&body), &body);
        let applied = store.kv().apply(batch(i));
        tape.heal();
        let refused = stored.as_ref().err().or(applied.as_ref().err()).map(|e| e.kind());
        assert!(refused.is_none_or(|kind| refuse && kind == Kind::NoSpace), "{refused:?}");
        kept.push((stored.is_ok(), applied.is_ok()));
    }
    assert!(kept.iter().any(|k| !k.0));
    let check = |store: &Arc<LogStore>| {
        for (i, (stored, applied)) in (0..).zip(&kept) {
            assert_eq!(store.get(&ChunkId::of(&noise(i, 9000))).is_ok(), *stored, "chunk {i}");
            assert_eq!(value(store, &format!("nkey{i:04}")).is_some(), *applied, "batch {i}");
        }
        assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").damaged_records, 0);
    };
    check(&store);
    drop(store);
    std::fs::remove_dir_all(folder.path().join("index")).expect("deleted");
    check(&open(folder.path()));
}

#[test]
fn failed_write_changes_nothing_and_the_next_succeeds() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    store.kv().apply(batch(1)).expect("applied");
    tape.fail(Action::Write, 0, 1, EIO);
    assert_eq!(store.kv().apply(batch(2)).expect_err("it failed").kind(), Kind::Unavailable);
    assert_eq!(value(&store, "nkey0002"), None);
    store.kv().apply(batch(3)).expect("applied");
    assert_eq!(value(&store, "nkey0003"), Some(noise(3, 300)));
}

#[test]
fn failed_sync_stops_writes_until_the_store_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    let position = store.kv().apply(batch(1)).expect("applied");
    tape.fail(Action::Sync, 0, 1, EIO);
    assert!(store.kv().wait_durable(position).is_err());
    assert!(store.kv().wait_durable(position).is_err(), "a second try must not claim success");
    let refused = store.kv().apply(batch(2)).expect_err("what the disk holds is uncertain");
    assert_eq!(refused.kind(), Kind::Unavailable);
    assert_eq!(value(&store, "nkey0001"), Some(noise(1, 300)), "reads go on");
    drop(store);
    let store = open(folder.path());
    assert_eq!(value(&store, "nkey0001"), Some(noise(1, 300)));
    store.kv().wait_durable(store.kv().apply(batch(2)).expect("applied")).expect("durable");
}

#[test]
fn unreadable_body_is_an_error_not_other_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    let id = put(&store, &noise(1, 5000));
    tape.fail(Action::Read, 0, 1, EIO);
    assert!(store.get(&id).is_err());
    assert_eq!(store.get(&id).expect("readable again"), noise(1, 5000));
}

#[test]
fn failed_checkpoints_lose_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    for i in 0..200 {
        store.kv().apply(batch(i)).expect("applied");
    }
    tape.fail(Action::Create, 0, 3, ENOSPC);
    assert_eq!(store.checkpoint().expect_err("the superblock cannot be written").kind(), Kind::NoSpace);
    assert!((0..200).all(|i| value(&store, &format!("nkey{i:04}")) == Some(noise(i, 300))));
    tape.heal();
    store.checkpoint().expect("written");
    drop(store);
    let store = open(folder.path());
    assert!(!store.was_rebuilt());
    assert!((0..200).all(|i| value(&store, &format!("nkey{i:04}")) == Some(noise(i, 300))));
}
