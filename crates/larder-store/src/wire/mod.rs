//! Nodes and changes as devices and servers tell them one another, in JSON.
//!
//! Numbers that may exceed 2^53 are strings, for readers whose numbers are floating point (RFC 8259 § 6). Names are text in
//! which `%` and every byte outside UTF-8 is written `%XX`. Bytes are base64 (RFC 4648 § 4). What is read is checked before
//! it becomes a node: a name never climbs, whatever the other side sends. Source: crates/larder-api/PROTOCOL.md.

mod step;
mod text;

pub use crate::catalog::Described;
pub use step::{WireEntryOf, WireOver, WireRemoval, WireSpot, WireStep};
pub use text::{bytes_of, name_of, number, text_of};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use larder_core::{
    Content, Extent, Head, Node, NodeId, NodeKind, Result, Timestamp, XATTR_MAX_BYTES, XATTR_NAME_MAX_BYTES,
    manifest,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use text::{base64_of, id_of, strange};

/// The most extended attributes of one node that are told, and read.
pub const XATTRS_MAX: usize = 4096;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireNode {
    /// [`Node::id`], decimal.
    pub id: String,
    /// One of file, folder, symlink, char-device, block-device, fifo, socket.
    pub kind: String,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// [`Node::version`], decimal.
    pub version: String,
    /// Last access, nanoseconds of Unix time, decimal, as the three below.
    pub atime: String,
    /// Last change of content.
    pub mtime: String,
    /// Last change of anything.
    pub ctime: String,
    /// When it was made.
    pub btime: String,
    /// The folder that holds it, decimal.
    pub parent: String,
    /// Its name there; none for the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What a file holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<WireHead>,
    /// Where a symlink leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The number of a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    /// Extended attributes: name (as names are) to value (base64).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// The head of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireHead {
    /// Size in bytes, decimal.
    pub size: String,
    /// The size without holes, decimal.
    pub allocated: String,
    /// Levels of pages.
    pub depth: u8,
    /// Chunks or pages as a page lists them, base64.
    pub extents: String,
}

/// A name and what it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntry {
    /// The name.
    pub name: String,
    /// The node.
    pub node: WireNode,
}

/// Some entries of a folder, in byte order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePage {
    /// Entries.
    pub entries: Vec<WireEntry>,
    /// There are more behind the last.
    pub more: bool,
}

/// One entry of the change feed, with what is there now: reading it twice, or late, does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WireChange {
    /// What `name` in `parent` names now; no node where it names nothing.
    Name {
        /// The folder, decimal.
        parent: String,
        /// The name.
        name: String,
        /// What it names.
        node: Option<Box<WireNode>>,
    },
    /// A node as it is now.
    Node(Box<WireNode>),
    /// A node that has no name any more, decimal.
    Gone(String),
}

/// Some changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireChanges {
    /// In the order in which they were made.
    pub changes: Vec<WireChange>,
    /// Where to go on.
    pub cursor: String,
    /// There are more.
    pub more: bool,
}

impl WireNode {
    /// Describes `node`.
    pub fn new(node: &Node, xattrs: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let (mut file, mut target, mut device) = (None, None, None);
        match &node.content {
            Content::None => {}
            Content::File(head) => file = Some(WireHead::new(head)),
            Content::Target(bytes) => target = Some(text_of(bytes)),
            Content::Device(number) => device = Some(*number),
        }
        Self {
            id: node.id.to_string(),
            kind: kind_name(node.kind).into(),
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            nlink: node.nlink,
            version: node.version.to_string(),
            atime: node.atime.0.to_string(),
            mtime: node.mtime.0.to_string(),
            ctime: node.ctime.0.to_string(),
            btime: node.btime.0.to_string(),
            parent: node.parent.to_string(),
            name: node.name.as_ref().map(|name| text_of(name.as_bytes())),
            file,
            target,
            device,
            xattrs: xattrs.iter().map(|(name, value)| (text_of(name), STANDARD.encode(value))).collect(),
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// `Corrupt` for anything that no server of ours would send.
    pub fn read(&self) -> Result<Described> {
        let time = |text: &str| number::<i64>(text).map(Timestamp);
        let kind = kind_of(&self.kind)?;
        let node = Node {
            id: id_of(&self.id)?,
            kind,
            mode: self.mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            version: number(&self.version)?,
            atime: time(&self.atime)?,
            mtime: time(&self.mtime)?,
            ctime: time(&self.ctime)?,
            btime: time(&self.btime)?,
            parent: id_of(&self.parent)?,
            name: self.name.as_deref().map(name_of).transpose()?,
            draft: false,
            content: self.content(kind)?,
        };
        let is_root = node.id == NodeId::ROOT;
        // Only the root holds itself, and it always does.
        if is_root != (node.parent == node.id) || (is_root && !node.is_folder()) {
            return Err(strange("a node in no tree"));
        }
        Ok(Described { node, xattrs: self.attributes()? })
    }

    fn attributes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if self.xattrs.len() > XATTRS_MAX {
            return Err(strange("too many attributes"));
        }
        let read = |(name, value): (&String, &String)| {
            let (name, value) = (bytes_of(name)?, base64_of(value)?);
            let is_one = (1..=XATTR_NAME_MAX_BYTES).contains(&name.len()) && value.len() <= XATTR_MAX_BYTES;
            if is_one { Ok((name, value)) } else { Err(strange("no attribute")) }
        };
        self.xattrs.iter().map(read).collect()
    }

    fn content(&self, kind: NodeKind) -> Result<Content> {
        Ok(match (kind, &self.file, &self.target, self.device) {
            (NodeKind::File, Some(head), None, None) => Content::File(head.read()?),
            (NodeKind::Symlink, None, Some(target), None) => {
                let target = bytes_of(target)?;
                if target.is_empty() || target.len() > 4095 || target.contains(&0) {
                    return Err(strange("no target of a symlink"));
                }
                Content::Target(target)
            }
            (NodeKind::CharDevice | NodeKind::BlockDevice, None, None, Some(number)) => {
                Content::Device(number)
            }
            (NodeKind::Folder | NodeKind::Fifo | NodeKind::Socket, None, None, None) => Content::None,
            _ => return Err(strange("a node holds what its kind does not")),
        })
    }
}

impl WireHead {
    /// Describes `head`.
    pub fn new(head: &Head) -> Self {
        Self {
            size: head.size_bytes.to_string(),
            allocated: head.allocated_bytes.to_string(),
            depth: head.depth,
            extents: STANDARD.encode(manifest::encode(&head.extents)),
        }
    }

    /// Reads it; what its pages hold is checked when they are read.
    ///
    /// # Errors
    /// `Corrupt` where it is no head.
    pub fn read(&self) -> Result<Head> {
        let mut extents: Vec<Extent> = Vec::new();
        let page = base64_of(&self.extents)?;
        if !page.is_empty() {
            manifest::decode(&page, &mut extents)?;
        }
        let (size_bytes, allocated_bytes) = (number(&self.size)?, number(&self.allocated)?);
        let sum = extents.iter().try_fold(0_u64, |sum, extent| sum.checked_add(extent.len_bytes));
        let is_head = extents.len() <= manifest::HEAD_MAX && self.depth <= manifest::DEPTH_MAX;
        if !is_head || sum != Some(size_bytes) || allocated_bytes > size_bytes {
            return Err(strange("no head of a manifest"));
        }
        Ok(Head { size_bytes, allocated_bytes, depth: self.depth, extents })
    }
}

const KINDS: [(NodeKind, &str); 7] = [
    (NodeKind::File, "file"),
    (NodeKind::Folder, "folder"),
    (NodeKind::Symlink, "symlink"),
    (NodeKind::CharDevice, "char-device"),
    (NodeKind::BlockDevice, "block-device"),
    (NodeKind::Fifo, "fifo"),
    (NodeKind::Socket, "socket"),
];

fn kind_name(kind: NodeKind) -> &'static str {
    KINDS.iter().find(|known| known.0 == kind).expect("every kind is listed").1
}

fn kind_of(text: &str) -> Result<NodeKind> {
    KINDS.iter().find(|known| known.1 == text).map(|known| known.0).ok_or_else(|| strange("no kind of node"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_core::{ChunkId, Name};

    fn node() -> Node {
        let extents = vec![Extent { id: ChunkId([7; 32]), len_bytes: 5 }];
        let head = Head { size_bytes: 5, allocated_bytes: 5, depth: 0, extents };
        Node {
            id: NodeId(u64::MAX),
            kind: NodeKind::File,
            mode: 0o640,
            uid: 1000,
            gid: 100,
            nlink: 1,
            version: 3,
            atime: Timestamp(1),
            mtime: Timestamp(-2),
            ctime: Timestamp(i64::MAX),
            btime: Timestamp(4),
            parent: NodeId::ROOT,
            name: Some(Name::new(b"50%\xff").expect("a name")),
            draft: false,
            content: Content::File(head),
        }
    }

    #[test]
    fn a_node_is_golden_and_comes_back() {
        let xattrs = vec![(b"user.a".to_vec(), vec![0, 255])];
        let wire = WireNode::new(&node(), &xattrs);
        let json = serde_json::to_string(&wire).expect("plain values");
        assert_eq!(
            json,
            concat!(
                r#"{"id":"18446744073709551615","kind":"file","mode":416,"uid":1000,"gid":100,"nlink":1,"version":"3","#,
                r#""atime":"1","mtime":"-2","ctime":"9223372036854775807","btime":"4","parent":"1","name":"50%25%FF","#,
                r#""file":{"size":"5","allocated":"5","depth":0,"#,
                r#""extents":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcFAAAAAAAAAA=="},"#,
                r#""xattrs":{"user.a":"AP8="}}"#
            )
        );
        let back: WireNode = serde_json::from_str(&json).expect("what was written");
        assert_eq!(back.read().expect("a node"), Described { node: node(), xattrs });
    }

    #[test]
    fn what_no_server_sends_is_no_node() {
        let good = WireNode::new(&node(), &[]);
        let bad: [fn(&mut WireNode); 17] = [
            |n| n.name = Some("..".into()),
            |n| n.name = Some("a/b".into()),
            |n| n.name = Some("a%00".into()),
            |n| n.name = Some("x".repeat(256)),
            |n| n.name = Some("a%2".into()),
            |n| n.id = "-1".into(),
            |n| n.id = "0".into(),
            |n| n.parent = "0".into(),
            |n| n.parent = n.id.clone(),
            |n| n.id = "1".into(),
            |n| drop(n.xattrs.insert(String::new(), String::new())),
            |n| drop(n.xattrs.insert("x".repeat(XATTR_NAME_MAX_BYTES + 1), String::new())),
            |n| drop(n.xattrs.insert("x".into(), STANDARD.encode([0; XATTR_MAX_BYTES + 1]))),
            |n| n.kind = "door".into(),
            |n| n.target = Some("somewhere".into()),
            |n| n.file.as_mut().expect("a file").size = "6".into(),
            |n| n.file.as_mut().expect("a file").extents = "!".into(),
        ];
        for spoil in bad {
            let mut node = good.clone();
            spoil(&mut node);
            assert_eq!(node.read().expect_err("spoiled").kind(), larder_core::Kind::Corrupt, "{node:?}");
        }
    }

    #[test]
    fn the_longest_attribute_that_is_kept_is_read() {
        let xattrs = vec![(vec![b'x'; XATTR_NAME_MAX_BYTES], vec![0; XATTR_MAX_BYTES])];
        assert_eq!(WireNode::new(&node(), &xattrs).read().expect("a node").xattrs, xattrs);
    }
}
