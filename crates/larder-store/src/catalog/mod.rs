//! The catalog: nodes, names, extended attributes, history and records, changed by atomic commits.
//!
//! Its operations are those of a file system, not of a key-value store, so that a database can carry each out in
//! one statement. Semantics are POSIX where POSIX speaks; permission checks are the caller's.

mod commit;
mod queue;
mod step;
mod waiting;

pub use commit::{
    Attrs, Commit, Durability, Expect, NewNode, OPS_MAX, Op, RECORD_MAX_BYTES, Replace, Table, Unlink,
    XattrMode,
};
pub use larder_core::{XATTR_MAX_BYTES, XATTR_NAME_MAX_BYTES};
pub(crate) use queue::DOUBT;
pub use queue::{Doubt, QueueState, Queued};
pub use step::{CREATE_XATTRS_BYTES, Entry, Removal, STEPS_MAX, Spot, Step, Touched};
pub use waiting::Waiting;

use larder_core::{Kind, Name, Node, NodeId, OpId, Result, Timestamp};
use serde::{Deserialize, Serialize};

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// What changed, in order; empty for a repeated [`OpId`].
    pub changes: Vec<Change>,
    /// For [`Op::PurgeHistory`]: how many nodes and versions went.
    pub purged: usize,
}

/// One entry of the change feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// `name` in `parent` now names `node`.
    Named {
        /// The folder.
        parent: NodeId,
        /// The name.
        name: Name,
        /// What it names now.
        node: NodeId,
    },
    /// `name` in `parent` is gone; it named `node`.
    Unnamed {
        /// The folder.
        parent: NodeId,
        /// The name.
        name: Name,
        /// What it named.
        node: NodeId,
    },
    /// The content of `node` changed.
    Content(NodeId),
    /// The attributes or extended attributes of `node` changed.
    Attrs(NodeId),
}

/// A node with its extended attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// The node.
    pub node: Node,
    /// Its extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name.
    pub name: Name,
    /// The node, as last committed.
    pub node: Node,
}

/// An earlier content of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldVersion {
    /// The node as it was.
    pub node: Node,
    /// When it was replaced.
    pub until: Timestamp,
}

/// A deleted node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The folder it was in.
    pub parent: NodeId,
    /// The name it had there.
    pub name: Name,
    /// The node; folders keep their entries.
    pub node: NodeId,
    /// When it went.
    pub at: Timestamp,
}

/// A place in the change feed; opaque, worth nothing in another store, and as bytes greater than those before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor(pub Vec<u8>);

/// How much a catalog holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Nodes, deleted ones that the history still holds among them.
    pub nodes: u64,
    /// Bytes of the newest content of those nodes, holes left out.
    pub allocated_bytes: u64,
}

/// Nodes, names and everything else that is not a chunk's body.
///
/// Each call sees whole commits only. A new catalog has the folder [`NodeId::ROOT`].
pub trait Catalog: Send + Sync {
    /// Returns the node.
    ///
    /// # Errors
    /// `NotFound`.
    fn node(&self, id: NodeId) -> Result<Node>;

    /// Returns the node that `name` in `parent` names.
    ///
    /// # Errors
    /// `NotFound`; `NotADirectory` where the parent is no folder.
    fn lookup(&self, parent: NodeId, name: &Name) -> Result<Node>;

    /// Returns up to `limit` entries of a folder, drafts too, in byte order of their names, starting behind `after`.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    fn list(&self, parent: NodeId, after: Option<&Name>, limit: usize) -> Result<Vec<Listed>>;

    /// Returns the value of an extended attribute.
    ///
    /// # Errors
    /// `NotFound` for the attribute.
    fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>>;

    /// Returns the names of the node's extended attributes, in byte order.
    ///
    /// # Errors
    /// Those of the index.
    fn xattrs(&self, node: NodeId) -> Result<Vec<Vec<u8>>>;

    /// Returns a record.
    ///
    /// # Errors
    /// Those of the index.
    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Returns all records of a table, by key.
    ///
    /// # Errors
    /// Those of the index.
    fn records(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>>;

    /// Reserves an id for [`NewNode`].
    fn new_id(&self) -> NodeId;

    /// Learns what a commit of `ops` has to know, which may take time: before anything is locked for it.
    ///
    /// # Errors
    /// Those of a server that has to be asked.
    fn prepare(&self, _ops: &[Op]) -> Result<()> {
        Ok(())
    }

    /// Carries out `commit` whole or not at all.
    ///
    /// # Errors
    /// `Conflict` where an [`Expect`] does not hold; those that each [`Op`] names; `NoSpace`.
    fn commit(&self, commit: Commit) -> Result<Committed>;

    /// Says whether the operation `id` was carried out, as far as the history goes back.
    ///
    /// # Errors
    /// Those of the index.
    fn is_done(&self, id: OpId) -> Result<bool> {
        // What was done succeeds whatever is expected; for anything else this never holds.
        let expect = vec![Expect::Version(NodeId(0), 0)];
        let (at, durability) = (Timestamp(0), Durability::Process);
        match self.commit(Commit { at, op_id: Some(id), expect, ops: Vec::new(), durability }) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the earlier contents of a file, oldest first.
    ///
    /// # Errors
    /// Those of the index.
    fn versions(&self, node: NodeId) -> Result<Vec<OldVersion>>;

    /// Returns what was deleted from a folder (with `name`: only nodes of that name), by name, oldest first.
    ///
    /// # Errors
    /// Those of the index.
    fn deleted(&self, parent: NodeId, name: Option<&Name>) -> Result<Vec<Deleted>>;

    /// Returns up to `limit` changes behind `after` and the cursor behind the last of them.
    ///
    /// # Errors
    /// `Conflict` where the feed no longer reaches back so far: start again from [`Catalog::now`] and a listing.
    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)>;

    /// Returns the cursor behind the newest change.
    fn now(&self) -> Cursor;

    /// Returns up to `limit` entries of the queue from `number` on: what was changed here and not told the server yet.
    ///
    /// # Errors
    /// Those of the index.
    fn queued(&self, number: u64, limit: usize) -> Result<Vec<Queued>>;

    /// Returns how long the queue is.
    ///
    /// # Errors
    /// Those of the index.
    fn queue_state(&self) -> Result<QueueState>;

    /// Returns how often steps of the queue touch a node, or one of its names.
    ///
    /// # Errors
    /// Those of the index.
    fn queued_times(&self, node: NodeId, name: Option<&Name>) -> Result<u32>;

    /// Says whether an entry of the queue touches the node.
    ///
    /// # Errors
    /// Those of the index.
    fn is_queued(&self, node: NodeId) -> Result<bool> {
        Ok(self.queued_times(node, None)? > 0)
    }

    /// Returns how much the catalog holds, without a scan.
    fn counts(&self) -> Counts;
}
