//! A file system that is really full: a tmpfs of 24 MiB.

use crate::fixture::{SMALL, noise, parts, put, set, value};
use larder_core::{ChunkId, Kind};
use larder_store::ChunkStore;
use larder_store::kv::{Batch, Kv};
use larder_store::log::{LogStore, Settings};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Keeps an eighth of the disk free, as the usual settings do.
const KEEPING: Settings = Settings { reserve_bytes: 64 << 20, ..SMALL };

fn open(folder: &Path) -> Arc<LogStore> {
    LogStore::open(folder, KEEPING, &parts()).expect("the store opens")
}

/// A mounted tmpfs; unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    /// `None`, having said why, where mounting is not allowed; in CI, where nothing may be skipped, that fails.
    fn mount() -> Option<Self> {
        let skip = |why: &str| {
            assert!(!in_ci(), "may not be skipped in CI: {why}");
            println!("skipped: {why}");
            None
        };
        let folder = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "larder-test"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Small(folder)),
            Ok(output) => {
                skip(&format!("no tmpfs can be mounted: {}", String::from_utf8_lossy(&output.stderr)))
            }
            Err(error) => skip(&format!("mount(8) does not start: {error}")),
        }
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }
}

#[expect(clippy::disallowed_methods, reason = "CI says what it is in the environment")]
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false")
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        println!("unmounted: {unmounted:?}");
    }
}

fn body(i: u64) -> Vec<u8> {
    noise(i, 100_000)
}

/// Puts chunks from `from` on until the disk is full; returns the number of the first that did not fit.
fn fill(store: &Arc<LogStore>, from: u64) -> u64 {
    for i in from..from + 1000 {
        match store.put(&store.lease(), &ChunkId::of(&body(i)), &body(i)) {
            Ok(_) => drop(set(store, &format!("nfile{i:03}"), Some(&noise(i, 150)))),
            Err(error) => {
                assert_eq!(error.kind(), Kind::NoSpace, "{error}");
                return i;
            }
        }
    }
    panic!("24 MiB hold no 1000 chunks");
}

fn check(store: &Arc<LogStore>, files: impl Iterator<Item = u64>) {
    for i in files {
        assert_eq!(store.get(&ChunkId::of(&body(i))).expect("there"), body(i));
        assert_eq!(value(store, &format!("nfile{i:03}")), Some(noise(i, 150)));
    }
}

fn keep(store: &Arc<LogStore>, files: impl Iterator<Item = u64>) {
    let alive: Vec<ChunkId> = files.map(|i| ChunkId::of(&body(i))).collect();
    let mark = |mark: larder_store::log::Mark<'_>| {
        alive.iter().for_each(mark);
        Ok(0)
    };
    store.collect(mark, &mut |_| ()).expect("a collection works on a full disk");
}

fn ballast(folder: &Path, leave: usize) -> PathBuf {
    let path = folder.join("ballast");
    let free = Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output().expect("df").stdout;
    let free: usize =
        String::from_utf8_lossy(&free).lines().last().and_then(|n| n.trim().parse().ok()).expect("a number");
    std::fs::write(&path, vec![1; free.saturating_sub(leave)]).expect("it fits");
    path
}

#[test]
fn full_disk_loses_nothing_and_takes_chunks_again_after_a_collection() {
    let Some(small) = Small::mount() else { return };
    let store = open(&small.store());
    let full = fill(&store, 0);
    check(&store, 0..full);
    for i in (0..full).filter(|i| i % 4 != 0) {
        set(&store, &format!("nfile{i:03}"), None);
    }
    store.kv().wait_durable(0).expect("removing is durable on a full disk");
    keep(&store, (0..full).step_by(4));
    let more = fill(&store, 2000);
    assert!(more - 2000 > full / 2, "{} of {full} fit again", more - 2000);
    check(&store, (0..full).step_by(4).chain(2000..more));
    store.close().expect("closed");
    drop(store);
    let store = open(&small.store());
    assert!(!store.was_rebuilt());
    check(&store, (0..full).step_by(4).chain(2000..more));
}

#[test]
fn disk_that_others_fill_to_the_last_byte_loses_nothing() {
    let Some(small) = Small::mount() else { return };
    let store = open(&small.store());
    for i in 0..50 {
        put(&store, &body(i));
        set(&store, &format!("nfile{i:03}"), Some(&noise(i, 150)));
    }
    // None runs by itself while the rest is measured and filled.
    store.checkpoint().expect("written");
    let ballast = ballast(small.0.path(), 0);
    let refused = (0..2000u64).find_map(|i| {
        let edits = vec![(format!("nlate{i:04}").into_bytes(), Some(noise(i, 900)))];
        store.kv().apply(Batch { edits, changes: Vec::new() }).err().map(|error| (i, error))
    });
    let (applied, error) = refused.expect("it is full");
    assert_eq!(error.kind(), Kind::NoSpace, "{error}");
    check(&store, 0..50);
    if let Err(error) = store.close() {
        assert_eq!(error.kind(), Kind::NoSpace, "{error}");
    }
    drop(store);
    let store = open(&small.store());
    check(&store, 0..50);
    std::fs::remove_file(ballast).expect("removed");
    for i in 0..applied {
        assert_eq!(value(&store, &format!("nlate{i:04}")), Some(noise(i, 900)));
    }
    assert_eq!(value(&store, &format!("nlate{applied:04}")), None);
    put(&store, &body(77));
    set(&store, "nfile077", Some(&noise(77, 150)));
    store.close().expect("closed");
    drop(store);
    check(&open(&small.store()), (0..50).chain([77]));
}

#[test]
fn changes_leave_a_collection_its_room() {
    let Some(small) = Small::mount() else { return };
    // Two of these, and a checkpoint of one, are more than what a full disk has left.
    let settings = Settings { memtable_bytes: 4 << 20, ..KEEPING };
    let store = LogStore::open(&small.store(), settings, &parts()).expect("the store opens");
    let full = fill(&store, 0);
    // Short keys take much more memory than log.
    let change = |i: u64, value: Option<&[u8]>| {
        let key = |j: u64| format!("nmany{i:05}{j:02}").into_bytes();
        let edits = (0..100).map(|j| (key(j), value.map(<[u8]>::to_vec))).collect();
        store.kv().apply(Batch { edits, changes: Vec::new() })
    };
    let refused = (0..20_000).find_map(|i| change(i, Some(b"x")).err().map(|error| (i, error)));
    let (applied, error) = refused.expect("it is full");
    assert_eq!(error.kind(), Kind::NoSpace, "{error}");
    for i in 0..10 {
        change(i, None).expect("what only removes goes on");
    }
    let edits = vec![(b"nmany0001000".to_vec(), None), (b"ntotals".to_vec(), Some(vec![1; 40]))];
    store.kv().apply(Batch { edits, changes: Vec::new() }).expect("so does what removes one and counts it");
    keep(&store, (0..full).step_by(4));
    let more = fill(&store, 2000);
    assert!(more - 2000 > full / 2, "{} of {full} fit again", more - 2000);
    store.close().expect("closed");
    drop(store);
    let store = LogStore::open(&small.store(), settings, &parts()).expect("the store opens");
    for i in 0..applied {
        let expected = Some(b"x".to_vec()).filter(|_| i >= 10);
        assert_eq!(value(&store, &format!("nmany{i:05}99")), expected, "{i} of {applied}");
    }
}
