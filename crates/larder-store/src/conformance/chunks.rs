//! What a chunk store promises.

use super::ChunkCase;
use crate::chunks::{ChunkStore, Put};
use larder_core::{ChunkId, Kind, chunker};

pub(super) const CASES: &[ChunkCase] = &[
    ("what is put comes back", what_is_put_comes_back),
    ("a missing chunk is not found", a_missing_chunk_is_not_found),
    ("a second put writes nothing", a_second_put_writes_nothing),
    ("missing names what lacks, in order", missing_names_what_lacks_in_order),
    ("writers of one chunk do not disturb each other", writers_do_not_disturb_each_other),
];

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn bodies() -> Vec<Vec<u8>> {
    let text = b"a line of text, and another one\n".repeat(3000);
    let mut half = noise(1, 100_000);
    half.resize(300_000, 0);
    let lens = [0, 1, 63, 4096, 65_536, chunker::AVG_BYTES, chunker::MAX_BYTES];
    lens.iter().map(|len| noise(*len as u64, *len)).chain([text, half, vec![0; chunker::MAX_BYTES]]).collect()
}

fn what_is_put_comes_back(store: &dyn ChunkStore) {
    let lease = store.lease();
    for body in bodies() {
        let put = store.put(&lease, &ChunkId::of(&body), &body).expect("stored");
        assert!(matches!(put, Put::New { .. }), "{} bytes", body.len());
    }
    let check = || {
        for body in bodies() {
            let id = ChunkId::of(&body);
            store.prefetch(&[id]);
            let near = store.try_get(&id);
            assert!(near.is_none_or(|found| found == body), "{} bytes at hand", body.len());
            let found = store.get(&id).expect("there");
            assert!(found == body, "{} bytes", body.len());
        }
    };
    check();
    store.sync().expect("durable");
    drop(lease);
    check();
}

fn a_missing_chunk_is_not_found(store: &dyn ChunkStore) {
    assert_eq!(store.get(&ChunkId([9; 32])).expect_err("never put").kind(), Kind::NotFound);
    assert_eq!(store.try_get(&ChunkId([9; 32])), None);
    store.prefetch(&[ChunkId([9; 32]), ChunkId::HOLE]);
    assert_eq!(store.get(&ChunkId::HOLE).expect_err("stored nowhere").kind(), Kind::NotFound);
}

fn a_second_put_writes_nothing(store: &dyn ChunkStore) {
    let body = noise(1, 10_000);
    let id = ChunkId::of(&body);
    assert!(matches!(store.put(&store.lease(), &id, &body).expect("stored"), Put::New { .. }));
    assert_eq!(store.put(&store.lease(), &id, &body).expect("there"), Put::Known);
    store.sync().expect("durable");
    assert_eq!(store.put(&store.lease(), &id, &body).expect("there"), Put::Known);
}

fn missing_names_what_lacks_in_order(store: &dyn ChunkStore) {
    let lease = store.lease();
    let bodies: Vec<Vec<u8>> = (0..20).map(|i| noise(i, 100)).collect();
    let ids: Vec<ChunkId> = bodies.iter().map(|body| ChunkId::of(body)).collect();
    for (id, body) in ids.iter().zip(&bodies).step_by(3) {
        store.put(&lease, id, body).expect("stored");
    }
    let lacking: Vec<ChunkId> = (0..20).filter(|i| i % 3 != 0).map(|i| ids[i]).collect();
    assert_eq!(store.missing(&ids).expect("an answer"), lacking);
    assert_eq!(store.missing(&[]).expect("an answer"), []);
}

fn writers_do_not_disturb_each_other(store: &dyn ChunkStore) {
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            scope.spawn(move || {
                let lease = store.lease();
                for i in 0..50 {
                    // Half of the bodies are everybody's.
                    let body = noise(if i % 2 == 0 { i } else { 1000 * (writer + 1) + i }, 5000);
                    store.put(&lease, &ChunkId::of(&body), &body).expect("stored");
                    assert!(store.get(&ChunkId::of(&body)).expect("there") == body);
                    if i % 10 == 0 {
                        store.sync().expect("durable");
                    }
                }
            });
        }
    });
}
