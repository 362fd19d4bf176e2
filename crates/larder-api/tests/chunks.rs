//! Chunks: in the order asked, only to those whose file has them, and never a wrong byte.

mod support;

use larder_core::{ChunkId, Manifest, NodeId, Timestamp};
use larder_store::Op;
use larder_store::catalog::Unlink;
use larder_store::faulty::Call;
use support::{World, chunks_headers, chunks_path, frames, joined, name, random};

#[test]
fn chunks_come_in_the_order_asked() {
    let world = World::new();
    let vic = world.device("vic");
    let body = random(5 << 20);
    let file = world.put(NodeId::ROOT, "big", &body);
    let mut ids = world.ids(&file);
    assert!(ids.len() > 8, "{} chunks", ids.len());
    ids.reverse();
    ids.push(ids[0]);
    let answer = world.chunks(&vic, file.id, &ids);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/octet-stream")));
    let bodies: Vec<Vec<u8>> = frames(&answer.body).into_iter().map(|body| body.expect("there")).collect();
    assert_eq!(bodies.iter().map(|body| ChunkId::of(body)).collect::<Vec<_>>(), ids);
    let whole: Vec<u8> = bodies.iter().rev().skip(1).flatten().copied().collect();
    assert!(whole == body);
}

#[test]
fn a_chunk_of_another_file_is_not_there() {
    let world = World::new();
    let ann = world.device("ann");
    let mine = world.put(NodeId::ROOT, "mine", b"mine");
    let other = world.put(NodeId::ROOT, "other", b"other");
    let folder = world.folder(NodeId::ROOT, "folder");
    let (a, b) = (world.ids(&mine)[0], world.ids(&other)[0]);
    let never = ChunkId::of(b"never");
    let answer = world.chunks(&ann, mine.id, &[b, a, never, ChunkId::HOLE]);
    assert_eq!(frames(&answer.body), [None, Some(b"mine".to_vec()), None, None]);
    assert_eq!(frames(&world.chunks(&ann, folder.id, &[a]).body), [None]);
    for (node, id, status) in
        [(mine.id, a, 200), (mine.id, b, 404), (folder.id, a, 404), (NodeId(99), a, 404)]
    {
        let answer = world.get(&ann, &format!("/nodes/{node}/chunks/{id}"));
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    world.chunks(&ann, NodeId(99), &[a]).is_problem(404, "not-found");
    let draft = world.draft(NodeId::ROOT, "draft");
    world.chunks(&ann, draft, &[a]).is_problem(404, "not-found");
}

#[test]
fn pages_of_a_long_manifest_are_chunks_too() {
    let world = World::new();
    let ann = world.device("ann");
    // 200 small files' worth of chunks make a manifest with a page.
    let mut manifest = Manifest::default();
    let lease = world.drive.chunks().lease();
    for _ in 0..200 {
        let body = random(100);
        let id = ChunkId::of(&body);
        world.drive.chunks().put(&lease, &id, &body).expect("stored");
        manifest.push(id, 100);
    }
    let put = |id, body: &[u8]| world.drive.chunks().put(&lease, &id, body).map(drop);
    let head = manifest.to_head(put).expect("pages are stored");
    assert_eq!(head.depth, 1);
    let file = world.put(NodeId::ROOT, "long", b"short");
    let short = world.ids(&file)[0];
    let page = head.extents[0].id;
    world.commit(vec![Op::SetContent {
        node: file.id,
        head,
        mtime: Timestamp(5),
        interim: None,
        base: None,
    }]);
    // The second time from the list that the first one made.
    for _ in 0..2 {
        let wanted: Vec<ChunkId> = manifest.extents()[100..].iter().map(|extent| extent.id).collect();
        let wanted = [&[page][..], &wanted, &[short, ChunkId::of(b"never")]].concat();
        let got = frames(&world.chunks(&ann, file.id, &wanted).body);
        assert_eq!(got.len(), wanted.len());
        for (id, body) in wanted.iter().zip(&got).take(102) {
            assert_eq!(body.as_ref().map(|body| ChunkId::of(body)), Some(*id));
        }
        assert_eq!(got.last(), Some(&None));
    }
}

#[test]
fn what_the_history_keeps_can_be_read() {
    let world = World::new();
    let ann = world.device("ann");
    let old = world.put(NodeId::ROOT, "f", b"old");
    world.clock.advance(3_600_000_000_000);
    let new = world.put(NodeId::ROOT, "f", b"new");
    assert_eq!(old.id, new.id);
    let ids = [world.ids(&old)[0], world.ids(&new)[0]];
    let both = [Some(b"old".to_vec()), Some(b"new".to_vec())];
    assert_eq!(frames(&world.chunks(&ann, new.id, &ids).body), both);
    let (parent, name) = (NodeId::ROOT, name("f"));
    world.commit(vec![Op::Unlink { parent, name, what: Unlink::File }]);
    assert_eq!(frames(&world.chunks(&ann, new.id, &ids).body), both, "deleted, and kept");
    world.get(&ann, &format!("/nodes/{}", new.id)).is_problem(404, "not-found");
    world.clock.advance(40 * 24 * 3_600_000_000_000);
    world.drive.purge_history().expect("purged");
    world.chunks(&ann, new.id, &ids).is_problem(404, "not-found");
}

#[test]
fn one_chunk_is_plain_and_never_changes() {
    let world = World::new();
    let ann = world.device("ann");
    let file = world.put(NodeId::ROOT, "f", b"body");
    let id = world.ids(&file)[0];
    let path = format!("/nodes/{}/chunks/{id}", file.id);
    let answer = world.get(&ann, &path);
    assert_eq!((answer.status, &answer.body[..]), (200, &b"body"[..]));
    assert_eq!(answer.header("etag"), Some(format!("\"{id}\"").as_str()));
    assert_eq!(answer.header("cache-control"), Some("private, immutable, max-age=31536000"));
    let path = format!("/api/v1/projects/home{path}");
    let tag = format!("\"{id}\"");
    let again = world.send("GET", &path, &[("Authorization", &ann), ("If-None-Match", &tag)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[test]
fn bodies_that_are_no_ids_are_refused() {
    let world = World::new();
    let ann = world.device("ann");
    let file = world.put(NodeId::ROOT, "f", b"body");
    let path = chunks_path(file.id);
    for (len, status) in [(0, 400), (1, 400), (31, 400), (33, 400), (256 * 32 - 1, 400), (257 * 32, 413)] {
        let answer = world.send("POST", &path, &chunks_headers(&ann), &vec![7; len]);
        answer.is_problem(status, "invalid");
        assert!(answer.text().contains("body: "), "{}", answer.text());
    }
    let most = world.send("POST", &path, &chunks_headers(&ann), &vec![7; 256 * 32]);
    assert_eq!(frames(&most.body), vec![None; 256]);
    let headers = [("Authorization", ann.as_str()), ("Content-Type", "application/json")];
    world.send("POST", &path, &headers, &[7; 32]).is_problem(415, "invalid");
    for hash in ["", "0", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), &"é".repeat(32)] {
        let path = format!("/nodes/{}/chunks/{}", file.id, hash.replace('é', "%C3%A9"));
        world.get(&ann, &path).is_problem(400, "invalid");
    }
}

#[test]
fn a_chunk_that_cannot_be_read_cuts_the_answer_and_tells_why_alone() {
    let world = World::new();
    let ann = world.device("ann");
    let file = world.put(NodeId::ROOT, "f", &random(3 << 20));
    let ids = world.ids(&file);
    assert!(ids.len() > 3);
    world.faults.fail(Call::Get, 1, u64::MAX, larder_core::Kind::Corrupt);
    let answer = world.open("POST", &chunks_path(file.id), &chunks_headers(&ann), &joined(&ids));
    assert_eq!(answer.status(), 200);
    let whole = world.runtime.block_on(http_body_util::BodyExt::collect(answer.into_body()));
    assert!(whole.is_err(), "a part was taken for the whole");
    let alone = world.get(&ann, &format!("/nodes/{}/chunks/{}", file.id, ids[0])).is_problem(500, "corrupt");
    assert!(alone["hint"].as_str().expect("a hint").contains("larder scrub"));
}

#[test]
fn a_slow_device_holds_two_batches() {
    let world = World::new();
    let ann = world.device("ann");
    let file = world.put(NodeId::ROOT, "f", &random(32 << 20));
    let ids = world.ids(&file);
    let before = world.faults.clone();
    // Every read but a few fails: an answer that read ahead of its reader would break at once.
    before.fail(Call::Get, 16, u64::MAX, larder_core::Kind::Corrupt);
    let answer = world.open("POST", &chunks_path(file.id), &chunks_headers(&ann), &joined(&ids));
    let mut body = answer.into_body();
    let first = world.next(&mut body).expect("a length");
    assert_eq!(first.len(), 4);
    assert_eq!(ChunkId::of(&world.next(&mut body).expect("a chunk")), ids[0]);
}
