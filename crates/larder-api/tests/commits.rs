//! What devices commit: in order, each entry whole or not at all, once, and never over what somebody else did.

mod support;

use larder_core::{ChunkId, Content, Head, Manifest, Node, NodeId, NodeKind, OpId, Timestamp};
use larder_drive::LockRequest;
use larder_store::Op;
use larder_store::catalog::{Attrs, Entry, Removal, Spot, Step, Unlink};
use larder_store::wire::{Described, WireEntryOf};
use serde_json::{Value, json};
use support::{World, actor, name};

const JSON: &str = "application/json";
/// The first id of the first range.
const FIRST: u64 = 1 << 40;

/// A project with one range given away, and a device of an editor.
fn world() -> (World, String) {
    let world = World::new();
    let device = world.device("ed");
    assert_eq!(world.post(&device, "/ranges", JSON, b"{}").json(), json!({ "range": 1 }));
    (world, device)
}

fn spot(parent: NodeId, text: &str) -> Spot {
    (parent, name(text))
}

fn node(id: u64, kind: NodeKind, content: Content) -> Node {
    let (parent, time) = (NodeId::ROOT, Timestamp(7));
    Node {
        id: NodeId(id),
        kind,
        mode: 0o640,
        uid: 12,
        gid: 34,
        nlink: 1,
        version: 1,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        parent,
        name: None,
        draft: false,
        content,
    }
}

fn create(id: u64, at: Spot, kind: NodeKind, content: Content) -> Step {
    let xattrs = vec![(b"user.a".to_vec(), vec![1, 255])];
    Step::Create { at, node: Box::new(Described { node: node(id, kind, content), xattrs }) }
}

fn file(id: u64, at: Spot, head: Head) -> Step {
    create(id, at, NodeKind::File, Content::File(head))
}

fn folder(id: u64, at: Spot) -> Step {
    create(id, at, NodeKind::Folder, Content::None)
}

/// A content of one chunk, which nobody has stored yet.
fn head_of(body: &[u8]) -> Head {
    let mut manifest = Manifest::default();
    manifest.push(ChunkId::of(body), body.len() as u64);
    manifest.to_head(|_, _| unreachable!("no pages")).expect("a head")
}

fn entry(op: u128, steps: Vec<Step>) -> Entry {
    Entry { op_id: OpId(op), steps }
}

fn body(entries: &[Entry]) -> Vec<u8> {
    let entries: Vec<WireEntryOf> = entries.iter().map(WireEntryOf::new).collect();
    json!({ "entries": entries }).to_string().into_bytes()
}

/// What the server says of them.
#[track_caller]
fn push(world: &World, device: &str, entries: &[Entry]) -> Value {
    let answer = world.post(device, "/commits", JSON, &body(entries));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Says that all were done.
#[track_caller]
fn done(world: &World, device: &str, entries: &[Entry]) {
    let said = push(world, device, entries);
    assert_eq!((&said["done"], &said["refused"]), (&json!(entries.len()), &Value::Null), "{said}");
}

/// The kind with which the only one was refused; nothing changed then.
#[track_caller]
fn refused(world: &World, device: &str, steps: Vec<Step>) -> String {
    let before = world.drive.catalog().now();
    let said = push(world, device, &[entry(0xbad, steps)]);
    assert_eq!((&said["done"], world.drive.catalog().now()), (&json!(0), before), "{said}");
    assert!(said["refused"]["what"].is_string(), "{said}");
    said["refused"]["kind"].as_str().expect("a kind").to_owned()
}

/// Stores a chunk by itself, and returns the content that it makes.
fn stored(world: &World, body: &[u8]) -> Head {
    let lease = world.drive.chunks().lease();
    world.drive.chunks().put(&lease, &ChunkId::of(body), body).expect("stored");
    head_of(body)
}

#[test]
fn entries_are_carried_out_in_their_order() {
    let (world, ed) = world();
    let head = stored(&world, b"hello");
    let (dir, hello) = (NodeId(FIRST), NodeId(FIRST + 1));
    let made = entry(1, vec![folder(dir.0, spot(NodeId::ROOT, "dir")), file(hello.0, spot(dir, "a"), head)]);
    let moved = Step::Rename { node: hello, from: spot(dir, "a"), to: spot(dir, "b"), over: None };
    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
    let rest =
        vec![moved, Step::Attrs { node: hello, attrs }, Step::Link { node: hello, at: spot(dir, "c") }];
    let said = push(&world, &ed, &[made, entry(2, rest)]);
    assert_eq!((&said["done"], &said["refused"]), (&json!(2), &Value::Null));
    let node = world.drive.lookup(dir, &name("b")).expect("there");
    assert_eq!((node.id, node.mode, node.uid, node.gid, node.nlink), (hello, 0o600, 12, 34, 2));
    assert_eq!((node.atime, node.mtime, node.btime), (Timestamp(7), Timestamp(7), Timestamp(7)));
    assert_eq!(world.drive.catalog().xattr(hello, b"user.a").expect("there"), [1, 255]);
    let changes = said["changes"].as_array().expect("changes");
    let named = |parent: NodeId, text: &str| {
        let is = |change: &&Value| {
            change["name"]["parent"] == parent.to_string().as_str() && change["name"]["name"] == text
        };
        let found: Vec<&Value> = changes.iter().filter(is).collect();
        assert_eq!(found.len(), 1, "{text} once: {said}");
        found[0]["name"]["node"].clone()
    };
    assert_eq!(named(NodeId::ROOT, "dir")["id"], dir.to_string());
    assert_eq!((named(dir, "a"), named(dir, "c")), (Value::Null, named(dir, "b")));
    assert_eq!(named(dir, "b"), world.get(&ed, &format!("/nodes/{hello}")).json());
    assert_eq!(changes.len(), 5, "the root as well, and nothing twice: {said}");
}

#[test]
fn the_first_refusal_ends_it_and_tells_what_is_there() {
    let (world, ed) = world();
    world.folder(NodeId::ROOT, "taken");
    let steps = |id: u64, text: &str| vec![folder(FIRST + id, spot(NodeId::ROOT, text))];
    let entries = [entry(1, steps(1, "one")), entry(2, steps(2, "taken")), entry(3, steps(3, "three"))];
    let said = push(&world, &ed, &entries);
    assert_eq!((&said["done"], &said["refused"]["kind"]), (&json!(1), &json!("exists")), "{said}");
    assert!(world.drive.lookup(NodeId::ROOT, &name("three")).is_err());
    let is_taken = |change: &&Value| change["name"]["name"] == "taken";
    let told = said["changes"].as_array().expect("changes").iter().find(is_taken).expect("told");
    assert_eq!(told["name"]["node"]["id"], "2");
    assert!(!said.to_string().contains("three"), "nobody looked at it: {said}");
}

#[test]
fn a_content_that_somebody_else_replaced_is_kept() {
    let (world, ed) = world();
    let ann = world.device("ann");
    let old = world.put(NodeId::ROOT, "f", b"old");
    let (was, mtime) = (old.head().cloned(), Timestamp(9));
    let content = |head| vec![Step::Content { node: old.id, was: was.clone(), head, mtime }];
    done(&world, &ann, &[entry(1, content(stored(&world, b"ann's")))]);
    assert_eq!(refused(&world, &ed, content(stored(&world, b"ed's"))), "conflict");
    let now = world.drive.node(old.id).expect("there");
    assert_eq!((now.head(), now.mtime), (Some(&head_of(b"ann's")), mtime));
    let at = spot(NodeId::ROOT, "f");
    let unlink = Step::Unlink { at: at.clone(), node: old.id, was: was.clone(), what: Removal::File };
    assert_eq!(refused(&world, &ed, vec![unlink]), "conflict");
    let other = world.put(NodeId::ROOT, "g", b"g").id;
    let over = Some((old.id, was));
    let rename = Step::Rename { node: other, from: spot(NodeId::ROOT, "g"), to: at, over };
    assert_eq!(refused(&world, &ed, vec![rename]), "conflict");
}

#[test]
fn a_request_whose_answer_was_lost_is_repeated_without_harm() {
    let (world, ed) = world();
    let head = stored(&world, b"mine");
    let id = NodeId(FIRST);
    let entries = [
        entry(1, vec![file(id.0, spot(NodeId::ROOT, "f"), head.clone())]),
        entry(2, vec![Step::Attrs { node: NodeId(99), attrs: Attrs::default() }]),
    ];
    let first = push(&world, &ed, &entries);
    assert_eq!((&first["done"], &first["refused"]["kind"]), (&json!(1), &json!("conflict")));
    let before = world.drive.catalog().now();
    assert_eq!(push(&world, &ed, &entries), first);
    // Even where it could not be done any more: the file is locked, replaced, deleted.
    let request = LockRequest {
        root: NodeId::ROOT,
        deep: true,
        shared: false,
        owner_xml: String::new(),
        timeout_s: 60,
    };
    world.drive.locks().acquire(&world.drive, &actor(), request).expect("a lock");
    assert_eq!(push(&world, &ed, &entries[..1])["done"], 1);
    assert_eq!(world.drive.catalog().now(), before);
}

#[test]
fn what_is_lacking_is_named_then_sent_then_done() {
    let (world, ed) = world();
    let head = head_of(b"never seen");
    let entries = [entry(1, vec![file(FIRST, spot(NodeId::ROOT, "f"), head)])];
    let said = push(&world, &ed, &entries);
    let id = ChunkId::of(b"never seen").to_string();
    assert_eq!((&said["done"], &said["refused"]["kind"]), (&json!(0), &json!("conflict")));
    assert_eq!(said["refused"]["lacks"], json!([id]));
    assert!(world.drive.lookup(NodeId::ROOT, &name("f")).is_err());
    stored(&world, b"never seen");
    done(&world, &ed, &entries);
}

/// A content of `count` chunks of 10 bytes, and its pages, the deepest first.
fn long(count: u32) -> (Head, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let bodies: Vec<Vec<u8>> = (0..count).map(|i| format!("{i:010}").into_bytes()).collect();
    let mut manifest = Manifest::default();
    bodies.iter().for_each(|body| manifest.push(ChunkId::of(body), 10));
    let mut pages = Vec::new();
    let head = manifest.to_head(|_, page| {
        pages.push(page.to_vec());
        Ok(())
    });
    (head.expect("a head"), pages, bodies)
}

#[test]
fn every_level_of_a_long_content_has_to_be_there() {
    let (world, ed) = world();
    // Two levels of pages.
    let (head, pages, bodies) = long(70_000);
    assert_eq!((head.depth, pages.len()), (2, 70));
    let lease = world.drive.chunks().lease();
    let put =
        |body: &[u8]| world.drive.chunks().put(&lease, &ChunkId::of(body), body).map(drop).expect("stored");
    let entries = [entry(1, vec![file(FIRST, spot(NodeId::ROOT, "f"), head)])];
    let lacks = || {
        let said = push(&world, &ed, &entries);
        said["refused"]["lacks"].as_array().map(|lacks| lacks.len())
    };
    assert_eq!(lacks(), Some(1), "the top");
    put(&pages[69]);
    assert_eq!(lacks(), Some(69), "the level below");
    pages.iter().for_each(|page| put(page));
    assert_eq!(lacks(), Some(4096), "so many at a time");
    bodies[1..].iter().for_each(|body| put(body));
    assert_eq!(lacks(), Some(1));
    put(&bodies[0]);
    done(&world, &ed, &entries);
}

#[test]
fn sizes_that_do_not_agree_are_refused() {
    let (world, ed) = world();
    let (good, pages, bodies) = long(100);
    let lease = world.drive.chunks().lease();
    for body in pages.iter().chain(&bodies) {
        world.drive.chunks().put(&lease, &ChunkId::of(body), body).expect("stored");
    }
    let mut short = good.clone();
    short.allocated_bytes -= 1;
    let mut long = good.clone();
    (long.size_bytes, long.allocated_bytes, long.extents[0].len_bytes) = (1001, 1001, 1001);
    let mut no_page = good.clone();
    no_page.extents[0].id = ChunkId::of(&bodies[0]);
    let mut hole = good.clone();
    (hole.extents[0].id, hole.allocated_bytes) = (ChunkId::HOLE, 0);
    for head in [short, long, no_page, hole] {
        let steps = vec![file(FIRST, spot(NodeId::ROOT, "f"), head.clone())];
        assert_eq!(refused(&world, &ed, steps), "invalid", "{head:?}");
    }
    done(&world, &ed, &[entry(1, vec![file(FIRST, spot(NodeId::ROOT, "f"), good)])]);
}

#[test]
fn new_nodes_have_ids_of_a_range_that_was_given_away() {
    let (world, ed) = world();
    let known = world.folder(NodeId::ROOT, "known").id.0;
    for id in [known + 1, known, FIRST - 1, FIRST * 2, u64::MAX] {
        let steps = vec![folder(id, spot(NodeId::ROOT, "new"))];
        assert_eq!(refused(&world, &ed, steps), "invalid", "{id}");
    }
    for (op, id) in [(1, FIRST), (2, FIRST * 2 - 1)] {
        done(&world, &ed, &[entry(op, vec![folder(id, spot(NodeId::ROOT, &format!("new{op}")))])]);
    }
    let again = vec![folder(FIRST, spot(NodeId::ROOT, "again"))];
    assert_eq!(refused(&world, &ed, again.clone()), "invalid", "it is in use");
    world.commit(vec![Op::Unlink { parent: NodeId::ROOT, name: name("new1"), what: Unlink::Tree }]);
    assert_eq!(refused(&world, &ed, again), "invalid", "the history has it");
    // A device may bring back what the server has forgotten.
    world.commit(vec![Op::Unlink { parent: NodeId::ROOT, name: name("known"), what: Unlink::Tree }]);
    world.clock.advance(40 * 24 * 3_600_000_000_000);
    world.drive.purge_history().expect("purged");
    for (op, id) in [(3, FIRST), (4, known)] {
        done(&world, &ed, &[entry(op, vec![folder(id, spot(NodeId::ROOT, &format!("new{op}")))])]);
    }
}

#[test]
fn drafts_and_what_is_deleted_cannot_be_changed() {
    let (world, ed) = world();
    let top = world.folder(NodeId::ROOT, "top").id;
    let sub = world.folder(top, "sub").id;
    let inside = world.put(sub, "f", b"f").id;
    let draft = world.draft(NodeId::ROOT, "draft");
    world.commit(vec![Op::Unlink { parent: NodeId::ROOT, name: name("top"), what: Unlink::Tree }]);
    let attrs = |node| Step::Attrs { node, attrs: Attrs::default() };
    for node in [draft, top, sub, inside, NodeId(99), NodeId(FIRST)] {
        assert_eq!(refused(&world, &ed, vec![attrs(node)]), "conflict", "{node}");
        let (was, head, mtime) = (None, Head::default(), Timestamp(1));
        assert_eq!(
            refused(&world, &ed, vec![Step::Content { node, was, head, mtime }]),
            "conflict",
            "{node}"
        );
    }
    assert_eq!(refused(&world, &ed, vec![folder(FIRST, spot(sub, "new"))]), "conflict");
    let said = push(&world, &ed, &[entry(1, vec![attrs(inside), attrs(sub)])]);
    let gone = json!([{ "gone": sub.to_string() }, { "gone": inside.to_string() }]);
    assert_eq!(said["changes"], gone, "what is in a deleted folder went with it");
    let said = push(&world, &ed, &[entry(1, vec![folder(FIRST, spot(NodeId::ROOT, "draft"))])]);
    assert_eq!(said["refused"]["kind"], "exists");
    let named = said["changes"].as_array().expect("changes").iter().find(|change| !change["name"].is_null());
    assert_eq!(named.expect("told")["name"]["node"], Value::Null, "nobody is told of drafts");
    let back = Step::Undelete { node: top, to: spot(NodeId::ROOT, "back") };
    done(&world, &ed, &[entry(2, vec![back, attrs(top)]), entry(3, vec![attrs(inside)])]);
}

#[test]
fn a_lock_holds_and_the_device_is_to_try_again() {
    let (world, ed) = world();
    let node = world.put(NodeId::ROOT, "f", b"f").id;
    let request =
        LockRequest { root: node, deep: false, shared: false, owner_xml: String::new(), timeout_s: 60 };
    world.drive.locks().acquire(&world.drive, &actor(), request).expect("a lock");
    let steps = vec![Step::Content { node, was: None, head: Head::default(), mtime: Timestamp(1) }];
    assert_eq!(refused(&world, &ed, steps.clone()), "unavailable");
    world.clock.advance(61_000_000_000);
    done(&world, &ed, &[entry(0xbad, steps)]);
}

#[test]
fn an_answer_that_would_grow_too_long_ends_early() {
    let (world, ed) = world();
    let set = |node: NodeId, at: u8| {
        let value = Some(vec![at; 60_000]);
        Op::SetXattr { node, name: vec![b'u', at], value, mode: larder_store::catalog::XattrMode::Any }
    };
    let nodes: Vec<NodeId> = (0..8).map(|i| world.folder(NodeId::ROOT, &format!("{i}")).id).collect();
    nodes.iter().for_each(|node| world.commit((1..17).map(|at| set(*node, at)).collect()));
    let attrs = Attrs { mode: Some(0o700), ..Attrs::default() };
    let attrs = |node: &NodeId| vec![Step::Attrs { node: *node, attrs }];
    let mut entries: Vec<Entry> = (1..).zip(nodes.iter().map(attrs)).map(|(op, s)| entry(op, s)).collect();
    while !entries.is_empty() {
        let said = push(&world, &ed, &entries);
        let some = said["done"].as_u64().expect("a number") as usize;
        assert!((1..6).contains(&some) && said.to_string().len() < 8 << 20, "{some}");
        entries.drain(..some);
        assert_eq!(said["refused"].is_null(), entries.is_empty());
        assert!(entries.is_empty() || said["refused"]["kind"] == "unavailable");
    }
    assert!(nodes.iter().all(|node| world.drive.node(*node).expect("there").mode == 0o700));
}

#[test]
fn what_is_no_entry_is_refused_by_its_field() {
    let (world, ed) = world();
    let good = entry(1, vec![folder(FIRST, spot(NodeId::ROOT, "new"))]);
    let two = String::from_utf8(body(&[good.clone(), good.clone()])).expect("text");
    let last = |from: &str, to: &str| {
        let at = two.rfind(from).expect("there");
        format!("{}{to}{}", &two[..at], &two[at + from.len()..])
    };
    for (text, field) in [
        ("{".to_owned(), "body: "),
        ("{}".to_owned(), "body: missing field `entries`"),
        (last(r#""op""#, r#""ops""#), "body: missing field `op`"),
        (last("00000000000000000000000000000001", "1"), "entries[1]: "),
        (last("create", "crate"), "body: unknown variant `crate`"),
        (last(r#""name":"new""#, r#""name":"..""#), "entries[1].steps[0]: no name"),
    ] {
        let answer = world.post(&ed, "/commits", JSON, text.as_bytes());
        let what = answer.is_problem(400, "invalid")["what"].as_str().expect("text").to_owned();
        assert!(what.starts_with(field), "{field} in {what}");
    }
    assert!(world.drive.lookup(NodeId::ROOT, &name("new")).is_err(), "none of it was done");
    let attrs = |op| entry(op, vec![Step::Attrs { node: NodeId::ROOT, attrs: Attrs::default() }]);
    let many: Vec<Entry> = (0..257).map(attrs).collect();
    world.post(&ed, "/commits", JSON, &body(&many)).is_problem(400, "invalid");
    done(&world, &ed, &many[..256]);
    world.post(&ed, "/commits", "text/plain", &body(&[good])).is_problem(415, "invalid");
    world.post(&ed, "/commits", JSON, &vec![b' '; (4 << 20) + 1]).is_problem(413, "invalid");
}
