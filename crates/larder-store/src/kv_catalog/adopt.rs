//! Keeping what a server tells: nodes and names as they are there, but for those that were changed here and of which it
//! has not heard yet.

use super::txn::Txn;
use super::{allocated_bytes, keys};
use crate::catalog::{Change, Deleted};
use crate::kv::Kv;
use crate::wire::Described;
use larder_core::{Name, Node, NodeId, Result};

impl<K: Kv> Txn<'_, K> {
    /// Keeps a node; says whether it is kept now.
    pub(super) fn adopt(&mut self, told: Described, is_new: bool) -> Result<bool> {
        let Described { node, xattrs } = told;
        let before = self.node_if(node.id)?;
        if before.is_some() && self.is_node_marked(node.id)? {
            return Ok(true);
        }
        match &before {
            None if !is_new => return Ok(false),
            Some(before) if before.version > node.version && before.nlink > 0 => return Ok(true),
            Some(before) => {
                self.totals.counts.allocated_bytes -= allocated_bytes(before.head());
                let (content, attributes) = differences(before, &node);
                if content {
                    self.committed.changes.push(Change::Content(node.id));
                }
                if attributes {
                    self.committed.changes.push(Change::Attrs(node.id));
                }
            }
            None => self.totals.counts.nodes += 1,
        }
        self.totals.counts.allocated_bytes += allocated_bytes(node.head());
        if let Some(before) = &before {
            self.leave_old_name(before, &node)?;
        }
        self.adopt_xattrs(node.id, xattrs)?;
        if before.as_ref() != Some(&node) {
            self.save(&node);
        }
        Ok(true)
    }

    /// Counts what is kept of a node as older than anything that will be told.
    pub(super) fn distrust(&mut self, id: NodeId) -> Result<()> {
        if let Some(node) = self.node_if(id)?
            && !self.is_node_marked(id)?
        {
            self.save(&Node { version: 0, ..node });
        }
        Ok(())
    }

    /// What has one name only has no other: one that it kept here until the server had heard of a change is gone.
    fn leave_old_name(&mut self, before: &Node, now: &Node) -> Result<()> {
        let (Some(old), Some(new)) = (&before.name, &now.name) else { return Ok(()) };
        let is_elsewhere = (before.parent, old) != (now.parent, new) && (now.is_folder() || now.nlink <= 1);
        if is_elsewhere
            && self.entry(before.parent, old)? == Some(now.id)
            && !self.is_name_marked(before.parent, old)?
        {
            self.write(keys::entry(before.parent, old), None);
            let (parent, name) = (before.parent, old.clone());
            self.committed.changes.push(Change::Unnamed { parent, name, node: now.id });
        }
        Ok(())
    }

    fn adopt_xattrs(&mut self, id: NodeId, told: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()> {
        let told: Vec<_> = told.into_iter().map(|(name, value)| (keys::xattr(id, &name), value)).collect();
        for key in self.keys_below(&keys::xattr(id, &[]), usize::MAX)? {
            if told.iter().all(|(kept, _)| *kept != key) {
                self.write(key, None);
            }
        }
        for (key, value) in told {
            if self.read(&key)?.as_ref() != Some(&value) {
                self.write(key, Some(value));
            }
        }
        Ok(())
    }

    /// Keeps a name.
    pub(super) fn adopt_name(&mut self, parent: NodeId, name: Name, told: Option<Described>) -> Result<()> {
        let is_root = told.as_ref().is_some_and(|told| told.node.id == NodeId::ROOT);
        if is_root || self.is_name_marked(parent, &name)? {
            return Ok(());
        }
        if !self.node_if(parent)?.is_some_and(|folder| folder.is_folder()) {
            // Nobody has seen the folder, but perhaps the node, by another name.
            return told.map_or(Ok(()), |told| self.adopt(told, false).map(drop));
        }
        let before = self.entry(parent, &name)?;
        let Some(told) = told else { return before.map_or(Ok(()), |id| self.lose_name(parent, name, id)) };
        let (id, nlink) = (told.node.id, told.node.nlink);
        self.adopt(told, true)?;
        if before == Some(id) {
            return Ok(());
        }
        if self.is_node_marked(id)? {
            self.move_changed(id, nlink, (parent, name.clone()))?;
        }
        if let Some(before) = before {
            self.drop_name(parent, name.clone(), before)?;
        }
        self.write(keys::entry(parent, &name), Some(id.0.to_be_bytes().to_vec()));
        self.committed.changes.push(Change::Named { parent, name, node: id });
        Ok(())
    }

    /// A name is gone there. What was changed here keeps its last one until the server has heard of the change.
    fn lose_name(&mut self, parent: NodeId, name: Name, id: NodeId) -> Result<()> {
        let is_last = self.node_if(id)?.is_some_and(|node| node.is_folder() || node.nlink <= 1);
        if is_last && self.is_node_marked(id)? {
            return self.doubt();
        }
        self.drop_name(parent, name, id)
    }

    /// A node that was changed here has another name there: its only one, or one more.
    fn move_changed(&mut self, id: NodeId, nlink: u32, to: (NodeId, Name)) -> Result<()> {
        let node = self.node(id)?;
        let from = node.name.clone().map(|name| (node.parent, name));
        if let Some((parent, name)) = from
            && (node.is_folder() || nlink <= 1)
            && self.entry(parent, &name)? == Some(id)
            && !self.is_name_marked(parent, &name)?
        {
            self.write(keys::entry(parent, &name), None);
            self.committed.changes.push(Change::Unnamed { parent, name, node: id });
        }
        let (parent, name) = (to.0, Some(to.1));
        self.save(&Node { parent, name, nlink: node.nlink.max(1), ..node });
        Ok(())
    }

    /// Takes a name away. What has no other goes to the history, where who has it open still finds it.
    fn drop_name(&mut self, parent: NodeId, name: Name, id: NodeId) -> Result<()> {
        self.write(keys::entry(parent, &name), None);
        self.committed.changes.push(Change::Unnamed { parent, name: name.clone(), node: id });
        let Some(mut node) = self.node_if(id)? else { return Ok(()) };
        let is_here = node.parent == parent && node.name.as_ref() == Some(&name);
        if !is_here || (!node.is_folder() && node.nlink > 1) {
            return Ok(());
        }
        node.nlink = 0;
        self.save(&node);
        self.bury(parent, name, id);
        Ok(())
    }

    fn bury(&mut self, parent: NodeId, name: Name, node: NodeId) {
        let gone = Deleted { parent, name, node, at: self.at };
        self.write(keys::deleted(parent, &gone.name, self.at, node), Some(keys::encode(&gone)));
    }

    /// Keeps that a node has no name any more.
    pub(super) fn adopt_gone(&mut self, id: NodeId) -> Result<()> {
        let node = self.node_if(id)?.filter(|node| node.nlink > 0 && node.id != NodeId::ROOT);
        let Some(mut node) = node else { return Ok(()) };
        if self.is_node_marked(id)? {
            return Ok(());
        }
        if let Some(name) = node.name.clone()
            && self.entry(node.parent, &name)? == Some(id)
            && !self.is_name_marked(node.parent, &name)?
        {
            self.write(keys::entry(node.parent, &name), None);
            self.committed.changes.push(Change::Unnamed { parent: node.parent, name, node: id });
        }
        // Where its last name is not known, its number takes the place: the history has to end for it, too.
        let name = node.name.clone().map_or_else(|| Name::new(id.to_string()), Ok)?;
        node.nlink = 0;
        node.name = Some(name.clone());
        self.save(&node);
        self.bury(node.parent, name, id);
        self.committed.changes.push(Change::Attrs(id));
        Ok(())
    }
}

/// Whether content and whether anything else differs.
fn differences(before: &Node, now: &Node) -> (bool, bool) {
    let with_content = Node { content: now.content.clone(), ..before.clone() };
    (before.content != now.content, with_content != *now)
}
