//! Chunks that devices send: stored as far as they come whole, named by what they hold, and nobody's but writers'.

mod support;

use larder_core::ChunkId;
use larder_store::faulty::Call;
use larder_store::origin::{ASKED_MAX, SENT_MAX, SENT_MAX_BYTES};
use support::{Answer, World, joined, random};

const BYTES: &str = "application/octet-stream";

/// Bodies as a device sends them.
fn framed<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for body in bodies {
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(body);
    }
    bytes
}

fn sent(world: &World, device: &str, body: &[u8]) -> Answer {
    world.post(device, "/chunks", BYTES, body)
}

fn missing(world: &World, device: &str, ids: &[ChunkId]) -> Vec<u8> {
    let answer = world.post(device, "/chunks/missing", BYTES, &joined(ids));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(BYTES)), "{}", answer.text());
    answer.body.to_vec()
}

#[test]
fn what_is_missing_is_sent_and_then_there() {
    let world = World::new();
    let ed = world.device("ed");
    // More than one batch, from a byte to the longest chunk.
    let bodies: Vec<Vec<u8>> = [1, 1 << 20, 70_000, 300_000, 1 << 20, 1, 1 << 20].map(random).to_vec();
    let ids: Vec<ChunkId> = bodies.iter().map(|body| ChunkId::of(body)).collect();
    let (known, others) = (&ids[2], &ids[3..]);
    assert_eq!(sent(&world, &ed, &framed([&bodies[2][..]])).body, joined(&[*known]));
    assert_eq!(missing(&world, &ed, &ids), joined(&[&ids[..2], others].concat()), "in their order");
    let answer = sent(&world, &ed, &framed(bodies.iter().map(Vec::as_slice)));
    assert_eq!((answer.status, answer.body.to_vec()), (200, joined(&ids)), "in their order");
    assert_eq!(missing(&world, &ed, &ids), b"");
    for (id, body) in ids.iter().zip(&bodies) {
        assert!(world.drive.chunks().get(id).expect("stored") == body.as_slice());
    }
}

#[test]
fn as_many_as_the_protocol_says_are_taken() {
    let world = World::new();
    let ann = world.device("ann");
    let ids: Vec<ChunkId> = (0..ASKED_MAX as u32 + 1).map(|i| ChunkId::of(&i.to_le_bytes())).collect();
    assert_eq!(missing(&world, &ann, &ids[1..]), joined(&ids[1..]));
    world.post(&ann, "/chunks/missing", BYTES, &joined(&ids)).is_problem(413, "invalid");
    let bodies: Vec<Vec<u8>> = (0..8).map(|_| random(1 << 20)).collect();
    let most = framed(bodies.iter().map(Vec::as_slice));
    assert_eq!(most.len(), SENT_MAX_BYTES + 8 * 4);
    assert_eq!(sent(&world, &ann, &most).status, 200);
    sent(&world, &ann, &[most, framed([&b"x"[..]])].concat()).is_problem(413, "invalid");
    let one = framed([&b"x"[..]]);
    assert_eq!(sent(&world, &ann, &one.repeat(SENT_MAX)).body.len(), 32 * SENT_MAX);
    sent(&world, &ann, &one.repeat(SENT_MAX + 1)).is_problem(413, "invalid");
}

#[test]
fn what_came_whole_before_a_body_broke_off_is_stored() {
    let world = World::new();
    let ann = world.device("ann");
    for (broken, status) in [
        (framed([&b"half"[..]])[..7].to_vec(), 400),
        (vec![1, 0], 400),
        (vec![0, 0, 0, 0], 400),
        (((1_u32 << 20) + 1).to_le_bytes().to_vec(), 400),
        (u32::MAX.to_le_bytes().to_vec(), 400),
    ] {
        let body = random(100);
        let answer = sent(&world, &ann, &[framed([&body[..]]), broken].concat());
        answer.is_problem(status, "invalid");
        assert!(answer.text().contains("body: "), "{}", answer.text());
        assert_eq!(missing(&world, &ann, &[ChunkId::of(&body)]), b"");
    }
    assert_eq!(missing(&world, &ann, &[ChunkId::of(b"half")]), joined(&[ChunkId::of(b"half")]));
}

#[test]
fn a_full_disk_is_told_and_nothing_pretended() {
    let world = World::new();
    let ann = world.device("ann");
    let bodies: Vec<Vec<u8>> = (0..4).map(|_| random(1 << 20)).collect();
    world.faults.fail(Call::Put, 1, u64::MAX, larder_core::Kind::NoSpace);
    sent(&world, &ann, &framed(bodies.iter().map(Vec::as_slice))).is_problem(507, "no-space");
    world.faults.heal();
    let ids: Vec<ChunkId> = bodies.iter().map(|body| ChunkId::of(body)).collect();
    assert_eq!(missing(&world, &ann, &ids), joined(&ids[1..]));
}

#[test]
fn bodies_of_another_kind_are_refused() {
    let world = World::new();
    let ann = world.device("ann");
    for path in ["/chunks", "/chunks/missing"] {
        world.post(&ann, path, "application/json", b"{}").is_problem(415, "invalid");
        let answer = world.get(&ann, path);
        answer.is_problem(405, "unsupported");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    for len in [0, 1, 31, 33] {
        world.post(&ann, "/chunks/missing", BYTES, &vec![7; len]).is_problem(400, "invalid");
    }
}

#[test]
fn viewers_and_passwords_write_nothing() {
    let world = World::new();
    let vic = world.device("vic");
    for path in ["/chunks", "/chunks/missing", "/commits", "/ranges"] {
        let problem = world.post(&vic, path, BYTES, &[7; 32]).is_problem(403, "denied");
        assert_eq!(problem["what"], "this user may only read", "{path}");
        // ann, an owner, by her password.
        world.post("Basic YW5uOnNlY3JldA==", path, BYTES, &[7; 32]).is_problem(401, "denied");
    }
}
