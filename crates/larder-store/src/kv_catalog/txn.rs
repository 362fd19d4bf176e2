//! One commit in the making: reads see its own writes, and nothing is applied before all of it is right.

use super::{Totals, allocated_bytes, keys};
use crate::catalog::{Change, Committed, Table};
use crate::kv::{Batch, Kv, Pair};
use larder_core::{Error, Kind, Name, Node, NodeId, Result, Timestamp, name};
use std::collections::BTreeMap;
use std::ops::Bound;

pub(super) struct Txn<'a, K> {
    kv: &'a K,
    edits: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(super) at: Timestamp,
    pub(super) totals: Totals,
    pub(super) committed: Committed,
}

impl<'a, K: Kv> Txn<'a, K> {
    pub(super) fn new(kv: &'a K, at: Timestamp, totals: Totals) -> Self {
        Self { kv, edits: BTreeMap::new(), at, totals, committed: Committed::default() }
    }

    pub(super) fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.edits.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.kv.get(key),
        }
    }

    pub(super) fn write(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.edits.insert(key, value);
    }

    /// Up to `limit` keys below `prefix` as this commit leaves them.
    pub(super) fn keys_below(&self, prefix: &[u8], limit: usize) -> Result<Vec<Vec<u8>>> {
        let own = self.edits.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        let mut found: Vec<_> =
            own.filter(|(_, v)| v.is_some()).map(|(k, _)| k.clone()).take(limit).collect();
        let mut after: Option<Vec<u8>> = None;
        while found.len() < limit {
            let page = self.kv.scan(prefix, after.as_deref(), super::PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            let room = limit - found.len();
            found.extend(page.into_iter().map(|(k, _)| k).filter(|k| !self.edits.contains_key(k)).take(room));
        }
        Ok(found)
    }

    /// Some pairs below `prefix` behind `after`, in order, as this commit leaves them; none where there are no more.
    pub(super) fn pairs_behind(&self, prefix: &[u8], after: &[u8], limit: usize) -> Result<Vec<Pair>> {
        let mut after = after.to_vec();
        loop {
            let page = self.kv.scan(prefix, Some(&after), limit)?;
            let end = page.last().filter(|_| page.len() == limit).map(|(last, _)| last.clone());
            let mut found: BTreeMap<Vec<u8>, Vec<u8>> = page.into_iter().collect();
            let own = self.edits.range::<[u8], _>((Bound::Excluded(&after[..]), Bound::Unbounded));
            let is_within =
                |key: &[u8]| key.starts_with(prefix) && end.as_deref().is_none_or(|end| key <= end);
            for (key, value) in own.take_while(|(key, _)| is_within(key)) {
                match value {
                    Some(value) => found.insert(key.clone(), value.clone()),
                    None => found.remove(key),
                };
            }
            match end {
                Some(end) if found.is_empty() => after = end,
                _ => return Ok(found.into_iter().collect()),
            }
        }
    }

    pub(super) fn node_if(&self, id: NodeId) -> Result<Option<Node>> {
        self.read(&keys::node(id))?.map(|bytes| keys::decode(&bytes)).transpose()
    }

    pub(super) fn node(&self, id: NodeId) -> Result<Node> {
        self.node_if(id)?.ok_or_else(|| Error::not_found(format!("node {id}")))
    }

    /// A folder that can take names: it exists and was not removed.
    pub(super) fn folder(&self, id: NodeId) -> Result<Node> {
        let node = self.node(id)?;
        if !node.is_folder() {
            return Err(Error::new(Kind::NotADirectory, format!("node {id}")));
        }
        if node.nlink == 0 {
            return Err(Error::not_found(format!("folder {id}")));
        }
        Ok(node)
    }

    /// Says whether the node is in the tree. Of one that has several names, or had, that is believed.
    pub(super) fn is_alive(&self, id: NodeId) -> Result<bool> {
        let mut at = id;
        // What a server told piece by piece may go round in a circle for a moment.
        for _ in 0..name::DEPTH_MAX {
            let Some(node) = self.node_if(at)?.filter(|node| node.nlink > 0 && !node.draft) else {
                return Ok(false);
            };
            let has_others = node.name.is_none() || (!node.is_folder() && node.nlink > 1);
            if at == NodeId::ROOT || has_others {
                return Ok(true);
            }
            at = node.parent;
        }
        Ok(false)
    }

    pub(super) fn entry(&self, parent: NodeId, name: &Name) -> Result<Option<NodeId>> {
        self.read(&keys::entry(parent, name))?.map(|id| keys::decode_id(&id)).transpose()
    }

    /// What `name` in `parent` names; `NotFound` where it names nothing.
    pub(super) fn named(&self, parent: NodeId, name: &Name) -> Result<Node> {
        match self.entry(parent, name)? {
            Some(id) => self.node(id),
            None => Err(Error::not_found(format!("{name}"))),
        }
    }

    pub(super) fn save(&mut self, node: &Node) {
        self.write(keys::node(node.id), Some(keys::encode(node)));
    }

    /// Saves a node whose attributes or content changed now.
    pub(super) fn save_changed(&mut self, mut node: Node) {
        node.version += 1;
        node.ctime = self.at;
        self.save(&node);
    }

    /// Puts `name` into `parent` and counts it there.
    pub(super) fn name_node(&mut self, parent: NodeId, name: Name, node: &Node) -> Result<()> {
        self.write(keys::entry(parent, &name), Some(node.id.0.to_be_bytes().to_vec()));
        self.touch_folder(parent, i64::from(node.is_folder()))?;
        self.committed.changes.push(Change::Named { parent, name, node: node.id });
        Ok(())
    }

    /// Takes `name` out of `parent` and counts it there.
    pub(super) fn unname_node(&mut self, parent: NodeId, name: Name, node: &Node) -> Result<()> {
        self.write(keys::entry(parent, &name), None);
        self.touch_folder(parent, -i64::from(node.is_folder()))?;
        self.committed.changes.push(Change::Unnamed { parent, name, node: node.id });
        Ok(())
    }

    fn touch_folder(&mut self, id: NodeId, subfolders: i64) -> Result<()> {
        let mut folder = self.node(id)?;
        folder.mtime = self.at;
        folder.nlink = folder.nlink.saturating_add_signed(subfolders as i32);
        self.save_changed(folder);
        Ok(())
    }

    /// Removes all trace of a node that has no name.
    pub(super) fn forget(&mut self, node: &Node) -> Result<()> {
        let id = node.id;
        for prefix in [keys::xattr(id, &[]), keys::versions(id), keys::interims(id), keys::draft(id)] {
            for key in self.keys_below(&prefix, usize::MAX)? {
                self.write(key, None);
            }
        }
        if node.is_folder() {
            // Should a server tell of it again, nothing below it is known.
            self.write(keys::record(Table::Mirror as u8, &id.0.to_be_bytes()), None);
        }
        self.write(keys::node(node.id), None);
        self.totals.counts.nodes -= 1;
        self.totals.counts.allocated_bytes -= allocated_bytes(node.head());
        Ok(())
    }

    pub(super) fn finish(mut self) -> (Batch, Totals, Committed) {
        if !self.edits.is_empty() {
            self.edits.insert(keys::TOTALS.to_vec(), Some(keys::encode(&self.totals)));
        }
        let batch =
            Batch { edits: self.edits.into_iter().collect(), changes: self.committed.changes.clone() };
        (batch, self.totals, self.committed)
    }
}
