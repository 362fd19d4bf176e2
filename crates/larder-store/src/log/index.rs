//! sled as the index: a projection of the log that may be deleted at any time.
//!
//! Only a checkpoint writes to it. sled 0.34 can panic, refuse or come up empty after a power cut, and its flush is
//! no fsync: so each call is guarded against panics, its file is synced through a descriptor of our own, and a
//! generation key says which checkpoint it is complete up to.

use super::tables::Table;
use larder_core::{Error, Result};
use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Folder of the indexes: one, and while it is being made again its successor, each in a numbered folder of its own.
/// sled writes by path even while it is dropped, so an index never takes the place of another.
pub const FOLDER: &str = "index";
/// Operations of one sled batch: 20,000 of them take 2 to 4 GiB of memory, 100 almost none.
const BATCH_OPS: usize = 100;
/// Sorts before every key of the catalog and of the chunks.
const GENERATION: &[u8] = b"\0generation";

/// The open index.
pub struct Index {
    db: sled::Db,
    folder: PathBuf,
}

impl Index {
    /// Opens the index in `folder`, or makes it.
    ///
    /// # Errors
    /// `Corrupt` where sled panics or refuses: delete it and make it again.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self> {
        let config = sled::Config::new()
            .path(folder)
            .mode(sled::Mode::HighThroughput)
            .use_compression(false)
            .flush_every_ms(None)
            .cache_capacity(cache_bytes);
        await_release(folder)?;
        let db = guard(|| config.open())?;
        Ok(Self { db, folder: folder.to_owned() })
    }

    /// Deletes every index below `root` and makes an empty one.
    ///
    /// # Errors
    /// Those of the disk; `Corrupt` where sled panics or refuses.
    pub fn fresh(root: &Path, cache_bytes: u64) -> Result<Self> {
        let next = Self::next_to(root, cache_bytes)?;
        next.remove_others(root);
        Ok(next)
    }

    /// Makes an empty index below `root` that is newer than those there.
    ///
    /// # Errors
    /// Those of the disk; `Corrupt` where sled panics or refuses.
    pub fn next_to(root: &Path, cache_bytes: u64) -> Result<Self> {
        let number = numbers(root).into_iter().max().unwrap_or(0) + 1;
        let folder = root.join(format!("{number:08}"));
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(format!("make {}", folder.display()), e))?;
        Self::open(&folder, cache_bytes)
    }

    /// Deletes every index below `root` but this.
    pub fn remove_others(&self, root: &Path) {
        for folder in numbers(root).into_iter().map(|n| root.join(format!("{n:08}"))) {
            if folder != self.folder
                && let Err(error) = std::fs::remove_dir_all(&folder)
            {
                tracing::warn!(%error, "cannot delete an old index");
            }
        }
    }

    /// Deletes it. Its folder stays, empty, so that none gets its number again: sled may write there for a while.
    pub fn abandon(self) {
        let folder = self.folder.clone();
        drop(self);
        let emptied = std::fs::remove_dir_all(&folder).and_then(|()| std::fs::create_dir(&folder));
        if let Err(error) = emptied {
            tracing::warn!(%error, "cannot delete an index that is not used");
        }
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the slot of `key`.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>> {
        guard(|| self.db.get(key))
    }

    /// The pairs from `start` on, in key order.
    pub fn range(&self, start: Bound<&[u8]>) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec)>> {
        let start = match start {
            Bound::Included(key) | Bound::Excluded(key) if key > GENERATION => start,
            _ => Bound::Excluded(GENERATION),
        };
        let mut range = guard(|| Ok(self.db.range::<&[u8], _>((start, Bound::Unbounded))));
        std::iter::from_fn(move || match &mut range {
            Ok(pairs) => guard(|| pairs.next().transpose()).transpose(),
            Err(_) => Some(Err(Error::corrupt("index cannot be read"))),
        })
    }

    /// Writes the edits of `table`.
    ///
    /// # Errors
    /// `Corrupt`: from then on the index is worth nothing.
    pub fn apply(&self, table: &Table) -> Result<()> {
        let mut batch = sled::Batch::default();
        for (i, (key, slot)) in table.iter().enumerate() {
            match slot {
                Some(slot) => batch.insert(key.as_slice(), slot.as_slice()),
                None => batch.remove(key.as_slice()),
            }
            if i % BATCH_OPS == BATCH_OPS - 1 {
                guard(|| self.db.apply_batch(std::mem::take(&mut batch)))?;
            }
        }
        guard(|| self.db.apply_batch(batch))
    }

    /// Makes what was written durable, as `generation`.
    ///
    /// # Errors
    /// `Corrupt`, and those of fdatasync(2).
    pub fn sync(&self, generation: u64) -> Result<()> {
        guard(|| self.db.insert(GENERATION, &generation.to_le_bytes()))?;
        guard(|| self.db.flush())?;
        sync_files(&self.folder)?;
        debug_assert!(no_blobs(&self.folder), "a slot was too long for sled's own file");
        Ok(())
    }

    /// The generation that was last made durable, if any.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn generation(&self) -> Result<Option<u64>> {
        let bytes = guard(|| self.db.get(GENERATION))?;
        Ok(bytes.and_then(|bytes| bytes.as_ref().try_into().ok()).map(u64::from_le_bytes))
    }
}

/// The folders of the indexes below `root`, newest first.
pub fn newest_first(root: &Path) -> Vec<PathBuf> {
    let mut numbers = numbers(root);
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.into_iter().map(|number| root.join(format!("{number:08}"))).collect()
}

/// Waits for a sled of this process that was dropped and has not let go of its lock yet: it frees memory a little later, and
/// the new one would be refused. No other process has it, for the data directory has a lock of its own.
fn await_release(folder: &Path) -> Result<()> {
    match File::open(folder.join("db")) {
        Ok(db) => db.lock().map_err(|e| Error::io(format!("lock {}", folder.display()), e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io(format!("open {}", folder.display()), e)),
    }
}

/// Makes sled's files durable: its own flush is sync_file_range(2).
///
/// # Errors
/// Those of fdatasync(2).
pub fn sync_files(folder: &Path) -> Result<()> {
    let sync = || {
        for name in ["db", "conf"] {
            File::open(folder.join(name))?.sync_data()?;
        }
        File::open(folder)?.sync_all()
    };
    sync().map_err(|e| Error::io("sync the index", e))
}

/// The hash of the files that decide what sled reads; `None` where there are none.
pub fn fingerprint(folder: &Path) -> Option<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    for name in ["conf", "db"] {
        hasher.update_reader(File::open(folder.join(name)).ok()?).ok()?;
    }
    Some(*hasher.finalize().as_bytes())
}

/// Deletes sled's snapshots: it never syncs them, and reads the whole `db` where there is none.
pub fn drop_snapshots(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("snap")) {
        if let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!(%error, "cannot delete a snapshot of the index");
        }
    }
}

fn numbers(root: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn no_blobs(folder: &Path) -> bool {
    std::fs::read_dir(folder.join("blobs")).map_or(true, |mut blobs| blobs.next().is_none())
}

/// Turns sled's errors and panics into `Corrupt`.
fn guard<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Err(sled::Error::Io(e))) if e.kind() == std::io::ErrorKind::StorageFull => {
            Err(Error::io("index", e))
        }
        Ok(result) => result.map_err(|e| Error::corrupt("index").because(e)),
        Err(_) => Err(Error::corrupt("index: sled panicked")),
    }
}
