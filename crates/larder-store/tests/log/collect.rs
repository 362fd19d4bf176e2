//! Collection: what is alive or held stays, space comes back, nobody who reads meanwhile is disturbed.

use crate::fixture::*;
use larder_core::{ChunkId, Kind, Timestamp};
use larder_store::log::LogStore;
use larder_store::{Catalog, ChunkStore, KvCatalog, Put};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn body(i: u64) -> Vec<u8> {
    noise(i, 20_000 + (i as usize % 7) * 1000)
}

fn collect(store: &Arc<LogStore>, alive: &[ChunkId]) -> larder_store::log::Collected {
    let mark = |mark: larder_store::log::Mark<'_>| {
        alive.iter().for_each(mark);
        Ok(0)
    };
    store.collect(mark, &mut |_| ()).expect("collected")
}

#[test]
fn dead_chunks_go_and_their_space_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for i in 0..200 {
        put(&store, &body(i));
        set(&store, &format!("nkey{:03}", i % 50), Some(&noise(i, 300)));
        set(&store, &format!("nlong{:03}", i % 5), Some(&noise(i, 5000)));
        set(&store, &format!("ngone{i:03}"), Some(b"x"));
        set(&store, &format!("ngone{i:03}"), None);
    }
    let before = store.stats().expect("stats");
    let alive: Vec<ChunkId> = (0..200).step_by(10).map(|i| ChunkId::of(&body(i))).collect();
    let collected = collect(&store, &alive);
    assert_eq!(collected.chunks, 180);
    let after = store.stats().expect("stats");
    assert!(after.log_bytes < before.log_bytes / 2, "{after:?}");
    let check = |store: &Arc<LogStore>| {
        for i in 0..200 {
            let found = store.get(&ChunkId::of(&body(i)));
            match i % 10 {
                0 => assert_eq!(found.expect("alive"), body(i)),
                _ => assert_eq!(found.expect_err("dead").kind(), Kind::NotFound),
            }
        }
        for i in 150..200 {
            assert_eq!(value(store, &format!("nkey{:03}", i % 50)), Some(noise(i, 300)));
        }
        for i in 195..200 {
            assert_eq!(value(store, &format!("nlong{:03}", i % 5)), Some(noise(i, 5000)));
        }
        assert!((0..200).all(|i| value(store, &format!("ngone{i:03}")).is_none()));
    };
    check(&store);
    let digest = store.digest().expect("a digest");
    store.rebuild().expect("rebuilt");
    assert_eq!(store.digest().expect("a digest"), digest);
    check(&store);
    let again = collect(&store, &alive);
    assert_eq!((again.chunks, again.segments), (0, 0), "a second collection has nothing to do");
    drop(store);
    std::fs::remove_dir_all(folder.path().join("index")).expect("deleted");
    let store = open(folder.path());
    assert_eq!(store.digest().expect("a digest"), digest);
    check(&store);
}

#[test]
fn held_chunks_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let lease = store.lease();
    let (held, known, dropped) = (body(1), body(2), body(3));
    put(&store, &known);
    store.put(&lease, &ChunkId::of(&held), &held).expect("stored");
    assert_eq!(store.put(&lease, &ChunkId::of(&known), &known).expect("there"), Put::Known);
    put(&store, &dropped);
    let store_at_mark = store.clone();
    let late = body(4);
    store
        .collect(
            |_| {
                // A writer that comes and goes while the sweep marks.
                put(&store_at_mark, &late);
                Ok(0)
            },
            &mut |_| (),
        )
        .expect("collected");
    for kept in [&held, &known, &late] {
        assert_eq!(store.get(&ChunkId::of(kept)).expect("held"), *kept);
    }
    assert_eq!(store.get(&ChunkId::of(&dropped)).expect_err("not held").kind(), Kind::NotFound);
    drop(lease);
    collect(&store, &[]);
    assert_eq!(store.stats().expect("stats").chunks, 0);
}

#[test]
fn what_scrub_set_aside_is_no_change_to_be_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    (0..10).for_each(|i| _ = put(&store, &body(i)));
    flip(folder.path(), &body(5)[..64], 5000);
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").damaged, [ChunkId::of(&body(5))]);
    let catalog = KvCatalog::open(store.kv(), Timestamp(1), (0, 0)).expect("a catalog");
    assert_eq!(catalog.queued(0, 10).expect("readable").len(), 0);
    assert_eq!(catalog.mark(&*store, |_| ()).expect("marked"), 0);
}

#[test]
fn failed_mark_drops_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let id = put(&store, &body(1));
    let failed = store.collect(|_| Err(larder_core::Error::corrupt("a page")), &mut |_| ());
    assert_eq!(failed.expect_err("the mark failed").kind(), Kind::Corrupt);
    assert!(store.get(&id).is_ok());
}

#[test]
fn segment_with_a_chunk_that_cannot_be_moved_is_moved_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for i in 0..50 {
        put(&store, &body(i));
        set(&store, &format!("nkey{i:03}"), Some(&noise(i, 500)));
    }
    // It lies behind the edits of its segment, and the next segment has begun.
    let (bad, good) = (ChunkId::of(&body(35)), ChunkId::of(&body(49)));
    flip(folder.path(), &body(35)[..64], 5000);
    let log_bytes = || store.stats().expect("stats").log_bytes;
    let before = log_bytes();
    assert_eq!(collect(&store, &[bad, good]).chunks, 48);
    let first = log_bytes();
    assert!(first > before, "what can be moved was, and the segment stays: {before}, {first}");
    for _ in 0..3 {
        collect(&store, &[bad, good]);
        assert_eq!(log_bytes(), first);
    }
    // After a scrub, which sets the chunk aside, the rest can go.
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").damaged, [bad]);
    assert_eq!(collect(&store, &[good]).segments, 1);
    assert!(log_bytes() < before);
    assert!((0..50).all(|i| value(&store, &format!("nkey{i:03}")) == Some(noise(i, 500))));
}

#[test]
fn readers_and_writers_are_not_disturbed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let alive: Vec<u64> = (0..400).filter(|i| i % 5 == 0).collect();
    for i in 0..400 {
        put(&store, &body(i));
    }
    let ids: Vec<ChunkId> = alive.iter().map(|i| ChunkId::of(&body(*i))).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (store, alive, done) = (&store, &alive, &done);
            scope.spawn(move || {
                let mut reads = 0;
                while !done.load(Ordering::Relaxed) || reads == 0 {
                    for i in alive.iter().skip(reader) {
                        assert_eq!(store.get(&ChunkId::of(&body(*i))).expect("alive"), body(*i));
                        reads += 1;
                    }
                }
            });
        }
        scope.spawn(|| {
            let lease = store.lease();
            let mut i = 1000;
            while !done.load(Ordering::Relaxed) || i < 1100 {
                store.put(&lease, &ChunkId::of(&body(i)), &body(i)).expect("stored");
                assert_eq!(store.get(&ChunkId::of(&body(i))).expect("held"), body(i));
                set(&store, &format!("nkey{}", i % 100), Some(&body(i)[..100]));
                i += 1;
            }
        });
        for round in 0..4 {
            collect(&store, &ids);
            store.scrub(&mut |_| ()).expect("scrubbed");
            if round % 2 == 1 {
                store.rebuild().expect("rebuilt");
            }
            store.checkpoint().expect("written");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(store.scrub(&mut |_| ()).expect("scrubbed").damaged.is_empty());
}

#[test]
fn start_after_a_collection_has_little_to_replay() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let key = |i: u64| format!("nkey{i:05}");
    for i in 0..20_000 {
        set(&store, &key(i), Some(&noise(i, 100)));
    }
    for i in (0..20_000).filter(|i| i % 3 != 0) {
        set(&store, &key(i), None);
    }
    store.checkpoint().expect("written");
    let before = store.stats().expect("stats").checkpoints;
    let moved = collect(&store, &[]).moved_bytes;
    let checkpoints = store.stats().expect("stats").checkpoints - before;
    // Two memtables may wait for a checkpoint; a start reads them again.
    let replayed = moved / (checkpoints + 1);
    assert!(moved > 10 * SMALL.memtable_bytes as u64, "{moved} bytes were moved");
    assert!(replayed < 2 * SMALL.memtable_bytes as u64, "{moved} bytes moved, {checkpoints} checkpoints");
}
