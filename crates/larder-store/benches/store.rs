//! Figures of the log backend: `cargo bench -p larder-store --bench store -- FOLDER WORK…`.
//!
//! WORK is one or more of `ingest`, `get`, `commits`, `apply`, `files`, `start`, `collect`; numbers in the environment:
//! none. Each prints a line; the folder is left for a look and must be empty or missing at first.

use larder_core::ChunkId;
use larder_store::ChunkStore;
use larder_store::kv::{Batch, Kv};
use larder_store::log::{LogStore, Parts, Settings};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const CHUNK_BYTES: usize = 256 << 10;
const SYNC_BYTES: usize = 64 << 20;
const INGEST_BYTES: usize = 4 << 30;
const FILES: u64 = 1_000_000;

fn parts() -> Parts {
    Parts { boot_id: "bench".into(), random: |bytes| bytes.fill(7), key: None, tape: None }
}

fn open(folder: &Path) -> Arc<LogStore> {
    LogStore::open(folder, Settings::default(), &parts()).expect("the store opens")
}

/// Different bytes that do not compress, at the speed of a copy: one block of noise with a number in it.
struct Noise(Vec<u8>);

impl Noise {
    fn new() -> Self {
        let mut bytes = vec![0; CHUNK_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        Noise(bytes)
    }

    fn numbered(&mut self, number: u64, len: usize) -> &[u8] {
        self.0[..8].copy_from_slice(&number.to_le_bytes());
        &self.0[..len]
    }
}

fn rss_mib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) >> 10
    };
    format!("RSS {} MiB, peak {} MiB", field("VmRSS"), field("VmHWM"))
}

fn report(work: &str, what: &str, begun: Instant) {
    println!("{work:10} {:8.3} s  {what}  ({})", begun.elapsed().as_secs_f64(), rss_mib());
}

fn ingest(folder: &Path) {
    let store = open(folder);
    let mut noise = Noise::new();
    let begun = Instant::now();
    let mut unsynced = 0;
    let lease = store.lease();
    for i in 0..(INGEST_BYTES / CHUNK_BYTES) as u64 {
        let body = noise.numbered(i, CHUNK_BYTES);
        store.put(&lease, &ChunkId::of(body), body).expect("stored");
        unsynced += CHUNK_BYTES;
        if unsynced >= SYNC_BYTES {
            store.sync().expect("durable");
            unsynced = 0;
        }
    }
    let speed = (INGEST_BYTES >> 20) as f64 / begun.elapsed().as_secs_f64();
    report("ingest", &format!("{speed:.0} MiB/s with hashing, a sync each 64 MiB"), begun);
    println!("{:?}", store.sync_stats());
}

fn get(folder: &Path) {
    let store = open(folder);
    let mut noise = Noise::new();
    let count = (INGEST_BYTES / CHUNK_BYTES) as u64;
    let ids: Vec<ChunkId> = (0..count).map(|i| ChunkId::of(noise.numbered(i, CHUNK_BYTES))).collect();
    let begun = Instant::now();
    for id in &ids {
        assert_eq!(store.get(id).expect("there").len(), CHUNK_BYTES);
    }
    let speed = (INGEST_BYTES >> 20) as f64 / begun.elapsed().as_secs_f64();
    report("get", &format!("{speed:.0} MiB/s, one reader, verified"), begun);
}

fn small(i: u64) -> Batch {
    let key = |kind: u8, rest: &[u8]| [&[kind], rest].concat();
    let id = i.to_be_bytes();
    let name = [&(i / 1000).to_be_bytes()[..], format!("file-{i}.txt").as_bytes()].concat();
    let edits = vec![
        (key(b'n', &id), Some(vec![3; 150])),
        (key(b'd', &name), Some(id.to_vec())),
        (key(b'n', &(i / 1000).to_be_bytes()), Some(vec![4; 80])),
        (b"m".to_vec(), Some(vec![5; 24])),
    ];
    Batch { edits, changes: Vec::new() }
}

fn commits(folder: &Path) {
    let store = open(folder);
    for threads in [1, 8] {
        let next = AtomicU64::new(threads * 1_000_000);
        let each = 4000 / threads;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut noise = Noise::new();
                    let lease = store.lease();
                    for _ in 0..each {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let body = noise.numbered(i, 4096);
                        store.put(&lease, &ChunkId::of(body), body).expect("stored");
                        let position = store.kv().apply(small(i)).expect("applied");
                        store.kv().wait_durable(position).expect("durable");
                    }
                });
            }
        });
        let speed = (each * threads) as f64 / begun.elapsed().as_secs_f64();
        report("commits", &format!("{speed:.0} durable 4 KiB files/s, {threads} threads"), begun);
    }
    println!("{:?}", store.sync_stats());
}

fn apply(folder: &Path) {
    let store = open(folder);
    let begun = Instant::now();
    const COUNT: u64 = 200_000;
    for i in 0..COUNT {
        store.kv().apply(small(i)).expect("applied");
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / COUNT as f64;
    report("apply", &format!("{each:.1} us a commit that need not be durable"), begun);
}

fn files(folder: &Path) {
    let store = open(folder);
    let mut noise = Noise::new();
    let begun = Instant::now();
    let lease = store.lease();
    for i in 0..FILES {
        let body = noise.numbered(i + (1 << 40), if i % 4 == 0 { 40_000 } else { 4096 });
        store.put(&lease, &ChunkId::of(body), body).expect("stored");
        store.kv().apply(small(i)).expect("applied");
    }
    let speed = FILES as f64 / begun.elapsed().as_secs_f64();
    report("files", &format!("{speed:.0} files/s, 1,000,000 of 4 and 40 KB"), begun);
    // As a kill would: no last checkpoint.
    std::process::abort();
}

fn start(folder: &Path) {
    let begun = Instant::now();
    let store = open(folder);
    report("start", &format!("rebuilt: {}", store.was_rebuilt()), begun);
    let begun = Instant::now();
    for i in 0..100_000 {
        let id = (i * 7919) % FILES;
        assert!(store.kv().get(&[&b"n"[..], &id.to_be_bytes()].concat()).expect("an answer").is_some());
    }
    report("start", "100,000 random reads of the index", begun);
    let begun = Instant::now();
    let listed = store.kv().scan(b"d", None, 200_000).expect("an answer").len();
    report("start", &format!("{listed} pairs listed"), begun);
    let begun = Instant::now();
    let stats = store.stats().expect("stats");
    report("start", &format!("{} chunks, {} MiB of log", stats.chunks, stats.log_bytes >> 20), begun);
    let begun = Instant::now();
    store.checkpoint().expect("written");
    report("start", "checkpoint", begun);
    let begun = Instant::now();
    store.close().expect("closed");
    report("start", "close", begun);
}

fn collect(folder: &Path) {
    let store = open(folder);
    let mut noise = Noise::new();
    let begun = Instant::now();
    let mut kept = 0;
    let collected = store.collect(
        |mark| {
            for i in (0..(INGEST_BYTES / CHUNK_BYTES) as u64).step_by(2) {
                mark(&ChunkId::of(noise.numbered(i, CHUNK_BYTES)));
                kept += 1;
            }
            Ok(0)
        },
        &mut |_| (),
    );
    report("collect", &format!("{kept} kept, {:?}", collected.expect("collected")), begun);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some((folder, works)) = arguments.split_first() else {
        println!("usage: store FOLDER WORK…");
        return;
    };
    for work in works {
        let run = match work.as_str() {
            "ingest" => ingest,
            "get" => get,
            "commits" => commits,
            "apply" => apply,
            "files" => files,
            "start" => start,
            "collect" => collect,
            other => panic!("no work is called {other}"),
        };
        run(Path::new(folder));
    }
}
