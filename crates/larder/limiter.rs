//! Has limits kept, as they are set and as the clock has it.

use crate::limits::{Change, Set};
use crate::payers::{Payers, Tiers, Who};
use crate::shaping::{Shaper, Tier};
use crate::time;
use larder_core::{Error, NodeId, Result};
use larder_drive::Drive;
use larder_policy::Rate;
use larder_store::origin::Link;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The clock on the wall is looked at so often: it may be set, and the machine may have slept.
const LOOK: Duration = Duration::from_secs(10);

/// Has limits kept.
pub struct Limiter {
    shaper: Arc<Shaper>,
    /// Of both directions together.
    total: Arc<Tier>,
    tiers: Arc<Tiers>,
    payers: Arc<Payers>,
    set: Arc<Mutex<Set>>,
    changed: Notify,
    /// One at a time changes what is set.
    changing: Mutex<()>,
}

impl Limiter {
    /// Keeps `set` from now on; [`Limiter::run`] must run as long as it is used.
    pub fn new(set: Set) -> Arc<Self> {
        Self::with(set, |_| None)
    }

    /// As [`Limiter::new`], for a device; `fetch_limit` says how fast the fetch of a file may be.
    pub fn with(set: Set, fetch_limit: impl Fn(NodeId) -> Option<Rate> + Send + Sync + 'static) -> Arc<Self> {
        let (shaper, total) = Shaper::start();
        let tiers = Arc::new(Tiers { up: total.below(), down: total.below() });
        let set = Arc::new(Mutex::new(set));
        let of = set.clone();
        let rates = move |who: &Who| {
            if let Who::Fetch(file) = who {
                return (None, fetch_limit(NodeId(*file)));
            }
            let (set, now) = (of.lock(), time::week_minute());
            let limits = set.of.get(who);
            let [up, down] = [limits.and_then(|l| l.up.as_ref()), limits.and_then(|l| l.down.as_ref())];
            (up.and_then(|limit| limit.at(now)), down.and_then(|limit| limit.at(now)))
        };
        let payers = Payers::new(tiers.clone(), Box::new(rates));
        let (changed, changing) = Default::default();
        let limiter = Self { shaper, total, tiers, payers, set, changed, changing };
        limiter.apply();
        Arc::new(limiter)
    }

    /// What everything of a direction passes.
    pub fn tiers(&self) -> &Arc<Tiers> {
        &self.tiers
    }

    /// Who pays for what.
    pub fn payers(&self) -> &Arc<Payers> {
        &self.payers
    }

    /// Keeps `change` from now on, and over a restart of `drive`.
    ///
    /// # Errors
    /// Those of keeping it; then nothing changes.
    pub fn change(&self, drive: &Drive, change: Change) -> Result<()> {
        let _one = self.changing.lock();
        let before = self.set.lock().clone();
        let set = before.changed(change)?;
        set.save(drive, &before)?;
        self.put(set);
        Ok(())
    }

    /// Forgets the limits of those who are gone.
    ///
    /// # Errors
    /// Those of keeping that.
    pub fn forget_gone(&self, drive: &Drive) -> Result<()> {
        let _one = self.changing.lock();
        let before = self.set.lock().clone();
        let set = before.without_gone(drive)?;
        if set != before {
            set.save(drive, &before)?;
            self.put(set);
        }
        Ok(())
    }

    fn put(&self, set: Set) {
        *self.set.lock() = set;
        self.apply();
        self.changed.notify_one();
    }

    /// What is set, as JSON.
    pub fn shown(&self, who: Option<&Who>) -> Value {
        self.set.lock().shown(who)
    }

    /// Grants what streams wait for and follows the clock, for ever.
    pub async fn run(self: Arc<Self>) {
        let granting = self.shaper.clone().run();
        let following = async {
            loop {
                let changes = {
                    let set = self.set.lock();
                    set.of.values().chain([&set.whole]).any(|limits| limits.follow_clock())
                };
                let next = time::until_next_minute().min(LOOK);
                tokio::select! {
                    () = tokio::time::sleep(next), if changes => self.apply(),
                    () = self.changed.notified() => {}
                }
            }
        };
        tokio::join!(granting, following);
    }

    /// What is set of the link.
    pub fn link(&self) -> Link {
        self.set.lock().link
    }

    /// Runs it on a thread of its own, where there may be no run time.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn spawn(self: &Arc<Self>) -> Result<Running> {
        let failed = |e| Error::io("starting a thread", e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
        let (over, limiter) = (watch::Sender::new(false), self.clone());
        let mut told = over.subscribe();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = limiter.run() => {}
                    // An error says that nobody is left who could.
                    _ = told.wait_for(|over| *over) => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("larder-pace".into()).spawn(run).map_err(failed)?;
        Ok(Running { over, thread: Some(thread) })
    }

    fn apply(&self) {
        let whole = self.set.lock().whole.clone();
        let now = time::week_minute();
        let [up, down, total] =
            [whole.up, whole.down, whole.total].map(|limit| limit.and_then(|limit| limit.at(now)));
        self.total.set_limit(total);
        self.tiers.set_limits(up, down);
        self.payers.apply();
    }
}

/// A thread on which a limiter runs; dropping it ends that.
pub struct Running {
    over: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.over.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
