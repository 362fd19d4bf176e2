//! The attributes of an open file that the catalog does not have yet.

use larder_core::{Content, Head, Node, Timestamp};
use larder_store::catalog::Attrs;

/// What stat(2) says of an open file beyond what the catalog has.
pub(super) struct Live {
    /// The node as last seen; shown once the catalog has forgotten it.
    node: Node,
    /// Content or its times are not committed.
    dirty: bool,
    size_bytes: u64,
    allocated_bytes: u64,
    mtime: Timestamp,
    ctime: Timestamp,
    atime: Option<Timestamp>,
    /// Reading changes atime no more before the next change.
    was_read: bool,
    /// This mount takes its last name away.
    removed: bool,
}

impl Live {
    pub fn new(node: Node) -> Self {
        Self {
            dirty: false,
            size_bytes: node.size_bytes(),
            allocated_bytes: node.head().map_or(0, |head| head.allocated_bytes),
            mtime: node.mtime,
            ctime: node.ctime,
            atime: None,
            was_read: false,
            removed: false,
            node,
        }
    }

    /// Follows what another door made of the file.
    pub fn follow(&mut self, node: Node) {
        let atime = self.atime;
        *self = Live { atime, ..Live::new(node) };
    }

    /// Says whether this mount took its last name away.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Notes a change of the content.
    pub fn wrote(&mut self, size_bytes: u64, allocated_bytes: u64, now: Timestamp) {
        (self.size_bytes, self.allocated_bytes) = (size_bytes, allocated_bytes);
        (self.mtime, self.ctime) = (now, now);
        self.dirty = true;
        self.was_read = false;
    }

    /// Notes attributes that were committed just now: the commit of the content must not undo them.
    pub fn set(&mut self, attrs: &Attrs, now: Timestamp) {
        self.mtime = attrs.mtime.unwrap_or(self.mtime);
        self.ctime = now;
        if attrs.atime.is_some() {
            self.atime = None;
        }
        self.was_read = attrs.atime.is_some();
    }

    /// Changes the attributes of a node that the catalog has forgotten.
    pub fn set_forgotten(&mut self, attrs: &Attrs, now: Timestamp) -> Node {
        self.set(attrs, now);
        let node = &mut self.node;
        node.mode = attrs.mode.unwrap_or(node.mode);
        node.uid = attrs.uid.unwrap_or(node.uid);
        node.gid = attrs.gid.unwrap_or(node.gid);
        node.atime = attrs.atime.unwrap_or(node.atime);
        node.mtime = attrs.mtime.unwrap_or(node.mtime);
        node.ctime = now;
        self.forgotten()
    }

    /// The node, once the catalog has forgotten it.
    pub fn forgotten(&self) -> Node {
        let mut node = self.node.clone();
        node.nlink = 0;
        self.show_content(&mut node);
        node.atime = self.atime.unwrap_or(node.atime);
        node
    }

    /// Keeps `node`, which is about to lose its last name.
    pub fn keep(&mut self, node: Node) {
        self.removed |= node.nlink <= 1;
        self.node = node;
    }

    /// The time of the last change, for a commit.
    pub fn mtime(&self) -> Timestamp {
        self.mtime
    }

    /// Notes that content and times were committed; `more` was written since.
    pub fn committed(&mut self, allocated_bytes: u64, more: bool) {
        self.allocated_bytes = allocated_bytes;
        self.dirty = more;
    }

    /// Changes `node` into what stat(2) shows.
    pub fn show(&self, node: &mut Node) {
        if self.dirty {
            self.show_content(node);
        }
        node.atime = self.atime.unwrap_or(node.atime);
    }

    fn show_content(&self, node: &mut Node) {
        let (size_bytes, allocated_bytes) = (self.size_bytes, self.allocated_bytes);
        node.content = Content::File(Head { size_bytes, allocated_bytes, depth: 0, extents: Vec::new() });
        node.mtime = self.mtime;
        node.ctime = node.ctime.max(self.ctime);
    }

    /// Notes a read as relatime does: where atime is not behind mtime and ctime already. Source: mount(8).
    pub fn read(&mut self, now: impl FnOnce() -> Timestamp) {
        if self.was_read {
            return;
        }
        self.was_read = true;
        let atime = self.atime.unwrap_or(self.node.atime);
        if atime <= self.mtime.max(self.node.mtime) || atime <= self.ctime.max(self.node.ctime) {
            self.atime = Some(now());
        }
    }

    /// Says whether there is an atime to be committed.
    pub fn has_atime(&self) -> bool {
        self.atime.is_some()
    }

    /// Takes the atime to be committed.
    pub fn take_atime(&mut self) -> Option<Timestamp> {
        let atime = self.atime.take();
        self.node.atime = atime.unwrap_or(self.node.atime);
        atime
    }
}
