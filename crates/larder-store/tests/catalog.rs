//! What the catalog promises, over the memory index; the conformance suite runs on every backend.

use larder_core::{Content, Extent, Head, Kind, Name, NodeId, NodeKind, Timestamp};
use larder_store::catalog::{Counts, NewNode, Replace, Unlink};
use larder_store::memory::MemoryKv;
use larder_store::{Catalog, Commit, Committed, Durability, KvCatalog, Op};

struct Fixture(KvCatalog<MemoryKv>, std::cell::Cell<i64>);

impl Fixture {
    fn new() -> Self {
        let catalog = KvCatalog::open(MemoryKv::default(), Timestamp(0), (0, 0)).expect("an empty index");
        Fixture(catalog, std::cell::Cell::new(0))
    }

    fn run(&self, ops: Vec<Op>) -> larder_core::Result<Committed> {
        self.1.set(self.1.get() + 1);
        let at = Timestamp(self.1.get());
        self.0.commit(Commit { at, op_id: None, expect: Vec::new(), ops, durability: Durability::Process })
    }

    fn make(&self, parent: NodeId, text: &str, kind: NodeKind) -> NodeId {
        let id = self.0.new_id();
        self.run(vec![create(id, parent, text, kind, false)]).expect("created");
        id
    }

    fn purge(&self, limit: usize) -> usize {
        let before = Timestamp(i64::MAX);
        self.run(vec![Op::PurgeHistory { before, interim_before: before, limit }]).expect("purged").purged
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn create(id: NodeId, parent: NodeId, text: &str, kind: NodeKind, draft: bool) -> Op {
    let content = if kind == NodeKind::File { Content::File(Head::default()) } else { Content::None };
    let node = Box::new(NewNode { id, kind, mode: 0o644, uid: 1, gid: 1, content, mtime: None, draft });
    Op::Create { parent, name: name(text), node }
}

fn head(size_bytes: u64) -> Head {
    let id = larder_core::ChunkId::of(&size_bytes.to_le_bytes());
    Head {
        size_bytes,
        allocated_bytes: size_bytes,
        depth: 0,
        extents: vec![Extent { id, len_bytes: size_bytes }],
    }
}

const ROOT: NodeId = NodeId::ROOT;

#[test]
fn failed_commit_changes_nothing() {
    let f = Fixture::new();
    let id = f.0.new_id();
    let error = f.run(vec![
        create(id, ROOT, "a", NodeKind::File, false),
        Op::Unlink { parent: ROOT, name: name("missing"), what: Unlink::File },
    ]);
    assert_eq!(error.expect_err("nothing to unlink").kind(), Kind::NotFound);
    assert_eq!(f.0.lookup(ROOT, &name("a")).expect_err("not created").kind(), Kind::NotFound);
    assert_eq!(f.0.counts().nodes, 1);
}

#[test]
fn replaced_content_is_kept_as_a_version_and_purged_with_the_history() {
    let f = Fixture::new();
    let id = f.make(ROOT, "a", NodeKind::File);
    for size in [10, 20, 30] {
        f.run(vec![Op::SetContent {
            node: id,
            head: head(size),
            mtime: Timestamp(size as i64),
            interim: None,
            base: None,
        }])
        .expect("set");
    }
    let sizes: Vec<u64> = f.0.versions(id).expect("versions").iter().map(|v| v.node.size_bytes()).collect();
    assert_eq!(sizes, [10, 20]);
    assert_eq!(f.purge(100), 2);
    assert_eq!(f.0.versions(id).expect("versions"), []);
    assert_eq!(f.0.node(id).expect("kept").size_bytes(), 30);
}

#[test]
fn deleted_tree_comes_back_whole() {
    let f = Fixture::new();
    let top = f.make(ROOT, "top", NodeKind::Folder);
    let sub = f.make(top, "sub", NodeKind::Folder);
    f.make(sub, "file", NodeKind::File);
    f.run(vec![Op::Unlink { parent: ROOT, name: name("top"), what: Unlink::Tree }]).expect("removed");
    assert!(f.0.lookup(ROOT, &name("top")).is_err());
    assert_eq!(f.0.deleted(ROOT, Some(&name("top"))).expect("history").len(), 1);
    f.run(vec![Op::Undelete { node: top, to: (ROOT, name("back")) }]).expect("undeleted");
    assert_eq!(f.0.node(top).expect("back").nlink, 3);
    assert!(f.0.lookup(sub, &name("file")).is_ok());
    assert_eq!(f.0.deleted(ROOT, None).expect("history"), []);
}

#[test]
fn purge_in_small_steps_forgets_all_but_files_named_elsewhere() {
    let f = Fixture::new();
    let top = f.make(ROOT, "top", NodeKind::Folder);
    for i in 0..20 {
        let sub = f.make(top, &format!("sub{i}"), NodeKind::Folder);
        f.make(sub, "file", NodeKind::File);
    }
    let linked = f.make(top, "linked", NodeKind::File);
    f.run(vec![Op::Link { node: linked, parent: ROOT, name: name("other") }]).expect("linked");
    f.run(vec![Op::Unlink { parent: ROOT, name: name("top"), what: Unlink::Tree }]).expect("removed");
    while f.purge(3) > 0 {}
    assert_eq!(f.0.counts(), Counts { nodes: 2, allocated_bytes: 0 });
    assert_eq!(f.0.node(linked).expect("still named").nlink, 1);
}

#[test]
fn drafts_do_not_survive_a_start() {
    let f = Fixture::new();
    let (kept, lost) = (f.0.new_id(), f.0.new_id());
    f.run(vec![create(kept, ROOT, "kept", NodeKind::File, true)]).expect("created");
    f.run(vec![create(lost, ROOT, "lost", NodeKind::File, true)]).expect("created");
    f.run(vec![Op::SetContent { node: kept, head: head(0), mtime: Timestamp(0), interim: None, base: None }])
        .expect("published");
    let again = KvCatalog::open(Borrowed(f.0.kv()), Timestamp(99), (0, 0)).expect("reopened");
    assert!(!again.lookup(ROOT, &name("kept")).expect("published").draft);
    assert_eq!(again.lookup(ROOT, &name("lost")).expect_err("a draft").kind(), Kind::NotFound);
    assert_ne!(again.new_id(), lost);
}

#[test]
fn folders_never_get_below_themselves_and_replace_an_ancestor_whole() {
    let f = Fixture::new();
    let a = f.make(ROOT, "a", NodeKind::Folder);
    let b = f.make(a, "b", NodeKind::Folder);
    let into_itself = Op::Rename { from: (ROOT, name("a")), to: (b, name("a")), replace: Replace::Posix };
    assert_eq!(f.run(vec![into_itself]).expect_err("a cycle").kind(), Kind::Invalid);
    let over_parent = Op::Rename { from: (a, name("b")), to: (ROOT, name("a")), replace: Replace::Tree };
    f.run(vec![over_parent]).expect("moved up");
    assert_eq!(f.0.lookup(ROOT, &name("a")).expect("there").id, b);
    assert_eq!(f.0.node(ROOT).expect("root").nlink, 3);
}

#[test]
fn repeated_operation_id_changes_nothing() {
    let f = Fixture::new();
    let id = f.0.new_id();
    let commit = Commit {
        at: Timestamp(1),
        op_id: Some(larder_core::OpId(7)),
        expect: Vec::new(),
        ops: vec![create(id, ROOT, "a", NodeKind::File, false)],
        durability: Durability::Power,
    };
    assert_eq!(f.0.commit(commit.clone()).expect("first").changes.len(), 1);
    assert_eq!(f.0.commit(commit).expect("retry").changes, []);
}

/// An index lent to a second catalog, as after a restart.
struct Borrowed<'a>(&'a MemoryKv);

impl larder_store::kv::Kv for Borrowed<'_> {
    fn get(&self, key: &[u8]) -> larder_core::Result<Option<Vec<u8>>> {
        self.0.get(key)
    }
    fn scan(&self, p: &[u8], a: Option<&[u8]>, l: usize) -> larder_core::Result<Vec<larder_store::kv::Pair>> {
        self.0.scan(p, a, l)
    }
    fn apply(&self, batch: larder_store::kv::Batch) -> larder_core::Result<u64> {
        self.0.apply(batch)
    }
    fn wait_durable(&self, position: u64) -> larder_core::Result<()> {
        self.0.wait_durable(position)
    }
    fn changes(
        &self,
        after: &larder_store::catalog::Cursor,
        limit: usize,
    ) -> larder_core::Result<(Vec<larder_store::Change>, larder_store::catalog::Cursor)> {
        self.0.changes(after, limit)
    }
    fn now(&self) -> larder_store::catalog::Cursor {
        self.0.now()
    }
}
