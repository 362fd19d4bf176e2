//! Random histories of the log's index against a plain map, through checkpoints, rebuilds, crashes and collections.

use larder_store::kv::{Batch, Kv};
use larder_store::log::{LogStore, Parts, Settings};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const SETTINGS: Settings = Settings {
    segment_bytes: 16 << 10,
    // No checkpoint but those of the history: the files are copied while the store is open.
    memtable_bytes: 1 << 30,
    checkpoint_log_bytes: 1 << 40,
    checkpoint_ns: i64::MAX,
    index_cache_bytes: 8 << 20,
    reserve_bytes: 1 << 20,
};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Scan { prefix: Vec<u8>, after: Option<Vec<u8>>, limit: usize },
    Checkpoint,
    Rebuild,
    Collect,
    Close,
    Crash,
    LoseIndex,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few keys, some of them prefixes of others, so that histories meet themselves.
    let letters = prop_oneof![Just(b'a'), Just(b'b'), Just(0), Just(255)];
    prop::collection::vec(letters, 0..4).prop_map(|rest| [&b"n"[..], &rest].concat())
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), prop_oneof![0..100usize, 3000..3200usize, 9000..9001usize])
        .prop_map(|(byte, len)| vec![byte; len])
}

fn step() -> impl Strategy<Value = Step> {
    let edits = prop::collection::btree_map(key(), prop::option::weighted(0.7, content()), 1..6);
    prop_oneof![
        12 => edits.prop_map(|edits| Step::Apply(edits.into_iter().collect())),
        6 => (key(), prop::option::of(key()), 0..6usize)
            .prop_map(|(prefix, after, limit)| Step::Scan { prefix, after, limit }),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Rebuild),
        1 => Just(Step::Collect),
        1 => Just(Step::Close),
        1 => Just(Step::Crash),
        1 => Just(Step::LoseIndex),
    ]
}

fn open(folder: &Path) -> Arc<LogStore> {
    let parts = Parts { boot_id: "boot".into(), random: |bytes| bytes.fill(7), key: None, tape: None };
    LogStore::open(folder, SETTINGS, &parts).expect("the store opens")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn scan_of(model: &Model, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = model.iter().filter(|(key, _)| key.starts_with(prefix));
    let pairs = pairs.filter(|(key, _)| after.is_none_or(|after| key.as_slice() > after));
    pairs.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let mut generation = 0;
    let mut place = folder.path().join("0");
    let mut store = open(&place);
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Apply(edits) => {
                store.kv().apply(Batch { edits: edits.clone(), changes: Vec::new() }).expect("applied");
                for (key, value) in edits {
                    match value {
                        Some(value) => model.insert(key, value),
                        None => model.remove(&key),
                    };
                }
            }
            Step::Scan { prefix, after, limit } => {
                // A scan goes on behind a key of its own.
                let after = after.filter(|after| after.starts_with(&prefix));
                let found = store.kv().scan(&prefix, after.as_deref(), limit).expect("the index answers");
                assert_eq!(found, scan_of(&model, &prefix, after.as_deref(), limit));
            }
            Step::Checkpoint => store.checkpoint().expect("written"),
            Step::Rebuild => store.rebuild().expect("rebuilt"),
            Step::Collect => drop(store.collect(|_| Ok(0), &mut |_| ()).expect("collected")),
            Step::Close | Step::LoseIndex => {
                store.close().expect("closed");
                drop(store);
                if matches!(step, Step::LoseIndex) {
                    std::fs::remove_dir_all(place.join("index")).expect("deleted");
                }
                store = open(&place);
            }
            Step::Crash => {
                generation += 1;
                let next = folder.path().join(generation.to_string());
                copy(&place, &next);
                store = open(&next);
                std::fs::remove_dir_all(&place).expect("removed");
                place = next;
            }
        }
        assert_eq!(
            store.kv().scan(b"n", None, usize::MAX).expect("the index answers"),
            scan_of(&model, b"n", None, usize::MAX)
        );
        for key in model.keys() {
            assert_eq!(store.kv().get(key).expect("the index answers").as_ref(), model.get(key));
        }
    }
}

proptest! {
    #[test]
    fn log_is_a_map_through_every_history(steps in prop::collection::vec(step(), 1..60)) {
        run(steps);
    }
}
