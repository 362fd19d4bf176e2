//! What every backend promises, as tests that any backend can run.
//!
//! A case takes an empty store or catalog and panics where a promise is broken. A backend's tests call
//! [`chunk_store`] or [`catalog`] with a function that makes an empty one.

mod attributes;
mod chunks;
mod commits;
mod history;
mod names;

use crate::catalog::{Catalog, Commit, Committed, Durability, Expect, NewNode, Op};
use crate::chunks::ChunkStore;
use larder_core::{ChunkId, Content, Extent, Head, Kind, Name, Node, NodeId, NodeKind, Result, Timestamp};
use std::cell::Cell;

/// Runs every case of a chunk store, each on a new one.
pub fn chunk_store<S: ChunkStore>(mut make: impl FnMut() -> S) {
    for (name, case) in chunks::CASES {
        println!("{name}");
        case(&make());
    }
}

/// Runs every case of a catalog, each on a new one.
pub fn catalog<C: Catalog>(mut make: impl FnMut() -> C) {
    let cases = [names::CASES, attributes::CASES, history::CASES, commits::CASES].concat();
    for (name, case) in cases {
        println!("{name}");
        case(&Session { catalog: &make(), clock: Cell::new(0) });
    }
}

const ROOT: NodeId = NodeId::ROOT;

type ChunkCase = (&'static str, fn(&dyn ChunkStore));
type Case = (&'static str, fn(&Session<'_>));

/// One user of a catalog, with a clock that goes on by one nanosecond a commit.
struct Session<'a> {
    catalog: &'a dyn Catalog,
    clock: Cell<i64>,
}

impl Session<'_> {
    fn run(&self, ops: Vec<Op>) -> Result<Committed> {
        self.run_if(Vec::new(), ops)
    }

    fn run_if(&self, expect: Vec<Expect>, ops: Vec<Op>) -> Result<Committed> {
        self.clock.set(self.clock.get() + 1);
        let at = Timestamp(self.clock.get());
        self.catalog.commit(Commit { at, op_id: None, expect, ops, durability: Durability::Power })
    }

    fn done(&self, op: Op) -> Committed {
        self.run(vec![op]).expect("the operation is right")
    }

    /// The kind that `op` fails with; nothing has changed then.
    fn refused(&self, op: Op) -> Kind {
        let before = (self.catalog.counts(), self.catalog.now());
        let kind = self.run(vec![op]).expect_err("the operation is wrong").kind();
        assert_eq!((self.catalog.counts(), self.catalog.now()), before, "a refused commit changes nothing");
        kind
    }

    fn make(&self, parent: NodeId, text: &str, kind: NodeKind) -> NodeId {
        let id = self.catalog.new_id();
        self.done(create(id, parent, text, kind));
        id
    }

    fn file(&self, parent: NodeId, text: &str) -> NodeId {
        self.make(parent, text, NodeKind::File)
    }

    fn folder(&self, parent: NodeId, text: &str) -> NodeId {
        self.make(parent, text, NodeKind::Folder)
    }

    fn node(&self, id: NodeId) -> Node {
        self.catalog.node(id).expect("the node is there")
    }

    fn at(&self, parent: NodeId, text: &str) -> Option<NodeId> {
        match self.catalog.lookup(parent, &name(text)) {
            Ok(node) => Some(node.id),
            Err(error) => {
                assert_eq!(error.kind(), Kind::NotFound);
                None
            }
        }
    }

    fn names(&self, folder: NodeId) -> Vec<String> {
        let listed = self.catalog.list(folder, None, usize::MAX).expect("a folder");
        listed.iter().map(|entry| entry.name.to_string()).collect()
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn place(parent: NodeId, text: &str) -> (NodeId, Name) {
    (parent, name(text))
}

fn new_node(id: NodeId, kind: NodeKind) -> NewNode {
    let content = match kind {
        NodeKind::File => Content::File(Head::default()),
        NodeKind::Symlink => Content::Target(b"over/there".to_vec()),
        NodeKind::CharDevice | NodeKind::BlockDevice => Content::Device(0x0103),
        NodeKind::Folder | NodeKind::Fifo | NodeKind::Socket => Content::None,
    };
    NewNode { id, kind, mode: 0o640, uid: 7, gid: 8, content, mtime: None, draft: false }
}

fn create(id: NodeId, parent: NodeId, text: &str, kind: NodeKind) -> Op {
    Op::Create { parent, name: name(text), node: Box::new(new_node(id, kind)) }
}

fn head(size_bytes: u64) -> Head {
    let id = ChunkId::of(&size_bytes.to_le_bytes());
    let extents = vec![Extent { id, len_bytes: size_bytes }];
    Head { size_bytes, allocated_bytes: size_bytes, depth: 0, extents }
}

fn set_content(node: NodeId, size_bytes: u64) -> Op {
    Op::SetContent { node, head: head(size_bytes), mtime: Timestamp(-5), interim: None, base: None }
}
