//! What a commit asks of the catalog: its conditions, its operations and what they take.

use super::{Described, Doubt, Spot, Step};
use larder_core::{Content, Head, Name, Node, NodeId, NodeKind, OpId, Timestamp};
use serde::{Deserialize, Serialize};

/// When [`Catalog::commit`](super::Catalog::commit) returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once the commit survives the death of this process; power loss may take it until the next sync.
    Process,
    /// Once the commit, and every commit and chunk before it, survives power loss.
    Power,
}

/// One atomic change: all of its operations in order, or none.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The time that ctime and history get.
    pub at: Timestamp,
    /// Committing the same id again changes nothing and succeeds.
    pub op_id: Option<OpId>,
    /// What must hold before the first operation; else `Conflict`.
    pub expect: Vec<Expect>,
    /// What changes.
    pub ops: Vec<Op>,
    /// When the call returns.
    pub durability: Durability,
}

/// A condition of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The node exists and has this version.
    Version(NodeId, u64),
    /// The folder has this name for this node, or does not have it.
    Name(NodeId, Name, Option<NodeId>),
    /// The file holds this.
    Content(NodeId, Head),
    /// The node is in the tree: neither it nor a folder above it is deleted.
    Alive(NodeId),
    /// The record is this, or is not there.
    Record(Table, Vec<u8>, Option<Vec<u8>>),
}

/// What a new node starts with; the catalog fills in the rest.
#[derive(Clone, Debug)]
pub struct NewNode {
    /// From [`Catalog::new_id`](super::Catalog::new_id), or from a range that was given away.
    pub id: NodeId,
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits, 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it holds.
    pub content: Content,
    /// Last change of content; `None` for the time of the commit.
    pub mtime: Option<Timestamp>,
    /// Hidden from other doors and dropped at the next start unless published by [`Op::SetContent`].
    pub draft: bool,
}

impl NewNode {
    /// The node that a commit at `at` makes of it.
    pub fn named(self, parent: NodeId, name: Name, at: Timestamp) -> Node {
        let folder = self.kind == NodeKind::Folder;
        Node {
            id: self.id,
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: if folder { 2 } else { 1 },
            version: 1,
            atime: at,
            mtime: self.mtime.unwrap_or(at),
            ctime: at,
            btime: at,
            parent,
            name: Some(name),
            draft: self.draft,
            content: self.content,
        }
    }
}

/// Attributes to set; `None` leaves one as it is. The version grows and ctime becomes the time of the commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attrs {
    /// Permission bits, 0o7777.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last access.
    pub atime: Option<Timestamp>,
    /// Last change of content.
    pub mtime: Option<Timestamp>,
    /// When it was made (a WebDAV client may set it).
    pub btime: Option<Timestamp>,
}

impl Attrs {
    /// Gives `node` the attributes that are set here.
    pub(crate) fn set_on(&self, node: &mut Node) {
        node.mode = self.mode.unwrap_or(node.mode);
        node.uid = self.uid.unwrap_or(node.uid);
        node.gid = self.gid.unwrap_or(node.gid);
        node.atime = self.atime.unwrap_or(node.atime);
        node.mtime = self.mtime.unwrap_or(node.mtime);
        node.btime = self.btime.unwrap_or(node.btime);
    }
}

/// What may be in the way of a new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Nothing: `Exists`. renameat2(2) RENAME_NOREPLACE, RFC 4918 Overwrite: F.
    Nothing,
    /// What rename(2) replaces: a file by a file, an empty folder by a folder.
    Posix,
    /// Anything, folders with all they hold. RFC 4918 § 9.9.3 Overwrite: T.
    Tree,
}

/// What [`Op::Unlink`] removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlink {
    /// unlink(2): anything but a folder (`IsADirectory`).
    File,
    /// rmdir(2): an empty folder (`NotADirectory`, `NotEmpty`).
    EmptyFolder,
    /// Anything, folders with all they hold, in one step whatever their size.
    Tree,
}

/// How [`Op::SetXattr`] treats what is there. Source: setxattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Creates or replaces.
    Any,
    /// `Exists` where there is one.
    Create,
    /// `NotFound` where there is none.
    Replace,
}

/// One operation of a commit.
#[derive(Clone, Debug)]
pub enum Op {
    /// Makes `node` as `name` in `parent`. Errors: `Exists`, `NotFound` and `NotADirectory` for the parent; `Invalid` where
    /// the node's id is another's, be it in the history.
    Create {
        /// The folder.
        parent: NodeId,
        /// The new name.
        name: Name,
        /// The new node.
        node: Box<NewNode>,
    },
    /// Gives `node` one more name. Errors: `Exists`; `Denied` for a folder.
    Link {
        /// The node.
        node: NodeId,
        /// The folder.
        parent: NodeId,
        /// The new name.
        name: Name,
    },
    /// Takes a name away. The last name gone, the node goes to the history (a draft: for good).
    Unlink {
        /// The folder.
        parent: NodeId,
        /// The name.
        name: Name,
        /// What may be removed.
        what: Unlink,
    },
    /// Renames. A folder never gets below itself (`Invalid`). What is replaced goes to the history.
    Rename {
        /// Folder and name now.
        from: (NodeId, Name),
        /// Folder and name then.
        to: (NodeId, Name),
        /// What may be in the way.
        replace: Replace,
    },
    /// Swaps two names. Source: renameat2(2) RENAME_EXCHANGE.
    Exchange {
        /// One.
        a: (NodeId, Name),
        /// The other.
        b: (NodeId, Name),
    },
    /// Publishes new content of a file: the previous content goes to the history, a draft becomes visible.
    SetContent {
        /// The file.
        node: NodeId,
        /// The new content.
        head: Head,
        /// The new mtime; ctime becomes the time of the commit.
        mtime: Timestamp,
        /// A step on the way: where the previous content is this, it is kept for those who read it, and is no version.
        interim: Option<Head>,
        /// What the writer began with, where that is known: a server is told this, and not what is here, which may have
        /// become another's meanwhile.
        base: Option<Head>,
    },
    /// Sets attributes.
    SetAttrs {
        /// The node.
        node: NodeId,
        /// Which.
        attrs: Attrs,
    },
    /// Notes a read: sets the last access and nothing else; no version, no ctime, no entry of the change feed.
    Touch {
        /// The node.
        node: NodeId,
        /// Last access.
        atime: Timestamp,
    },
    /// Sets, or with `None` removes (`NotFound` where there is none), an extended attribute or a dead property.
    SetXattr {
        /// The node.
        node: NodeId,
        /// The attribute, with its namespace.
        name: Vec<u8>,
        /// At most [`XATTR_MAX_BYTES`](larder_core::XATTR_MAX_BYTES).
        value: Option<Vec<u8>>,
        /// How to treat what is there.
        mode: XattrMode,
    },
    /// Sets or removes a record of the server's own.
    SetRecord {
        /// Which table.
        table: Table,
        /// At most 255 bytes.
        key: Vec<u8>,
        /// At most [`RECORD_MAX_BYTES`].
        value: Option<Vec<u8>>,
    },
    /// Gives a deleted node, with all it holds, the name back that it had, or another.
    Undelete {
        /// From [`Deleted::node`](super::Deleted::node).
        node: NodeId,
        /// Folder and name it comes back as; `Exists` where that is taken.
        to: (NodeId, Name),
    },
    /// Does what [`Op::Undelete`] does where the node is deleted, and else nothing.
    Revive {
        /// The node.
        node: NodeId,
        /// Folder and name it comes back as.
        to: Spot,
    },
    /// Has whatever is told next of a node count as newer than what is kept: a server that was brought back from a backup counts
    /// from there.
    Distrust {
        /// The node; one that is not known, or was changed here, stays as it is.
        node: NodeId,
    },
    /// Keeps a node as a server told it, with its times and its version; older than what is kept, it changes nothing. Only a
    /// mirror of a server's catalog does this.
    Adopt {
        /// The node.
        node: Box<Described>,
        /// Keep it where it is not known yet, too.
        is_new: bool,
    },
    /// Keeps that a node has no name any more, as a server told.
    AdoptGone {
        /// The node.
        node: NodeId,
    },
    /// Has `name` in `parent` name what a server told, or nothing. No error where the folder is not known: nobody has seen it.
    AdoptName {
        /// The folder; its own times and counts are told with it.
        parent: NodeId,
        /// The name.
        name: Name,
        /// What it names.
        node: Option<Box<Described>>,
    },
    /// Carries out a change that was made on this device, and queues it for the server. Only a mirror does this and the six
    /// below.
    Here(Box<Op>),
    /// Begins a run of the device: entries that are made from now on are not taken for those of another run, should the
    /// device's directory be brought back from a backup, with its numbers.
    Begin {
        /// A random number.
        run: u64,
    },
    /// Notes that entries of the queue below this may have reached the server.
    Sent {
        /// A number of the queue.
        before: u64,
    },
    /// Takes entries off the queue that the server has carried out; what it tells of what they touched is adopted behind this.
    Answered {
        /// Their numbers; one that is not in the queue any more is passed over.
        numbers: Vec<u64>,
    },
    /// Has an entry of the queue say something else; without steps it goes. `NotFound`; `Exists` for the other name.
    Restate {
        /// Its number.
        number: u64,
        /// What it says then.
        steps: Vec<Step>,
        /// A node gets another name than the one it has here, in later entries too.
        moved: Option<(NodeId, Spot, Spot)>,
        /// Later contents of one file are those of another.
        redirected: Option<(NodeId, NodeId)>,
        /// A folder that was made here is one that the server has: what is in it is in that one.
        merged: Option<(NodeId, Box<Described>)>,
    },
    /// Notes that everything was compared with the server since something was in doubt.
    Compared {
        /// What was the newest doubt when that began; a newer one stays.
        doubt: Doubt,
    },
    /// Drops history that ended before `before`: old versions, and deleted nodes with all they hold.
    /// Only the collection calls this, before it marks.
    PurgeHistory {
        /// Point in time.
        before: Timestamp,
        /// Point in time for contents that were interim.
        interim_before: Timestamp,
        /// At most so many nodes and versions in this commit.
        limit: usize,
    },
}

/// The longest value of a record.
pub const RECORD_MAX_BYTES: usize = 65_536;
/// The most operations of one commit.
pub const OPS_MAX: usize = 1_000_000;

/// Tables of the server's own records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Table {
    /// WebDAV locks by token.
    Locks = 1,
    /// Users by name.
    Users = 2,
    /// Settings changed while running.
    Settings = 3,
    /// Devices by the hash of their token.
    Devices = 4,
    /// What a mirror of a server's catalog knows, by folder.
    Mirror = 5,
    /// What a mirror needs for telling its server of changes.
    Pushing = 6,
    /// What a device was asked to fetch, by file.
    Fetches = 7,
    /// Conflicts of which both sides were kept, by the node that was made on this device.
    Conflicts = 8,
    /// Rules of devices: a server's by the id of the device, a device's own under one key.
    Rules = 9,
}
