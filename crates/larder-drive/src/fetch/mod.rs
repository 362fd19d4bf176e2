//! Chunks that are not on the device: asked for at the server, checked, and kept.
//!
//! Everybody who wants chunks wishes for them at one planner ([`larder_policy::plan`]): readers, the read-ahead, and files
//! that a user asked for. What the planner starts is carried out by a few threads, or by the reader whose only chunk it is;
//! whatever comes is checked and kept before anybody is told. `driver` holds the planner and its calls, `reader` is for who
//! waits in a read. What a user asked for is in `requested`: `orders` changes it, `feeding` offers it to the planner after a look
//! (`survey`), `progress` tells of it, and `records` keep it over a restart; `pinned` adds what rules keep here. Who asks is
//! `asker`, and `causes` remembers it.

mod asker;
mod causes;
mod driver;
mod feeding;
mod link;
mod orders;
mod pinned;
mod progress;
mod reader;
mod records;
mod requested;
mod survey;

pub use asker::{Find, INDEXERS, Program, asking};
pub use causes::{Cause, Why};
pub use orders::{Asked, FILES_MAX, Order, Scope};
pub use pinned::Pinned;
pub use progress::{Progress, Report, State};
pub use requested::Switches;
pub use survey::Here;
pub(crate) use survey::here;

use crate::cache::Caches;
use crate::{Clock, Parts};
use causes::Causes;
use driver::Driver;
use larder_core::{Error, Result};
use larder_policy::Tick;
use larder_policy::plan::IN_FLIGHT_MAX;
use larder_store::origin::Origin;
use larder_store::{Catalog, ChunkStore};
use parking_lot::{Condvar, Mutex, RwLock};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Chunks asked for in one call: about 4 MiB.
const BATCH: usize = 16;

/// What a user tunes.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a reader waits.
    pub deadline: Duration,
    /// Pausing holds the reads of what is paused, too; else they go on.
    pub pause_holds_readers: bool,
}

/// Fetches chunks.
pub struct Fetch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    origin: Arc<dyn Origin>,
    chunks: Arc<dyn ChunkStore>,
    /// The drive's, for what somebody is about to read.
    cache: OnceLock<Arc<Caches>>,
    catalog: Arc<dyn Catalog>,
    clock: Clock,
    random: fn(&mut [u8]),
    settings: Settings,
    /// As [`Settings::pause_holds_readers`], which may change.
    holds_readers: AtomicBool,
    started: Instant,
    driver: Mutex<Driver>,
    /// Programs that get what is here, and have nothing fetched.
    indexers: RwLock<Vec<String>>,
    causes: Mutex<Causes>,
    /// One at a time changes the records of what was asked for; taken before the driver.
    keeping: Mutex<()>,
    /// A call waits for a thread.
    ready: Condvar,
    /// The planner has something to do earlier than it said.
    sooner: Condvar,
    /// A reader's chunk came, or its wish ended.
    answered: Condvar,
    /// A file that was asked for may be looked over.
    hungry: Condvar,
}

impl Fetch {
    /// Fetches from `origin` into the chunk store of `parts`, and goes on with what its catalog says was asked for before.
    ///
    /// # Errors
    /// Those of the index, and of starting threads.
    pub fn start(origin: Arc<dyn Origin>, parts: &Parts, settings: Settings) -> Result<Self> {
        let driver = Driver::new(&settings, records::load(&*parts.catalog)?);
        let shared = Arc::new(Shared {
            origin,
            chunks: parts.chunks.clone(),
            cache: OnceLock::new(),
            catalog: parts.catalog.clone(),
            clock: parts.clock.clone(),
            random: parts.random,
            holds_readers: AtomicBool::new(settings.pause_holds_readers),
            settings,
            started: Instant::now(),
            driver: Mutex::new(driver),
            indexers: RwLock::new(INDEXERS.map(str::to_owned).to_vec()),
            causes: Mutex::default(),
            keeping: Mutex::new(()),
            ready: Condvar::new(),
            sooner: Condvar::new(),
            answered: Condvar::new(),
            hungry: Condvar::new(),
        });
        let mut fetch = Self { shared, threads: Vec::with_capacity(IN_FLIGHT_MAX + 2) };
        for _ in 0..IN_FLIGHT_MAX {
            fetch.spawn("larder-fetch", Shared::work)?;
        }
        fetch.spawn("larder-fetch-time", Shared::keep_time)?;
        fetch.spawn("larder-fetch-feed", Shared::feed)?;
        Ok(fetch)
    }

    /// Has what comes for somebody who is about to read it kept in `cache`, too.
    pub(crate) fn keep_in(&self, cache: Arc<Caches>) {
        self.shared.cache.get_or_init(|| cache);
    }

    /// Has the programs of these names get what is here and nothing else, instead of [`INDEXERS`].
    pub fn set_indexers(&self, names: Vec<String>) {
        *self.shared.indexers.write() = names;
    }

    fn spawn(&mut self, name: &str, run: fn(&Shared)) -> Result<()> {
        let shared = self.shared.clone();
        let started = std::thread::Builder::new().name(name.into()).spawn(move || run(&shared));
        self.threads.push(started.map_err(|e| Error::io("starting a thread", e))?);
        Ok(())
    }

    /// Ends fetching: whoever waits gets an error, and so does whoever comes.
    pub fn end(&self) {
        self.shared.driver.lock().ended = true;
        self.shared.origin.end();
        for rung in [&self.shared.ready, &self.shared.sooner, &self.shared.answered, &self.shared.hungry] {
            rung.notify_all();
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.end();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The time as the planner takes it.
    fn now(&self) -> Tick {
        Tick(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn instant(&self, tick: Tick) -> Instant {
        self.started + Duration::from_nanos(tick.0)
    }
}

fn ending() -> Error {
    Error::unavailable("this mount is about to end")
}
