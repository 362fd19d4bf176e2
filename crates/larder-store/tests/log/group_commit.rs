//! Callers who wait for the disk at the same time wait for one sync.

use crate::fixture::*;
use larder_store::kv::Kv;
use larder_store::log::{Event, LogStore, Parts, Tape};
use std::sync::{Arc, Barrier};

const CALLERS: u64 = 8;
const ROUNDS: u64 = 20;

#[test]
fn callers_who_wait_together_share_a_sync() {
    let folder = scratch();
    let tape = Arc::new(Tape::recording());
    let parts = Parts { tape: Some(tape.clone()), ..parts() };
    let store = LogStore::open(folder.path(), QUIET, &parts).expect("the store opens");
    let all_have_committed = Barrier::new(CALLERS as usize);
    let before = tape.events().len();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (store, all_have_committed) = (&store, &all_have_committed);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let position = set(store, &format!("nkey{caller}{round}"), Some(b"value"));
                    all_have_committed.wait();
                    store.kv().wait_durable(position).expect("durable");
                }
            });
        }
    });
    let is_sync = |event: &&Event| matches!(event, Event::Sync(name) if name.starts_with("segments/"));
    let syncs = tape.events()[before..].iter().filter(is_sync).count() as u64;
    assert_eq!(syncs, ROUNDS, "for {} durable commits", CALLERS * ROUNDS);
}
