//! What a user says of files to be fetched: to fetch them, to pause, to go on, to stop.

use super::driver::Driver;
use super::records::{self, Wish};
use super::requested::Phase;
use super::survey::survey;
use super::{Fetch, Shared};
use larder_core::{Error, Node, NodeId, Result, name};
use larder_policy::Direction;
use larder_policy::plan::{self, Amount, Event, Priority, Urgency};
use larder_store::Catalog;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The most files that may be on their way: 30 MB of memory, and as many records.
pub const FILES_MAX: usize = 100_000;
/// Entries of a folder looked at together.
const PAGE: usize = 1024;

/// What to do about files that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing of them moves until they are resumed.
    Pause,
    /// They go on.
    Resume,
    /// They end; what came of them stays.
    Cancel,
}

/// About which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A file, or those in a folder.
    Below(NodeId),
    /// Everything, what comes later too.
    All,
    /// All fetches or all pushes, likewise.
    Direction(Direction),
}

impl Fetch {
    /// Says whether what is sent waits, as somebody said so.
    pub fn is_sending_paused(&self) -> bool {
        let switches = self.shared.driver.lock().requested.switches();
        switches.all || switches.up
    }

    /// Carries out an order and says how many files it met. Switches of a whole are independent of those of files.
    ///
    /// # Errors
    /// `NotFound` where nothing is being fetched there; those of the index.
    pub fn order(&self, order: Order, scope: Scope) -> Result<usize> {
        let shared = &*self.shared;
        let _one = shared.keeping.lock();
        let meant = match scope {
            Scope::Below(top) => shared.unfinished_below(top)?,
            _ if order != Order::Cancel => return shared.switch(order == Order::Pause, scope),
            Scope::Direction(Direction::Up) => return Ok(0),
            Scope::All | Scope::Direction(Direction::Down) => shared.unfinished(),
        };
        if let (Scope::Below(_), true) = (scope, meant.is_empty()) {
            return Err(Error::not_found("nothing is being fetched there"));
        }
        let mut driver = shared.driver.lock();
        let ops: Vec<_> = meant.iter().filter_map(|id| shared.ordered(&mut driver, order, *id)).collect();
        shared.pump(&mut driver, None);
        shared.hungry.notify_one();
        drop(driver);
        let met = ops.len();
        shared.keep(ops).map(|()| met)
    }
}

impl Fetch {
    /// Bytes a second that the fetch of a file may move, where somebody said so. What programs read of it does not count.
    pub fn limit_of(&self, file: NodeId) -> Option<u64> {
        let driver = self.shared.driver.lock();
        driver.requested.files.get(&file)?.wish.limit_bytes_per_s
    }

    /// The files that were asked for and of which something may still be missing.
    pub fn unfinished(&self) -> Vec<NodeId> {
        self.shared.unfinished()
    }
}

impl Shared {
    fn unfinished(&self) -> Vec<NodeId> {
        let driver = self.driver.lock();
        let files = driver.requested.files.iter();
        files.filter(|(_, file)| !file.phase.has_ended()).map(|(id, _)| *id).collect()
    }

    fn unfinished_below(&self, top: NodeId) -> Result<Vec<NodeId>> {
        let mut below = self.unfinished();
        below.retain(|id| is_below(&*self.catalog, *id, top));
        Ok(below)
    }

    /// Has the planner stop or start a whole.
    fn switch(&self, is_paused: bool, scope: Scope) -> Result<usize> {
        let mut driver = self.driver.lock();
        let mut switches = driver.requested.switches();
        let scope = match scope {
            Scope::Direction(direction) => {
                *(if direction == Direction::Up { &mut switches.up } else { &mut switches.down }) = is_paused;
                plan::Scope::Direction(direction)
            }
            _ => {
                switches.all = is_paused;
                plan::Scope::All
            }
        };
        driver.requested.set_switches(switches);
        driver.tell(self.now(), if is_paused { Event::Pause(scope) } else { Event::Resume(scope) });
        self.hold_fetches(&mut driver);
        self.pump(&mut driver, None);
        let met = driver.requested.unfinished();
        drop(driver);
        self.keep(vec![records::of_switches(switches)]).map(|()| met)
    }

    /// Does with one file what was ordered; the record to keep, where that changes anything.
    pub(super) fn ordered(&self, driver: &mut Driver, order: Order, id: NodeId) -> Option<larder_store::Op> {
        let now = self.now();
        let file = driver.requested.files.get_mut(&id).filter(|file| !file.phase.has_ended())?;
        let was_paused = file.phase == Phase::Paused;
        let phase = match order {
            Order::Pause if !was_paused => Phase::Paused,
            Order::Resume if was_paused => Phase::Waiting,
            Order::Cancel => Phase::Cancelled,
            _ => return None,
        };
        file.wish.is_paused = order == Order::Pause;
        let wish = (order != Order::Cancel).then_some(file.wish);
        if let Phase::Moving { job, are_pages, .. } = file.phase {
            let progress = driver.planner.progress(job, now).filter(|_| !are_pages);
            if let (Some((_, here)), Some(progress)) = (&mut file.known, progress) {
                *here = progress.done;
            }
            driver.requested.enter(id, phase, now);
            driver.cancel(now, job);
        } else {
            driver.requested.enter(id, phase, now);
        }
        let readers = match order {
            Order::Pause if self.holds_readers.load(Ordering::Relaxed) => driver.readers.hold(id),
            Order::Pause => Vec::new(),
            Order::Resume | Order::Cancel => driver.readers.let_go(id),
        };
        readers.into_iter().for_each(|event| driver.tell(now, event));
        Some(records::of_file(id, wish.as_ref()))
    }
}

/// What asking for files came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// So many files are being fetched now.
    pub files: u64,
    /// Bytes that are missing of them.
    pub missing_bytes: u64,
    /// Files of which nothing is missing.
    pub here_files: u64,
    /// Bytes that are here, of all of them.
    pub here_bytes: u64,
}

impl Fetch {
    /// Asks for a file, or for all files in a folder, with the urgency of a `priority`; each ends when it moved nothing
    /// for `ttl`, and is to move no more than `limit_bytes_per_s`. Folders that nobody has listed are listed. What is being
    /// fetched already gets all of these.
    ///
    /// # Errors
    /// Those of listing; `Unavailable` beyond [`FILES_MAX`].
    pub fn ask(
        &self,
        top: NodeId,
        priority: Priority,
        ttl: Option<Duration>,
        limit_bytes_per_s: Option<u64>,
    ) -> Result<Asked> {
        let shared = &*self.shared;
        let (mut asked, mut wanted) = (Asked::default(), BTreeMap::new());
        let mut folders = Vec::new();
        shared.count(shared.catalog.node(top)?, &mut folders, &mut wanted, &mut asked)?;
        while let Some(folder) = folders.pop() {
            let mut after = None;
            loop {
                let page = shared.catalog.list(folder, after.as_ref(), PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                page.into_iter()
                    .filter(|entry| !entry.node.draft)
                    .try_for_each(|entry| shared.count(entry.node, &mut folders, &mut wanted, &mut asked))?;
            }
        }
        shared.add(wanted, priority, (ttl, limit_bytes_per_s))?;
        Ok(asked)
    }
}

/// Files to ask for, each with all of it and what is here.
type Wanted = BTreeMap<NodeId, (Amount, Amount)>;

impl Shared {
    /// Takes a node into account: a folder is to be listed, a file may lack something.
    fn count(
        &self,
        node: Node,
        folders: &mut Vec<NodeId>,
        wanted: &mut Wanted,
        asked: &mut Asked,
    ) -> Result<()> {
        let Some(head) = node.head() else {
            folders.extend(node.is_folder().then_some(node.id));
            return Ok(());
        };
        let found = survey(&*self.chunks, head, 0)?;
        asked.here_bytes += found.here.bytes;
        if found.missing.is_empty() {
            asked.here_files += 1;
        } else if wanted.insert(node.id, (found.total, found.here)).is_none() {
            asked.files += 1;
            asked.missing_bytes += found.total.bytes - found.here.bytes;
        }
        if wanted.len() > FILES_MAX { Err(too_many()) } else { Ok(()) }
    }

    fn add(
        &self,
        wanted: Wanted,
        priority: Priority,
        (ttl, limit_bytes_per_s): (Option<Duration>, Option<u64>),
    ) -> Result<()> {
        let _one = self.keeping.lock();
        let now = self.now();
        let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let mut added = Vec::with_capacity(wanted.len());
        {
            let driver = self.driver.lock();
            let requested = &driver.requested;
            if requested.unfinished() + wanted.len() > FILES_MAX {
                return Err(too_many());
            }
            for (order, id) in (requested.next_order..).zip(wanted.keys()) {
                let old = requested.files.get(id).filter(|file| !file.phase.has_ended());
                let order = old.map_or(order, |file| file.wish.order);
                let priority = priority.number();
                added.push((*id, Wish { priority, ttl_ms, order, is_paused: false, limit_bytes_per_s }));
            }
        }
        self.keep(added.iter().map(|(id, wish)| records::of_file(*id, Some(wish))).collect())?;
        let mut driver = self.driver.lock();
        for (id, wish) in added {
            // Who asks for what is paused wants it now.
            self.ordered(&mut driver, Order::Resume, id);
            match driver.requested.rewish(id, wish, now) {
                Some(Some(job)) if driver.requested.is_waiting(id) => driver.cancel(now, job),
                Some(Some(job)) => driver.tell(now, Event::Urge(job, Urgency::Requested(priority))),
                Some(None) => {}
                None => driver.requested.add(id, wish, wanted.get(&id).copied(), now),
            }
        }
        self.pump(&mut driver, None);
        self.hungry.notify_one();
        Ok(())
    }
}

fn too_many() -> Error {
    Error::unavailable(format!("more than {FILES_MAX} files would be fetched; fetch fewer at a time"))
}

/// Says whether a node is `top` or in it.
pub(super) fn is_below(catalog: &dyn Catalog, id: NodeId, top: NodeId) -> bool {
    let mut at = id;
    for _ in 0..=name::DEPTH_MAX {
        if at == top {
            return true;
        }
        match catalog.node(at) {
            Ok(node) if at != NodeId::ROOT => at = node.parent,
            _ => return false,
        }
    }
    false
}
