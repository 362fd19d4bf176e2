//! The files of a data directory. Everything that must survive a power cut is written through here, so that a test
//! can record it on a [`Tape`] and cut the power anywhere.

use super::tape::{Action, Event, Tape};
use larder_core::{Error, Result};
use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A data directory.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    tape: Option<Arc<Tape>>,
}

/// An open file of a data directory.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    name: String,
    tape: Option<Arc<Tape>>,
}

impl Disk {
    /// Uses the data directory `root`.
    pub fn new(root: PathBuf, tape: Option<Arc<Tape>>) -> Self {
        Self { root, tape }
    }

    /// The full path of `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folder `name` where it is missing.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn make_folder(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        std::fs::create_dir_all(&path).map_err(|e| Error::io(format!("make {}", path.display()), e))
    }

    /// Makes the file `name`, empty.
    ///
    /// # Errors
    /// `NoSpace` and others of open(2).
    pub fn create(&self, name: &str) -> Result<DiskFile> {
        self.check(Action::Create).map_err(|e| self.failed("create", name, e))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let file = self.open_with(name, flags).map_err(|e| self.failed("create", name, e))?;
        self.record(|| Event::Create(name.to_owned()));
        Ok(file)
    }

    /// Opens the file `name` to read and write.
    ///
    /// # Errors
    /// `NotFound` and others of open(2).
    pub fn open(&self, name: &str) -> Result<DiskFile> {
        self.open_with(name, OFlags::RDWR).map_err(|e| self.failed("open", name, e))
    }

    /// Reads the whole of `name`; `None` where there is no such file.
    ///
    /// # Errors
    /// Those of open(2) and read(2).
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match std::fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed("read", name, e)),
        }
    }

    /// Replaces the file `name` by one that holds `bytes`: after a power cut it is the old or the new one.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk; then the old file is there.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let fresh = format!("{name}.new");
        let file = self.create(&fresh)?;
        file.write_at(&mut [IoSlice::new(bytes)], 0)?;
        file.sync()?;
        self.rename(&fresh, name)?;
        self.sync_folder("")
    }

    /// Renames `from` to `to`.
    ///
    /// # Errors
    /// Those of rename(2).
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        std::fs::rename(self.path(from), self.path(to)).map_err(|e| self.failed("rename", from, e))?;
        self.record(|| Event::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    /// Removes the file `name`; no error where there is none.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove(&self, name: &str) -> Result<()> {
        match std::fs::remove_file(self.path(name)) {
            Ok(()) => self.record(|| Event::Remove(name.to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(self.failed("remove", name, e)),
        }
        Ok(())
    }

    /// Makes the entries of the folder `name` durable.
    ///
    /// # Errors
    /// Those of fsync(2).
    pub fn sync_folder(&self, name: &str) -> Result<()> {
        let sync = || {
            self.check(Action::Sync)?;
            File::open(self.path(name))?.sync_all()
        };
        sync().map_err(|e| self.failed("sync", name, e))?;
        self.record(|| Event::SyncFolder(name.to_owned()));
        Ok(())
    }

    /// Locks the file `name` for this process, and writes `holder` into it; else tells what is in it.
    ///
    /// # Errors
    /// `Conflict` where another process has it; those of the disk.
    pub fn lock(&self, name: &str, holder: &str) -> Result<Lock> {
        let file =
            self.open_with(name, OFlags::RDWR | OFlags::CREATE).map_err(|e| self.failed("open", name, e))?;
        match fs::flock(&file.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let other = std::fs::read_to_string(self.path(name)).unwrap_or_default();
                let root = self.root.display();
                return Err(Error::conflict(format!("{root} is in use by process {}", other.trim())));
            }
            Err(e) => return Err(self.failed("lock", name, e.into())),
        }
        let write = || {
            file.file.set_len(0)?;
            std::os::unix::fs::FileExt::write_all_at(&file.file, holder.as_bytes(), 0)
        };
        // A full disk must not keep the store from opening: the lock holds without the text.
        if let Err(error) = write() {
            tracing::debug!(%error, "the lock file does not tell who holds it");
        }
        Ok(Lock(file.file))
    }

    /// Bytes that the file system has free for this process, and its size.
    ///
    /// # Errors
    /// Those of statvfs(2).
    pub fn free_bytes(&self) -> Result<(u64, u64)> {
        let stat = fs::statvfs(&self.root).map_err(|e| self.failed("statvfs", "", e.into()))?;
        Ok((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<DiskFile> {
        let mode = Mode::RUSR | Mode::WUSR;
        let file = fs::open(self.path(name), flags | OFlags::CLOEXEC, mode)?.into();
        Ok(DiskFile { file, name: name.to_owned(), tape: self.tape.clone() })
    }

    fn failed(&self, what: &str, name: &str, e: io::Error) -> Error {
        Error::io(format!("{what} {}", self.path(name).display()), e)
    }

    fn record(&self, event: impl FnOnce() -> Event) {
        if let Some(tape) = &self.tape {
            tape.record(event);
        }
    }

    fn check(&self, action: Action) -> io::Result<()> {
        self.tape.as_ref().map_or(Ok(()), |tape| tape.check(action))
    }
}

/// The lock on a data directory, until dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that is being started has the descriptor until its exec(2).
        if let Err(error) = fs::flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(%error, "cannot unlock the data directory");
        }
    }
}

impl DiskFile {
    /// Writes all of `parts`, one behind the other, at `offset`. On an error any part of it may have been written.
    ///
    /// # Errors
    /// `NoSpace` and others of pwritev(2).
    pub fn write_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> Result<()> {
        if let Some(tape) = &self.tape {
            tape.check(Action::Write).map_err(|e| self.failed("write", e))?;
            let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect();
            tape.record(|| Event::Write(self.name.clone(), offset, bytes));
        }
        while !parts.is_empty() {
            match rustix::io::pwritev(&self.file, parts, offset) {
                Ok(0) => return Err(self.failed("write", io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut parts, written);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.failed("write", e.into())),
            }
        }
        Ok(())
    }

    /// Reads `len` bytes at `offset` into fresh memory; fewer where the file ends.
    ///
    /// # Errors
    /// Those of pread(2).
    pub fn read_at(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        if let Some(tape) = &self.tape {
            tape.check(Action::Read).map_err(|e| self.failed("read", e))?;
        }
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            let left = len - bytes.len();
            let mut rest = bytes.spare_capacity_mut();
            rest = &mut rest[..left];
            match rustix::io::pread(&self.file, rest, at).map(|(filled, _)| filled.len()) {
                Ok(0) => break,
                Ok(read) => {
                    let filled = bytes.len() + read;
                    // SAFETY: pread(2) filled `read` bytes of the spare capacity.
                    unsafe { bytes.set_len(filled) };
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.failed("read", e.into())),
            }
        }
        Ok(bytes)
    }

    /// Reads `len` bytes at `offset` if the kernel has all of them in memory. Source: preadv2(2), RWF_NOWAIT.
    pub fn read_at_hand(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes: Vec<u8> = Vec::with_capacity(len);
        let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: len };
        let (fd, offset) = (self.file.as_raw_fd(), i64::try_from(offset).ok()?);
        // SAFETY: an open descriptor, and one part of `len` bytes that this owns.
        let read = unsafe { libc::preadv2(fd, &raw const part, 1, offset, libc::RWF_NOWAIT) };
        if usize::try_from(read) != Ok(len) {
            return None;
        }
        // SAFETY: preadv2(2) filled all of it.
        unsafe { bytes.set_len(len) };
        Some(bytes)
    }

    /// Asks the kernel to read a range. A hint: no errors. Source: posix_fadvise(2).
    pub fn prefetch(&self, offset: u64, len: u64) {
        if let Some(len) = std::num::NonZeroU64::new(len) {
            let hinted = fs::fadvise(&self.file, offset, Some(len), fs::Advice::WillNeed);
            hinted.unwrap_or_else(|error| tracing::debug!(%error, "no read-ahead"));
        }
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// Those of fdatasync(2); what was written before may be lost even if a later call succeeds.
    pub fn sync(&self) -> Result<()> {
        if let Some(tape) = &self.tape {
            tape.check(Action::Sync).map_err(|e| self.failed("sync", e))?;
        }
        self.file.sync_data().map_err(|e| self.failed("sync", e))?;
        if let Some(tape) = &self.tape {
            tape.record(|| Event::Sync(self.name.clone()));
        }
        Ok(())
    }

    /// Checks that nobody has deleted it: what is in it then goes with this process.
    ///
    /// # Errors
    /// `Unavailable`; those of fstat(2).
    pub fn expect_name(&self) -> Result<()> {
        let stat = fs::fstat(&self.file).map_err(|e| self.failed("stat", e.into()))?;
        if stat.st_nlink > 0 {
            return Ok(());
        }
        Err(Error::unavailable(format!("{} was deleted while it was in use: start again", self.name)))
    }

    /// Asks the kernel to start writing a range now, so that a later sync has less to wait for. A hint: no errors.
    pub fn start_writeback(&self, offset: u64, len: u64) {
        let flags = libc::SYNC_FILE_RANGE_WRITE;
        // SAFETY: plain numbers and an open descriptor.
        unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset as i64, len as i64, flags) };
    }

    /// Lets the kernel forget what it has in memory of the file and on the disk. A hint: no errors.
    pub fn drop_cached(&self) {
        if let Err(error) = fs::fadvise(&self.file, 0, None, fs::Advice::DontNeed) {
            tracing::debug!(%error, "the file stays in memory");
        }
    }

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// Those of ftruncate(2).
    pub fn truncate(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|e| self.failed("truncate", e))?;
        if let Some(tape) = &self.tape {
            tape.record(|| Event::Truncate(self.name.clone(), len));
        }
        Ok(())
    }

    /// The length in bytes.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|e| self.failed("stat", e))?.len())
    }

    fn failed(&self, what: &str, e: io::Error) -> Error {
        Error::io(format!("{what} {}", self.name), e)
    }
}
