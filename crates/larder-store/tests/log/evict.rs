//! Eviction: the log becomes short enough, and what is marked, held or used lately stays.

use crate::fixture::*;
use larder_core::{ChunkId, Kind};
use larder_store::log::{Collected, LogStore};
use larder_store::{ChunkStore, Recent};
use std::sync::Arc;

fn body(i: u64) -> Vec<u8> {
    noise(i, 20_000)
}

fn id(i: u64) -> ChunkId {
    ChunkId::of(&body(i))
}

fn evict(store: &Arc<LogStore>, target_bytes: u64, recent: &Recent, kept: &[ChunkId]) -> Collected {
    let mark = |mark: larder_store::log::Mark<'_>| {
        kept.iter().for_each(mark);
        Ok(0)
    };
    store.evict(target_bytes, recent, mark, &|| true).expect("evicted").collected
}

fn here(store: &LogStore) -> Vec<u64> {
    (0..200).filter(|i| store.get(&id(*i)).is_ok()).collect()
}

#[test]
fn least_recently_used_goes_first_and_the_log_becomes_short_enough() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    (0..200).for_each(|i| _ = put(&store, &body(i)));
    let whole = store.log_bytes().expect("readable");
    assert_eq!(whole, store.stats().expect("stats").log_bytes);
    let recent = Recent::default();
    // Of the oldest, some are used once more; of the others, nothing is known.
    (0..20).for_each(|i| recent.used(&id(i)));
    assert_eq!(evict(&store, whole, &recent, &[]).chunks, 0, "short enough");
    let gone = evict(&store, whole / 2, &recent, &[]);
    assert!(store.log_bytes().expect("readable") <= whole / 2, "{gone:?}");
    let left = here(&store);
    assert!(left.starts_with(&(0..20).collect::<Vec<_>>()), "{left:?}");
    assert!(left[20..].windows(2).all(|pair| pair[0] + 1 == pair[1]) && left.ends_with(&[199]), "{left:?}");
    assert!(left.len() >= 60, "no more goes than has to: {left:?}");
    let digest = store.digest().expect("a digest");
    store.rebuild().expect("rebuilt");
    assert_eq!(store.digest().expect("a digest"), digest);
}

#[test]
fn what_is_marked_or_held_or_used_meanwhile_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    (0..100).for_each(|i| _ = put(&store, &body(i)));
    let (recent, lease) = (Recent::default(), store.lease());
    store.put(&lease, &id(1), &body(1)).expect("there");
    let kept = [id(0)];
    let mark = |mark: larder_store::log::Mark<'_>| {
        kept.iter().for_each(mark);
        Ok(0)
    };
    store.evict(0, &recent, mark, &|| true).expect("evicted");
    assert_eq!(here(&store), [0, 1]);
    let failed = store.evict(0, &recent, |_| Err(larder_core::Error::corrupt("a page")), &|| true);
    assert_eq!(failed.expect_err("the mark failed").kind(), Kind::Corrupt);
    let unread = store.evict(0, &recent, |_| Ok(1), &|| true).expect("nothing to do");
    assert_eq!((unread.collected.chunks, here(&store)), (0, vec![0, 1]));
}
