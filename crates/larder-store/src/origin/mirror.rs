//! A remote project's catalog as a device has it: what it was told, kept on the device, and asked for where it was not.
//!
//! Folders are told page by page as somebody lists them; from then on the change feed keeps them right. What is known is
//! answered without the network.

use super::asking::Asking;
use super::comparing::Comparing;
use super::known::Known;
use super::outbox::Ids;
use super::{Feed, Origin};
use crate::catalog::{
    Catalog, Change, Commit, Committed, Counts, Cursor, Deleted, Listed, OldVersion, QueueState, Queued,
    Table,
};
use crate::wire::Described;
use crate::{Durability, Op};
use larder_core::{Error, Kind, Name, Node, NodeId, Result, Timestamp};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// Entries asked for at a time.
const PAGE: usize = 1024;
/// Key of the cursor in [`Table::Mirror`]; the keys of folders are 8 bytes long.
pub(crate) const CURSOR: &[u8] = b"cursor";

/// Hears of what is kept outside of [`Mirror::follow`] and may have been seen before.
pub type Hear = Box<dyn Fn(&[Change]) + Send + Sync>;

/// A catalog over another that keeps it and the server that tells it.
pub struct Mirror {
    pub(super) kept: Arc<dyn Catalog>,
    pub(super) origin: Arc<dyn Origin>,
    pub(super) now: fn() -> Timestamp,
    pub(super) asking: Asking,
    /// One at a time tells the server of changes, or hears of some.
    pub(super) exchange: Mutex<()>,
    /// How far everything was compared.
    pub(super) comparing: Mutex<Comparing>,
    /// How many conflicts are noted, once somebody counted them, and how many could not be.
    pub(super) noted: Mutex<Option<usize>>,
    /// One at a time keeps what the server tells.
    pub(super) keeping: Mutex<()>,
    hear: OnceLock<Hear>,
    ids: Option<Ids>,
    /// A random number, of this opening.
    pub(super) run: u64,
    pub(super) rung: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Mirror {
    /// Opens what `kept` has of the project of `origin`; `run` is a random number. The first time the server is asked for its
    /// top folder.
    ///
    /// # Errors
    /// Those of the server, the first time.
    pub fn open(
        kept: Arc<dyn Catalog>,
        origin: Arc<dyn Origin>,
        now: fn() -> Timestamp,
        run: u64,
    ) -> Result<Self> {
        let mut mirror = Self {
            kept,
            origin,
            now,
            asking: Asking::default(),
            exchange: Mutex::new(()),
            comparing: Mutex::default(),
            noted: Mutex::default(),
            keeping: Mutex::new(()),
            hear: OnceLock::new(),
            ids: None,
            run,
            rung: OnceLock::new(),
        };
        if mirror.kept.record(Table::Mirror, CURSOR)?.is_none() {
            let project = mirror.origin.project()?;
            if project.root.node.id != NodeId::ROOT {
                return Err(Error::corrupt("the server's project has another top folder"));
            }
            mirror.keep(vec![adopt(project.root), cursor_record(&project.cursor)])?;
        }
        mirror.note_here(vec![Op::Begin { run }], false)?;
        mirror.ids = mirror.take_ids()?;
        Ok(mirror)
    }

    /// What was told so far, without asking for more.
    pub fn known_here(&self) -> &dyn Catalog {
        &*self.kept
    }

    pub(super) fn ids(&self) -> Option<&Ids> {
        self.ids.as_ref()
    }

    /// Asks for what is in a folder, where that is not known.
    pub(super) fn look_into(&self, (parent, name): (NodeId, &Name)) -> Result<()> {
        match self.kept.lookup(parent, name) {
            Ok(node) if node.is_folder() => self.list(node.id, None, 1).map(drop),
            _ => Ok(()),
        }
    }

    /// Has `hear` told from now on, on the thread of whoever asked; it must not wait for that.
    pub fn tell(&self, hear: Hear) {
        self.hear.get_or_init(|| hear);
    }

    /// Where the change feed was followed to.
    ///
    /// # Errors
    /// Those of the index.
    pub fn cursor(&self) -> Result<Cursor> {
        Ok(Cursor(self.kept.record(Table::Mirror, CURSOR)?.unwrap_or_default()))
    }

    /// Takes over up to `limit` changes of the server's; says whether there are more. `commit` commits them and tells whoever
    /// has seen what was before.
    ///
    /// # Errors
    /// `Conflict` where the feed does not reach back so far ([`Mirror::compare`] helps); those of the server and of `commit`.
    pub fn follow(&self, limit: usize, commit: impl FnOnce(Vec<Op>) -> Result<()>) -> Result<bool> {
        let turn = self.exchange.lock();
        let Feed { news, cursor, more } = self.origin.changes(&self.cursor()?, limit)?;
        let keeping = self.keeping.lock();
        let mut ops: Vec<Op> = news.into_iter().map(Op::from).collect();
        ops.push(cursor_record(&cursor));
        self.asking.heard(&ops);
        commit(ops)?;
        drop((keeping, turn));
        // Without new ones, the old ones go on; the next time it is tried again.
        if let Err(error) = self.renew_ids() {
            tracing::debug!(%error, "no new range of ids");
        }
        Ok(more)
    }

    fn keep(&self, ops: Vec<Op>) -> Result<()> {
        let (expect, durability) = (Vec::new(), Durability::Process);
        let commit = Commit { at: (self.now)(), op_id: None, expect, ops, durability };
        let changes = self.asking.seen_before(self.kept.commit(commit)?.changes);
        if let Some(hear) = self.hear.get().filter(|_| !changes.is_empty()) {
            hear(&changes);
        }
        Ok(())
    }

    pub(super) fn known(&self, folder: NodeId) -> Result<Known> {
        Known::decode(self.kept.record(Table::Mirror, &folder.0.to_be_bytes())?.as_deref())
    }

    /// Has one caller at a time ask about `folder`: the others wait, and then find the answer kept. What `ask` returns is
    /// kept but for the names that the feed told of meanwhile, which is no older. Nothing where nobody knows.
    fn ask<R>(
        &self,
        folder: NodeId,
        is_known: impl Fn(&Self) -> Result<Option<R>>,
        ask: impl Fn(&Self) -> Result<Vec<Op>>,
    ) -> Result<Option<R>> {
        let turn = self.asking.turn(folder)?;
        if let Some(known) = is_known(self)? {
            return Ok(Some(known));
        }
        let ops = ask(self)?;
        let _keeping = self.keeping.lock();
        self.keep(turn.still_true(ops))?;
        is_known(self)
    }

    /// What is kept of a name: the node, that there is none, or nothing.
    fn kept_name(&self, parent: NodeId, name: &Name) -> Result<Option<Option<Node>>> {
        // The mark first: who changes both changes the name no later.
        let is_covered = self.known(parent)?.covers(name);
        match self.kept.lookup(parent, name) {
            Err(error) if error.kind() == Kind::NotFound => Ok(is_covered.then_some(None)),
            found => found.map(|node| Some(Some(node))),
        }
    }

    /// Asks for the names behind those known; those kept that the server does not have go.
    pub(super) fn more_entries(&self, folder: NodeId, known: &Known) -> Result<Vec<Op>> {
        let after = match known {
            Known::UpTo(last) => Some(last),
            Known::Nothing | Known::All => None,
        };
        let page = self.origin.entries(folder, after, PAGE)?;
        let known = page.next.map_or(Known::All, Known::UpTo);
        let mut gone: BTreeSet<Name> = BTreeSet::new();
        let mut at = after.cloned();
        loop {
            let kept = self.kept.list(folder, at.as_ref(), PAGE)?;
            at = kept.last().map(|entry| entry.name.clone());
            gone.extend(kept.into_iter().map(|entry| entry.name).filter(|name| known.covers(name)));
            if !at.as_ref().is_some_and(|last| known.covers(last)) {
                break;
            }
        }
        let mut ops: Vec<Op> = Vec::with_capacity(page.entries.len() + 1);
        for (name, node) in page.entries {
            gone.remove(&name);
            ops.push(Op::AdoptName { parent: folder, name, node: Some(Box::new(node)) });
        }
        ops.extend(gone.into_iter().map(|name| Op::AdoptName { parent: folder, name, node: None }));
        ops.push(record(&folder.0.to_be_bytes(), Some(known.encode())));
        Ok(ops)
    }
}

pub(super) fn adopt(node: Described) -> Op {
    Op::Adopt { node: Box::new(node), is_new: true }
}

pub(super) fn record(key: &[u8], value: Option<Vec<u8>>) -> Op {
    Op::SetRecord { table: Table::Mirror, key: key.to_vec(), value }
}

pub(super) fn cursor_record(cursor: &Cursor) -> Op {
    record(CURSOR, Some(cursor.0.clone()))
}

/// What changes nothing of the project: records of the device's own, and what the mirror itself was told.
fn is_own(op: &Op) -> bool {
    matches!(
        op,
        Op::SetRecord { .. }
            | Op::Adopt { .. }
            | Op::AdoptName { .. }
            | Op::AdoptGone { .. }
            | Op::Distrust { .. }
            | Op::Begin { .. }
            | Op::Sent { .. }
            | Op::Answered { .. }
            | Op::Restate { .. }
            | Op::Compared { .. }
            | Op::PurgeHistory { .. }
    )
}

impl Catalog for Mirror {
    fn node(&self, id: NodeId) -> Result<Node> {
        self.kept.node(id)
    }

    fn lookup(&self, parent: NodeId, name: &Name) -> Result<Node> {
        let missing = || Error::not_found(format!("{name}"));
        if let Some(known) = self.kept_name(parent, name)? {
            return known.ok_or_else(missing);
        }
        // Before the answer: whoever brings the name from now on tells of it.
        self.asking.missed(parent, name);
        let found = self.ask(
            parent,
            |mirror| mirror.kept_name(parent, name),
            |mirror| {
                let node = mirror.origin.find(parent, name)?.map(Box::new);
                if node.is_some() {
                    mirror.asking.found(parent, name);
                }
                // Without a mark nobody would compare it.
                let mark = mirror.known(parent)?.encode();
                let named = Op::AdoptName { parent, name: name.clone(), node };
                Ok(vec![named, record(&parent.0.to_be_bytes(), Some(mark))])
            },
        )?;
        found.flatten().ok_or_else(missing)
    }

    fn list(&self, parent: NodeId, after: Option<&Name>, limit: usize) -> Result<Vec<Listed>> {
        loop {
            let known = self.known(parent)?;
            let listed = self.kept.list(parent, after, limit)?;
            // Beyond what is known some names are missing.
            let is_sure = listed.len() == limit && listed.last().is_none_or(|last| known.covers(&last.name));
            if known == Known::All || is_sure {
                return Ok(listed);
            }
            let asked = self.ask(
                parent,
                |mirror| Ok((mirror.known(parent)? != known).then_some(())),
                |mirror| mirror.more_entries(parent, &known),
            )?;
            asked.ok_or_else(|| Error::corrupt("what the server said of a folder was not kept"))?;
        }
    }

    fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.kept.xattr(node, name)
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        self.kept.xattrs(node)
    }

    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.kept.record(table, key)
    }

    fn records(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.kept.records(table)
    }

    fn new_id(&self) -> NodeId {
        self.id_for_new()
    }

    fn prepare(&self, ops: &[Op]) -> Result<()> {
        self.learn(ops)
    }

    fn commit(&self, commit: Commit) -> Result<Committed> {
        // A time of access is the device's own matter, and no matter here.
        let ops: Vec<Op> = commit.ops.into_iter().filter(|op| !matches!(op, Op::Touch { .. })).collect();
        if ops.is_empty() {
            return Ok(Committed::default());
        }
        if ops.iter().all(is_own) {
            return self.kept.commit(Commit { ops, ..commit });
        }
        let committed = self.kept.commit(Commit { ops: self.here(ops)?, ..commit })?;
        if let Some(ring) = self.rung.get() {
            ring();
        }
        Ok(committed)
    }

    fn versions(&self, node: NodeId) -> Result<Vec<OldVersion>> {
        self.kept.versions(node)
    }

    fn deleted(&self, parent: NodeId, name: Option<&Name>) -> Result<Vec<Deleted>> {
        self.kept.deleted(parent, name)
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)> {
        self.kept.changes(after, limit)
    }

    fn now(&self) -> Cursor {
        self.kept.now()
    }

    fn queued(&self, number: u64, limit: usize) -> Result<Vec<Queued>> {
        self.kept.queued(number, limit)
    }

    fn queue_state(&self) -> Result<QueueState> {
        self.kept.queue_state()
    }

    fn queued_times(&self, node: NodeId, name: Option<&Name>) -> Result<u32> {
        self.kept.queued_times(node, name)
    }

    fn counts(&self) -> Counts {
        self.kept.counts()
    }
}
