//! A process with a store is killed again and again at points of chance: what it had acknowledged is there.

use crate::fixture::*;
use crate::image::Random;
use larder_core::ChunkId;
use larder_store::ChunkStore;
use larder_store::kv::{Batch, Kv};
use larder_store::log::LogStore;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const CHILD: &str = "LARDER_TEST_CHILD";
const ROUNDS: u64 = 200;
/// The newest commits that are checked whole; older ones were checked in earlier rounds.
const CHECKED: u64 = 300;

fn body(i: u64) -> Vec<u8> {
    noise(i, 200 + (i as usize * 7919) % 30_000)
}

fn alive(i: u64, newest: u64) -> bool {
    i.is_multiple_of(3) || i + 50 > newest
}

/// Commits for ever from `next` on, checkpoints and collects in between, and tells of each commit.
fn child(folder: &Path, next: u64) -> ! {
    let store = open(folder);
    let background = store.clone();
    std::thread::spawn(move || {
        loop {
            let newest = newest(&background).unwrap_or(0);
            let mark = |mark: larder_store::log::Mark<'_>| {
                (0..=newest).filter(|i| alive(*i, newest)).for_each(|i| mark(&ChunkId::of(&body(i))));
                Ok(0)
            };
            background.collect(mark, &mut |_| ()).expect("collected");
            background.checkpoint().expect("written");
        }
    });
    let lease = store.lease();
    let mut out = std::io::stdout();
    for i in next.. {
        store.put(&lease, &ChunkId::of(&body(i)), &body(i)).expect("stored");
        let key = |what: &str| format!("n{what}{:04}", i % 2000).into_bytes();
        let edits = vec![
            (key("a"), Some(i.to_le_bytes().to_vec())),
            (key("b"), Some(noise(i, 300))),
            (b"nnewest".to_vec(), Some(i.to_le_bytes().to_vec())),
        ];
        let position = store.kv().apply(Batch { edits, changes: Vec::new() }).expect("applied");
        if i % 8 == 0 {
            store.kv().wait_durable(position).expect("durable");
        }
        out.write_all(format!("acknowledged {i}\n").as_bytes()).expect("the parent listens");
    }
    unreachable!("there are enough numbers")
}

fn newest(store: &Arc<LogStore>) -> Option<u64> {
    value(store, "nnewest").map(|bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")))
}

/// Starts a child, kills it after about `commits` commits, and returns the last one it told of.
fn killed(folder: &Path, next: u64, commits: u64) -> Option<u64> {
    let exe = std::env::current_exe().expect("this program");
    let mut child = Command::new(exe)
        .args(["--exact", "kill::killed_process_loses_nothing_acknowledged", "--nocapture"])
        .env(CHILD, format!("{next} {}", folder.display()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut last = None;
    let mut heard = 0;
    while heard < commits {
        let line = lines.next().expect("the child goes on until it is killed").expect("a line");
        if let Some(number) = line.strip_prefix("acknowledged ") {
            last = Some(number.parse().expect("a number"));
            heard += 1;
        }
    }
    child.kill().expect("killed");
    // What it told before it died is still in the pipe.
    for line in lines.map_while(Result::ok) {
        last = line.strip_prefix("acknowledged ").and_then(|n| n.parse().ok()).or(last);
    }
    child.wait().expect("gone");
    last
}

#[expect(clippy::disallowed_methods, reason = "how a child is told that it is one")]
fn child_arguments() -> Option<String> {
    std::env::var(CHILD).ok()
}

#[test]
fn killed_process_loses_nothing_acknowledged() {
    if let Some(arguments) = child_arguments() {
        let (next, folder) = arguments.split_once(' ').expect("two arguments");
        child(Path::new(folder), next.parse().expect("a number"));
    }
    let folder = scratch();
    let mut random = Random(3);
    let mut next = 0;
    for round in 0..from_environment("LARDER_KILL_ROUNDS", ROUNDS) {
        let acknowledged = killed(folder.path(), next, 1 + random.below(120));
        let store = open(folder.path());
        assert!(!store.was_rebuilt() || round == 0, "round {round}: kill -9 needs no rebuild");
        let newest = newest(&store);
        assert!(newest >= acknowledged, "round {round}: {newest:?} of {acknowledged:?} are there");
        let newest = newest.unwrap_or(0);
        for i in newest.saturating_sub(CHECKED)..=newest {
            let found = value(&store, &format!("na{:04}", i % 2000));
            assert_eq!(found, Some(i.to_le_bytes().to_vec()), "round {round}: commit {i}");
            assert_eq!(value(&store, &format!("nb{:04}", i % 2000)), Some(noise(i, 300)), "round {round}");
            if alive(i, newest) {
                let found = store.get(&ChunkId::of(&body(i)));
                assert_eq!(found.expect("stored before the commit"), body(i), "round {round}: chunk {i}");
            }
        }
        if round % 20 == 0 {
            let scrubbed = store.scrub(&mut |_| ()).expect("scrubbed");
            assert_eq!((scrubbed.damaged.len(), scrubbed.damaged_records), (0, 0), "round {round}");
        }
        next = newest + 1;
        // Half of the rounds start from what the kill left, untouched by a proper close.
        if round % 2 == 0 {
            store.close().expect("closed");
        }
    }
}
