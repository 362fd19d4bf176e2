//! The drive itself: its parts, commits with their lock checks, and chunks through the cache.

use crate::cache::Caches;
use crate::events::{Event, Subscribers, Subscription};
use crate::fetch::Fetch;
use crate::horizon::{Hold, Horizon};
use crate::locks::Locks;
use crate::placing::Placements;
use crate::{Actor, Base, Door, Parts};
use larder_core::{Error, OpId, Result, Timestamp};
use larder_store::{Change, Commit, Committed, Durability, Expect, Op};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

/// History kept without a setting: 30 days.
pub const HISTORY_NS: i64 = 30 * 24 * 3600 * 1_000_000_000;
/// Nodes and versions that one commit of a purge drops; bounds how long other commits wait.
const PURGE_STEP: usize = 1000;
/// What an empty store without a disk says is free.
const MEMORY_BYTES: u64 = 1 << 40;

/// What a user may tune.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long replaced and deleted things are kept, in nanoseconds.
    pub history_ns: i64,
    /// Bound of the chunk cache.
    pub chunk_cache_bytes: usize,
    /// Bound of the cache of long manifests.
    pub manifest_cache_bytes: usize,
    /// The data directory: where space is counted; `None` for a drive in memory.
    pub data: Option<PathBuf>,
    /// Where bytes of files being written rest; `None` for the data directory's or, without one, the system's
    /// temporary directory.
    pub staging: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            history_ns: HISTORY_NS,
            chunk_cache_bytes: 64 << 20,
            manifest_cache_bytes: 16 << 20,
            data: None,
            staging: None,
        }
    }
}

/// How full the drive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all files, as users count them.
    pub used_bytes: u64,
    /// Bytes that can still be stored.
    pub available_bytes: u64,
    /// Files, folders and links.
    pub nodes: u64,
}

/// A drive: what every door opens onto.
pub struct Drive {
    pub(crate) base: Base,
    pub(crate) settings: Settings,
    pub(crate) caches: Arc<Caches>,
    pub(crate) locks: Arc<Locks>,
    pub(crate) subscribers: Subscribers,
    pub(crate) horizon: Horizon,
    /// Where the bodies are that are not here; `None` where all are.
    pub(crate) fetch: Option<Fetch>,
    /// What of it is shown; `None` where all is.
    pub(crate) placements: Option<Arc<Placements>>,
}

/// What a drive stands on is part of it for callers.
impl Deref for Drive {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
}

impl Drive {
    /// Opens a drive over `parts`.
    ///
    /// # Errors
    /// Those of reading the lock table.
    pub fn open(parts: Parts, settings: Settings) -> Result<Arc<Self>> {
        Self::open_with(parts, settings, None, None)
    }

    /// Opens a drive over `parts` whose catalog may tell of bodies that are not in its chunk store: those are fetched. The
    /// catalog is a [`crate::Placed`] one, by `placements`.
    ///
    /// # Errors
    /// As [`Drive::open`].
    pub fn open_remote(
        parts: Parts,
        settings: Settings,
        fetch: Fetch,
        placements: Arc<Placements>,
    ) -> Result<Arc<Self>> {
        Self::open_with(parts, settings, Some(fetch), Some(placements))
    }

    fn open_with(
        parts: Parts,
        settings: Settings,
        fetch: Option<Fetch>,
        placements: Option<Arc<Placements>>,
    ) -> Result<Arc<Self>> {
        let locks = Arc::new(Locks::load(&parts)?);
        let caches = Arc::new(Caches::new(settings.chunk_cache_bytes, settings.manifest_cache_bytes));
        if let Some(fetch) = &fetch {
            fetch.keep_in(caches.clone());
        }
        let (subscribers, horizon, base) = (Subscribers::default(), Horizon::default(), Base::new(parts));
        Ok(Arc::new(Self { base, settings, caches, locks, subscribers, horizon, fetch, placements }))
    }

    /// The WebDAV locks, which bind every door.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Commits `ops` in the name of `actor`, and tells subscribers. What comes through another door than a mount is seen
    /// in every mount when this returns, unless a kernel does not listen.
    ///
    /// # Errors
    /// A conflict with [`crate::is_locked`] where a lock or an open file is in the way; `Conflict` where an
    /// expectation does not hold; those that each [`Op`] names.
    pub fn commit(
        &self,
        actor: &Actor,
        expect: Vec<Expect>,
        ops: Vec<Op>,
        durability: Durability,
    ) -> Result<Committed> {
        let committed = self.permitted(actor, None, expect, ops)?;
        if durability == Durability::Power {
            self.chunks().sync()?;
        }
        // A mount's own requests are what its kernel may wait for.
        if actor.door != Door::Mount && !committed.changes.is_empty() {
            self.subscribers.settle();
        }
        Ok(committed)
    }

    /// Does what [`Drive::commit`] does, and only once for the same `op_id`: again it changes nothing and succeeds, whatever
    /// is locked by then. It survives the death of this process; [`Drive::settle`] completes any number of them.
    ///
    /// # Errors
    /// Those of [`Drive::commit`].
    pub fn commit_once(
        &self,
        actor: &Actor,
        op_id: OpId,
        expect: Vec<Expect>,
        ops: Vec<Op>,
    ) -> Result<Committed> {
        match self.catalog().is_done(op_id)? {
            true => Ok(Committed::default()),
            false => self.permitted(actor, Some(op_id), expect, ops),
        }
    }

    /// Returns once everything committed before is durable, and seen in every mount whose kernel listens.
    ///
    /// # Errors
    /// Those of [`larder_store::ChunkStore::sync`].
    pub fn settle(&self) -> Result<()> {
        self.chunks().sync()?;
        self.subscribers.settle();
        Ok(())
    }

    fn permitted(
        &self,
        actor: &Actor,
        op_id: Option<OpId>,
        expect: Vec<Expect>,
        ops: Vec<Op>,
    ) -> Result<Committed> {
        self.catalog().prepare(&ops)?;
        // Who wants a lock waits until the commit is made, but not for the disk.
        let permit = self.locks.permit(self, actor, &ops)?;
        let committed = self.apply(op_id, expect, ops, Durability::Process)?;
        drop(permit);
        // At once: what was committed can be seen already.
        self.subscribers.tell(actor.door, &committed.changes);
        Ok(committed)
    }

    /// Commits without asking the locks: for what was permitted when it was opened.
    pub(crate) fn commit_unchecked(
        &self,
        actor: &Actor,
        expect: Vec<Expect>,
        ops: Vec<Op>,
        durability: Durability,
    ) -> Result<Committed> {
        let committed = self.apply(None, expect, ops, durability)?;
        self.subscribers.tell(actor.door, &committed.changes);
        Ok(committed)
    }

    fn apply(
        &self,
        op_id: Option<OpId>,
        expect: Vec<Expect>,
        ops: Vec<Op>,
        durability: Durability,
    ) -> Result<Committed> {
        let pending = self.horizon.begin(|| self.now());
        self.catalog().commit(Commit { at: pending.at(), op_id, expect, ops, durability })
    }

    /// Calls `hear` after each commit, on the committing thread: it must not block and not call the drive. `settle`
    /// returns once what was heard has taken effect, in bounded time; commits through other doors than a mount wait for it.
    pub fn subscribe(
        &self,
        hear: Box<dyn Fn(&Event<'_>) + Send + Sync>,
        settle: Option<Arc<dyn Fn() + Send + Sync>>,
    ) -> Subscription {
        self.subscribers.add(hear, settle)
    }

    /// Says whether bodies and names may have to be asked for at a server, which takes time.
    pub fn fetches(&self) -> bool {
        self.fetch.is_some()
    }

    /// What fetches what is not here; nothing where everything is.
    pub fn fetching(&self) -> Option<&Fetch> {
        self.fetch.as_ref()
    }

    /// Ends fetching, before mounts end: whoever waits for a server gets an error.
    pub fn stop_fetching(&self) {
        if let Some(fetch) = &self.fetch {
            fetch.end();
        }
    }

    /// Tells subscribers that records changed which a device may wait for.
    pub fn tell_of_records(&self) {
        self.subscribers.ring(Door::Api, &[]);
    }

    /// Tells subscribers what came to be known of a server's project, without waiting for them.
    pub(crate) fn tell(&self, changes: &[Change]) {
        self.subscribers.tell(Door::Api, changes);
    }

    /// Keeps what is current now from being purged until the hold is dropped.
    pub fn hold(&self) -> Hold {
        self.horizon.hold(|| self.now())
    }

    /// Drops history that is older than the setting and that no reader still uses; returns how many nodes and
    /// versions went. Their chunks go with the next sweep.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn purge_history(&self) -> Result<usize> {
        self.purge_history_older(self.settings.history_ns)
    }

    /// Does what [`Drive::purge_history`] does with history older than `age_ns`.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn purge_history_older(&self, age_ns: i64) -> Result<usize> {
        let before = Timestamp(self.now().0.saturating_sub(age_ns));
        let before = self.horizon.at_most(before);
        let interim_before = self.horizon.at_most(self.now());
        let mut purged = 0;
        loop {
            let ops = vec![Op::PurgeHistory { before, interim_before, limit: PURGE_STEP }];
            let durability = Durability::Process;
            let commit = Commit { at: self.now(), op_id: None, expect: Vec::new(), ops, durability };
            match self.catalog().commit(commit)?.purged {
                0 => return Ok(purged),
                step => purged += step,
            }
        }
    }

    /// Says how full the drive is.
    ///
    /// # Errors
    /// Those of statvfs(3) on the data directory.
    pub fn usage(&self) -> Result<Usage> {
        let counts = self.catalog().counts();
        let available_bytes = match &self.settings.data {
            None => MEMORY_BYTES.saturating_sub(counts.allocated_bytes),
            Some(data) => {
                let disk = rustix::fs::statvfs(data)
                    .map_err(|e| Error::io(format!("statvfs {}", data.display()), e.into()))?;
                disk.f_bavail.saturating_mul(disk.f_frsize)
            }
        };
        Ok(Usage { used_bytes: counts.allocated_bytes, available_bytes, nodes: counts.nodes })
    }
}
