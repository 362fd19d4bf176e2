//! A catalog as a device's rules show it.
//!
//! What is excluded has no name here, and none can be given: whoever makes, renames or links something to such a name is
//! refused, so that nothing hidden is replaced or mixed with what is shown. A folder that holds something hidden is not
//! removed with it. Nodes are found by their ids all the same: what a process has open, it has.

use super::path::Place;
use super::{Book, Placements};
use larder_core::{DrivePath, Error, Kind, Name, Node, NodeId, NodeKind, Result};
use larder_store::Op;
use larder_store::catalog::{
    Catalog, Change, Commit, Committed, Counts, Cursor, Deleted, Listed, OldVersion, QueueState, Queued,
    Replace, Table, Unlink,
};
use std::sync::Arc;

/// Entries read at a time.
const PAGE: usize = 1024;

/// A catalog seen through rules.
pub struct Placed {
    inner: Arc<dyn Catalog>,
    placements: Arc<Placements>,
}

impl Placed {
    /// Shows `inner` as `placements` say.
    pub fn new(inner: Arc<dyn Catalog>, placements: Arc<Placements>) -> Self {
        Self { inner, placements }
    }

    /// The rules and the path of `parent`, where anything in it may be hidden.
    fn strict(&self, parent: NodeId) -> Result<Option<(Arc<Book>, DrivePath)>> {
        let book = self.placements.book();
        if book.rules.is_empty() {
            return Ok(None);
        }
        let path = Place::of_folder(&*self.inner, parent)?.path();
        Ok(book.rules.may_hide_below(&path).then_some((book, path)))
    }

    /// Lists what is shown by the rules of this moment.
    fn list_by(&self, parent: NodeId, after: Option<&Name>, limit: usize) -> Result<Vec<Listed>> {
        let Some((book, folder)) = self.strict(parent)? else { return self.inner.list(parent, after, limit) };
        let mut shown: Vec<Listed> = Vec::new();
        let mut after = after.cloned();
        // A short page would be taken for the last one.
        while shown.len() < limit {
            // Of many that are hidden one after the other, whole pages.
            let page = self.inner.list(parent, after.as_ref(), limit.max(PAGE))?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            let is_shown =
                |entry: &Listed| book.decide(&folder.join(entry.name.clone()), entry.node.kind).is_shown();
            shown.extend(page.into_iter().filter(is_shown));
        }
        shown.truncate(limit);
        Ok(shown)
    }

    /// Refuses a name that is not shown, and one that something hidden has.
    fn check_name(&self, parent: NodeId, name: &Name, kind: NodeKind) -> Result<()> {
        let Some((book, folder)) = self.strict(parent)? else { return Ok(()) };
        let path = folder.join(name.clone());
        let there = match self.inner.lookup(parent, name) {
            Ok(node) => Some(node.kind),
            // The operation says it better.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => None,
            Err(error) => return Err(error),
        };
        for kind in [Some(kind), there].into_iter().flatten() {
            let decision = book.decide(&path, kind);
            if !decision.is_shown() {
                let rule =
                    decision.rule.map_or_else(String::new, |rule| book.rules.rules()[rule].to_string());
                return Err(Error::denied(format!(
                    "{path} is not shown on this device by its rule {rule:?}"
                )));
            }
        }
        Ok(())
    }

    /// Refuses what would take something hidden away.
    fn check_tree(&self, parent: NodeId, name: &Name) -> Result<()> {
        let book = self.placements.book();
        if book.rules.is_empty() {
            return Ok(());
        }
        let top = match self.inner.lookup(parent, name) {
            Ok(node) if node.is_folder() => node,
            _ => return Ok(()),
        };
        let mut folders = vec![(top.id, Place::of_folder(&*self.inner, top.id)?.path())];
        while let Some((folder, path)) = folders.pop() {
            if !book.rules.may_hide_below(&path) {
                continue;
            }
            let mut after = None;
            loop {
                let page = self.inner.list(folder, after.as_ref(), PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for Listed { name, node } in page {
                    let at = path.join(name);
                    let decision = book.decide(&at, node.kind);
                    if !decision.is_shown() || decision.is_passage {
                        let what = format!("{at} in it is not shown on this device");
                        return Err(Error::new(Kind::NotEmpty, what));
                    }
                    folders.extend(node.is_folder().then_some((node.id, at)));
                }
            }
        }
        Ok(())
    }

    fn kind_of(&self, (parent, name): (NodeId, &Name)) -> NodeKind {
        // What is not there is refused by the operation itself.
        self.inner.lookup(parent, name).map_or(NodeKind::File, |node| node.kind)
    }

    fn check(&self, op: &Op) -> Result<()> {
        match op {
            Op::Create { parent, name, node } => self.check_name(*parent, name, node.kind),
            Op::Link { node, parent, name } => {
                let kind = self.inner.node(*node).map_or(NodeKind::File, |node| node.kind);
                self.check_name(*parent, name, kind)
            }
            Op::Rename { from, to, .. } => {
                self.check_name(from.0, &from.1, self.kind_of((from.0, &from.1)))?;
                self.check_name(to.0, &to.1, self.kind_of((from.0, &from.1)))
            }
            Op::Exchange { a, b } => {
                self.check_name(a.0, &a.1, self.kind_of((b.0, &b.1)))?;
                self.check_name(b.0, &b.1, self.kind_of((a.0, &a.1)))
            }
            Op::Undelete { node, to } => {
                let kind = self.inner.node(*node).map_or(NodeKind::File, |node| node.kind);
                self.check_name(to.0, &to.1, kind)
            }
            Op::Unlink { parent, name, .. } => self.check_name(*parent, name, self.kind_of((*parent, name))),
            _ => Ok(()),
        }
    }
}

impl Catalog for Placed {
    fn node(&self, id: NodeId) -> Result<Node> {
        self.inner.node(id)
    }

    fn lookup(&self, parent: NodeId, name: &Name) -> Result<Node> {
        let node = self.inner.lookup(parent, name)?;
        match self.strict(parent)? {
            Some((book, folder)) if !book.decide(&folder.join(name.clone()), node.kind).is_shown() => {
                Err(Error::not_found(format!("{name}")))
            }
            _ => Ok(node),
        }
    }

    fn list(&self, parent: NodeId, after: Option<&Name>, limit: usize) -> Result<Vec<Listed>> {
        loop {
            let book = self.placements.book();
            let shown = self.list_by(parent, after, limit)?;
            // It may have waited for a server: nobody was told to forget a name that was not known then.
            if Arc::ptr_eq(&book, &self.placements.book()) {
                return Ok(shown);
            }
        }
    }

    fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.inner.xattr(node, name)
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        self.inner.xattrs(node)
    }

    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.record(table, key)
    }

    fn records(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.inner.records(table)
    }

    fn new_id(&self) -> NodeId {
        self.inner.new_id()
    }

    fn prepare(&self, ops: &[Op]) -> Result<()> {
        self.inner.prepare(ops)?;
        // What a folder holds is looked through here, where it holds up nobody.
        ops.iter().try_for_each(|op| self.check(op))?;
        ops.iter().try_for_each(|op| match op {
            Op::Unlink { parent, name, what: Unlink::Tree } => self.check_tree(*parent, name),
            Op::Rename { to: (parent, name), replace: Replace::Tree, .. } => self.check_tree(*parent, name),
            _ => Ok(()),
        })
    }

    fn commit(&self, commit: Commit) -> Result<Committed> {
        commit.ops.iter().try_for_each(|op| self.check(op))?;
        self.inner.commit(commit)
    }

    fn versions(&self, node: NodeId) -> Result<Vec<OldVersion>> {
        self.inner.versions(node)
    }

    fn deleted(&self, parent: NodeId, name: Option<&Name>) -> Result<Vec<Deleted>> {
        self.inner.deleted(parent, name)
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)> {
        self.inner.changes(after, limit)
    }

    fn now(&self) -> Cursor {
        self.inner.now()
    }

    fn queued(&self, number: u64, limit: usize) -> Result<Vec<Queued>> {
        self.inner.queued(number, limit)
    }

    fn queue_state(&self) -> Result<QueueState> {
        self.inner.queue_state()
    }

    fn queued_times(&self, node: NodeId, name: Option<&Name>) -> Result<u32> {
        self.inner.queued_times(node, name)
    }

    fn counts(&self) -> Counts {
        self.inner.counts()
    }
}
