//! The file-system catalog over an ordered key-value index.
//!
//! Reads go straight to the index; commits go through one [`Txn`] at a time, so that conditions hold until the
//! batch is applied. Waiting for the disk happens outside that lock: commits share a sync.

mod adopt;
mod history;
mod keys;
mod mirrored;
mod ops;
mod queue;
mod restate;
mod txn;

use crate::catalog::{
    Catalog, Change, Commit, Committed, Counts, Cursor, Deleted, Durability, Listed, OldVersion,
};
use crate::catalog::{Expect, OPS_MAX, Op, QueueState, Queued, Table, Unlink};
use crate::kv::{Batch, Kv};
use larder_core::{Content, Error, Head, Kind, Name, Node, NodeId, NodeKind, Result, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use txn::Txn;

/// Entries that internal walks read at a time.
const PAGE: usize = 1024;

/// A listing reads a stretch of nodes in one go where it has at most so many nodes for each that is wanted.
const STRETCH_MAX: usize = 2;

/// How often a lookup looks again where what it found is forgotten by the time it is read.
const LOOKS_MAX: usize = 100;

/// A [`Catalog`] over an index `K`.
pub struct KvCatalog<K> {
    kv: K,
    next_id: AtomicU64,
    totals: Mutex<Totals>,
    /// No entry of the queue has a number below this, nor will: whoever asks for the first would pass by all that were
    /// answered since the last checkpoint.
    first_queued: AtomicU64,
}

/// What the catalog keeps about itself.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Totals {
    counts: Counts,
    /// No id at or above this was ever given to a node.
    next_id: u64,
}

impl<K: Kv> KvCatalog<K> {
    /// Opens the catalog in `kv`; makes the root folder of `home`, owned by `owner`, where the index is empty, and
    /// removes drafts that a crash left.
    ///
    /// # Errors
    /// Those of the index.
    pub fn open(kv: K, at: Timestamp, owner: (u32, u32)) -> Result<Self> {
        let totals: Option<Totals> = kv.get(keys::TOTALS)?.map(|bytes| keys::decode(&bytes)).transpose()?;
        let fresh = totals.is_none();
        let totals = totals.unwrap_or(Totals { counts: Counts::default(), next_id: NodeId::ROOT.0 + 1 });
        let (next_id, first_queued) = (AtomicU64::new(totals.next_id), AtomicU64::new(0));
        let catalog = Self { kv, next_id, totals: Mutex::new(totals), first_queued };
        if fresh {
            catalog.make_root(at, owner)?;
        }
        catalog.drop_drafts(at)?;
        Ok(catalog)
    }

    /// The index.
    pub fn kv(&self) -> &K {
        &self.kv
    }

    fn make_root(&self, at: Timestamp, owner: (u32, u32)) -> Result<()> {
        let root = Node {
            id: NodeId::ROOT,
            kind: NodeKind::Folder,
            mode: 0o755,
            uid: owner.0,
            gid: owner.1,
            nlink: 2,
            version: 1,
            atime: at,
            mtime: at,
            ctime: at,
            btime: at,
            parent: NodeId::ROOT,
            name: None,
            draft: false,
            content: Content::None,
        };
        let mut totals = self.totals.lock();
        totals.counts.nodes += 1;
        let edits = vec![
            (keys::node(root.id), Some(keys::encode(&root))),
            (keys::TOTALS.to_vec(), Some(keys::encode(&*totals))),
        ];
        self.kv.apply(Batch { edits, changes: Vec::new() }).map(drop)
    }

    fn drop_drafts(&self, at: Timestamp) -> Result<()> {
        loop {
            let drafts = self.kv.scan(b"o", None, PAGE)?;
            if drafts.is_empty() {
                return Ok(());
            }
            let ops = drafts
                .iter()
                .map(|(key, _)| {
                    let node = self.node(keys::decode_id(&key[1..])?)?;
                    let name = node.name.ok_or_else(|| Error::corrupt("draft without a name"))?;
                    Ok(Op::Unlink { parent: node.parent, name, what: Unlink::File })
                })
                .collect::<Result<_>>()?;
            let durability = Durability::Process;
            self.commit(Commit { at, op_id: None, expect: Vec::new(), ops, durability })?;
        }
    }

    /// The nodes of `ids` in their order. Files made together have ids close together, and reading a stretch of nodes
    /// in one go costs a third of looking each up.
    fn nodes(&self, ids: &[NodeId]) -> Result<Vec<Option<Node>>> {
        let decode = |bytes: Vec<u8>| keys::decode(&bytes);
        let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(Vec::new()) };
        let stretch = (last.0 - first.0) as usize + 1;
        if ids.len() == 1 || stretch > STRETCH_MAX * ids.len() {
            return ids.iter().map(|id| self.kv.get(&keys::node(*id))?.map(decode).transpose()).collect();
        }
        let before = keys::node(NodeId(first.0 - 1));
        let mut found = vec![None; stretch];
        for (key, value) in self.kv.scan(b"n", Some(&before), stretch)? {
            let at = (keys::decode_id(&key[1..])?.0 - first.0) as usize;
            if at >= stretch {
                break;
            }
            found[at] = Some(value);
        }
        ids.iter().map(|id| found[(id.0 - first.0) as usize].clone().map(decode).transpose()).collect()
    }

    fn run(&self, commit: Commit, expired: &history::Expired) -> Result<(Committed, u64)> {
        let mut totals = self.totals.lock();
        let mut txn = Txn::new(&self.kv, commit.at, *totals);
        if let Some(op_id) = commit.op_id {
            let key = keys::operation(op_id);
            if txn.read(&key)?.is_some() {
                return Ok((Committed::default(), 0));
            }
            txn.write(key, Some(keys::encode(&commit.at)));
        }
        commit.expect.iter().try_for_each(|expect| check(&txn, expect))?;
        for op in commit.ops {
            txn.carry_out(op, expired)?;
        }
        txn.totals.next_id = self.next_id.load(Ordering::Relaxed);
        let (batch, next, committed) = txn.finish();
        if batch.edits.is_empty() {
            return Ok((committed, 0));
        }
        let position = self.kv.apply(batch)?;
        *totals = next;
        Ok((committed, position))
    }
}

fn check<K: Kv>(txn: &Txn<'_, K>, expect: &Expect) -> Result<()> {
    let holds = match expect {
        Expect::Version(id, version) => txn.node_if(*id)?.is_some_and(|node| node.version == *version),
        Expect::Name(parent, name, node) => txn.entry(*parent, name)? == *node,
        Expect::Content(id, head) => txn.node_if(*id)?.is_some_and(|node| node.head() == Some(head)),
        Expect::Alive(id) => txn.is_alive(*id)?,
        Expect::Record(table, key, value) => txn.read(&keys::record(*table as u8, key))? == *value,
    };
    if holds { Ok(()) } else { Err(Error::conflict("changed since it was read")) }
}

impl<K: Kv> Catalog for KvCatalog<K> {
    fn node(&self, id: NodeId) -> Result<Node> {
        match self.kv.get(&keys::node(id))? {
            Some(bytes) => keys::decode(&bytes),
            None => Err(Error::not_found(format!("node {id}"))),
        }
    }

    fn lookup(&self, parent: NodeId, name: &Name) -> Result<Node> {
        for _ in 0..LOOKS_MAX {
            let Some(id) = self.kv.get(&keys::entry(parent, name))? else { break };
            match self.node(keys::decode_id(&id)?) {
                // A draft, forgotten since: the name may be another's by now.
                Err(error) if error.kind() == Kind::NotFound => {}
                found => return found,
            }
        }
        match self.node(parent)?.is_folder() {
            true => Err(Error::not_found(format!("{name}"))),
            false => Err(Error::new(Kind::NotADirectory, format!("parent of {name}"))),
        }
    }

    fn list(&self, parent: NodeId, after: Option<&Name>, limit: usize) -> Result<Vec<Listed>> {
        let after = after.map(|name| keys::entry(parent, name));
        let entries = self.kv.scan(&keys::entries(parent), after.as_deref(), limit)?;
        if entries.is_empty() && !self.node(parent)?.is_folder() {
            return Err(Error::new(larder_core::Kind::NotADirectory, format!("node {parent}")));
        }
        let ids = entries.iter().map(|(_, id)| keys::decode_id(id)).collect::<Result<Vec<_>>>()?;
        let nodes = self.nodes(&ids)?;
        let mut listed = Vec::with_capacity(entries.len());
        for ((key, _), node) in entries.iter().zip(nodes) {
            // A name removed since the scan has perhaps lost its node: the listing goes on without it.
            if let Some(node) = node {
                listed.push(Listed { name: keys::name_of(key)?, node });
            }
        }
        Ok(listed)
    }

    fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        let value = self.kv.get(&keys::xattr(node, name))?;
        value.ok_or_else(|| Error::not_found(format!("attribute {}", String::from_utf8_lossy(name))))
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        let pairs = self.kv.scan(&keys::xattr(node, &[]), None, usize::MAX)?;
        Ok(pairs.into_iter().map(|(key, _)| key[9..].to_vec()).collect())
    }

    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.kv.get(&keys::record(table as u8, key))
    }

    fn records(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let pairs = self.kv.scan(&keys::record(table as u8, &[]), None, usize::MAX)?;
        Ok(pairs.into_iter().map(|(key, value)| (key[2..].to_vec(), value)).collect())
    }

    fn new_id(&self) -> NodeId {
        NodeId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    fn commit(&self, commit: Commit) -> Result<Committed> {
        if commit.ops.len() > OPS_MAX {
            return Err(Error::invalid(format!("commit of more than {OPS_MAX} operations")));
        }
        let durability = commit.durability;
        let expired = self.expired(&commit.ops)?;
        let (committed, position) = self.run(commit, &expired)?;
        if durability == Durability::Power {
            self.kv.wait_durable(position)?;
        }
        Ok(committed)
    }

    fn versions(&self, node: NodeId) -> Result<Vec<OldVersion>> {
        let pairs = self.kv.scan(&keys::versions(node), None, usize::MAX)?;
        pairs.iter().map(|(_, value)| keys::decode(value)).collect()
    }

    fn deleted(&self, parent: NodeId, name: Option<&Name>) -> Result<Vec<Deleted>> {
        let prefix = name.map_or_else(|| keys::deleted_in(parent), |name| keys::deleted_as(parent, name));
        let pairs = self.kv.scan(&prefix, None, usize::MAX)?;
        pairs.iter().map(|(_, value)| keys::decode(value)).collect()
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)> {
        self.kv.changes(after, limit)
    }

    fn now(&self) -> Cursor {
        self.kv.now()
    }

    fn queued(&self, number: u64, limit: usize) -> Result<Vec<Queued>> {
        let known = self.first_queued.load(Ordering::Relaxed);
        // Before the scan: what is added meanwhile comes behind it.
        let next = self.queue_state()?.next;
        let after = number.max(known).checked_sub(1).map(keys::queued);
        let pairs = self.kv.scan(keys::QUEUE, after.as_deref(), limit)?;
        let entry = |(key, value): &(Vec<u8>, Vec<u8>)| queue::decode(keys::queue_number(key)?, value);
        let entries = pairs.iter().map(entry).collect::<Result<Vec<_>>>()?;
        if number <= known && limit > 0 {
            let first = entries.first().map_or(next, |entry| entry.number);
            self.first_queued.fetch_max(first, Ordering::Relaxed);
        }
        Ok(entries)
    }

    fn queue_state(&self) -> Result<QueueState> {
        Ok(self.kv.get(keys::QUEUE_STATE)?.map(|bytes| keys::decode(&bytes)).transpose()?.unwrap_or_default())
    }

    fn queued_times(&self, node: NodeId, name: Option<&Name>) -> Result<u32> {
        let key = name.map_or_else(|| keys::mark_node(node), |name| keys::mark_name(&(node, name.clone())));
        self.kv.get(&key)?.map_or(Ok(0), |mark| queue::times(&mark))
    }

    fn counts(&self) -> Counts {
        self.totals.lock().counts
    }
}

/// What a head adds to [`Counts::allocated_bytes`].
fn allocated_bytes(head: Option<&Head>) -> u64 {
    head.map_or(0, |head| head.allocated_bytes)
}
