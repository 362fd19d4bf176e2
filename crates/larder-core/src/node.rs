//! Nodes: files, folders and everything else that has a name.

use crate::{Head, Name, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

/// The longest value of an extended attribute. Source: XATTR_SIZE_MAX of limits.h, xattr(7).
pub const XATTR_MAX_BYTES: usize = 65_536;
/// The longest name of one: `dav.{NAMESPACE}LOCAL` of a WebDAV property whose namespace and name take 1024 bytes. Mounts
/// show and make names of up to 255 bytes only.
pub const XATTR_NAME_MAX_BYTES: usize = 1030;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A Unix-domain socket.
    Socket,
}

/// What a node holds besides its attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing: folders, FIFOs and sockets.
    None,
    /// The bytes of a file.
    File(Head),
    /// The target of a symlink, 1 to 4095 bytes.
    Target(Vec<u8>),
    /// The device number of a device node.
    Device(u32),
}

/// One file, folder, link or special file, as last committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Stable id.
    pub id: NodeId,
    /// What it is; never changes.
    pub kind: NodeKind,
    /// Permission bits with set-id and sticky bits, 0o7777. Source: inode(7).
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names; a folder counts 2 and its subfolders, as inode(7) has it.
    pub nlink: u32,
    /// Grows with every committed change of the node's content or attributes.
    pub version: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// When it was made.
    pub btime: Timestamp,
    /// The folder that holds it (for several names: the one named last).
    pub parent: NodeId,
    /// Its name in `parent`; `None` for the root of a project, and where it had several names and the one given last went.
    pub name: Option<Name>,
    /// Being written for the first time by a mount: other doors do not see it, and a crash removes it.
    pub draft: bool,
    /// What it holds.
    pub content: Content,
}

impl Node {
    /// Says whether this is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == NodeKind::Folder
    }

    /// Says whether this is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == NodeKind::File
    }

    /// The head of the file's manifest; `None` for anything but a file.
    pub fn head(&self) -> Option<&Head> {
        match &self.content {
            Content::File(head) => Some(head),
            _ => None,
        }
    }

    /// Size in bytes as stat(2) tells it.
    pub fn size_bytes(&self) -> u64 {
        match &self.content {
            Content::File(head) => head.size_bytes,
            Content::Target(target) => target.len() as u64,
            Content::None | Content::Device(_) => 0,
        }
    }
}
