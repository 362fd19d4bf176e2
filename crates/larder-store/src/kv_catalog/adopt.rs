//! Keeping what a server tells: nodes and names as they are there.

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
        self.adopt_xattrs(node.id, xattrs)?;
        if before.as_ref() != Some(&node) {
            self.save(&node);
        }
        Ok(true)
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
        if !self.node_if(parent)?.is_some_and(|folder| folder.is_folder()) {
            // Nobody has seen the folder, but perhaps the node, by another name.
            return told.map_or(Ok(()), |told| self.adopt(told, false).map(drop));
        }
        let before = self.entry(parent, &name)?;
        let Some(told) = told else { return before.map_or(Ok(()), |id| self.drop_name(parent, name, id)) };
        let id = told.node.id;
        self.adopt(told, true)?;
        if before == Some(id) {
            return Ok(());
        }
        if let Some(before) = before {
            self.drop_name(parent, name.clone(), before)?;
        }
        self.write(keys::entry(parent, &name), Some(id.0.to_be_bytes().to_vec()));
        self.committed.changes.push(Change::Named { parent, name, node: id });
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
        let Some(mut node) = self.node_if(id)?.filter(|node| node.nlink > 0) else { return Ok(()) };
        // Where its last name is not known, its number takes the place: the history has to end for it, too.
        let name = node.name.clone().map_or_else(|| Name::new(id.to_string()), Ok)?;
        node.nlink = 0;
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
