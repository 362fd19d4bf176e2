//! Nodes as `struct stat`.

use fuser::{FileAttr, FileType, INodeNo};
use larder_core::{Content, Node, NodeKind, Timestamp};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What st_blksize says: stdio and cp then write in pieces of this size, and each piece is one request.
const BLOCK_BYTES: u32 = 64 * 1024;
/// What a folder's size is, as on ext4; some programs take 0 for "not there".
const FOLDER_BYTES: u64 = 4096;
/// The unit of st_blocks. Source: stat(2).
const SECTOR_BYTES: u64 = 512;

/// Says what stat(2) says of `node`.
pub(crate) fn stat_of(node: &Node) -> FileAttr {
    let (size, allocated) = match &node.content {
        Content::File(head) => (head.size_bytes, head.allocated_bytes),
        _ if node.is_folder() => (FOLDER_BYTES, 0),
        _ => (node.size_bytes(), 0),
    };
    FileAttr {
        ino: INodeNo(node.id.0),
        size,
        blocks: allocated.div_ceil(SECTOR_BYTES),
        atime: system_time(node.atime),
        mtime: system_time(node.mtime),
        ctime: system_time(node.ctime),
        crtime: system_time(node.btime),
        kind: file_type(node.kind),
        perm: node.mode,
        nlink: node.nlink,
        uid: node.uid,
        gid: node.gid,
        rdev: if let Content::Device(number) = node.content { number } else { 0 },
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

pub(crate) fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::File => FileType::RegularFile,
        NodeKind::Folder => FileType::Directory,
        NodeKind::Symlink => FileType::Symlink,
        NodeKind::CharDevice => FileType::CharDevice,
        NodeKind::BlockDevice => FileType::BlockDevice,
        NodeKind::Fifo => FileType::NamedPipe,
        NodeKind::Socket => FileType::Socket,
    }
}

pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    let distance = Duration::from_nanos(time.0.unsigned_abs());
    if time.0 < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}
