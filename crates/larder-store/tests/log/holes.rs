//! Damaged records that are no chunks: what the index still has of them is said again, and until then nothing is given up.

use crate::fixture::*;
use larder_core::{ChunkId, Kind};
use larder_store::ChunkStore;
use larder_store::kv::Kv;
use larder_store::log::{Action, LogStore, Parts, Settings, Tape};
use std::path::Path;
use std::sync::Arc;

const EIO: i32 = 5;
/// In the record of one value, and nowhere else.
const KEY: &str = "nkey0070";

fn fill(store: &Arc<LogStore>) {
    for i in 0..150 {
        put(store, &noise(i, 10_000));
        set(store, &format!("nkey{i:04}"), Some(&noise(i + 1000, 200)));
    }
}

#[track_caller]
fn assert_whole(store: &Arc<LogStore>) {
    for i in 0..150 {
        assert!(store.get(&ChunkId::of(&noise(i, 10_000))).is_ok(), "chunk {i}");
        assert_eq!(value(store, &format!("nkey{i:04}")), Some(noise(i + 1000, 200)), "value {i}");
    }
}

/// Collects with everything alive.
fn collect(store: &Arc<LogStore>) -> larder_core::Result<larder_store::log::Collected> {
    let mark = |mark: larder_store::log::Mark<'_>| {
        (0..150).for_each(|i| mark(&ChunkId::of(&noise(i, 10_000))));
        Ok(0)
    };
    store.collect(mark, &mut |_| ())
}

fn delete_index(folder: &Path) {
    std::fs::remove_dir_all(folder.join("index")).expect("deleted");
}

#[test]
fn rebuild_that_cannot_read_the_log_leaves_the_index_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    fill(&store);
    store.checkpoint().expect("written");
    let digest = store.digest().expect("a digest");
    for passes in [0, 1, 2, 3, 10, 50, 100] {
        tape.fail(Action::Read, passes, 4, EIO);
        let refused = store.rebuild().expect_err("the index in use has more");
        assert_eq!(refused.kind(), Kind::Unavailable, "{passes}: {refused}");
        tape.heal();
        assert_eq!(store.digest().expect("a digest"), digest, "{passes}");
    }
    drop(store);
    let store = open(folder.path());
    assert!(!store.was_rebuilt());
    store.rebuild().expect("all can be read again");
    assert_eq!(store.digest().expect("a digest"), digest);
    assert_whole(&store);
}

#[test]
fn what_a_damaged_record_said_is_said_again_by_scrub() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    fill(&store);
    // What it removed stays removed.
    set(&store, "nghost", Some(b"boo"));
    set(&store, "nghost", None);
    flip(folder.path(), KEY.as_bytes(), 3);
    // The first record of it, then the one that removes it.
    let removal = b"\x06\0\xff\xff\xff\xffnghost";
    flip(folder.path(), removal, 0);
    let digest = store.digest().expect("a digest");
    let refused = store.rebuild().expect_err("the index in use has more");
    assert_eq!(refused.kind(), Kind::Corrupt);
    assert!(refused.to_string().contains("larder scrub"), "{refused}");
    assert_eq!(store.digest().expect("a digest"), digest);
    let scrubbed = store.scrub(&mut |_| ()).expect("scrubbed");
    assert_eq!((scrubbed.damaged_records, scrubbed.restated, scrubbed.lost), (2, 2, 0));
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").restated, 0, "once is enough");
    let digest = store.digest().expect("a digest");
    store.rebuild().expect("the log has it all");
    let check = |store: &Arc<LogStore>| {
        assert_eq!(store.digest().expect("a digest"), digest);
        assert_whole(store);
        assert_eq!(value(store, "nghost"), None);
    };
    check(&store);
    drop(store);
    delete_index(folder.path());
    let store = open(folder.path());
    assert!(store.was_rebuilt());
    check(&store);
    collect(&store).expect("nothing is lacking");
    drop(store);
    assert!(!open(folder.path()).was_rebuilt());
}

#[test]
fn hole_that_grows_is_another_hole() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    fill(&store);
    // The header of chunk 70, then those of the next records, which said the value.
    flip(folder.path(), &noise(70, 10_000)[..64], -60);
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").damaged_records, 1);
    store.rebuild().expect("the log has it all");
    flip(folder.path(), KEY.as_bytes(), -60);
    flip(folder.path(), KEY.as_bytes(), 8 + 200 + 10);
    assert_eq!(store.rebuild().expect_err("a record more is damaged").kind(), Kind::Corrupt);
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").restated, 1);
    store.rebuild().expect("the log has it all");
    assert_whole(&store);
}

#[test]
fn index_that_lacks_something_drops_nothing_and_is_made_again_by_each_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    fill(&store);
    store.close().expect("closed");
    drop(store);
    flip(folder.path(), KEY.as_bytes(), 3);
    delete_index(folder.path());
    for _ in 0..2 {
        let store = open(folder.path());
        assert!(store.was_rebuilt());
        assert_eq!(value(&store, KEY), None);
        let refused = collect(&store).expect_err("the chunks of a lost name have no mark");
        assert_eq!(refused.kind(), Kind::Corrupt);
        assert!(refused.to_string().contains("larder rebuild --accept-loss"), "{refused}");
        assert!(store.rebuild().is_err(), "there is nothing more in the log");
        assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").restated, 0);
        store.checkpoint().expect("written");
    }
    let accepted = folder.path().with_extension("accepted");
    copy(folder.path(), &accepted);
    // It was a cable.
    flip(folder.path(), b"nke\x690070", 3);
    let store = open(folder.path());
    assert_whole(&store);
    collect(&store).expect("all is there");
    drop(store);
    assert!(!open(folder.path()).was_rebuilt());
    // It was not.
    let store = open(&accepted);
    store.rebuild_accepting_loss().expect("rebuilt");
    collect(&store).expect("what is left is all there is");
    drop(store);
    assert!(!open(&accepted).was_rebuilt());
    delete_index(&accepted);
    let store = open(&accepted);
    collect(&store).expect("that is known for good");
    assert_eq!(value(&store, KEY), None);
    drop(store);
    std::fs::remove_dir_all(accepted).expect("deleted");
}

#[test]
fn checkpoint_does_not_vouch_for_an_index_that_failed() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("store");
    let settings = Settings { index_cache_bytes: 256 << 10, memtable_bytes: 1 << 20, ..QUIET };
    let store = LogStore::open(&place, settings, &parts()).expect("the store opens");
    for i in 0..20_000u64 {
        set(&store, &format!("nkey{i:05}"), Some(&noise(i, 200)));
    }
    store.checkpoint().expect("written");
    let index = std::fs::read_dir(place.join("index")).expect("an index").next().expect("one");
    let db = index.expect("a folder").path().join("db");
    let good = std::fs::read(&db).expect("a file");
    // While it is collecting, the store does not make its index again by itself.
    let collected = store.collect(
        |_| {
            std::fs::write(&db, vec![0xAA; good.len()]).expect("written");
            let read = |i: u64| store.kv().get(format!("nkey{i:05}").as_bytes()).map(drop);
            assert!((0..20_000).try_for_each(read).is_err(), "the file was read");
            std::fs::write(&db, &good).expect("written");
            set(&store, "nlast", Some(b"one more"));
            println!("{:?}", store.checkpoint());
            copy(&place, &folder.path().join("killed"));
            Err(larder_core::Error::unavailable("enough"))
        },
        &mut |_| (),
    );
    assert!(collected.is_err());
    let killed = open(&folder.path().join("killed"));
    assert!(killed.was_rebuilt());
    assert_eq!(value(&killed, "nlast").as_deref(), Some(&b"one more"[..]));
    // And once nothing holds it up, the store does make it again by itself.
    let is_new = || !db.exists();
    while !is_new() {
        std::thread::yield_now();
    }
}

#[test]
fn value_whose_segment_is_gone_is_damaged_not_absent() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    set(&store, "xlong", Some(&noise(1, 5000)));
    for i in 0..150 {
        put(&store, &noise(i, 10_000));
    }
    store.close().expect("closed");
    drop(store);
    std::fs::remove_file(folder.path().join("segments/00000001")).expect("deleted");
    let store = open(folder.path());
    assert_eq!(store.kv().get(b"xlong").expect_err("damaged").kind(), Kind::Corrupt);
    assert_eq!(store.kv().scan(b"x", None, 10).expect_err("damaged").kind(), Kind::Corrupt);
}

#[test]
fn end_of_the_log_that_cannot_be_read_is_not_cut() {
    let folder = scratch();
    let (place, killed) = (folder.path().join("store"), folder.path().join("killed"));
    let store = LogStore::open(&place, QUIET, &parts()).expect("the store opens");
    for i in 0..10 {
        set(&store, &format!("nkey{i}"), Some(&noise(i, 10_000)));
    }
    let mut refused = 0;
    for passes in 0..20 {
        copy(&place, &killed);
        let tape = Arc::new(Tape::default());
        tape.fail(Action::Read, passes, u64::MAX, EIO);
        let parts = Parts { tape: Some(tape), ..parts() };
        match LogStore::open(&killed, QUIET, &parts) {
            Ok(store) => drop(store),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Unavailable, "{passes}: {error}");
                refused += 1;
            }
        }
        let store = open(&killed);
        for i in 0..10 {
            let found = value(&store, &format!("nkey{i}"));
            assert!(found == Some(noise(i, 10_000)), "{passes}: value {i}");
        }
        drop(store);
        std::fs::remove_dir_all(&killed).expect("deleted");
    }
    assert!((1..20).contains(&refused), "{refused}");
}
