//! Requests about names: finding, making, linking, renaming and removing.

use crate::attributes::actor;
use crate::errno::{self, Answer};
use crate::view::View;
use fuser::{FileAttr, Request};
use larder_core::{Content, Name, Node, NodeId};
use larder_drive::{Actor, MakeKind, RenameFlags};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Takes a name as the kernel gives it.
pub(crate) fn name_of(name: &OsStr) -> Answer<Name> {
    Name::new(name.as_bytes()).map_err(|e| errno::of(&e))
}

fn is_dot(name: &OsStr) -> bool {
    matches!(name.as_bytes(), b"." | b"..")
}

impl View {
    /// Finds `name`; `None` says that there is none, which the kernel remembers as well.
    pub(crate) fn look_up(&self, parent: u64, name: &OsStr) -> Answer<Option<FileAttr>> {
        let parent = NodeId(parent);
        let found = match name.as_bytes() {
            b"." => self.mount.node(parent),
            b".." => self.mount.node(parent).and_then(|node| self.mount.node(node.parent)),
            _ => self.mount.lookup(parent, &name_of(name)?),
        };
        match found {
            Ok(node) => Ok(Some(self.seen(&node))),
            Err(error) if error.kind() == larder_core::Kind::NotFound && !is_dot(name) => Ok(None),
            Err(error) => Err(errno::of(&error)),
        }
    }

    pub(crate) fn make(
        &self,
        req: &Request,
        parent: u64,
        name: &OsStr,
        kind: MakeKind,
        mode: u32,
    ) -> Answer<FileAttr> {
        let mode = (mode & 0o7777) as u16;
        let made = self.mount.make(&actor(req), NodeId(parent), name_of(name)?, kind, mode);
        made.map(|node| self.seen(&node)).map_err(|e| errno::of(&e))
    }

    /// mknod(2): the type is in the mode.
    pub(crate) fn make_node(
        &self,
        req: &Request,
        parent: u64,
        name: &OsStr,
        (mode, device): (u32, u32),
    ) -> Answer<FileAttr> {
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => MakeKind::File,
            libc::S_IFIFO => MakeKind::Fifo,
            libc::S_IFSOCK => MakeKind::Socket,
            libc::S_IFCHR => MakeKind::CharDevice(device),
            libc::S_IFBLK => MakeKind::BlockDevice(device),
            _ => return Err(fuser::Errno::EINVAL),
        };
        self.make(req, parent, name, kind, mode)
    }

    pub(crate) fn read_link(&self, id: u64) -> Answer<Vec<u8>> {
        match self.mount.node(NodeId(id)).map_err(|e| errno::of(&e))?.content {
            Content::Target(target) => Ok(target),
            _ => Err(fuser::Errno::EINVAL),
        }
    }

    pub(crate) fn link(&self, req: &Request, id: u64, parent: u64, name: &OsStr) -> Answer<FileAttr> {
        let linked = self.mount.link(&actor(req), NodeId(id), NodeId(parent), name_of(name)?);
        linked.map(|node| self.seen(&node)).map_err(|e| errno::of(&e))
    }

    pub(crate) fn unlink(&self, req: &Request, parent: u64, name: &OsStr) -> Answer<()> {
        let (parent, name) = (NodeId(parent), name_of(name)?);
        let gone = self.mount.lookup(parent, &name).map_err(|e| errno::of(&e))?;
        self.mount.unlink(&actor(req), parent, &name).map_err(|e| errno::of(&e))?;
        self.remember_last_name(gone);
        Ok(())
    }

    pub(crate) fn rmdir(&self, actor: &Actor, parent: u64, name: &OsStr) -> Answer<()> {
        let (parent, name) = (NodeId(parent), name_of(name)?);
        let gone = self.mount.lookup(parent, &name).map_err(|e| errno::of(&e))?;
        self.mount.rmdir(actor, parent, &name).map_err(|e| errno::of(&e))?;
        self.remember_last_name(gone);
        Ok(())
    }

    pub(crate) fn rename(
        &self,
        actor: &Actor,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        flags: u32,
    ) -> Answer<()> {
        let flags = match flags {
            0 => RenameFlags::Replace,
            libc::RENAME_NOREPLACE => RenameFlags::NoReplace,
            libc::RENAME_EXCHANGE => RenameFlags::Exchange,
            _ => return Err(fuser::Errno::EINVAL),
        };
        let from = (NodeId(from.0), name_of(from.1)?);
        let to = (NodeId(to.0), name_of(to.1)?);
        let replaced = match flags {
            RenameFlags::Replace => self.mount.lookup(to.0, &to.1).ok(),
            RenameFlags::NoReplace | RenameFlags::Exchange => None,
        };
        let (parent, name) = to.clone();
        self.mount.rename(actor, from, to, flags).map_err(|e| errno::of(&e))?;
        if let Some(node) = replaced {
            self.remember_last_name(node);
        }
        let is_file = self.mount.lookup(parent, &name).is_ok_and(|node| !node.is_folder());
        if !is_file || flags == RenameFlags::Exchange {
            self.outside.moved();
        }
        Ok(())
    }

    /// Keeps what stat(2) says of a node that just lost a name, in case that was its last.
    fn remember_last_name(&self, node: Node) {
        if node.nlink <= 1 || node.is_folder() {
            self.orphans.add(node, self.drive.clock().now());
        }
    }
}
