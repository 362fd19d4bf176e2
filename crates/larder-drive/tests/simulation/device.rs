//! A device: a drive over a mirror over what it keeps, each of which may fail, and die.

use crate::content::{Dice, content, number_of};
use crate::disk::Disk;
use crate::way::{Way, heads};
use crate::{ROOT, name, time};
use larder_core::{ChunkId, Error, Kind, Name, Node, NodeId, Result, Timestamp};
use larder_drive::{Actor, After, Clock, Conflicts, Door, Drive, Parts, Settings, Steps, Target, catch_up};
use larder_store::catalog::{Replace, Unlink};
use larder_store::faulty::{Call, Faults, Faulty};
use larder_store::memory::MemoryChunks;
use larder_store::origin::{Cancel, Mirror, Origin, Policy};
use larder_store::{Catalog, ChunkStore, KvCatalog};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Faults in a row are fewer.
const LOOKS_MAX: usize = 10_000;

/// A node, and where it is; the root is nowhere.
type Seen = (Node, Option<(NodeId, Name)>);

/// A device.
pub struct Device {
    /// Its way to the server.
    pub way: Arc<Way>,
    /// What it shows.
    pub mirror: Arc<Mirror>,
    drive: Arc<Drive>,
    steps: Steps,
    disk: Disk,
    chunks: Arc<MemoryChunks>,
    faults: Faults,
    policy: Policy,
    actor: Actor,
    begun: Instant,
    /// When it tells the server again.
    wakes_at: Duration,
}

fn random(bytes: &mut [u8]) {
    bytes.fill(7);
}

impl Device {
    /// One that is logged in.
    pub fn new(way: Arc<Way>, policy: Policy, run: u64) -> Self {
        Self::over((Disk::default(), Arc::default()), way, policy, run)
    }

    fn over((disk, chunks): (Disk, Arc<MemoryChunks>), way: Arc<Way>, policy: Policy, run: u64) -> Self {
        let (faults, clock, begun) = (Faults::default(), Clock::manual(time()), Instant::now());
        let store = KvCatalog::open(disk.clone(), time(), (run as u32, 7)).expect("a catalog");
        let kept: Arc<dyn Catalog> = Arc::new(Faulty::new(store, faults.clone()));
        let origin: Arc<dyn Origin> = way.clone();
        let mirror = Mirror::open(kept, origin.clone(), time, run).expect("known, or told");
        let mirror = Arc::new(mirror);
        let faulty =
            Arc::new(Faulty::new(Log { chunks: chunks.clone(), disk: disk.clone() }, faults.clone()));
        let parts = Parts { chunks: faulty, catalog: mirror.clone(), clock, random };
        let drive = Drive::open(parts, Settings::default()).expect("opens");
        let conflicts = Conflicts { label: Box::new(|_| "conflict".into()), policy };
        let actor = Actor::new(Door::Api, 0, 0, "larder");
        let steps = Steps::new(drive.clone(), mirror.clone(), origin, actor.clone(), conflicts, begun);
        let wakes_at = Duration::ZERO;
        Self { way, mirror, drive, steps, disk, chunks, faults, policy, actor, begun, wakes_at }
    }

    /// It dies, or its power is cut, and it starts again.
    pub fn dies(self, power: bool, run: u64) -> Self {
        let Self { way, disk, chunks, policy, .. } = self;
        let left = if power { disk.after_power_cut() } else { disk.after_death() };
        Self::over((left, chunks), way, policy, run)
    }

    /// The next calls of its stores fail.
    pub fn break_stores(&self, dice: &mut Dice) {
        let calls = [Call::Get, Call::Put, Call::Sync, Call::Commit, Call::CommitAnswer, Call::Read];
        let call = calls[dice.below(calls.len() as u64) as usize];
        let kind = if dice.once_in(2) { Kind::NoSpace } else { Kind::Unavailable };
        self.faults.fail(call, dice.below(4), 1 + dice.below(3), kind);
    }

    /// Its stores work.
    pub fn heal(&self) {
        self.faults.heal();
    }

    /// Everything that it sees; the root first.
    fn seen(&self) -> Result<Vec<Seen>> {
        let mut found = vec![(self.drive.node(ROOT)?, None)];
        let mut at = 0;
        while let Some((folder, _)) = found.get(at).cloned() {
            at += 1;
            if folder.is_folder() {
                let listed = self.mirror.list(folder.id, None, 1000)?;
                found.extend(listed.into_iter().map(|entry| (entry.node, Some((folder.id, entry.name)))));
            }
        }
        Ok(found)
    }

    /// The numbers of the contents that a user sees; files bear them as their times.
    pub fn contents(&self) -> BTreeSet<u64> {
        let seen = (0..LOOKS_MAX).find_map(|_| self.seen().ok()).expect("faults end");
        seen.into_iter().filter(|(node, _)| node.is_file()).map(|(node, _)| node.mtime.0 as u64).collect()
    }

    /// A user does something; returns the content that was accepted, and the file that got it.
    pub fn act(&self, dice: &mut Dice, number: u64) -> Result<Option<(u64, NodeId)>> {
        let seen = self.seen()?;
        let mut pick = || seen[dice.below(seen.len() as u64) as usize].clone();
        let (a, b) = (pick(), pick());
        let mut label = || name(&format!("n{}", dice.below(4)));
        let (to, what) = (label(), dice.below(10));
        let folder = if a.0.is_folder() { a.0.id } else { ROOT };
        match (what, a.1, b.1) {
            (0..5, ..) => {
                let mut upload = self.drive.upload();
                upload.write(&content(number))?;
                let mtime = Some(Timestamp(number as i64));
                let target = Target { parent: folder, name: to, expect: Vec::new(), mtime, mode: 0o644 };
                let published = upload.finish(&self.actor, target)?;
                return Ok(Some((number, published.id)));
            }
            (5, ..) => drop(self.drive.make_folder(&self.actor, folder, to, 0o755)?),
            (6, Some((parent, name)), _) => {
                let what = if a.0.is_folder() { Unlink::EmptyFolder } else { Unlink::File };
                self.drive.remove(&self.actor, parent, &name, what)?;
            }
            (_, _, Some(from)) => {
                self.drive.rename(&self.actor, from, (folder, to), Replace::Posix, Vec::new())?;
            }
            _ => {}
        }
        Ok(None)
    }

    /// Reads a file, and fetches what is not here; returns the content's number.
    pub fn read(&self, dice: &mut Dice) -> Result<Option<u64>> {
        let files: Vec<Node> = self.seen()?.into_iter().map(|seen| seen.0).filter(Node::is_file).collect();
        let Some(node) = files.get(dice.below(files.len() as u64) as usize) else { return Ok(None) };
        let head = node.head().expect("a file");
        let ids: Vec<ChunkId> = head.extents.iter().map(|extent| extent.id).collect();
        let missing = self.drive.chunks().missing(&ids)?;
        let lease = self.drive.chunks().lease();
        self.way.chunks(node.id, &missing, &Cancel::default(), &mut |place, body| {
            let body = body.ok_or_else(|| Error::unavailable("the server does not have it"))?;
            if ChunkId::of(&body) != missing[place] {
                return Err(Error::unavailable("wrong bytes"));
            }
            self.drive.chunks().put(&lease, &missing[place], &body).map(drop)
        })?;
        let bytes = self.drive.reader(node)?.read(0, usize::MAX)?;
        let mut whole = bytes.to_vec();
        while (whole.len() as u64) < head.size_bytes {
            whole.extend_from_slice(&self.drive.reader(node)?.read(whole.len() as u64, usize::MAX)?);
        }
        Ok(Some(number_of(&whole).expect("bytes that somebody wrote")))
    }

    /// Tells the server of what comes next, where it is time; says whether there was something.
    pub fn tell(&mut self, now: Duration) -> bool {
        if now < self.wakes_at {
            return false;
        }
        match self.steps.step(self.begun + now) {
            After::Told | After::Around => true,
            After::Idle => false,
            After::Held(wait) | After::Failed(_, wait) => {
                self.wakes_at = now + wait;
                true
            }
            After::Paused => unreachable!("nobody pauses"),
        }
    }

    /// Hears of what is new.
    pub fn hear(&self) -> Result<()> {
        catch_up(&self.drive, &self.mirror, &self.actor, |_| ())
    }

    /// The contents that it has whole, of these nodes: now, and before.
    pub fn kept(&self, nodes: &[NodeId]) -> Vec<u64> {
        let whole = |head: &larder_core::Head| {
            let bodies = head.extents.iter().map(|extent| self.chunks.get(&extent.id));
            bodies.collect::<Result<Vec<_>>>().ok().and_then(|bodies| number_of(&bodies.concat()))
        };
        heads(self.mirror.known_here(), nodes).iter().filter_map(whole).collect()
    }
}

/// What a device keeps, as one log.
struct Log {
    chunks: Arc<MemoryChunks>,
    disk: Disk,
}

impl ChunkStore for Log {
    fn get(&self, id: &ChunkId) -> Result<bytes::Bytes> {
        self.chunks.get(id)
    }

    fn try_get(&self, id: &ChunkId) -> Option<bytes::Bytes> {
        self.chunks.try_get(id)
    }

    fn prefetch(&self, ids: &[ChunkId]) {
        self.chunks.prefetch(ids);
    }

    fn put(&self, lease: &larder_store::Lease, id: &ChunkId, body: &[u8]) -> Result<larder_store::Put> {
        self.chunks.put(lease, id, body)
    }

    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        self.chunks.missing(ids)
    }

    fn sync(&self) -> Result<()> {
        self.disk.sync();
        Ok(())
    }

    fn lease(&self) -> larder_store::Lease {
        self.chunks.lease()
    }
}
