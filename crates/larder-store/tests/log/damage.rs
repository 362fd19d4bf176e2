//! Damage to files: an index in any state is made again; a damaged record is found, and everything else is served.

use crate::fixture::*;
use larder_core::{ChunkId, Content, Kind, Manifest, Name, NodeId, NodeKind, Timestamp};
use larder_store::catalog::NewNode;
use larder_store::kv::Kv;
use larder_store::log::{Action, LogStore, Settings};
use larder_store::{Catalog, ChunkStore, Commit, Durability, KvCatalog, Op, Put};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn fill(store: &Arc<LogStore>, count: u64) {
    for i in 0..count {
        put(store, &noise(i, 10_000));
        set(store, &format!("nkey{i:04}"), Some(&noise(i, 200)));
    }
}

fn index_files(folder: &Path) -> Vec<PathBuf> {
    let index =
        fs::read_dir(folder.join("index")).expect("an index").next().expect("one").expect("a folder").path();
    ["db", "conf"].map(|name| index.join(name)).to_vec()
}

fn rebuilt_after(damage: impl Fn(&Path)) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    fill(&store, 300);
    store.close().expect("closed");
    let store = {
        drop(store);
        let store = open(folder.path());
        let digest = store.digest().expect("a digest");
        drop(store);
        damage(folder.path());
        let store = LogStore::open(folder.path(), SMALL, &boot("second boot")).expect("the store opens");
        assert_eq!(store.digest().expect("a digest"), digest);
        assert!(store.was_rebuilt());
        store
    };
    assert!(store.scrub(&mut |_| ()).expect("scrubbed").damaged.is_empty());
    assert_eq!(value(&store, "nkey0123"), Some(noise(123, 200)));
}

#[test]
fn deleted_index_files_are_made_again() {
    for which in 0..2 {
        rebuilt_after(|folder| fs::remove_file(&index_files(folder)[which]).expect("deleted"));
    }
}

#[test]
fn truncated_index_is_made_again() {
    for part in [0, 3, 10] {
        rebuilt_after(|folder| {
            let file = fs::OpenOptions::new().write(true).open(&index_files(folder)[0]).expect("a file");
            file.set_len(file.metadata().expect("metadata").len() * part / 11).expect("truncated");
        });
    }
}

fn scribble(folder: &Path, seed: usize) {
    let path = &index_files(folder)[0];
    let mut bytes = fs::read(path).expect("a file");
    let at = seed * bytes.len() / 9;
    let len = (bytes.len() - at).min(3000);
    bytes[at..at + len].copy_from_slice(&noise(seed as u64, len));
    fs::write(path, bytes).expect("written");
}

#[test]
fn scribbled_index_is_made_again() {
    for seed in 0..8 {
        rebuilt_after(|folder| scribble(folder, seed));
    }
}

#[test]
fn boot_without_a_name_is_never_the_same_boot() {
    for seed in 0..8 {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || LogStore::open(folder.path(), SMALL, &boot("")).expect("the store opens");
        fill(&open(), 300);
        let store = open();
        assert!(!store.was_rebuilt(), "it was closed properly");
        drop(store);
        scribble(folder.path(), seed);
        let store = open();
        assert!(store.was_rebuilt());
        assert_eq!(value(&store, "nkey0123"), Some(noise(123, 200)));
    }
}

#[test]
fn damaged_superblock_is_made_again() {
    rebuilt_after(|folder| fs::write(folder.join("superblock"), b"nonsense").expect("written"));
}

#[test]
fn what_changes_in_memory_after_it_was_checked_is_not_handed_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let bodies: Vec<_> = (0..3).map(|seed| noise(seed, 300_000)).collect();
    let ids: Vec<_> = bodies.iter().map(|body| put(&store, body)).collect();
    let at_hand = |which: usize| (0..100).find_map(|_| store.try_get(&ids[which]));
    for _ in 0..3 {
        (0..3).for_each(|which| assert!(at_hand(which).expect("in memory") == bodies[which]));
    }
    let path = folder.path().join("segments/00000001");
    let mut segment = fs::read(&path).expect("a segment");
    let place = |body: &[u8]| segment.windows(64).position(|bytes| *bytes == body[..64]).expect("stored");
    let [first, second, third] = [0, 1, 2].map(|which| place(&bodies[which]));
    // One bit; and a record that is right, but of another chunk.
    segment[first + 200_000] ^= 4;
    segment.copy_within(third - 64..third + bodies[2].len(), second - 64);
    fs::write(&path, segment).expect("written");
    for id in &ids[..2] {
        assert_eq!(store.try_get(id), None);
        assert_eq!(store.get(id).expect_err("damaged").kind(), Kind::Corrupt);
    }
    assert!(at_hand(2).expect("in memory") == bodies[2]);
}

#[test]
fn store_of_another_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()));
    let path = folder.path().join("superblock");
    let mut bytes = fs::read(&path).expect("a file");
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..124]);
    bytes[124..].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).expect("written");
    let error = LogStore::open(folder.path(), SMALL, &parts()).err().expect("refused");
    assert_eq!(error.kind(), Kind::Unsupported);
}

#[test]
fn flipped_bit_of_a_body_is_found_and_healed_by_a_new_put() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    fill(&store, 150);
    let (bad, body) = (ChunkId::of(&noise(70, 10_000)), noise(70, 10_000));
    flip(folder.path(), &body[..64], 5000);
    assert_eq!(store.get(&bad).expect_err("damaged").kind(), Kind::Corrupt);
    assert_eq!(store.try_get(&bad), None, "damaged");
    let scrubbed = store.scrub(&mut |_| ()).expect("scrubbed");
    assert_eq!((scrubbed.chunks, scrubbed.damaged.as_slice()), (149, &[bad][..]));
    assert_eq!(store.get(&bad).expect_err("damaged").kind(), Kind::Corrupt);
    assert_eq!(store.missing(&[bad]).expect("an answer"), [bad]);
    let digest = store.digest().expect("a digest");
    store.rebuild().expect("rebuilt");
    assert_eq!(store.digest().expect("a digest"), digest);
    assert_eq!(store.get(&bad).expect_err("damaged").kind(), Kind::Corrupt);
    assert!(matches!(store.put(&store.lease(), &bad, &body).expect("stored"), Put::New { .. }));
    let check = |store: &Arc<LogStore>| {
        assert_eq!(store.get(&bad).expect("healed"), body);
        assert!(store.scrub(&mut |_| ()).expect("scrubbed").damaged.is_empty());
        assert_eq!(store.stats().expect("stats").quarantined, 0);
    };
    check(&store);
    store.rebuild().expect("rebuilt");
    check(&store);
    drop(store);
    fs::remove_dir_all(folder.path().join("index")).expect("deleted");
    check(&open(folder.path()));
}

#[test]
fn damaged_page_of_a_manifest_does_not_stop_collections() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tape) = with_tape(folder.path());
    let catalog = KvCatalog::open(store.kv(), Timestamp(0), (0, 0)).expect("an empty index");
    let mut page = None;
    for (file, chunks) in [("long", 100), ("short", 3)] {
        let mut manifest = Manifest::default();
        (0..chunks).for_each(|i| manifest.push(put(&store, &noise(i, 300 + chunks as usize)), 300 + chunks));
        let head = manifest.to_head(|id, bytes| {
            page = Some((id, bytes.to_vec()));
            store.put(&store.lease(), &id, bytes).map(drop)
        });
        let content = Content::File(head.expect("stored"));
        let (id, kind) = (catalog.new_id(), NodeKind::File);
        let node = NewNode { id, kind, mode: 0o644, uid: 0, gid: 0, content, mtime: None, draft: false };
        let name = Name::new(file).expect("a name");
        let ops = vec![Op::Create { parent: NodeId::ROOT, name, node: Box::new(node) }];
        let (expect, durability) = (Vec::new(), Durability::Process);
        catalog.commit(Commit { at: Timestamp(1), op_id: None, expect, ops, durability }).expect("created");
    }
    let (id, bytes) = page.expect("the long file has one");
    flip(folder.path(), &noise(99, 400)[..64], 0);
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").damaged, [ChunkId::of(&noise(99, 400))]);
    let collect = || store.collect(|mark| catalog.mark(&*store, |id| mark(id)), &mut |_| ());
    assert_eq!(collect().expect("collected").chunks, 0, "a body is no page");
    store.checkpoint().expect("written");
    // Compressed or not, the payload follows its header, which has the id.
    flip(folder.path(), &id.0, 60);
    assert!(collect().is_err(), "damage that nobody has looked at may be in memory only");
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").damaged, [id]);
    let collected = collect().expect("collected");
    assert_eq!((collected.chunks, collected.unread_pages), (0, 1), "nobody can know now whose they are");
    tape.fail(Action::Read, 0, 1, 5);
    assert_eq!(collect().expect("nor where the disk cannot read it").unread_pages, 1);
    tape.heal();
    // It was a cable.
    flip(folder.path(), &id.0, 60);
    flip(folder.path(), &noise(99, 400)[1..64], -1);
    assert_eq!(store.scrub(&mut |_| ()).expect("scrubbed").damaged, []);
    let collected = collect().expect("collected");
    assert_eq!((collected.chunks, collected.unread_pages), (0, 0));
    assert!((0..100).all(|i| store.get(&ChunkId::of(&noise(i, 400))).is_ok()), "the file reads");
    assert_eq!(store.get(&id).expect("healed"), bytes);
}

#[test]
fn chunk_behind_a_damaged_header_is_stored_again_by_scrub() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    fill(&store, 150);
    let digest = store.digest().expect("a digest");
    flip(folder.path(), &noise(70, 10_000)[..64], -60);
    let scrubbed = store.scrub(&mut |_| ()).expect("scrubbed");
    assert_eq!((scrubbed.chunks, scrubbed.damaged.len(), scrubbed.damaged_records), (150, 0, 1));
    assert_ne!(store.digest().expect("a digest"), digest, "the chunk has another place");
    store.close().expect("closed");
    drop(store);
    fs::remove_dir_all(folder.path().join("index")).expect("deleted");
    let store = open(folder.path());
    for i in 0..150 {
        assert!(store.get(&ChunkId::of(&noise(i, 10_000))).is_ok(), "chunk {i}");
        assert_eq!(value(&store, &format!("nkey{i:04}")), Some(noise(i, 200)));
    }
}

#[test]
fn damaged_header_costs_a_start_no_other_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    fill(&store, 150);
    store.close().expect("closed");
    drop(store);
    flip(folder.path(), &noise(70, 10_000)[..64], -60);
    fs::remove_dir_all(folder.path().join("index")).expect("deleted");
    let store = open(folder.path());
    for i in 0..150 {
        assert_eq!(store.get(&ChunkId::of(&noise(i, 10_000))).is_ok(), i != 70, "chunk {i}");
        assert_eq!(value(&store, &format!("nkey{i:04}")), Some(noise(i, 200)));
    }
}

#[test]
fn encrypted_store_opens_with_its_key_only_and_shows_no_content() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings { segment_bytes: 8 << 20, ..SMALL };
    let with = |key: Option<[u8; 32]>| {
        LogStore::open(folder.path(), settings, &larder_store::log::Parts { key, ..parts() })
    };
    let store = with(Some([1; 32])).expect("the store opens");
    let text = b"the quick brown fox ".repeat(1000);
    let id = put(&store, &text);
    fill(&store, 50);
    set(&store, "nsecret", Some(b"plain secret"));
    set(&store, "xlong", Some(&b"long secret ".repeat(1000)));
    drop(store);
    for wrong in [None, Some([2; 32])] {
        assert_eq!(with(wrong).err().expect("refused").kind(), Kind::Denied);
    }
    for needle in [&b"quick brown"[..], b"plain secret", b"long secret", &noise(3, 10_000)[..32]] {
        for file in files(folder.path()) {
            let bytes = fs::read(&file).expect("a file");
            let shown = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!shown, "{} shows content", file.display());
        }
    }
    fs::remove_dir_all(folder.path().join("index")).expect("deleted");
    let store = with(Some([1; 32])).expect("the store opens");
    assert_eq!(store.get(&id).expect("there"), text);
    assert_eq!(value(&store, "xlong"), Some(b"long secret ".repeat(1000)));
    assert_eq!(value(&store, "nsecret").as_deref(), Some(&b"plain secret"[..]));
    assert!(store.scrub(&mut |_| ()).expect("scrubbed").damaged.is_empty());
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A store with an index that is read from its file, and that file.
fn with_long_index(folder: &Path) -> (Arc<LogStore>, PathBuf) {
    // As little cache as sled takes, so that reads come to the file.
    let settings = Settings { index_cache_bytes: 256 << 10, memtable_bytes: 1 << 20, ..SMALL };
    let store = LogStore::open(folder, settings, &parts()).expect("the store opens");
    for i in 0..20_000u64 {
        set(&store, &format!("nkey{i:05}"), Some(&noise(i, 200)));
    }
    store.checkpoint().expect("written");
    (store, index_files(folder).swap_remove(0))
}

#[test]
fn index_that_fails_while_in_use_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, db) = with_long_index(folder.path());
    let len = fs::metadata(&db).expect("a file").len();
    fs::write(&db, vec![0xAA; len as usize]).expect("written");
    let mut failed = 0;
    for i in 0..20_000u64 {
        let key = format!("nkey{i:05}");
        let mut found = store.kv().get(key.as_bytes());
        while let Err(error) = found {
            assert!(matches!(error.kind(), Kind::Corrupt | Kind::Unavailable), "{error}");
            failed += 1;
            std::thread::yield_now();
            found = store.kv().get(key.as_bytes());
        }
        assert_eq!(found.expect("looked at just now"), Some(noise(i, 200)), "{key}");
    }
    assert!(failed > 0, "the file was read");
}

#[test]
fn index_that_failed_is_made_again_by_the_next_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, db) = with_long_index(folder.path());
    let good = fs::read(&db).expect("a file");
    // While it is collecting, the store does not make its index again by itself.
    let collected = store.collect(
        |_| {
            fs::write(&db, vec![0xAA; good.len()]).expect("written");
            (0..20_000)
                .try_for_each(|i| store.kv().get(format!("nkey{i:05}").as_bytes()).map(drop))
                .map(|()| 0)
        },
        &mut |_| (),
    );
    assert_eq!(collected.expect_err("the file was read").kind(), Kind::Corrupt);
    drop(store);
    // It looks whole again, and nobody knows what sled wrote to it while it could not read it.
    if db.exists() {
        fs::write(&db, good).expect("written");
    }
    let store = open(folder.path());
    assert!(store.was_rebuilt() || index_files(folder.path())[0] != db);
    assert!((0..20_000).all(|i| value(&store, &format!("nkey{i:05}")) == Some(noise(i, 200))));
}
