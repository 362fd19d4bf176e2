//! Undoing: earlier versions of a path, and what was deleted from it.

use crate::{Actor, Drive};
use larder_core::{DrivePath, Error, Kind, Name, Node, NodeId, Result, Timestamp};
use larder_store::{Durability, Op};

/// One state that a path had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionEntry {
    /// Counts from 1, oldest first; numbers move up when the oldest history is purged.
    pub number: u64,
    /// The node as it was in that state.
    pub node: Node,
    /// When the state ended; `None` for the current one.
    pub until: Option<Timestamp>,
    /// It ended by deletion.
    pub deleted: bool,
}

/// Which state [`Drive::restore`] brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest one that is not current.
    Latest,
    /// The one with this number.
    Version(u64),
    /// The one that was current then.
    At(Timestamp),
}

impl Drive {
    /// Returns the states that `path` had and still has, oldest first.
    ///
    /// # Errors
    /// `NotFound` where the path has none, or a folder above it is deleted.
    pub fn versions(&self, path: &DrivePath) -> Result<Vec<VersionEntry>> {
        let (parent, name) = self.place(path)?;
        let mut entries = Vec::new();
        for gone in self.catalog().deleted(parent, Some(&name))? {
            let node = self.catalog().node(gone.node)?;
            self.add_states(node, Some(gone.at), &mut entries)?;
        }
        if let Ok(node) = self.lookup(parent, &name) {
            self.add_states(node, None, &mut entries)?;
        }
        if entries.is_empty() {
            return Err(Error::not_found(format!("{path}: nothing of that name, now or in the history")));
        }
        entries.sort_by_key(|entry| entry.until.unwrap_or(Timestamp(i64::MAX)));
        for (number, entry) in (1..).zip(&mut entries) {
            entry.number = number;
        }
        Ok(entries)
    }

    /// Brings an earlier state of `path` back and returns the node; what it replaces stays in the history.
    ///
    /// # Errors
    /// `NotFound` where there is no such state; `Exists` where a deleted folder's name is taken; locked.
    pub fn restore(&self, actor: &Actor, path: &DrivePath, which: Which) -> Result<Node> {
        let _hold = self.hold();
        let (parent, name) = self.place(path)?;
        let entries = self.versions(path)?;
        let mut past = entries.iter().filter(|entry| entry.until.is_some());
        let chosen = match which {
            Which::Latest => past.next_back(),
            Which::Version(number) => entries.iter().find(|entry| entry.number == number),
            Which::At(time) => entries
                .iter()
                .find(|e| e.until.is_none_or(|until| until > time))
                .filter(|e| e.node.ctime <= time || e.node.btime <= time),
        };
        let chosen = chosen.ok_or_else(|| Error::not_found(format!("{path}: no such version")))?;
        let current = entries.iter().find(|entry| entry.until.is_none()).map(|entry| &entry.node);
        let (id, ops) = restoration(chosen, current, parent, name)?;
        if !ops.is_empty() {
            self.commit(actor, Vec::new(), ops, Durability::Power)?;
        }
        self.node(id)
    }

    fn place(&self, path: &DrivePath) -> Result<(NodeId, Name)> {
        let (parent, name) = path.split().ok_or_else(|| Error::invalid("the root has no versions"))?;
        let folder = self.resolve(&parent).map_err(|error| match error.kind() {
            Kind::NotFound => Error::not_found(format!("{parent} is not there: restore that folder first")),
            _ => error,
        })?;
        Ok((folder.id, name.clone()))
    }

    fn add_states(
        &self,
        node: Node,
        until: Option<Timestamp>,
        entries: &mut Vec<VersionEntry>,
    ) -> Result<()> {
        for old in self.catalog().versions(node.id)? {
            entries.push(VersionEntry { number: 0, node: old.node, until: Some(old.until), deleted: false });
        }
        entries.push(VersionEntry { number: 0, node, until, deleted: until.is_some() });
        Ok(())
    }
}

/// The node that carries the state afterwards, and what it takes.
fn restoration(
    chosen: &VersionEntry,
    current: Option<&Node>,
    parent: NodeId,
    name: Name,
) -> Result<(NodeId, Vec<Op>)> {
    let content = |id| {
        chosen.node.head().map(|head| Op::SetContent {
            node: id,
            head: head.clone(),
            mtime: chosen.node.mtime,
            interim: None,
            base: None,
        })
    };
    match current {
        Some(node) if chosen.until.is_none() => Ok((node.id, Vec::new())),
        Some(node) => match content(node.id).filter(|_| node.is_file()) {
            Some(op) => Ok((node.id, vec![op])),
            None => Err(Error::exists(format!("{name}: rename what has the name now, then restore"))),
        },
        None => {
            let id = chosen.node.id;
            let undelete = Op::Undelete { node: id, to: (parent, name) };
            let older = content(id).filter(|_| !chosen.deleted);
            Ok((id, [undelete].into_iter().chain(older).collect()))
        }
    }
}
