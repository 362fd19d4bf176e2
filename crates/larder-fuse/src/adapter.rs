//! Requests in, replies out. Nothing here decides anything: each callback takes the kernel's arguments apart, asks
//! the [`View`], and sends what it says.
//!
//! A panic below ends the request with EIO, not the thread: the reply, dropped unanswered, sends that itself.

use crate::aside::Aside;
use crate::askers;
use crate::attributes::{Wanted, actor};
use crate::content::with_joined;
use crate::errno::Answer;
use crate::kernel;
use crate::replies::{GENERATION, TTL, attr, empty, entry, nothing, statfs, value};
use crate::view::View;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use larder_drive::MakeKind;
use larder_drive::fetch::asking;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// What fuser calls.
pub(crate) struct Adapter(pub(crate) Arc<View>);

impl Adapter {
    fn run<R>(&self, request: &'static str, work: impl FnOnce(&View) -> Answer<R>) -> Answer<R> {
        catch_unwind(AssertUnwindSafe(|| work(&self.0))).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or(panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
            tracing::error!(request, panic = what, "a request of the mount panicked");
            Err(Errno::EIO)
        })
    }

    /// Answers about names here, or aside where the answer may have to come from a server.
    fn names(&self, work: impl FnOnce(&Adapter) + Send + 'static) {
        self.aside(self.0.aside.as_ref().map(|(names, _)| names), work);
    }

    /// The same about bytes, which may have to be fetched in the name of the process of `req`.
    fn reads(&self, req: &Request, work: impl FnOnce(&Adapter) + Send + 'static) {
        let Some((_, reads)) = &self.0.aside else { return work(self) };
        let pid = req.pid();
        self.aside(Some(reads), move |adapter| asking(pid, askers::program, || work(adapter)));
    }

    /// What is saved may wait for what it is put together with, whoever asks: an indexer's own files, too.
    fn saves(&self, work: impl FnOnce(&Adapter) + Send + 'static) {
        self.aside(self.0.aside.as_ref().map(|(_, reads)| reads), work);
    }

    fn aside(&self, aside: Option<&Arc<Aside>>, work: impl FnOnce(&Adapter) + Send + 'static) {
        match aside {
            None => work(self),
            Some(aside) => {
                let twin = Adapter(self.0.clone());
                aside.run(Box::new(move || work(&twin)));
            }
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        kernel::configure(config);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.names(move |adapter| {
            let found = adapter.run("lookup", |view| view.look_up(parent.0, &name));
            entry(reply, found.map(|stat| stat.unwrap_or_else(nothing)));
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, _: u64) {
        self.0.orphans.forget(ino.0);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attr(reply, self.run("getattr", |view| view.attributes(ino.0)));
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let wanted = Wanted { mode, uid, gid, size, atime, mtime };
        let fh = fh.map(u64::from);
        attr(reply, self.run("setattr", |view| view.set_attributes(req, ino.0, wanted, fh)));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.run("readlink", |view| view.read_link(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        entry(reply, self.run("mknod", |view| view.make_node(req, parent.0, name, (mode, rdev))));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.run("mkdir", |view| view.make(req, parent.0, name, MakeKind::Folder, mode)));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let kind = MakeKind::Symlink(target.as_os_str().as_bytes().to_vec());
        entry(reply, self.run("symlink", |view| view.make(req, parent.0, name, kind, 0o777)));
    }

    fn link(&self, req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.run("link", |view| view.link(req, ino.0, parent.0, name)));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.run("unlink", |view| view.unlink(req, parent.0, name)));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        // What is in it may not be known here, nor what a rename replaces.
        let (actor, name) = (actor(req), name.to_owned());
        self.names(move |adapter| {
            empty(reply, adapter.run("rmdir", |view| view.rmdir(&actor, parent.0, &name)));
        });
    }

    fn rename(
        &self,
        req: &Request,
        from: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (actor, name, new_name) = (actor(req), name.to_owned(), new_name.to_owned());
        self.names(move |adapter| {
            let work = |view: &View| view.rename(&actor, (from.0, &name), (to.0, &new_name), flags.bits());
            empty(reply, adapter.run("rename", work));
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.run("open", |view| view.open(req, ino.0, flags.0)) {
            Ok((handle, flags)) => reply.opened(FileHandle(handle.0), flags),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        match self.run("create", |view| view.create(req, parent.0, name, (mode, flags))) {
            Ok((stat, handle, flags)) => reply.created(&TTL, &stat, GENERATION, FileHandle(handle.0), flags),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        req: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.reads(req, move |adapter| match adapter.run("read", |view| view.read(fh.0, offset, size)) {
            Ok(pieces) => with_joined(&pieces, |bytes| reply.data(bytes)),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        how: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.run("write", |view| view.write(req, (ino.0, fh.0), (offset, data), (how, flags.0))) {
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, fh: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // What is published may have to be put together with what is not here.
        self.saves(move |adapter| empty(reply, adapter.run("flush", |view| view.flush(fh.0))));
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.saves(move |adapter| empty(reply, adapter.run("release", |view| view.release(ino.0, fh.0))));
    }

    fn fsync(&self, _: &Request, _: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.saves(move |adapter| empty(reply, adapter.run("fsync", |view| view.fsync(fh.0, datasync))));
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let id = larder_core::NodeId(ino.0);
        self.0.outside.opened(id);
        let flags = kernel::folder_flags(self.0.outside.is_listed(id));
        reply.opened(FileHandle(self.0.folders.open(ino.0)), flags);
    }

    fn readdir(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.names(move |adapter| match adapter.run("readdir", |view| view.list(fh.0, offset, &mut reply)) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.names(move |adapter| {
            match adapter.run("readdirplus", |view| view.list(fh.0, offset, &mut reply)) {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn releasedir(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.0.folders.close(fh.0);
        self.0.outside.closed(larder_core::NodeId(ino.0));
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.run("fsyncdir", |view| view.fsync_folder(ino.0)));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        statfs(reply, self.run("statfs", |view| view.usage()));
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        data: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.run("setxattr", |view| view.set_xattr(req, ino.0, name, data, flags)));
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        value(reply, size, self.run("getxattr", |view| view.xattr(ino.0, name)));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        value(reply, size, self.run("listxattr", |view| view.xattrs(ino.0, req.uid() == 0)));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.run("removexattr", |view| view.remove_xattr(req, ino.0, name)));
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.saves(move |adapter| {
            empty(reply, adapter.run("fallocate", |view| view.allocate(fh.0, (offset, length), mode)));
        });
    }

    fn lseek(&self, req: &Request, _: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.reads(req, move |adapter| match adapter.run("lseek", |view| view.seek(fh.0, offset, whence)) {
            Ok(offset) => reply.offset(offset),
            Err(errno) => reply.error(errno),
        });
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        from: FileHandle,
        from_offset: u64,
        _: INodeNo,
        to: FileHandle,
        to_offset: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        match self.run("copy_file_range", |view| view.copy((from.0, from_offset), (to.0, to_offset), len)) {
            Ok(copied) => reply.written(copied),
            Err(errno) => reply.error(errno),
        }
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        // the default, ENOSYS, would say that no file of this mount has any
        reply.error(Errno::ENOTTY);
    }
}
