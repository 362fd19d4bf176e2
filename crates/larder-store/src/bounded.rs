//! A store of which no more is kept than a limit says, because a server has the rest: it notes which chunks are used, and lets
//! those who fetch wait while somebody else makes room.
//!
//! Whoever makes room asks [`Room::next`] what to do. The limit is for the log; it is passed by an eighth at most while room is
//! being made, and by what must stay.

use crate::chunks::{ChunkStore, Lease, Put};
use crate::log::LogStore;
use crate::recent::Recent;
use bytes::Bytes;
use larder_core::{ChunkId, Kind, Result};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// Of the limit, this part is freed at once, and as much may be passed meanwhile.
const SHARE: u64 = 8;
/// What is fetched waits for room no longer; then it is kept all the same.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What somebody has to do who makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// More is kept than should be.
    Over,
    /// The disk is full.
    DiskFull,
    /// Nobody called for a while.
    Idle,
}

/// The room that chunks have, and who waits for some.
pub struct Room {
    limit_bytes: u64,
    recent: Recent,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    call: Option<Call>,
    /// Above this somebody has to make room.
    calls_above: u64,
    /// Above this whoever fetches waits.
    waits_above: u64,
    /// How often room was made, or could not be.
    made: u64,
    ended: bool,
}

impl Room {
    /// Room for a log of `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Self {
        let (call, made, ended) = (None, 0, false);
        let waits_above = limit_bytes.saturating_add(limit_bytes / SHARE);
        let state = Mutex::new(State { call, calls_above: limit_bytes, waits_above, made, ended });
        Self { limit_bytes, recent: Recent::default(), state, changed: Condvar::new() }
    }

    /// The limit.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// How long the log should be once room was made, where it has `log_bytes`.
    pub fn target_bytes(&self, call: Call, log_bytes: u64) -> u64 {
        let target = self.limit_bytes - self.limit_bytes / SHARE;
        if call == Call::DiskFull { target.min(log_bytes - log_bytes / SHARE) } else { target }
    }

    /// Which chunks were used lately.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Waits until somebody calls, at most for `pause`; nothing at the end.
    pub fn next(&self, pause: Duration) -> Option<Call> {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| state.call.is_none() && !state.ended, pause);
        let call = state.call.take().unwrap_or(Call::Idle);
        (!state.ended).then_some(call)
    }

    /// Room was made, so that the log has `left_bytes` but for what came meanwhile: what of these is above the limit has to
    /// stay. Nothing says that no room could be made for now: nobody waits.
    pub fn made(&self, left_bytes: Option<u64>) {
        let mut state = self.state.lock();
        let floor = left_bytes.unwrap_or(u64::MAX).max(self.limit_bytes);
        let more = self.limit_bytes / SHARE;
        // Where something has to stay, not every chunk more is worth a look at everything.
        state.calls_above = if floor > self.limit_bytes { floor.saturating_add(more / 2) } else { floor };
        state.waits_above = floor.saturating_add(more);
        state.made += 1;
        self.changed.notify_all();
    }

    /// Says whether it ended.
    pub fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    /// Nobody makes room any more.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Calls for room where there is too little, and waits while there is much too little.
    fn await_some(&self, log_bytes: impl Fn() -> Result<u64>) -> Result<()> {
        let bytes = log_bytes()?;
        let mut state = self.state.lock();
        if bytes <= state.calls_above || state.ended {
            return Ok(());
        }
        state.call.get_or_insert(Call::Over);
        self.changed.notify_all();
        let is_short =
            |state: &mut State| !state.ended && log_bytes().is_ok_and(|bytes| bytes > state.waits_above);
        self.changed.wait_while_for(&mut state, is_short, WAIT_MAX);
        Ok(())
    }

    /// The disk is full: calls, and waits until room was made; says whether it was in time.
    fn await_disk(&self) -> bool {
        let mut state = self.state.lock();
        if state.ended {
            return false;
        }
        state.call = Some(Call::DiskFull);
        self.changed.notify_all();
        let made = state.made;
        !self
            .changed
            .wait_while_for(&mut state, |state| state.made == made && !state.ended, WAIT_MAX)
            .timed_out()
    }
}

/// A store with bounded room.
pub struct Bounded {
    store: Arc<LogStore>,
    room: Arc<Room>,
    is_for_fetched: bool,
}

impl Bounded {
    /// The chunks of `store` for those who read, and write what is nowhere else: they wait for no room.
    pub fn own(store: Arc<LogStore>, room: Arc<Room>) -> Self {
        Self { store, room, is_for_fetched: false }
    }

    /// The chunks of `store` for whoever fetches.
    pub fn fetched(store: Arc<LogStore>, room: Arc<Room>) -> Self {
        Self { store, room, is_for_fetched: true }
    }
}

impl ChunkStore for Bounded {
    fn get(&self, id: &ChunkId) -> Result<Bytes> {
        self.room.recent.used(id);
        self.store.get(id)
    }

    fn try_get(&self, id: &ChunkId) -> Option<Bytes> {
        self.room.recent.used(id);
        self.store.try_get(id)
    }

    fn prefetch(&self, ids: &[ChunkId]) {
        self.store.prefetch(ids);
    }

    fn put(&self, lease: &Lease, id: &ChunkId, body: &[u8]) -> Result<Put> {
        self.room.recent.used(id);
        if self.is_for_fetched {
            self.room.await_some(|| self.store.log_bytes())?;
        }
        match self.store.put(lease, id, body) {
            Err(error) if error.kind() == Kind::NoSpace && self.room.await_disk() => {
                self.store.put(lease, id, body)
            }
            put => put,
        }
    }

    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        // Who fetches does not fetch what is here, and may say so: from now on it is in use.
        if self.is_for_fetched {
            ids.iter().for_each(|id| self.room.recent.used(id));
        }
        self.store.missing(ids)
    }

    fn sync(&self) -> Result<()> {
        self.store.sync()
    }

    fn lease(&self) -> Lease {
        self.store.lease()
    }
}
