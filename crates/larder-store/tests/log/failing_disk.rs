//! A disk that is full or fails: a clear error, nothing lost, and work again once it is better.

use crate::fixture::*;
use larder_core::{ChunkId, Kind};
use larder_store::ChunkStore;
use larder_store::kv::{Batch, Kv};
use larder_store::log::{Action, LogStore, Parts, Tape};
use std::sync::Arc;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

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

#[test]
fn failed_sync_ends_the_log_where_its_loss_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    store.kv().wait_durable(store.kv().apply(batch(0)).expect("applied")).expect("durable");
    let positions = [1, 2, 3].map(|i| store.kv().apply(batch(i)).expect("applied"));
    tape.fail(Action::Sync, 0, 1, EIO);
    assert!(store.kv().wait_durable(positions[2]).is_err());
    drop(store);
    // What the disk refused and the kernel had in memory only: the middle of the three.
    let path = folder.path().join("segments/00000001");
    let mut bytes = std::fs::read(&path).expect("a segment");
    let lost = noise(2, 300);
    let at = bytes.windows(lost.len()).position(|window| window == lost).expect("commit 2");
    bytes[at..at + lost.len()].fill(0);
    std::fs::write(&path, bytes).expect("written");
    for start in 0..2 {
        let store = open(folder.path());
        let there = [0, 1, 2, 3].map(|i| value(&store, &format!("nkey{i:04}")).is_some());
        assert_eq!(there, [true, true, false, false], "start {start}");
        assert!(!folder.path().join("sync-failed").exists());
        store.kv().wait_durable(store.kv().apply(batch(9)).expect("applied")).expect("durable");
    }
}

fn collect(store: &Arc<LogStore>, alive: &[ChunkId]) -> u64 {
    let mark = |mark: larder_store::log::Mark<'_>| {
        alive.iter().for_each(mark);
        Ok(0)
    };
    store.collect(mark, &mut |_| ()).expect("what cannot be read stops no collection").segments
}

#[test]
fn body_that_could_not_be_read_for_a_while_is_not_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    let ids: Vec<ChunkId> = (0..300).map(|i| put(&store, &noise(i, 9000))).collect();
    // The second read of a scrub is of the first body.
    tape.fail(Action::Read, 1, 1, EIO);
    let scrubbed = store.scrub(&mut |_| ()).expect("scrubbed");
    assert_eq!((scrubbed.damaged.as_slice(), scrubbed.unreadable, scrubbed.chunks), (&ids[..1], 0, 299));
    assert_eq!(store.missing(&ids).expect("an answer"), &ids[..1]);
    assert_eq!(store.get(&ids[0]).expect("readable again"), noise(0, 9000));
    let alive: Vec<ChunkId> = ids.iter().step_by(10).copied().collect();
    tape.fail(Action::Read, 0, u64::MAX, EIO);
    assert_eq!(collect(&store, &alive), 0, "a segment that cannot be read stays");
    tape.heal();
    assert!(collect(&store, &alive) > 0);
    assert!(store.scrub(&mut |_| ()).expect("scrubbed").damaged.is_empty());
    assert_eq!(store.stats().expect("stats").quarantined, 0);
    for (i, id) in (0..300).step_by(10).zip(&alive) {
        assert_eq!(store.get(id).expect("alive"), noise(i, 9000));
    }
}

#[test]
fn scrub_stores_again_what_it_set_aside_and_can_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    let id = put(&store, &noise(1, 9000));
    tape.fail(Action::Read, 1, 1, EIO);
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").damaged, [id]);
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").damaged, []);
    assert_eq!(store.stats().expect("stats").quarantined, 0);
    assert_eq!(store.missing(&[id]).expect("an answer"), []);
}

#[test]
fn want_of_files_sets_nothing_aside() {
    const EMFILE: i32 = 24;
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    let id = put(&store, &noise(1, 9000));
    tape.fail(Action::Read, 1, 1, EMFILE);
    let scrubbed = store.scrub(&mut |_| ()).expect("scrubbed");
    assert_eq!((scrubbed.damaged.len(), scrubbed.unreadable), (0, 1));
    assert_eq!(store.missing(&[id]).expect("an answer"), []);
}

#[test]
fn unreadable_block_costs_a_rebuild_little_and_a_dead_disk_stops_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    let store = open(&whole);
    for i in 0..150 {
        put(&store, &noise(i, 10_000));
        store.kv().apply(batch(i)).expect("applied");
    }
    store.close().expect("closed");
    drop(store);
    std::fs::remove_dir_all(whole.join("index")).expect("deleted");
    for passes in [0, 1, 2, 3, 10, 50, 100] {
        let place = folder.path().join(passes.to_string());
        copy(&whole, &place);
        let tape = Arc::new(Tape::default());
        // Read ahead and alone, then twice more while the next header is looked for.
        tape.fail(Action::Read, passes, 4, EIO);
        let parts = Parts { tape: Some(tape.clone()), ..parts() };
        let store = LogStore::open(&place, SMALL, &parts).expect("one block keeps no store from opening");
        tape.heal();
        let chunks = (0..150).filter(|i| store.get(&ChunkId::of(&noise(*i, 10_000))).is_err()).count();
        let batches = (0..150).filter(|i| value(&store, &format!("nkey{i:04}")).is_none()).count();
        assert!((1..4).contains(&(chunks + batches)), "{passes}: {chunks} chunks, {batches} batches");
    }
    let tape = Arc::new(Tape::default());
    tape.fail(Action::Read, 10, u64::MAX, EIO);
    let opened = LogStore::open(&whole, SMALL, &Parts { tape: Some(tape), ..parts() });
    assert_eq!(opened.err().expect("most of the log is missing").kind(), Kind::Unavailable);
}
