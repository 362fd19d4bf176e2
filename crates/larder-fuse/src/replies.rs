//! Answers as fuser wants them sent.

use crate::errno::Answer;
use crate::places::Sink;
use crate::statfs::{STATFS_BLOCK_BYTES, statfs_numbers};
use fuser::{
    Errno, FileAttr, FileType, Generation, INodeNo, ReplyAttr, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyXattr,
};
use larder_drive::Usage;
use std::ffi::OsStr;
use std::time::{Duration, SystemTime};

/// How long the kernel keeps names and attributes. Changes through other doors are told to it at once, so this only
/// bounds the harm of a notification that the kernel refused.
pub(crate) const TTL: Duration = Duration::from_secs(3600);
/// Ids are never used twice, so each has one generation; that also makes them right as NFS handles.
pub(crate) const GENERATION: Generation = Generation(0);
pub(crate) fn empty(reply: ReplyEmpty, answer: Answer<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

pub(crate) fn entry(reply: ReplyEntry, answer: Answer<FileAttr>) {
    match answer {
        Ok(stat) => reply.entry(&TTL, &stat, GENERATION),
        Err(errno) => reply.error(errno),
    }
}

pub(crate) fn attr(reply: ReplyAttr, answer: Answer<FileAttr>) {
    match answer {
        Ok(stat) => reply.attr(&TTL, &stat),
        Err(errno) => reply.error(errno),
    }
}

/// Answers a request for a value of at most `size` bytes; 0 asks how long it is. Source: getxattr(2).
pub(crate) fn value(reply: ReplyXattr, size: u32, answer: Answer<Vec<u8>>) {
    match answer {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(errno),
    }
}

impl Sink for ReplyDirectory {
    fn add(&mut self, number: u64, name: &OsStr, kind: FileType, stat: &FileAttr) -> bool {
        ReplyDirectory::add(self, stat.ino, number, kind, name)
    }
}

impl Sink for ReplyDirectoryPlus {
    fn add(&mut self, number: u64, name: &OsStr, _: FileType, stat: &FileAttr) -> bool {
        ReplyDirectoryPlus::add(self, stat.ino, number, name, &TTL, stat, GENERATION)
    }
}

/// A name that is not there, which the kernel remembers like one that is. Source: fuse_lookup_name, nodeid 0.
pub(crate) fn nothing() -> FileAttr {
    let (ino, time) = (INodeNo(0), SystemTime::UNIX_EPOCH);
    let kind = FileType::RegularFile;
    let (atime, mtime, ctime, crtime) = (time, time, time, time);
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime,
        mtime,
        ctime,
        crtime,
        kind,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(crate) fn statfs(reply: ReplyStatfs, answer: Answer<Usage>) {
    match answer {
        Ok(usage) => {
            let [blocks, free, available, files, free_files] = statfs_numbers(&usage);
            let unit = STATFS_BLOCK_BYTES;
            reply.statfs(blocks, free, available, files, free_files, unit, 255, unit);
        }
        Err(errno) => reply.error(errno),
    }
}
