//! Requests about the bytes of files.

use crate::attributes::actor;
use crate::errno::{self, Answer};
use crate::view::View;
use bytes::Bytes;
use fuser::{Errno, FileAttr, FopenFlags, Request, WriteFlags};
use larder_core::NodeId;
use larder_drive::{Allocate, Handle, OpenFlags, Seek};
use std::cell::RefCell;
use std::ffi::OsStr;

/// The most that one copy_file_range answers: its reply counts in 32 bits, and callers go on from there.
const COPY_MAX: u64 = 1 << 30;

thread_local! {
    /// Where the pieces of one reply are put together: fuser sends one slice.
    static REPLY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Hands `pieces` to `send` as one slice; a single piece goes as it is.
pub(crate) fn with_joined(pieces: &[Bytes], send: impl FnOnce(&[u8])) {
    match pieces {
        [] => send(&[]),
        [piece] => send(piece),
        _ => REPLY.with_borrow_mut(|reply| {
            reply.clear();
            pieces.iter().for_each(|piece| reply.extend_from_slice(piece));
            send(reply);
        }),
    }
}

/// Whether a write goes to the end of the file, wherever that is by now. The flags are those that the handle has at
/// this moment, as fcntl(2) sets them; a page that is written back has its place.
fn appends(how: WriteFlags, flags: i32) -> bool {
    flags & libc::O_APPEND != 0 && !how.contains(WriteFlags::FUSE_WRITE_CACHE)
}

/// Reads open(2) flags.
fn flags_of(flags: i32) -> OpenFlags {
    let access = flags & libc::O_ACCMODE;
    OpenFlags {
        read: access != libc::O_WRONLY,
        write: access == libc::O_WRONLY || access == libc::O_RDWR,
        truncate: flags & libc::O_TRUNC != 0,
    }
}

impl View {
    /// What the kernel may do with an open file: keep the pages it has, and close a read-only file without asking. While it
    /// has not heard of a change through another door, what it knows of the size is no more true than its pages: the
    /// handle goes without both.
    fn open_flags(&self, id: u64, flags: OpenFlags) -> FopenFlags {
        let mut answer = match self.outside.is_stale(NodeId(id)) {
            true => FopenFlags::FOPEN_DIRECT_IO,
            false => FopenFlags::FOPEN_KEEP_CACHE,
        };
        if !flags.write && !flags.truncate {
            answer |= FopenFlags::FOPEN_NOFLUSH;
        }
        answer
    }

    pub(crate) fn open(&self, req: &Request, id: u64, raw: i32) -> Answer<(Handle, FopenFlags)> {
        if self.programs.forbid(NodeId(id), raw) {
            return Err(Errno::ETXTBSY);
        }
        let flags = flags_of(raw);
        let handle = self.mount.open(&actor(req), NodeId(id), flags).map_err(|e| errno::of(&e))?;
        self.outside.opened(NodeId(id));
        self.programs.opened(NodeId(id), handle, raw);
        if flags.truncate
            && req.uid() != 0
            && self.may_have_privileges()
            && let Err(errno) = self.end_privileges(req, id, handle)
        {
            // The kernel gets no handle that it could release, and this error says more than another.
            let _ = self.release(id, handle.0);
            return Err(errno);
        }
        Ok((handle, self.open_flags(id, flags)))
    }

    pub(crate) fn create(
        &self,
        req: &Request,
        parent: u64,
        name: &OsStr,
        (mode, flags): (u32, i32),
    ) -> Answer<(FileAttr, Handle, FopenFlags)> {
        let is_exclusive = flags & libc::O_EXCL != 0;
        let flags = flags_of(flags);
        let (name, mode) = (crate::names::name_of(name)?, (mode & 0o7777) as u16);
        let created = self.mount.create(&actor(req), NodeId(parent), name, mode, flags);
        let (node, handle) = created.map_err(|error| match error.kind() {
            // Another door made it since the kernel looked: the kernel looks again, checks permissions, and opens it.
            larder_core::Kind::Exists if !is_exclusive => Errno::ESTALE,
            _ => errno::of(&error),
        })?;
        self.outside.opened(node.id);
        Ok((self.seen(&node), handle, self.open_flags(node.id.0, flags)))
    }

    pub(crate) fn read(&self, handle: u64, offset: u64, len: u32) -> Answer<Vec<Bytes>> {
        self.mount.read(Handle(handle), offset, len as usize).map_err(|e| errno::of(&e))
    }

    pub(crate) fn write(
        &self,
        req: &Request,
        (id, handle): (u64, u64),
        (offset, data): (u64, &[u8]),
        (how, flags): (WriteFlags, i32),
    ) -> Answer<u32> {
        let handle = Handle(handle);
        if how.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) && self.may_have_privileges() {
            self.end_privileges(req, id, handle)?;
        }
        let written = if appends(how, flags) {
            self.mount.append(handle, data)
        } else {
            self.mount.write(handle, offset, data)
        };
        let written = written.map_err(|e| errno::of(&e))?;
        Ok(u32::try_from(written).expect("a request holds less than 4 GiB"))
    }

    pub(crate) fn flush(&self, handle: u64) -> Answer<()> {
        self.mount.flush(Handle(handle)).map_err(|e| errno::of(&e))
    }

    pub(crate) fn release(&self, id: u64, handle: u64) -> Answer<()> {
        self.outside.closed(NodeId(id));
        self.programs.closed(handle);
        self.mount.release(Handle(handle)).map_err(|e| errno::of(&e))
    }

    pub(crate) fn fsync(&self, handle: u64, data_only: bool) -> Answer<()> {
        self.mount.fsync(Handle(handle), data_only).map_err(|e| errno::of(&e))
    }

    pub(crate) fn fsync_folder(&self, id: u64) -> Answer<()> {
        self.mount.fsync_folder(NodeId(id)).map_err(|e| errno::of(&e))
    }

    pub(crate) fn allocate(&self, handle: u64, (offset, len): (u64, u64), mode: i32) -> Answer<()> {
        const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        const PUNCH_KEEP: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let how = match mode {
            0 => Allocate::Extend,
            libc::FALLOC_FL_KEEP_SIZE => Allocate::KeepSize,
            PUNCH_KEEP => Allocate::PunchHole,
            libc::FALLOC_FL_ZERO_RANGE => Allocate::ZeroRange { keep_size: false },
            ZERO_KEEP => Allocate::ZeroRange { keep_size: true },
            _ => return Err(Errno::EOPNOTSUPP),
        };
        self.mount.allocate(Handle(handle), offset, len, how).map_err(|e| errno::of(&e))
    }

    pub(crate) fn seek(&self, handle: u64, offset: i64, whence: i32) -> Answer<i64> {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::EINVAL),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let found = self.mount.seek(Handle(handle), offset, what).map_err(|e| errno::of(&e))?;
        i64::try_from(found).map_err(|_| Errno::EOVERFLOW)
    }

    pub(crate) fn copy(&self, from: (u64, u64), to: (u64, u64), len: u64) -> Answer<u32> {
        let (from, to) = ((Handle(from.0), from.1), (Handle(to.0), to.1));
        let copied = self.mount.copy_range(from, to, len.min(COPY_MAX)).map_err(|e| errno::of(&e))?;
        Ok(u32::try_from(copied).expect("COPY_MAX bounds it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_arrive_in_order() {
        let mut sent = Vec::new();
        with_joined(&[Bytes::from_static(b"ab"), Bytes::from_static(b"c")], |all| {
            sent.extend_from_slice(all)
        });
        assert_eq!(sent, b"abc");
    }

    #[test]
    fn only_calls_append_and_pages_keep_their_place() {
        let (call, page) = (WriteFlags::empty(), WriteFlags::FUSE_WRITE_CACHE);
        assert!(appends(call, libc::O_WRONLY | libc::O_APPEND));
        assert!(!appends(call, libc::O_WRONLY) && !appends(page, libc::O_RDWR | libc::O_APPEND));
    }

    #[test]
    fn access_modes_are_read_from_the_flags() {
        let flags = |flags| {
            let flags = flags_of(flags);
            (flags.read, flags.write)
        };
        assert_eq!(flags(libc::O_RDONLY), (true, false));
        assert_eq!(flags(libc::O_WRONLY), (false, true));
        assert_eq!(flags(libc::O_RDWR | libc::O_APPEND), (true, true));
    }
}
