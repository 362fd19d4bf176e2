//! What each operation of a commit does to names and nodes.

use super::history::Expired;
use super::txn::Txn;
use super::{allocated_bytes, keys};
use crate::catalog::{
    Attrs, Change, Deleted, NewNode, OldVersion, Op, RECORD_MAX_BYTES, Replace, Unlink, XATTR_MAX_BYTES,
    XATTR_NAME_MAX_BYTES, XattrMode,
};
use crate::kv::Kv;
use crate::origin::RANGE_BITS;
use larder_core::{Content, Error, Head, Kind, Name, Node, NodeId, Result, Timestamp, name};

/// The most names of one node. Source: LINK_MAX of ext4, as pathconf(3) tells it.
const LINK_MAX: u32 = 65_000;

impl<K: Kv> Txn<'_, K> {
    pub(super) fn carry_out(&mut self, op: Op, expired: &Expired) -> Result<()> {
        match op {
            Op::Create { parent, name, node } => self.create(parent, name, *node),
            Op::Link { node, parent, name } => self.link(node, parent, name),
            Op::Unlink { parent, name, what } => self.unlink(parent, name, what),
            Op::Rename { from, to, replace } => self.rename(from, to, replace),
            Op::Exchange { a, b } => self.exchange(a, b),
            Op::SetContent { node, head, mtime, interim, .. } => self.set_content(node, head, mtime, interim),
            Op::SetAttrs { node, attrs } => self.set_attrs(node, attrs),
            Op::Touch { node, atime } => {
                let node = Node { atime, ..self.node(node)? };
                self.save(&node);
                Ok(())
            }
            Op::SetXattr { node, name, value, mode } => self.set_xattr(node, &name, value, mode),
            Op::SetRecord { table, key, value } => {
                if value.as_ref().is_some_and(|v| v.len() > RECORD_MAX_BYTES) || key.len() > 255 {
                    return Err(Error::invalid("record is too large"));
                }
                self.write(keys::record(table as u8, &key), value);
                Ok(())
            }
            Op::Undelete { node, to } => self.undelete(node, to),
            Op::Revive { node, to } => match self.node(node)?.nlink {
                0 => self.undelete(node, to),
                _ => Ok(()),
            },
            Op::Adopt { node, is_new } => self.adopt(*node, is_new).map(drop),
            Op::AdoptGone { node } => self.adopt_gone(node),
            Op::AdoptName { parent, name, node } => self.adopt_name(parent, name, node.map(|node| *node)),
            Op::Here(op) => self.carry_out_here(*op),
            Op::Distrust { node } => self.distrust(node),
            Op::Begin { run } => self.begin(run),
            Op::Sent { before } => self.sent(before),
            Op::Answered { numbers } => self.answered(&numbers),
            Op::Restate { number, steps, moved, redirected, merged } => {
                merged.map_or(Ok(()), |(from, to)| self.merge_queued(number, from, *to))?;
                self.restate(number, steps)?;
                moved.map_or(Ok(()), |(node, from, to)| self.move_queued(number, node, from, to))?;
                redirected.map_or(Ok(()), |(from, to)| self.redirect_queued(number, from, to))
            }
            Op::Compared { doubt } => self.compared(doubt),
            Op::PurgeHistory { limit, .. } => self.purge(expired, limit),
        }
    }

    fn free_name(&self, parent: NodeId, name: &Name) -> Result<()> {
        self.folder(parent)?;
        match self.entry(parent, name)? {
            Some(_) => Err(Error::exists(format!("{name}"))),
            None => Ok(()),
        }
    }

    fn create(&mut self, parent: NodeId, name: Name, new: NewNode) -> Result<()> {
        self.free_name(parent, &name)?;
        // This catalog's own ids are those of range 0, and what it gives next nobody has.
        let may_be_known = new.id.0 >> RANGE_BITS != 0 || new.id.0 < self.totals.next_id;
        if may_be_known && self.node_if(new.id)?.is_some() {
            return Err(Error::invalid(format!("there is, or was, another node {}", new.id)));
        }
        let node = new.named(parent, name.clone(), self.at);
        if node.draft {
            self.write(keys::draft(node.id), Some(Vec::new()));
        }
        self.totals.counts.nodes += 1;
        self.totals.counts.allocated_bytes += allocated_bytes(node.head());
        self.save(&node);
        self.name_node(parent, name, &node)
    }

    fn link(&mut self, id: NodeId, parent: NodeId, name: Name) -> Result<()> {
        let mut node = self.node(id)?;
        self.free_name(parent, &name)?;
        if node.is_folder() {
            return Err(Error::denied("a folder has one name only"));
        }
        if node.nlink == 0 {
            return Err(Error::not_found(format!("node {id}")));
        }
        if node.nlink >= LINK_MAX {
            let full = Error::new(Kind::NoSpace, format!("{name}: more than {LINK_MAX} names of one file"));
            return Err(full.because(std::io::Error::from(rustix::io::Errno::MLINK)));
        }
        node.nlink += 1;
        node.parent = parent;
        node.name = Some(name.clone());
        self.save_changed(node.clone());
        self.name_node(parent, name, &node)
    }

    fn unlink(&mut self, parent: NodeId, name: Name, what: Unlink) -> Result<()> {
        let node = self.named(parent, &name)?;
        match what {
            Unlink::File if node.is_folder() => {
                return Err(Error::new(Kind::IsADirectory, format!("{name}")));
            }
            Unlink::EmptyFolder if !node.is_folder() => {
                return Err(Error::new(Kind::NotADirectory, format!("{name}")));
            }
            Unlink::EmptyFolder => self.must_be_empty(&node, &name)?,
            Unlink::File | Unlink::Tree => {}
        }
        self.detach(parent, name, node)
    }

    fn must_be_empty(&self, folder: &Node, name: &Name) -> Result<()> {
        if self.keys_below(&keys::entries(folder.id), 1)?.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::NotEmpty, format!("{name}")))
    }

    /// Takes a name away; with the last one the node goes to the history, a draft for good.
    pub(super) fn detach(&mut self, parent: NodeId, name: Name, mut node: Node) -> Result<()> {
        self.unname_node(parent, name.clone(), &node)?;
        if !node.is_folder() && node.nlink > 1 {
            node.nlink -= 1;
            if node.parent == parent && node.name.as_ref() == Some(&name) {
                // It has another; which, only a walk would find.
                node.name = None;
            }
            self.save_changed(node);
            return Ok(());
        }
        if node.draft {
            self.unmark_name(&(parent, name))?;
            return self.forget(&node);
        }
        node.nlink = 0;
        node.parent = parent;
        node.name = Some(name.clone());
        let gone = Deleted { parent, name, node: node.id, at: self.at };
        self.write(keys::deleted(parent, &gone.name, self.at, node.id), Some(keys::encode(&gone)));
        self.save_changed(node);
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        from: (NodeId, Name),
        to: (NodeId, Name),
        replace: Replace,
    ) -> Result<()> {
        self.folder(from.0)?;
        self.folder(to.0)?;
        let node = self.named(from.0, &from.1)?;
        let target = self.entry(to.0, &to.1)?.map(|id| self.node(id)).transpose()?;
        if node.is_folder() {
            self.not_below(to.0, node.id)?;
        }
        if let Some(target) = &target {
            // rename(2): two names of one file stay as they are.
            if target.id == node.id {
                return if replace == Replace::Nothing {
                    Err(Error::exists(format!("{}", to.1)))
                } else {
                    Ok(())
                };
            }
            self.may_replace(&node, target, &to.1, replace)?;
        }
        self.unname_node(from.0, from.1, &node)?;
        if let Some(target) = target {
            self.detach(to.0, to.1.clone(), target)?;
        }
        // Read again: replacing may have touched the node where it is its own target's child.
        let mut node = self.node(node.id)?;
        node.parent = to.0;
        node.name = Some(to.1.clone());
        self.save_changed(node.clone());
        self.name_node(to.0, to.1, &node)
    }

    fn may_replace(&self, node: &Node, target: &Node, name: &Name, replace: Replace) -> Result<()> {
        match replace {
            Replace::Nothing => Err(Error::exists(format!("{name}"))),
            Replace::Tree => Ok(()),
            Replace::Posix if node.is_folder() && !target.is_folder() => {
                Err(Error::new(Kind::NotADirectory, format!("{name}")))
            }
            Replace::Posix if !node.is_folder() && target.is_folder() => {
                Err(Error::new(Kind::IsADirectory, format!("{name}")))
            }
            Replace::Posix if target.is_folder() => self.must_be_empty(target, name),
            Replace::Posix => Ok(()),
        }
    }

    /// `Invalid` where `folder` is `top` or lies below it.
    fn not_below(&self, folder: NodeId, top: NodeId) -> Result<()> {
        let mut at = folder;
        let mut depth = 0;
        while at != NodeId::ROOT {
            if at == top {
                return Err(Error::invalid("a folder cannot be moved into itself"));
            }
            depth += 1;
            if depth > name::DEPTH_MAX {
                return Err(Error::corrupt(format!("folder {folder} lies in a circle of folders")));
            }
            at = self.node(at)?.parent;
        }
        if top == NodeId::ROOT { Err(Error::invalid("the root cannot be moved")) } else { Ok(()) }
    }

    fn exchange(&mut self, a: (NodeId, Name), b: (NodeId, Name)) -> Result<()> {
        let (mut one, mut two) = (self.named(a.0, &a.1)?, self.named(b.0, &b.1)?);
        if one.id == two.id {
            return Ok(());
        }
        if one.is_folder() {
            self.not_below(b.0, one.id)?;
        }
        if two.is_folder() {
            self.not_below(a.0, two.id)?;
        }
        self.unname_node(a.0, a.1.clone(), &one)?;
        self.unname_node(b.0, b.1.clone(), &two)?;
        // Read again: one may be the folder that holds the other.
        (one, two) = (self.node(one.id)?, self.node(two.id)?);
        for (node, (parent, name)) in [(&mut one, b), (&mut two, a)] {
            node.parent = parent;
            node.name = Some(name.clone());
            self.save_changed(node.clone());
            self.name_node(parent, name, node)?;
        }
        Ok(())
    }

    pub(super) fn set_content(
        &mut self,
        id: NodeId,
        head: Head,
        mtime: Timestamp,
        interim: Option<Head>,
    ) -> Result<()> {
        let mut node = self.node(id)?;
        let Content::File(old) = &node.content else {
            return Err(Error::invalid(format!("node {id} is no file")));
        };
        // An empty version would give nobody anything back.
        if !node.draft && old.size_bytes > 0 && *old != head {
            let version = OldVersion { node: node.clone(), until: self.at };
            let is_interim = interim.is_some_and(|interim| interim == *old);
            let key = if is_interim { keys::interim } else { keys::version };
            self.write(key(id, node.version), Some(keys::encode(&version)));
        }
        if node.draft {
            node.draft = false;
            self.write(keys::draft(id), None);
            if let Some(name) = &node.name {
                self.committed.changes.push(Change::Named {
                    parent: node.parent,
                    name: name.clone(),
                    node: id,
                });
            }
        }
        self.totals.counts.allocated_bytes -= old.allocated_bytes;
        self.totals.counts.allocated_bytes += head.allocated_bytes;
        node.content = Content::File(head);
        node.mtime = mtime;
        self.save_changed(node);
        self.committed.changes.push(Change::Content(id));
        Ok(())
    }

    fn set_attrs(&mut self, id: NodeId, attrs: Attrs) -> Result<()> {
        let mut node = self.node(id)?;
        attrs.set_on(&mut node);
        self.save_changed(node);
        self.committed.changes.push(Change::Attrs(id));
        Ok(())
    }

    fn set_xattr(&mut self, id: NodeId, name: &[u8], value: Option<Vec<u8>>, mode: XattrMode) -> Result<()> {
        let node = self.node(id)?;
        let key = keys::xattr(id, name);
        let there = self.read(&key)?.is_some();
        let shown = String::from_utf8_lossy(name);
        if value.as_ref().is_some_and(|v| v.len() > XATTR_MAX_BYTES) || name.is_empty() {
            return Err(Error::invalid(format!("attribute {shown}: value over {XATTR_MAX_BYTES} bytes")));
        }
        if name.len() > XATTR_NAME_MAX_BYTES {
            return Err(Error::invalid(format!("attribute {shown}: name over {XATTR_NAME_MAX_BYTES} bytes")));
        }
        if there && mode == XattrMode::Create && value.is_some() {
            return Err(Error::exists(format!("attribute {shown}")));
        }
        if !there && (mode == XattrMode::Replace || value.is_none()) {
            return Err(Error::not_found(format!("attribute {shown}")));
        }
        self.write(key, value);
        self.save_changed(node);
        self.committed.changes.push(Change::Attrs(id));
        Ok(())
    }
}
