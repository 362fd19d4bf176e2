//! A decorator that makes a store fail where a test says so: how callers behave on a broken disk.

use crate::catalog::{
    Catalog, Change, Commit, Committed, Counts, Cursor, Deleted, Listed, OldVersion, QueueState, Queued,
    Table,
};
use crate::chunks::{ChunkStore, Lease, Put};
use bytes::Bytes;
use larder_core::{ChunkId, Error, Kind, Name, Node, NodeId, Result};
use parking_lot::Mutex;
use std::sync::Arc;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`ChunkStore::get`].
    Get,
    /// [`ChunkStore::put`].
    Put,
    /// [`ChunkStore::sync`].
    Sync,
    /// [`Catalog::commit`], before it changes anything.
    Commit,
    /// [`Catalog::commit`], after it has changed what it should: the answer is lost.
    CommitAnswer,
    /// Every other call of a catalog.
    Read,
}

#[derive(Debug)]
struct Rule {
    call: Call,
    passes: u64,
    fails: u64,
    kind: Kind,
}

/// Which calls fail; shared by the decorators and the test.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Vec<Rule>>>);

impl Faults {
    /// Lets the next `passes` calls pass and the `fails` behind them fail with `kind`.
    pub fn fail(&self, call: Call, passes: u64, fails: u64, kind: Kind) {
        self.0.lock().push(Rule { call, passes, fails, kind });
    }

    /// Lets every call pass.
    pub fn heal(&self) {
        self.0.lock().clear();
    }

    fn check(&self, call: Call) -> Result<()> {
        for rule in self.0.lock().iter_mut().filter(|rule| rule.call == call) {
            if rule.passes > 0 {
                rule.passes -= 1;
            } else if rule.fails > 0 {
                rule.fails -= 1;
                return Err(Error::new(rule.kind, format!("{call:?} was told to fail")));
            }
        }
        Ok(())
    }
}

/// A store or catalog `inner` that fails as `faults` say.
pub struct Faulty<S> {
    inner: S,
    faults: Faults,
}

impl<S> Faulty<S> {
    /// Lets `inner` fail as `faults` say.
    pub fn new(inner: S, faults: Faults) -> Self {
        Self { inner, faults }
    }

    fn read(&self) -> Result<&S> {
        self.faults.check(Call::Read).map(|()| &self.inner)
    }
}

impl<S: ChunkStore> ChunkStore for Faulty<S> {
    fn get(&self, id: &ChunkId) -> Result<Bytes> {
        self.faults.check(Call::Get)?;
        self.inner.get(id)
    }

    fn try_get(&self, id: &ChunkId) -> Option<Bytes> {
        self.faults.check(Call::Get).ok()?;
        self.inner.try_get(id)
    }

    fn prefetch(&self, ids: &[ChunkId]) {
        self.inner.prefetch(ids);
    }

    fn put(&self, lease: &Lease, id: &ChunkId, body: &[u8]) -> Result<Put> {
        self.faults.check(Call::Put)?;
        self.inner.put(lease, id, body)
    }

    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        self.inner.missing(ids)
    }

    fn sync(&self) -> Result<()> {
        self.faults.check(Call::Sync)?;
        self.inner.sync()
    }

    fn lease(&self) -> Lease {
        self.inner.lease()
    }
}

impl<S: Catalog> Catalog for Faulty<S> {
    fn node(&self, id: NodeId) -> Result<Node> {
        self.read()?.node(id)
    }

    fn lookup(&self, parent: NodeId, name: &Name) -> Result<Node> {
        self.read()?.lookup(parent, name)
    }

    fn list(&self, parent: NodeId, after: Option<&Name>, limit: usize) -> Result<Vec<Listed>> {
        self.read()?.list(parent, after, limit)
    }

    fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.read()?.xattr(node, name)
    }

    fn xattrs(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        self.read()?.xattrs(node)
    }

    fn record(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read()?.record(table, key)
    }

    fn records(&self, table: Table) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.read()?.records(table)
    }

    fn new_id(&self) -> NodeId {
        self.inner.new_id()
    }

    fn commit(&self, commit: Commit) -> Result<Committed> {
        self.faults.check(Call::Commit)?;
        let committed = self.inner.commit(commit)?;
        self.faults.check(Call::CommitAnswer)?;
        Ok(committed)
    }

    fn versions(&self, node: NodeId) -> Result<Vec<OldVersion>> {
        self.read()?.versions(node)
    }

    fn deleted(&self, parent: NodeId, name: Option<&Name>) -> Result<Vec<Deleted>> {
        self.read()?.deleted(parent, name)
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<(Vec<Change>, Cursor)> {
        self.read()?.changes(after, limit)
    }

    fn now(&self) -> Cursor {
        self.inner.now()
    }

    fn queued(&self, number: u64, limit: usize) -> Result<Vec<Queued>> {
        self.read()?.queued(number, limit)
    }

    fn queue_state(&self) -> Result<QueueState> {
        self.read()?.queue_state()
    }

    fn queued_times(&self, node: NodeId, name: Option<&Name>) -> Result<u32> {
        self.read()?.queued_times(node, name)
    }

    fn counts(&self) -> Counts {
        self.inner.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::kv_catalog::KvCatalog;
    use crate::memory::{MemoryChunks, MemoryKv};
    use larder_core::Timestamp;

    #[test]
    fn without_faults_it_is_the_store_below() {
        conformance::chunk_store(|| Faulty::new(MemoryChunks::default(), Faults::default()));
        let catalog = || KvCatalog::open(MemoryKv::default(), Timestamp(0), (0, 0)).expect("an empty index");
        conformance::catalog(|| Faulty::new(catalog(), Faults::default()));
    }

    #[test]
    fn calls_fail_as_often_as_told() {
        let faults = Faults::default();
        let store = Faulty::new(MemoryChunks::default(), faults.clone());
        faults.fail(Call::Sync, 1, 2, Kind::NoSpace);
        let outcomes: Vec<bool> = (0..5).map(|_| store.sync().is_ok()).collect();
        assert_eq!(outcomes, [true, false, false, true, true]);
        faults.fail(Call::Sync, 0, 1, Kind::Unavailable);
        faults.heal();
        assert!(store.sync().is_ok());
    }
}
