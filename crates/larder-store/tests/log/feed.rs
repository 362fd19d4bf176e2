//! The feed of the log: every change once, in order, behind a cursor that is worth something or says that it is not.

use crate::fixture::*;
use larder_core::{Kind, NodeId};
use larder_store::Change;
use larder_store::catalog::Cursor;
use larder_store::kv::{Batch, Kv};
use larder_store::log::LogStore;
use std::sync::Arc;

fn change(store: &Arc<LogStore>, numbers: std::ops::Range<u64>) {
    let changes = numbers.map(|n| Change::Content(NodeId(n))).collect();
    let edits = vec![(b"nkey".to_vec(), Some(noise(1, 500)))];
    store.kv().apply(Batch { edits, changes }).expect("the batch is applied");
}

fn read_all(store: &Arc<LogStore>, mut at: Cursor, step: usize) -> (Vec<u64>, Cursor) {
    let mut seen = Vec::new();
    loop {
        let (changes, next) = store.kv().changes(&at, step).expect("the feed reaches back");
        at = next;
        if changes.is_empty() {
            return (seen, at);
        }
        seen.extend(changes.iter().map(|change| match change {
            Change::Content(NodeId(n)) => *n,
            other => panic!("{other:?} was never written"),
        }));
    }
}

#[test]
fn every_change_is_read_once_in_steps_of_any_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let begin = store.kv().now();
    let mut next = 0;
    for i in 0..600 {
        change(&store, next..next + i % 7);
        next += i % 7;
        // Chunks between make the log roll to the next segments.
        put(&store, &noise(i, 5000));
    }
    let all: Vec<u64> = (0..next).collect();
    for step in [1, 2, 3, 1000, usize::MAX] {
        assert_eq!(read_all(&store, begin.clone(), step).0, all, "steps of {step}");
        assert_eq!(read_all(&store, Cursor::default(), step).0, all, "steps of {step}");
    }
    let (_, end) = read_all(&store, begin.clone(), 10);
    change(&store, 7..9);
    assert_eq!(read_all(&store, end, 10).0, [7, 8]);
    drop(store);
    let again = open(folder.path());
    assert_eq!(read_all(&again, begin, 100).0.len(), all.len() + 2);
}

#[test]
fn cursor_into_a_compacted_segment_is_a_conflict() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let begin = store.kv().now();
    for i in 0..300 {
        change(&store, i..i + 1);
        put(&store, &noise(i, 10_000));
    }
    let late = store.kv().now();
    store.collect(|_| Ok(0), &mut |_| ()).expect("collected");
    assert_eq!(store.kv().changes(&begin, 10).expect_err("it is gone").kind(), Kind::Conflict);
    change(&store, 5..6);
    assert_eq!(read_all(&store, late, 10).0, [5]);
}

#[test]
fn cursor_behind_what_a_power_cut_took_is_a_conflict() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let store = open(&first);
    change(&store, 0..5);
    store.kv().wait_durable(0).expect("synced");
    copy(&first, &second);
    change(&store, 5..9);
    let lost = store.kv().now();
    let again = LogStore::open(&second, SMALL, &boot("second boot")).expect("the store opens");
    assert_eq!(again.kv().changes(&lost, 10).expect_err("it is lost").kind(), Kind::Conflict);
    for i in 0..50 {
        change(&again, i..i + 5);
    }
    assert_eq!(again.kv().changes(&lost, 10).expect_err("it is lost").kind(), Kind::Conflict);
}

#[test]
fn what_is_no_cursor_is_invalid() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    assert_eq!(store.kv().changes(&Cursor(vec![1, 2]), 10).expect_err("no cursor").kind(), Kind::Invalid);
}
