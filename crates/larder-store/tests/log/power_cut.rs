//! The power is cut at every write and sync of a store's life, and whatever was not synced survives in part: the
//! store opens, every acknowledged commit is there, commits are whole and none is missing before another, and scrub
//! finds nothing.

use crate::fixture::*;
use crate::image::{Image, Random, Survives};
use larder_core::ChunkId;
use larder_store::ChunkStore;
use larder_store::kv::{Batch, Kv};
use larder_store::log::{Action, Event, LogStore, Parts, Settings, Tape};
use std::path::Path;
use std::sync::Arc;

/// Segments of a few records, so that a cut often meets one that has just begun.
const TINY: Settings = Settings { segment_bytes: 48 << 10, ..QUIET };
const COMMITS: u64 = 60;
/// Cuts tried unless the environment asks for more.
const CUTS: u64 = 400;

fn body(i: u64) -> Vec<u8> {
    noise(i, 700 + (i as usize * 997) % 9000)
}

fn is_alive(i: u64) -> bool {
    i.is_multiple_of(4) || i > COMMITS / 2
}

/// A commit of several keys, one of them too long for the index, and a chunk before it.
fn commit(store: &Arc<LogStore>, i: u64) -> u64 {
    put(store, &body(i));
    let key = |what: &str| format!("n{what}{i:03}").into_bytes();
    let mut edits = vec![
        (key("short"), Some(i.to_le_bytes().to_vec())),
        (key("middle"), Some(noise(i, 500))),
        (b"ncount".to_vec(), Some(i.to_le_bytes().to_vec())),
    ];
    if i.is_multiple_of(5) {
        edits.push((key("long"), Some(noise(i, 4000))));
    }
    store.kv().apply(Batch { edits, changes: Vec::new() }).expect("applied")
}

/// Lives a life on tape: returns what was done, and the index as it was after each checkpoint.
fn life(root: &Path, settings: Settings) -> (Vec<Event>, Vec<(usize, std::path::PathBuf)>) {
    let tape = Arc::new(Tape::recording());
    let parts = Parts { tape: Some(tape.clone()), ..parts() };
    let store = LogStore::open(&root.join("store"), settings, &parts).expect("the store opens");
    let mut sealed = Vec::new();
    for i in 0..COMMITS {
        let position = commit(&store, i);
        if i % 3 != 1 {
            store.kv().wait_durable(position).expect("durable");
            tape.mark(i);
        }
        if i % 17 == 16 {
            store.checkpoint().expect("written");
            let copied = root.join(format!("index{i}"));
            copy(&root.join("store/index"), &copied);
            sealed.push((tape.events().len(), copied));
        }
        if i == COMMITS / 2 {
            let alive: Vec<ChunkId> =
                (0..=i).filter(|i| is_alive(*i)).map(|i| ChunkId::of(&body(i))).collect();
            let mark = |mark: larder_store::log::Mark<'_>| {
                alive.iter().for_each(mark);
                Ok(0)
            };
            assert!(store.collect(mark, &mut |_| ()).expect("collected").segments > 0);
        }
    }
    let events = tape.events();
    store.close().expect("closed");
    (events, sealed)
}

fn check(store: &Arc<LogStore>, acknowledged: Option<u64>) {
    let count = value(store, "ncount").map(|bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
    assert!(count >= acknowledged, "{count:?} of {acknowledged:?} are there");
    for i in 0..COMMITS {
        let there = count.is_some_and(|count| i <= count);
        let expected = |value: Vec<u8>| there.then_some(value);
        assert_eq!(value(store, &format!("nshort{i:03}")), expected(i.to_le_bytes().to_vec()), "commit {i}");
        assert_eq!(value(store, &format!("nmiddle{i:03}")), expected(noise(i, 500)), "commit {i}");
        let long = value(store, &format!("nlong{i:03}"));
        assert_eq!(long, expected(noise(i, 4000)).filter(|_| i % 5 == 0), "commit {i}");
        if there && is_alive(i) {
            assert_eq!(store.get(&ChunkId::of(&body(i))).expect("stored before the commit"), body(i));
        }
    }
    let scrubbed = store.scrub(&mut |_| ()).expect("scrubbed");
    assert_eq!((scrubbed.damaged.len(), scrubbed.damaged_records), (0, 0));
}

/// Opens what a cut left, checks it, goes on, and checks again after a second start.
fn survives(root: &Path, settings: Settings, acknowledged: Option<u64>) {
    let open = |id: &str| LogStore::open(root, settings, &boot(id)).expect("the store opens");
    let store = open("second boot");
    check(&store, acknowledged);
    let digest = store.digest().expect("a digest");
    set(&store, "xnext", Some(b"next"));
    ChunkStore::sync(&*store).expect("durable");
    set(&store, "xnext", None);
    store.close().expect("closed");
    drop(store);
    let store = open("third boot");
    assert_eq!(store.digest().expect("a digest"), digest);
    check(&store, acknowledged);
}

fn run(settings: Settings, seed: u64, cuts: u64) {
    let folder = scratch();
    let (events, sealed) = life(folder.path(), settings);
    let mut random = Random(seed);
    let kinds = [
        Survives::Nothing,
        Survives::Anything,
        Survives::Beginning,
        Survives::Anything,
        Survives::Everything,
    ];
    let step = (events.len() as u64 / cuts).max(1) as usize;
    let mut image = Image::default();
    let mut acknowledged = None;
    for (i, event) in events.iter().enumerate() {
        image.play(event);
        if let Event::Mark(commit) = event {
            acknowledged = Some(*commit);
        }
        if i % step != random.below(step as u64) as usize && step > 1 {
            continue;
        }
        let kind = kinds[random.below(kinds.len() as u64) as usize];
        let cut = folder.path().join("cut");
        image.cut(&cut, kind, &mut random);
        let index = sealed.iter().rev().find(|(at, _)| *at <= i + 1);
        match (index, random.below(4)) {
            (_, 0) | (None, _) => std::fs::create_dir_all(cut.join("index/00000001")).expect("a folder"),
            (Some((_, index)), _) => copy(index, &cut.join("index")),
        }
        if random.below(4) == 0 {
            std::fs::write(cut.join("index/00000001/db"), noise(i as u64, 70_000)).expect("written");
        }
        println!(
            "seed {seed}, event {i} of {}: {kind:?} survives, {acknowledged:?} acknowledged",
            events.len()
        );
        survives(&cut, settings, acknowledged);
        std::fs::remove_dir_all(&cut).expect("removed");
    }
}

#[test]
fn power_cut_at_any_write_or_sync_loses_nothing_acknowledged() {
    let cuts = from_environment("LARDER_POWER_CUTS", CUTS);
    run(TINY, 1, cuts);
    for seed in 2..cuts / CUTS + 1 {
        run(Settings { segment_bytes: 20_000 + 7919 * (seed as u32 % 50), ..TINY }, seed, cuts);
    }
}

const FIRST: &str = "segments/00000001";
const SECOND: &str = "segments/00000002";

/// Applies commits until one lies in the second segment; returns its number.
fn roll(store: &Arc<LogStore>, root: &Path) -> u64 {
    for i in 0.. {
        set(store, &format!("nkey{i:03}"), Some(&noise(i, 2000)));
        if root.join(SECOND).exists() {
            return i;
        }
    }
    unreachable!("there are enough numbers")
}

/// Opens what a cut left twice: the commits before `lost` are there, and none of those from it on.
fn ends_before(root: &Path, lost: u64) {
    for id in ["second boot", "third boot", "third boot"] {
        let store = LogStore::open(root, TINY, &boot(id)).expect("the store opens");
        for i in 0..lost + 2 {
            let found = value(&store, &format!("nkey{i:03}"));
            assert_eq!(found, Some(noise(i, 2000)).filter(|_| i < lost), "{id}, commit {i}");
        }
        set(&store, "nnext", Some(id.as_bytes()));
    }
}

#[test]
fn segment_that_lost_its_end_cleanly_ends_the_log() {
    let folder = scratch();
    let tape = Arc::new(Tape::recording());
    let parts = Parts { tape: Some(tape.clone()), ..parts() };
    let place = folder.path().join("store");
    let store = LogStore::open(&place, TINY, &parts).expect("the store opens");
    let behind = roll(&store, &place);
    let events = tape.events();
    let is_last = |event: &Event| matches!(event, Event::Write(name, ..) if name == FIRST);
    let last = events.iter().rposition(is_last).expect("the last commit of the first segment");
    let mut image = Image::default();
    events.iter().enumerate().filter(|(i, _)| *i != last).for_each(|(_, event)| image.play(event));
    let cut = folder.path().join("cut");
    image.cut(&cut, Survives::Everything, &mut Random(1));
    assert!(cut.join(SECOND).exists(), "what follows was written");
    ends_before(&cut, behind - 1);
}

#[test]
fn segments_cut_off_are_gone_for_good_before_anything_is_written() {
    let folder = scratch();
    let (place, cut) = (folder.path().join("store"), folder.path().join("cut"));
    let store = LogStore::open(&place, TINY, &parts()).expect("the store opens");
    roll(&store, &place);
    copy(&place, &cut);
    let file = std::fs::OpenOptions::new().write(true).open(cut.join(FIRST)).expect("a segment");
    file.set_len(file.metadata().expect("metadata").len() - 10).expect("cut");
    let tape = Arc::new(Tape::recording());
    LogStore::open(&cut, TINY, &Parts { tape: Some(tape.clone()), ..boot("second boot") }).expect("it opens");
    let events = tape.events();
    let removed = events.iter().position(|event| *event == Event::Remove(SECOND.into())).expect("removed");
    let next =
        events[removed..].iter().find(|event| matches!(event, Event::Create(_) | Event::SyncFolder(_)));
    assert_eq!(next, Some(&Event::SyncFolder("segments".into())));
}

#[test]
fn proper_close_says_nothing_of_what_a_full_disk_could_not_note() {
    const ENOSPC: i32 = 28;
    let folder = scratch();
    let (place, cut) = (folder.path().join("store"), folder.path().join("cut"));
    LogStore::open(&place, TINY, &parts()).expect("the store opens").close().expect("closed");
    let tape = Arc::new(Tape::default());
    tape.fail(Action::Create, 0, 1, ENOSPC);
    let parts = Parts { tape: Some(tape.clone()), ..parts() };
    let store = LogStore::open(&place, TINY, &parts).expect("a full disk keeps no store from opening");
    tape.heal();
    let behind = roll(&store, &place);
    copy(&place, &cut);
    let file = std::fs::OpenOptions::new().write(true).open(cut.join(FIRST)).expect("a segment");
    file.set_len(file.metadata().expect("metadata").len() - 10).expect("cut");
    ends_before(&cut, behind - 1);
}
