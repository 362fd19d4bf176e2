//! The data directory: opened by one process at a time.

use crate::actor;
use crate::args::{PausedReads, Ways};
use crate::config::StoreSettings;
use crate::directory::{holds_drive, make_private};
use crate::evicting::{self, Evictor};
use crate::origin::{Place, Sync};
use crate::pace::Maintenance;
use larder_core::{Error, Result};
use larder_drive::{Clock, Drive, Parts, Settings};
use larder_store::log::{self, LogKv, LogStore};
use larder_store::{Bounded, KvCatalog, Room};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// Names the boot; while it is the same, nothing that was written is lost. Source: random(4).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// An open drive.
pub struct Opened {
    /// The drive.
    pub drive: Arc<Drive>,
    /// Its bodies and its log.
    pub store: Arc<LogStore>,
    /// Its nodes and names.
    pub catalog: Arc<KvCatalog<LogKv>>,
    /// Whose turn it is to work on the store.
    pub maintenance: Arc<Maintenance>,
    settings: StoreSettings,
    /// Keeps a mirror and its server the same; `None` for a drive of its own.
    sync: Option<Sync>,
    /// Keeps it within its limit.
    evictor: Option<Evictor>,
}

impl Opened {
    /// Opens the drive of `settings`, and makes it where there is none.
    ///
    /// # Errors
    /// `Conflict` where another process has it; `Invalid` for a bad key file; those of the store.
    pub fn open(settings: &StoreSettings) -> Result<Self> {
        let data = &settings.data;
        make_private(data)?;
        let key = settings.encryption_key.as_deref().map(read_key).transpose()?;
        let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_string();
        let parts = log::Parts { boot_id, random: crate::random::fill, key, tape: None };
        let place = Place::of(data)?;
        let limit = place.is_some().then(|| evicting::limit_bytes(settings)).transpose()?;
        let store =
            LogStore::open(data, limit.map_or_else(Default::default, evicting::log_settings), &parts)?;
        let clock = Clock::system();
        let catalog = Arc::new(KvCatalog::open(store.kv(), clock.now(), actor::ids())?);
        let parts =
            Parts { chunks: store.clone(), catalog: catalog.clone(), clock, random: crate::random::fill };
        let tuning = Settings {
            history_ns: settings.history_ns,
            chunk_cache_bytes: settings.cache_bytes,
            data: Some(data.clone()),
            ..Settings::default()
        };
        let maintenance = Arc::new(Maintenance::default());
        let (drive, sync, evictor) = match place.zip(limit) {
            None => (Drive::open(parts, tuning)?, None, None),
            Some((place, limit)) => {
                let room = Arc::new(Room::new(limit));
                let parts = Parts { chunks: Arc::new(Bounded::own(store.clone(), room.clone())), ..parts };
                let fetched = Arc::new(Bounded::fetched(store.clone(), room.clone()));
                let (drive, sync) =
                    place.open(parts, fetched, tuning, (settings.fetching, settings.conflicts))?;
                if let (Some(fetch), Some(names)) = (drive.fetching(), &settings.indexers) {
                    fetch.set_indexers(names.clone());
                }
                let stores = (store.clone(), catalog.clone());
                let evictor =
                    Evictor::start(room, stores, drive.clone(), maintenance.clone(), settings.history_ns)?;
                (drive, Some(sync), Some(evictor))
            }
        };
        Ok(Self { drive, store, catalog, maintenance, settings: settings.clone(), sync, evictor })
    }

    /// Opens a drive that is there.
    ///
    /// # Errors
    /// `NotFound` where there is none; as for [`Opened::open`].
    pub fn existing(settings: &StoreSettings) -> Result<Self> {
        if !holds_drive(&settings.data) {
            let what = format!("{} holds no drive: `larder up` makes one", settings.data.display());
            return Err(Error::not_found(what));
        }
        Self::open(settings)
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.settings.data
    }

    /// The options that a mount of it gets: read-only where its server lets this device write nothing.
    pub fn mount_options(&self, options: &[String]) -> Vec<String> {
        let read_only = self.sync.as_ref().is_some_and(|sync| !sync.is_writable());
        options.iter().cloned().chain(read_only.then(|| "ro".into())).collect()
    }

    /// Has a server's project go these ways from now on, as far as somebody said so.
    pub fn set_ways(&self, ways: Ways) {
        if let Some((fetch, reads)) = self.drive.fetching().zip(ways.paused_reads) {
            fetch.set_pause_holds_readers(reads == PausedReads::Wait);
        }
        if let Some((sync, conflicts)) = self.sync.as_ref().zip(ways.conflicts) {
            sync.pusher.set_policy(conflicts.into());
        }
    }

    /// What keeps a mirror and its server the same; `None` for a drive of its own.
    pub fn sync(&self) -> Option<&Sync> {
        self.sync.as_ref()
    }

    /// What keeps a mirror within its limit; `None` for a drive of its own.
    pub fn evictor(&self) -> Option<&Evictor> {
        self.evictor.as_ref()
    }

    /// Ends what waits for a server, before mounts end.
    pub fn let_go(&self) {
        // First: who fetches may be waiting for room.
        if let Some(evictor) = &self.evictor {
            evictor.end();
        }
        if let Some(sync) = &self.sync {
            sync.end();
            self.drive.stop_fetching();
        }
    }

    /// Makes everything durable and closes the store.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn close(&self) -> Result<()> {
        self.let_go();
        self.store.close()
    }
}

/// Reads the 64 hexadecimal digits of an encryption key.
fn read_key(path: &Path) -> Result<[u8; 32]> {
    let shown = path.display();
    let wrong = |why: &str| Error::invalid(format!("--encryption-key: {shown} {why}"));
    let text = std::fs::read_to_string(path)
        .map_err(|e| wrong("cannot be read; `openssl rand -hex 32 > FILE` makes one").because(e))?;
    let mode = std::fs::metadata(path).map_or(0, |data| data.permissions().mode());
    if mode & 0o077 != 0 {
        return Err(wrong("can be read by others: run `chmod 600` on it"));
    }
    let digits = text.trim().as_bytes();
    let mut key = [0; 32];
    if digits.len() != 64 {
        return Err(wrong("does not hold 64 hexadecimal digits"));
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong("is no text"))?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong("does not hold 64 hexadecimal digits"))?;
    }
    Ok(key)
}
