//! Space kept for bad times: a full disk must not keep a store from opening, removing, collecting and closing.
//!
//! Chunks are refused while there is still some space free. Others may fill the disk to the last byte, though, so a file
//! named `reserve` holds some more. Changes and collections may use half of it, for somebody has to remove something and
//! to free what that held; the other half is for opening and checkpoints: sled writes half a mebibyte and more whenever
//! it is opened.

use super::disk::Disk;
use super::position::Position;
use super::settings::Settings;
use larder_core::{Error, Kind, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NAME: &str = "reserve";
/// Of a small file system no more than this part is kept free.
const SHARE_OF_DISK: u64 = 8;
/// Free space is looked at so often while as much as is kept free is appended.
const LOOKS: u64 = 32;
/// The file has this part of what is kept free.
const SHARE_OF_FILE: u64 = 2;

/// The space kept.
pub struct Reserve {
    disk: Arc<Disk>,
    bytes: u64,
    /// Bytes that may be appended before free space is looked at again.
    unchecked: AtomicU64,
    /// The end of the log when [`Reserve::room`] looked, and what it found.
    looked: Mutex<Option<(Position, u64)>>,
}

impl Reserve {
    /// Looks how much to keep; gives up the file where too little is free to open a store.
    ///
    /// # Errors
    /// Those of statvfs(2).
    pub fn open(disk: Arc<Disk>, settings: &Settings) -> Result<Self> {
        let (free, size) = disk.free_bytes()?;
        let bytes = settings.reserve_bytes.min(size / SHARE_OF_DISK);
        let reserve = Self { disk, bytes, unchecked: AtomicU64::new(0), looked: Mutex::new(None) };
        if free < bytes / SHARE_OF_FILE {
            reserve.release();
        }
        Ok(reserve)
    }

    /// Refuses a chunk of `len` bytes where the disk is nearly full.
    ///
    /// # Errors
    /// `NoSpace`; those of statvfs(2).
    pub fn check(&self, len: u64) -> Result<()> {
        let spend = |left: u64| left.checked_sub(len);
        if self.unchecked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok() {
            return Ok(());
        }
        let (free, _) = self.disk.free_bytes()?;
        if free < self.bytes + len {
            let root = self.disk.root().display();
            return Err(Error::new(Kind::NoSpace, format!("{root} has only {free} bytes free")));
        }
        self.unchecked.store(self.bytes / 8, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of the room that changes leave to collections: half of the file.
    pub fn kept_for_collections(&self) -> u64 {
        self.bytes / SHARE_OF_FILE / 2
    }

    /// Bytes that are free or kept in the file, about, now that the log ends at `end`.
    ///
    /// # Errors
    /// Those of statvfs(2).
    pub fn room(&self, end: Position) -> Result<u64> {
        let mut looked = self.looked.lock();
        if let Some((at, room)) = *looked {
            let appended = end.0.saturating_sub(at.0);
            if appended <= self.bytes / LOOKS {
                return Ok(room.saturating_sub(appended));
            }
        }
        let room = self.disk.free_bytes()?.0 + self.file_bytes();
        *looked = Some((end, room));
        Ok(room)
    }

    /// Lets [`Reserve::room`] look at the disk again.
    pub fn look_again(&self) {
        *self.looked.lock() = None;
    }

    /// Appends; where there was no space, gives up half of the file and tries once more.
    ///
    /// # Errors
    /// Those of `append`.
    pub fn at_need<T>(&self, mut append: impl FnMut() -> Result<T>) -> Result<T> {
        match append() {
            Err(error) if error.kind() == Kind::NoSpace && self.release_half() => append(),
            outcome => outcome,
        }
    }

    /// Gives up half of the file; says whether it was whole.
    fn release_half(&self) -> bool {
        let half = self.bytes / SHARE_OF_FILE / 2;
        let release = || {
            let file = std::fs::File::options().write(true).open(self.disk.path(NAME))?;
            let whole = file.metadata()?.len() > half;
            if whole {
                file.set_len(half)?;
            }
            Ok::<bool, std::io::Error>(whole)
        };
        release().unwrap_or(false)
    }

    /// Bytes that the file has.
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(self.disk.path(NAME)).map_or(0, |file| file.len())
    }

    /// Gives up the file; says whether there was one.
    pub fn release(&self) -> bool {
        let there = std::fs::remove_file(self.disk.path(NAME)).is_ok();
        if there {
            tracing::warn!("the disk is full: the reserve is used up");
        }
        there
    }

    /// Makes the file whole where there is room; where it was given up for a checkpoint and the disk is still full, takes
    /// back what that left.
    pub fn renew(&self) {
        self.look_again();
        let Ok((free, _)) = self.disk.free_bytes() else { return };
        let (have, whole) = (self.file_bytes(), self.bytes / SHARE_OF_FILE);
        let room = free + have > self.bytes + whole;
        if have == whole || (have > 0 && !room) {
            return;
        }
        let wanted = whole.min(free + have);
        let made = std::fs::File::create(self.disk.path(NAME)).and_then(|file| {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(file, flags, 0, wanted).map_err(Into::into)
        });
        if let Err(error) = made {
            // Some file systems cannot; an empty file would only say that there is a reserve.
            tracing::debug!(%error, "no reserve");
            self.release();
        }
    }
}
