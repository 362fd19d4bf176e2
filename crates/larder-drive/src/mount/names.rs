//! Names: finding, listing, making, linking, renaming and removing.

use super::{MakeKind, Mount, RenameFlags};
use crate::tree::LOOKS_MAX;
use crate::{Actor, is_locked, undisturbed};
use larder_core::{Content, Error, Kind, Name, Node, NodeId, NodeKind, Result};
use larder_store::catalog::{NewNode, Replace, Unlink};
use larder_store::{Durability, Expect, Listed, Op};

/// Bits of a mode. Source: inode(7).
const SET_GID: u16 = 0o2000;
/// The longest target of a symlink. Source: PATH_MAX of limits.h, without its NUL.
const TARGET_MAX_BYTES: usize = 4095;

impl Mount {
    /// Returns what `name` in `parent` names, with the live size and times of an open file.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn lookup(&self, parent: NodeId, name: &Name) -> Result<Node> {
        let mut node = self.drive.catalog().lookup(parent, name)?;
        for _ in 0..LOOKS_MAX {
            let Some(file) = self.table.find(node.id) else { break };
            // Read again, in the order that shows no file half committed.
            let live = file.live.lock();
            node = self.drive.catalog().lookup(parent, name)?;
            if node.id == file.id {
                live.show(&mut node);
                break;
            }
        }
        Ok(node)
    }

    /// Returns up to `limit` entries in byte order of their names, behind `after`, drafts too.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list(&self, folder: NodeId, after: Option<&Name>, limit: usize) -> Result<Vec<Listed>> {
        let mut listed = self.drive.catalog().list(folder, after, limit)?;
        for entry in &mut listed {
            if self.table.find(entry.node.id).is_some()
                && let Ok(node) = self.node(entry.node.id)
            {
                entry.node = node;
            }
        }
        Ok(listed)
    }

    /// What a new node starts with; the group, and the set-gid bit of a folder, come from a set-gid parent.
    /// Source: inode(7), S_ISGID.
    pub(super) fn new_node(
        &self,
        actor: &Actor,
        parent: NodeId,
        kind: NodeKind,
        mode: u16,
    ) -> Result<NewNode> {
        let parent = self.drive.catalog().node(parent)?;
        let inherits = parent.is_folder() && parent.mode & SET_GID != 0;
        let bit = if inherits && kind == NodeKind::Folder { SET_GID } else { 0 };
        Ok(NewNode {
            id: self.drive.catalog().new_id(),
            kind,
            mode: (mode & 0o7777) | bit,
            uid: actor.uid,
            gid: if inherits { parent.gid } else { actor.gid },
            content: Content::None,
            mtime: None,
            draft: false,
        })
    }

    /// Makes anything that is not opened at once.
    ///
    /// # Errors
    /// `Exists`; `NotFound` and `NotADirectory` for the parent; `Invalid` for a target that is empty or over 4095
    /// bytes; locked.
    pub fn make(&self, actor: &Actor, parent: NodeId, name: Name, kind: MakeKind, mode: u16) -> Result<Node> {
        let (kind, content) = match kind {
            MakeKind::File => (NodeKind::File, Content::File(Default::default())),
            MakeKind::Folder => (NodeKind::Folder, Content::None),
            MakeKind::Symlink(target) => {
                if target.is_empty() || target.len() > TARGET_MAX_BYTES || target.contains(&0) {
                    return Err(Error::invalid(larder_core::name::TOO_LONG));
                }
                (NodeKind::Symlink, Content::Target(target))
            }
            MakeKind::Fifo => (NodeKind::Fifo, Content::None),
            MakeKind::Socket => (NodeKind::Socket, Content::None),
            MakeKind::CharDevice(number) => (NodeKind::CharDevice, Content::Device(number)),
            MakeKind::BlockDevice(number) => (NodeKind::BlockDevice, Content::Device(number)),
        };
        let new = NewNode { content, ..self.new_node(actor, parent, kind, mode)? };
        let id = new.id;
        let op = Op::Create { parent, name, node: Box::new(new) };
        self.drive.commit(actor, Vec::new(), vec![op], Durability::Process)?;
        self.drive.catalog().node(id)
    }

    /// Gives a node one more name; a draft is published first.
    ///
    /// # Errors
    /// `Exists`; `NotFound`; `Denied` for a folder; `NoSpace` for too many names; locked.
    pub fn link(&self, actor: &Actor, node: NodeId, parent: NodeId, name: Name) -> Result<Node> {
        undisturbed(is_disturbed, || self.publish_draft(&self.drive.catalog().node(node)?))?;
        let op = Op::Link { node, parent, name };
        self.drive.commit(actor, Vec::new(), vec![op], Durability::Process)?;
        self.node(node)
    }

    /// Removes a name of anything but a folder. An open file lives on until its last handle goes.
    ///
    /// # Errors
    /// `NotFound`; `IsADirectory`; locked.
    pub fn unlink(&self, actor: &Actor, parent: NodeId, name: &Name) -> Result<()> {
        self.remove(actor, parent, name, Unlink::File)
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// `NotFound`; `NotADirectory`; `NotEmpty`; locked.
    pub fn rmdir(&self, actor: &Actor, parent: NodeId, name: &Name) -> Result<()> {
        self.remove(actor, parent, name, Unlink::EmptyFolder)
    }

    fn remove(&self, actor: &Actor, parent: NodeId, name: &Name, what: Unlink) -> Result<()> {
        let gone = undisturbed(is_disturbed, || {
            let node = self.lookup(parent, name)?;
            self.keep_if_open(&node);
            let expect = vec![Expect::Name(parent, name.clone(), Some(node.id))];
            let op = Op::Unlink { parent, name: name.clone(), what };
            self.drive.commit(actor, expect, vec![op], Durability::Process)?;
            Ok(node.id)
        })?;
        self.table.let_go(gone);
        self.drive.locks().end_in(&self.drive, gone)
    }

    /// Lets an open file remember its node: the catalog forgets a draft with its name.
    fn keep_if_open(&self, node: &Node) {
        if let Some(file) = self.table.find(node.id) {
            file.live.lock().keep(node.clone());
        }
    }

    /// Renames. Drafts that take part are published first: a name must never pass from something that other doors see
    /// to something that they do not.
    ///
    /// # Errors
    /// `NotFound`; `Exists` with [`RenameFlags::NoReplace`]; `IsADirectory`, `NotADirectory`, `NotEmpty` as rename(2)
    /// has them; `Invalid` for a folder below itself; locked.
    pub fn rename(
        &self,
        actor: &Actor,
        from: (NodeId, Name),
        to: (NodeId, Name),
        flags: RenameFlags,
    ) -> Result<()> {
        let (node, target) =
            undisturbed(is_disturbed, || self.try_rename(actor, from.clone(), to.clone(), flags))?;
        if let Some(target) = target.filter(|target| *target != node) {
            self.table.let_go(target);
            self.drive.locks().end_in(&self.drive, target)?;
        }
        self.drive.locks().end_in(&self.drive, node)
    }

    /// Renames what the names name at first sight, or fails; returns which nodes these were.
    fn try_rename(
        &self,
        actor: &Actor,
        from: (NodeId, Name),
        to: (NodeId, Name),
        flags: RenameFlags,
    ) -> Result<(NodeId, Option<NodeId>)> {
        let node = self.lookup(from.0, &from.1)?;
        let target = match self.lookup(to.0, &to.1) {
            Ok(target) => Some(target),
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => return Err(error),
        };
        let seen = (node.id, target.as_ref().map(|target| target.id));
        let expect = vec![
            Expect::Name(from.0, from.1.clone(), Some(seen.0)),
            Expect::Name(to.0, to.1.clone(), seen.1),
        ];
        self.publish_draft(&node)?;
        let op = match flags {
            RenameFlags::Replace => Op::Rename { from, to, replace: Replace::Posix },
            RenameFlags::NoReplace => Op::Rename { from, to, replace: Replace::Nothing },
            RenameFlags::Exchange => {
                target.as_ref().map_or(Ok(()), |target| self.publish_draft(target))?;
                Op::Exchange { a: from, b: to }
            }
        };
        target.iter().for_each(|target| self.keep_if_open(target));
        self.drive.commit(actor, expect, vec![op], Durability::Process)?;
        Ok(seen)
    }
}

/// Says whether somebody else changed a name first. The kernel keeps its own callers apart, but neither other doors nor
/// the closing of files.
fn is_disturbed(error: &Error) -> bool {
    error.kind() == Kind::Conflict && !is_locked(error)
}
