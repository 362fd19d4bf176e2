//! What a device tells its server of its own changes, from the client of one process to the server of another.

use crate::support::http::Client;
use crate::support::random::Random;
use crate::support::server::{PASSWORD, Place, Server};
use axum::body::Bytes;

use larder_core::{ChunkId, Content, Head, Kind, Manifest, Name, Node, NodeId, NodeKind, OpId, Timestamp};
use larder_store::catalog::{Entry, Spot, Step};
use larder_store::origin::{
    ASKED_MAX, Connection, Credentials, HttpOrigin, News, Origin, PUSHED_MAX, RANGE_BITS, Refused,
};
use larder_store::wire::Described;

/// A new device of `user`, as its own program asks.
fn device(server: &Server, user: &str, password: &str) -> HttpOrigin {
    let mut client = Client::new(server.address(), user, password);
    let json = [("Content-Type", "application/json")];
    let made = client.ok("POST", "/api/v1/devices", &json, br#"{"name":"laptop"}"#);
    let made: serde_json::Value = serde_json::from_slice(&made.body).expect("JSON");
    origin(server, made["token"].as_str().expect("a token"))
}

fn origin(server: &Server, token: &str) -> HttpOrigin {
    let server = format!("http://{}", server.address());
    let connection = Connection::new(&server, &Credentials::Token(token), Vec::new());
    HttpOrigin::new(connection.expect("a connection"), "home")
}

fn spot(text: &str) -> Spot {
    (NodeId::ROOT, Name::new(text).expect("a name"))
}

fn create(id: u64, text: &str, head: Head) -> Step {
    let time = Timestamp(1_000_000_007);
    let node = Node {
        id: NodeId(id),
        kind: NodeKind::File,
        mode: 0o640,
        uid: 1000,
        gid: 100,
        nlink: 1,
        version: 1,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        parent: NodeId::ROOT,
        name: None,
        draft: false,
        content: Content::File(head),
    };
    Step::Create { at: spot(text), node: Box::new(Described { node, xattrs: Vec::new() }) }
}

/// A content of `bodies`, and all that has to be at the server for it.
fn content(bodies: &[Bytes]) -> (Head, Vec<Bytes>) {
    let mut manifest = Manifest::default();
    bodies.iter().for_each(|body| manifest.push(ChunkId::of(body), body.len() as u64));
    let mut all = bodies.to_vec();
    let put = |_, page: &[u8]| {
        all.push(Bytes::copy_from_slice(page));
        Ok(())
    };
    let head = manifest.to_head(put).expect("a head");
    (head, all)
}

fn entry(op: u128, steps: Vec<Step>) -> Entry {
    Entry { op_id: OpId(op), steps }
}

#[test]
fn what_a_device_sends_and_commits_survives_the_server() {
    let place = Place::new();
    let server = place.start();
    let ann = device(&server, "admin", PASSWORD);
    let range = ann.range().expect("a range");
    let first = u64::from(range) << RANGE_BITS;
    let mut random = Random::seeded();
    // More chunks than a head lists: there is a page, too.
    let bodies: Vec<Bytes> = (0..100).map(|_| random.bytes(70_000).into()).collect();
    let (head, all) = content(&bodies);
    let ids: Vec<ChunkId> = all.iter().map(|body| ChunkId::of(body)).collect();
    let entries = [entry(1, vec![create(first, "f", head)])];

    let pushed = ann.push(&entries).expect("an answer");
    let Some(Refused::Lacks(lacks)) = pushed.refused else { panic!("{pushed:?}") };
    assert_eq!((pushed.done, lacks.len()), (0, 1), "what a page hides is not known before it is there");
    assert_eq!(ann.missing(&ids).expect("an answer"), ids);
    for some in all.chunks(50) {
        ann.send(some).expect("stored");
    }
    assert_eq!(ann.missing(&ids).expect("an answer"), []);
    let pushed = ann.push(&entries).expect("an answer");
    assert!(pushed.done == 1 && pushed.refused.is_none(), "{pushed:?}");
    let is_named = |news: &News| {
        matches!(news, News::Name { name, node: Some(node), .. }
            if *name == spot("f").1 && node.node.id == NodeId(first))
    };
    assert!(pushed.news.iter().any(is_named), "{pushed:?}");

    server.kill();
    let server = place.start();
    let ann = device(&server, "admin", PASSWORD);
    let again = ann.push(&entries).expect("an answer");
    assert!(again.done == 1 && again.refused.is_none(), "the server knows that it was done: {again:?}");
    assert_eq!(ann.range().expect("a range"), range + 1);
    let got = server.client().ok("GET", "/dav/home/f", &[], b"").body;
    assert!(got == bodies.concat(), "{} bytes", got.len());
    assert!(server.stop().success());
    place.assert_no_panic();
}

#[test]
fn a_refusal_says_which_and_why() {
    let place = Place::new();
    let server = place.start();
    let ann = device(&server, "admin", PASSWORD);
    let first = u64::from(ann.range().expect("a range")) << RANGE_BITS;
    let folder = |op: u64, text: &str| entry(op.into(), vec![create(first + op, text, Head::default())]);
    server.client().ok("MKCOL", "/dav/home/taken", &[], b"");
    let pushed = ann.push(&[folder(1, "one"), folder(2, "taken"), folder(3, "three")]).expect("an answer");
    let Some(Refused::Failed(why)) = &pushed.refused else { panic!("{pushed:?}") };
    assert_eq!((pushed.done, why.kind()), (1, Kind::Exists));
    let most: Vec<Entry> = (0..PUSHED_MAX as u64).map(|op| folder(op + 10, &format!("{op}"))).collect();
    assert_eq!(ann.push(&most).expect("an answer").done, PUSHED_MAX);
    let ids: Vec<ChunkId> = (0..ASKED_MAX as u64).map(|i| ChunkId::of(&i.to_le_bytes())).collect();
    assert_eq!(ann.missing(&ids).expect("an answer"), ids);

    let added = place.json(&["user", "add", "vic", "--role", "viewer"], 60);
    let vic = device(&server, "vic", added["password"].as_str().expect("a password"));
    let kinds = [
        vic.range().map(drop),
        vic.missing(&ids[..1]).map(drop),
        vic.send(&[Bytes::from_static(b"x")]),
        vic.push(&most[..1]).map(drop),
    ];
    assert_eq!(kinds.map(|refused| refused.expect_err("a viewer").kind()), [Kind::Denied; 4]);
    assert!(server.stop().success());
    place.assert_no_panic();
}
