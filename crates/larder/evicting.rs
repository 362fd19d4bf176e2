//! Keeping what a mount of a server's project keeps below its limit.
//!
//! What goes can be had from the server again; what the server was not told of stays. One thread, owned by who opened the
//! drive, does it in turn with the other work on the store.

use crate::config::StoreSettings;
use crate::pace::Maintenance;
use larder_core::{ChunkId, Error, Kind, NodeId, Result};
use larder_drive::{Drive, Pinned};
use larder_store::bounded::Call;
use larder_store::catalog::Cursor;
use larder_store::log::{self, Evicted, LogKv, LogStore};
use larder_store::{Catalog, Change, KvCatalog, Room};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Of the disk, this part is the limit where nobody gives one.
const SHARE_OF_DISK: u64 = 10;
/// And no less than this.
const LIMIT_MIN_BYTES: u64 = 1 << 30;
/// A segment is no longer than this part of the limit: what is written to cannot be made shorter.
const SEGMENT_SHARE: u64 = 16;
/// Nor is it shorter than this.
const SEGMENT_MIN_BYTES: u64 = 4 << 20;
/// How often it is looked whether something may go by now that had to stay.
const CHECK: Duration = Duration::from_secs(1);
/// That takes at most this part of the time.
const CHECK_SHARE: u32 = 10;
/// History that was made here goes in steps, down to an eighth each, where nothing else may go.
const HISTORY_STEP: i64 = 8;
/// The last of these steps is down to this age.
const HISTORY_MIN_NS: i64 = 60 * 1_000_000_000;
/// Changes during an eviction that are looked at one by one.
const CHANGED_MAX: usize = 10_000;

/// How long the log of a mirror may be.
///
/// # Errors
/// Those of statvfs(3).
pub fn limit_bytes(settings: &StoreSettings) -> Result<u64> {
    if let Some(bytes) = settings.kept_bytes {
        return Ok(bytes);
    }
    let data = &settings.data;
    let disk =
        rustix::fs::statvfs(data).map_err(|e| Error::io(format!("statvfs {}", data.display()), e.into()))?;
    Ok((disk.f_blocks.saturating_mul(disk.f_frsize) / SHARE_OF_DISK).max(LIMIT_MIN_BYTES))
}

/// Settings of a log with that limit.
pub fn log_settings(limit_bytes: u64) -> log::Settings {
    let usual = log::Settings::default();
    let fitting = (limit_bytes / SEGMENT_SHARE).max(SEGMENT_MIN_BYTES);
    let segment_bytes = u32::try_from(fitting).unwrap_or(u32::MAX).min(usual.segment_bytes);
    log::Settings { segment_bytes, ..usual }
}

/// Makes room until it is ended.
pub struct Evictor {
    room: Arc<Room>,
    evicting: Arc<Evicting>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Evicting {
    room: Arc<Room>,
    store: Arc<LogStore>,
    catalog: Arc<KvCatalog<LogKv>>,
    drive: Arc<Drive>,
    maintenance: Arc<Maintenance>,
    history_ns: i64,
}

/// What has to stay, as far as that tells whether another look is worth it.
#[derive(Clone, Debug, Default)]
struct Staying {
    queued: u64,
    asked_for: usize,
    in_use: HashSet<NodeId>,
    since: Cursor,
}

impl Staying {
    /// Says whether as much as then has to stay.
    fn is_as(&self, then: &Self) -> bool {
        (self.queued, self.asked_for, &self.in_use) == (then.queued, then.asked_for, &then.in_use)
    }
}

impl Evictor {
    /// Keeps the mirror of `drive`, in this store and catalog, within `room`.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(
        room: Arc<Room>,
        (store, catalog): (Arc<LogStore>, Arc<KvCatalog<LogKv>>),
        drive: Arc<Drive>,
        maintenance: Arc<Maintenance>,
        history_ns: i64,
    ) -> Result<Self> {
        let evicting =
            Arc::new(Evicting { room: room.clone(), store, catalog, drive, maintenance, history_ns });
        let running = evicting.clone();
        let started = std::thread::Builder::new().name("larder-evict".into()).spawn(move || running.run());
        let thread = Mutex::new(Some(started.map_err(|e| Error::io("starting a thread", e))?));
        Ok(Self { room, evicting, thread })
    }

    /// Drops those of `chunks` that may go: what the server has, too, and nobody uses or keeps.
    ///
    /// # Errors
    /// Those of the store.
    pub fn release(&self, chunks: &HashSet<ChunkId>) -> Result<()> {
        let evicting = &*self.evicting;
        let _turn = evicting.maintenance.turn();
        let staying = evicting.staying()?;
        let mark = |live: log::Mark<'_>| evicting.mark(&staying, live);
        let go_on = || !self.room.has_ended();
        checked(evicting.store.release(chunks, self.room.recent(), mark, &go_on)?)?;
        evicting.keep_pinned(&staying)
    }

    /// Ends it.
    pub fn end(&self) {
        self.room.end();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Evictor {
    fn drop(&mut self) {
        self.end();
    }
}

impl Evicting {
    fn run(&self) {
        let (mut last, mut rests_until) = (None, Instant::now());
        while let Some(call) = self.room.next(CHECK) {
            let began = Instant::now();
            let outcome = self.store.log_bytes().and_then(|log_bytes| {
                if call == Call::Idle && (log_bytes <= self.room.limit_bytes() || began < rests_until) {
                    return Ok(());
                }
                let staying = self.staying()?;
                if call != Call::Idle || !last.as_ref().is_some_and(|last| staying.is_as(last)) {
                    last = self.make_room(call, &staying)?.then_some(staying);
                    rests_until = Instant::now() + began.elapsed() * CHECK_SHARE;
                }
                Ok(())
            });
            if let Err(error) = outcome {
                tracing::warn!(%error, "no room can be made for what is fetched");
                self.room.made(None);
                last = None;
                rests_until = Instant::now() + CHECK * CHECK_SHARE;
            }
        }
    }

    fn staying(&self) -> Result<Staying> {
        // First: what changes from here on may not be seen by what follows.
        let since = self.catalog.now();
        let asked_for = self.drive.fetching().map(|fetch| fetch.unfinished()).unwrap_or_default();
        let queued = self.catalog.queue_state()?.len;
        let (asked_for, in_use) = (asked_for.len(), self.drive.busy().writers().into_iter().chain(asked_for));
        let mut in_use: HashSet<NodeId> = in_use.collect();
        if let Some(placements) = self.drive.placements() {
            in_use.extend(placements.pinned(&*self.catalog)?);
        }
        Ok(Staying { queued, asked_for, in_use, since })
    }

    /// Makes room; false where something else has its turn.
    fn make_room(&self, call: Call, staying: &Staying) -> Result<bool> {
        let Some(_turn) = self.maintenance.try_turn() else {
            self.room.made(None);
            return Ok(false);
        };
        let before = self.store.log_bytes()?;
        let target = self.room.target_bytes(call, before);
        let mut gone = self.evict(target, staying)?;
        let goal = if call == Call::DiskFull { target } else { self.room.limit_bytes() };
        let mut age_ns = self.history_ns;
        // The server has a history of its own. What it was not told of yet may be needed to tell it.
        let may_forget = staying.queued == 0 && staying.asked_for == 0;
        while may_forget && age_ns > 0 && self.store.log_bytes()? > goal && !self.room.has_ended() {
            age_ns = if age_ns > HISTORY_MIN_NS { age_ns / HISTORY_STEP } else { 0 };
            if self.drive.purge_history_older(age_ns)? > 0 {
                gone = self.evict(target, staying)?;
            }
        }
        let log_bytes = self.store.log_bytes()?;
        tracing::debug!(?gone, before, log_bytes, "made room");
        // Where nothing could be done, what is there is what has to stay, whatever was expected.
        let is_stuck = gone.collected.chunks == 0 && gone.collected.segments == 0;
        self.room.made(Some(if is_stuck { log_bytes } else { gone.left_bytes }));
        Ok(true)
    }

    fn evict(&self, target_bytes: u64, staying: &Staying) -> Result<Evicted> {
        let go_on = || !self.room.has_ended();
        let mark = |live: log::Mark<'_>| self.mark(staying, live);
        let gone = checked(self.store.evict(target_bytes, self.room.recent(), mark, &go_on)?)?;
        if gone.collected.chunks > 0 {
            self.keep_pinned(staying)?;
        }
        Ok(gone)
    }

    /// Has what is pinned come again that was not to stay, or changed since that was looked for: it may be among what went.
    fn keep_pinned(&self, staying: &Staying) -> Result<()> {
        let (Some(placements), Some(fetch)) = (self.drive.placements(), self.drive.fetching()) else {
            return Ok(());
        };
        let Some(changed) = self.changed_since(&staying.since)? else {
            self.drive.tell_of_records();
            return Ok(());
        };
        for id in placements.pinned(&*self.catalog)? {
            let was_kept = staying.in_use.contains(&id) && !changed.contains(&id);
            if !was_kept && !matches!(fetch.pin(id), Ok(Pinned::Here | Pinned::Coming)) {
                // In its time, by who looks at everything.
                self.drive.tell_of_records();
                return Ok(());
            }
        }
        Ok(())
    }

    /// The nodes that got a name or a content since `cursor`; nothing where there are too many.
    fn changed_since(&self, cursor: &Cursor) -> Result<Option<HashSet<NodeId>>> {
        let changes = match self.catalog.changes(cursor, CHANGED_MAX) {
            Ok((changes, _)) => changes,
            Err(error) if error.kind() == Kind::Conflict => return Ok(None),
            Err(error) => return Err(error),
        };
        if changes.len() >= CHANGED_MAX {
            return Ok(None);
        }
        let node = |change: Change| match change {
            Change::Named { node, .. } | Change::Content(node) => Some(node),
            Change::Unnamed { .. } | Change::Attrs(_) => None,
        };
        Ok(Some(changes.into_iter().filter_map(node).collect()))
    }

    fn mark(&self, staying: &Staying, live: log::Mark<'_>) -> Result<u64> {
        self.catalog.mark_own(&*self.store, &staying.in_use, |id| live(id))
    }
}

fn checked(gone: Evicted) -> Result<Evicted> {
    match gone.collected.unread_pages {
        0 => Ok(gone),
        pages => {
            Err(Error::corrupt(format!("{pages} pages that list chunks cannot be read: run larder scrub")))
        }
    }
}
