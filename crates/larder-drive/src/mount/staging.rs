//! Where bytes written at random rest until they are committed: at the same offset as in the file, a little in memory,
//! more in a sparse file without a name. The kernel's page cache keeps that fast, and its writeback keeps it bounded.

use super::budget::{Budget, Reserved};
use crate::Settings;
use larder_core::{Error, Result};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files whose staged bytes lie below this offset keep them in memory, as far as the budget goes.
const MEMORY_MAX_BYTES: u64 = 128 * 1024;

/// The staging area of one file.
pub(super) struct Staging {
    place: Place,
    budget: Arc<Budget>,
    bytes: Bytes,
}

/// Where staging files are made: a folder, or anonymous memory.
pub(super) type Place = Option<Arc<PathBuf>>;

/// Where a drive with these settings has its staging files.
pub(super) fn place(settings: &Settings) -> Place {
    let folder = match (&settings.staging, &settings.data) {
        (Some(staging), _) => staging.clone(),
        (None, Some(data)) => data.join("staging"),
        (None, None) => return None,
    };
    if let Err(error) = std::fs::create_dir_all(&folder) {
        tracing::warn!(%error, folder = %folder.display(), "no folder for staging files");
    }
    Some(Arc::new(folder))
}

enum Bytes {
    Memory(Vec<u8>, Reserved),
    File(Arc<File>),
}

/// What a staging area held at some time; bytes staged later may show.
#[derive(Clone)]
pub(super) enum Staged {
    Memory(Arc<Vec<u8>>),
    File(Arc<File>),
}

impl Staging {
    pub fn new(place: Place, budget: Arc<Budget>) -> Self {
        let reserved = budget.reserve(0).expect("nothing always fits");
        Self { place, budget, bytes: Bytes::Memory(Vec::new(), reserved) }
    }

    /// Writes `bytes` at `at`.
    ///
    /// # Errors
    /// `NoSpace` and those of the disk.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let end = at + bytes.len() as u64;
        if let Bytes::Memory(held, reserved) = &mut self.bytes {
            let end = end as usize;
            if end as u64 <= MEMORY_MAX_BYTES && reserved.grow_to(end.max(held.len())) {
                if held.len() < end {
                    held.resize(end, 0);
                }
                held[at as usize..end].copy_from_slice(bytes);
                return Ok(());
            }
            let file = open(&self.place)?;
            file.write_all_at(held, 0).map_err(failed)?;
            self.bytes = Bytes::File(Arc::new(file));
        }
        match &self.bytes {
            Bytes::File(file) => file.write_all_at(bytes, at).map_err(failed),
            Bytes::Memory(..) => unreachable!("it was moved to a file just now"),
        }
    }

    /// What is there now, to be read without the file's lock.
    pub fn staged(&self) -> Staged {
        match &self.bytes {
            Bytes::Memory(held, _) => Staged::Memory(Arc::new(held.clone())),
            Bytes::File(file) => Staged::File(file.clone()),
        }
    }

    /// The `len` bytes from `at` on; those in a file are read later, without the file's lock.
    ///
    /// # Errors
    /// `Corrupt` where they were never staged.
    pub fn part(&self, at: u64, len: u64) -> Result<Part> {
        match &self.bytes {
            Bytes::Memory(held, _) => {
                let mut bytes = vec![0; len as usize];
                read_memory(held, at, &mut bytes)?;
                Ok(Part::Read(bytes))
            }
            Bytes::File(file) => Ok(Part::Later(file.clone(), at, len)),
        }
    }

    /// Where its files are made.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Forgets all of it and gives the space back.
    pub fn clear(&mut self) {
        if !matches!(&self.bytes, Bytes::Memory(held, _) if held.is_empty()) {
            *self = Staging::new(self.place.clone(), self.budget.clone());
        }
    }
}

/// Some staged bytes.
pub(super) enum Part {
    Read(Vec<u8>),
    Later(Arc<File>, u64, u64),
}

impl Part {
    /// The bytes.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn bytes(self) -> Result<bytes::Bytes> {
        match self {
            Part::Read(bytes) => Ok(bytes.into()),
            Part::Later(file, at, len) => {
                let mut bytes = vec![0; len as usize];
                file.read_exact_at(&mut bytes, at).map_err(failed)?;
                Ok(bytes.into())
            }
        }
    }
}

impl Staged {
    /// Reads into `into` from `at` on.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        match self {
            Staged::Memory(held) => read_memory(held, at, into),
            Staged::File(file) => file.read_exact_at(into, at).map_err(failed),
        }
    }
}

fn read_memory(held: &[u8], at: u64, into: &mut [u8]) -> Result<()> {
    let from = at as usize;
    let bytes = held.get(from..from + into.len());
    into.copy_from_slice(bytes.ok_or_else(|| Error::corrupt("staged bytes end early"))?);
    Ok(())
}

fn failed(error: std::io::Error) -> Error {
    Error::io("staging file", error)
}

/// Makes a file without a name.
fn open(place: &Place) -> Result<File> {
    let made = match place {
        None => rustix::fs::memfd_create("larder-staging", MemfdFlags::CLOEXEC),
        Some(folder) => {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            match rustix::fs::open(folder.as_path(), flags, Mode::from_raw_mode(0o600)) {
                // Not every file system has O_TMPFILE; old kernels take it for an open of the folder.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => return open_and_unlink(folder),
                made => made,
            }
        }
    };
    made.map(File::from).map_err(|errno| failed(errno.into()))
}

fn open_and_unlink(folder: &Path) -> Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_move_from_memory_to_a_file_when_they_grow() {
        let folder = tempfile::tempdir().expect("a folder");
        for place in [None, Some(Arc::new(folder.path().to_path_buf()))] {
            let mut staging = Staging::new(place, Arc::new(Budget::new(1 << 20)));
            staging.write(5, b"first").expect("in memory");
            staging.write(MEMORY_MAX_BYTES + 5, b"second").expect("in a file");
            let mut back = [0; 5];
            staging.staged().read(5, &mut back).expect("moved along");
            assert_eq!(&back, b"first");
            let part = staging.part(MEMORY_MAX_BYTES + 5, 6).expect("in a file");
            assert_eq!(part.bytes().expect("in a file"), &b"second"[..]);
        }
    }

    #[test]
    fn a_file_without_a_name_can_be_had_on_any_file_system() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = open_and_unlink(folder.path()).expect("made");
        file.write_all_at(b"bytes", 7).expect("open");
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[test]
    fn without_budget_bytes_go_to_a_file() {
        let budget = Arc::new(Budget::new(4));
        let mut staging = Staging::new(None, budget.clone());
        staging.write(0, b"12345").expect("in a file");
        assert!(matches!(staging.bytes, Bytes::File(_)));
        staging.clear();
        staging.write(0, b"1234").expect("in memory");
        assert!(matches!(staging.bytes, Bytes::Memory(..)) && budget.reserve(1).is_none());
    }
}
