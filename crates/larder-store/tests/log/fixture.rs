//! What the tests of the log backend share: a store in a directory of its own, and content made from numbers.

use larder_core::ChunkId;
use larder_store::ChunkStore;
use larder_store::kv::{Batch, Kv};
use larder_store::log::{LogStore, Parts, Settings, Tape};
use std::path::Path;
use std::sync::Arc;

/// Small limits, so that segments roll and checkpoints happen often.
pub const SMALL: Settings = Settings {
    segment_bytes: 1 << 20,
    memtable_bytes: 64 << 10,
    checkpoint_log_bytes: 4 << 20,
    checkpoint_ns: i64::MAX,
    index_cache_bytes: 8 << 20,
    reserve_bytes: 1 << 20,
};

/// No checkpoint that the test does not ask for, so that the files can be copied while the store is open.
pub const QUIET: Settings = Settings { memtable_bytes: 1 << 30, checkpoint_log_bytes: 1 << 40, ..SMALL };

pub fn parts() -> Parts {
    boot("first boot")
}

pub fn boot(id: &str) -> Parts {
    Parts { boot_id: id.into(), random: |bytes| bytes.fill(7), key: None, tape: None }
}

pub fn open(folder: &Path) -> Arc<LogStore> {
    LogStore::open(folder, SMALL, &parts()).expect("the store opens")
}

pub fn with_tape(folder: &Path) -> (Arc<LogStore>, Arc<Tape>) {
    let tape = Arc::new(Tape::default());
    let parts = Parts { tape: Some(tape.clone()), ..parts() };
    (LogStore::open(folder, SMALL, &parts).expect("the store opens"), tape)
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub fn put(store: &LogStore, body: &[u8]) -> ChunkId {
    let id = ChunkId::of(body);
    store.put(&store.lease(), &id, body).expect("the chunk is stored");
    id
}

pub fn set(store: &Arc<LogStore>, key: &str, value: Option<&[u8]>) -> u64 {
    let edits = vec![(key.as_bytes().to_vec(), value.map(<[u8]>::to_vec))];
    store.kv().apply(Batch { edits, changes: Vec::new() }).expect("the batch is applied")
}

pub fn value(store: &Arc<LogStore>, key: &str) -> Option<Vec<u8>> {
    store.kv().get(key.as_bytes()).expect("the index answers")
}

/// What a crash leaves: the files as they are now, in another place.
pub fn copy(from: &Path, to: &Path) {
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

/// Flips a bit of the first segment `at` bytes behind the first place that holds `needle`.
pub fn flip(folder: &Path, needle: &[u8], at: isize) {
    let mut paths: Vec<std::path::PathBuf> = std::fs::read_dir(folder.join("segments"))
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .collect();
    paths.sort();
    for path in paths {
        let mut bytes = std::fs::read(&path).expect("a segment");
        if let Some(found) = bytes.windows(needle.len()).position(|window| window == needle) {
            bytes[found.checked_add_signed(at).expect("inside")] ^= 0x10;
            std::fs::write(&path, bytes).expect("written");
            return;
        }
    }
    panic!("the bytes are in no segment");
}

/// A number from the environment, for longer runs than the usual.
#[expect(clippy::disallowed_methods, reason = "how long a test runs is up to whoever runs it")]
pub fn from_environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// On memory where there is such a place: the test's own syncs cost nothing there.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}
