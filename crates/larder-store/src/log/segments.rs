//! The segment files: which there are, and reading from them.

use super::disk::{Disk, DiskFile};
use super::position::Position;
use super::record::{Format, HEADER_BYTES};
use larder_core::{Error, Kind, Result};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Folder of the segments.
pub const FOLDER: &str = "segments";
/// Tells that a sync failed.
const SYNC_FAILED: &str = "sync-failed";
/// Segments that stay open; 256 of 256 MiB each are 64 GiB.
const OPEN_MAX: usize = 256;

/// The segments of a store.
pub struct Segments {
    disk: Arc<Disk>,
    format: Format,
    numbers: Mutex<BTreeSet<u32>>,
    open: Mutex<HashMap<u32, Arc<DiskFile>>>,
    /// Lengths of segments that are written to no more.
    lengths: Mutex<HashMap<u32, u64>>,
}

impl Segments {
    /// Looks which segments there are.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(disk: Arc<Disk>, format: Format) -> Result<Self> {
        let numbers = Mutex::new(numbers(&disk)?);
        Ok(Self { disk, format, numbers, open: Mutex::default(), lengths: Mutex::default() })
    }

    /// How headers are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The numbers of all segments, ascending.
    pub fn numbers(&self) -> Vec<u32> {
        self.numbers.lock().iter().copied().collect()
    }

    /// Bytes of all segments of a log that ends at `end`. It costs 10 ns for each, besides the first time.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn bytes(&self, end: Position) -> Result<u64> {
        let numbers = self.numbers();
        let mut lengths = self.lengths.lock();
        // Where an append was taken back, a segment is written to again.
        lengths.retain(|number, _| *number < end.segment() && numbers.binary_search(number).is_ok());
        let mut bytes = u64::from(end.offset());
        for number in numbers.into_iter().filter(|number| *number < end.segment()) {
            bytes += match lengths.get(&number) {
                Some(len) => *len,
                None => match self.file(number).and_then(|file| file.len()) {
                    Ok(len) => *lengths.entry(number).or_insert(len),
                    // Compacted away since.
                    Err(error) if error.kind() == Kind::NotFound => 0,
                    Err(error) => return Err(error),
                },
            };
        }
        Ok(bytes)
    }

    /// Says whether all segments from `from` to `to` are there.
    pub fn reaches(&self, from: u32, to: u32) -> bool {
        from <= to && self.numbers.lock().range(from..=to).count() as u64 == u64::from(to - from) + 1
    }

    /// Makes segment `number`, behind one of `predecessor_bytes`; 0 where that does not matter.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk; then there is no such segment.
    pub fn create(&self, number: u32, predecessor_bytes: u32) -> Result<Arc<DiskFile>> {
        let file = Arc::new(self.disk.create(&name(number))?);
        let header = self.format.encode_segment(number, predecessor_bytes);
        if let Err(error) = file.write_at(&mut [std::io::IoSlice::new(&header)], 0) {
            self.disk.remove(&name(number))?;
            return Err(error);
        }
        self.numbers.lock().insert(number);
        self.keep_open(number, &file);
        Ok(file)
    }

    /// The file of segment `number`.
    ///
    /// # Errors
    /// `NotFound` where the segment was compacted away; others of open(2).
    pub fn file(&self, number: u32) -> Result<Arc<DiskFile>> {
        if let Some(file) = self.open.lock().get(&number) {
            return Ok(file.clone());
        }
        let file = Arc::new(self.disk.open(&name(number))?);
        self.keep_open(number, &file);
        Ok(file)
    }

    /// The bytes that the segment before `number` had when this one was begun, 0 where that is not known; `None` where
    /// the first bytes of `number` are not whole.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn predecessor_bytes(&self, number: u32) -> Result<Option<u32>> {
        let bytes = self.file(number)?.read_at(0, HEADER_BYTES)?;
        let found = bytes.as_array().and_then(|bytes| Format::decode_segment(bytes, number));
        Ok(found.filter(|(format, _)| *format == self.format).map(|(_, bytes)| bytes))
    }

    /// Deletes segment `number`. Reads that have it open go on.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove(&self, number: u32) -> Result<()> {
        self.disk.remove(&name(number))?;
        // In this order: who comes between finds no number and keeps nothing open.
        self.numbers.lock().remove(&number);
        self.open.lock().remove(&number);
        Ok(())
    }

    /// Notes that a sync failed: what it should have written may be in the kernel's memory only, and that says no more
    /// that it is not on the disk. The note need not be synced, for it matters only as long as that memory lives.
    pub fn note_failed_sync(&self) {
        if let Err(error) = self.disk.create(SYNC_FAILED) {
            tracing::error!(%error, "the next start will not know that a sync failed");
        }
    }

    /// Says whether a sync failed since the store was last opened.
    pub fn sync_failed(&self) -> bool {
        self.disk.path(SYNC_FAILED).exists()
    }

    /// Forgets that a sync failed.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn forget_failed_sync(&self) -> Result<()> {
        self.disk.remove(SYNC_FAILED)
    }

    /// Lets the segments from `from` on be read from the disk, not from the kernel's memory.
    ///
    /// # Errors
    /// Those of fdatasync(2).
    pub fn read_anew(&self, from: u32) -> Result<()> {
        for number in self.numbers().into_iter().filter(|number| *number >= from) {
            let file = self.file(number)?;
            // Only what is written already can be let go.
            file.sync()?;
            file.drop_cached();
        }
        Ok(())
    }

    /// Makes the names of the segments durable.
    ///
    /// # Errors
    /// Those of fsync(2).
    pub fn sync_names(&self) -> Result<()> {
        self.disk.sync_folder(FOLDER)
    }

    /// Reads what follows the header at `position`, `len` bytes.
    ///
    /// # Errors
    /// `NotFound` for the segment; `Corrupt` where it is shorter; others of the disk.
    pub fn payload(&self, position: Position, len: u32) -> Result<Vec<u8>> {
        let at = u64::from(position.offset()) + HEADER_BYTES as u64;
        let bytes = self.file(position.segment())?.read_at(at, len as usize)?;
        if bytes.len() == len as usize {
            return Ok(bytes);
        }
        Err(Error::corrupt(format!("record {position} is cut off")))
    }

    /// Reads the record at `position`, its header and `len` bytes more, if the kernel has all of it in memory.
    pub fn record_at_hand(&self, position: Position, len: u32) -> Option<Vec<u8>> {
        let file = self.file(position.segment()).ok()?;
        file.read_at_hand(position.offset().into(), HEADER_BYTES + len as usize)
    }

    /// Asks the kernel to read a part of one segment.
    pub fn prefetch(&self, part: &Range<Position>) {
        if let Ok(file) = self.file(part.start.segment()) {
            file.prefetch(part.start.offset().into(), part.end.0 - part.start.0);
        }
    }

    fn keep_open(&self, number: u32, file: &Arc<DiskFile>) {
        let mut open = self.open.lock();
        // Removed since it was opened: kept, it would take its space until the store is closed.
        if !self.numbers.lock().contains(&number) {
            return;
        }
        if open.len() >= OPEN_MAX {
            // Any will do: reopening costs microseconds.
            let victim = open.keys().copied().find(|n| *n != number);
            victim.and_then(|victim| open.remove(&victim));
        }
        open.insert(number, file.clone());
    }
}

/// The store that the newest segment with whole first bytes belongs to.
///
/// # Errors
/// Those of the disk.
pub fn format_on(disk: &Disk) -> Result<Option<Format>> {
    for number in numbers(disk)?.into_iter().rev() {
        let bytes = disk.open(&name(number))?.read_at(0, HEADER_BYTES)?;
        if let Some(format) = bytes.as_array().and_then(|bytes| Format::decode_segment(bytes, number)) {
            return Ok(Some(format.0));
        }
    }
    Ok(None)
}

fn name(number: u32) -> String {
    format!("{FOLDER}/{number:08}")
}

fn numbers(disk: &Disk) -> Result<BTreeSet<u32>> {
    let failed = |e| Error::io(format!("list {}", disk.path(FOLDER).display()), e);
    let mut numbers = BTreeSet::new();
    for entry in std::fs::read_dir(disk.path(FOLDER)).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().filter(|n| n.len() == 8).and_then(|n| n.parse::<u32>().ok()));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_segment_is_not_kept_open_by_a_late_reader() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::new(folder.path().to_owned(), None);
        disk.make_folder(FOLDER).expect("a folder");
        let segments = Segments::open(Arc::new(disk), Format { store_id: [1; 16] }).expect("no segments");
        let opened = segments.create(1, 0).expect("made");
        segments.remove(1).expect("removed");
        segments.keep_open(1, &opened);
        assert!(segments.open.lock().is_empty());
    }
}
