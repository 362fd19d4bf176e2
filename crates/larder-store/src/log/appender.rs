//! The end of the log: appending under one lock, and one fdatasync for everybody who waits.

use super::disk::DiskFile;
use super::position::Position;
use super::record::{HEADER_BYTES, Header, RecordKind};
use super::segments::Segments;
use larder_core::{ChunkId, Error, Result};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io::IoSlice;
use std::sync::Arc;

/// The kernel is asked to start writing every so many bytes, so that a sync waits for little.
const WRITEBACK_BYTES: u32 = 8 << 20;
/// A batch is written in pieces of about this size.
const BATCH_WRITE_BYTES: usize = 4 << 20;
/// The longest batch: it lies in one segment, which may be longer than others for it, and offsets have 32 bits.
const BATCH_MAX_BYTES: usize = 2 << 30;

/// Appends to the log.
pub struct Appender {
    segments: Arc<Segments>,
    segment_bytes: u32,
    head: Mutex<Head>,
    sync: Mutex<SyncState>,
    synced: Condvar,
}

struct Head {
    file: Arc<DiskFile>,
    end: Position,
    /// Segments before the current one that are not durable yet.
    rolled: Vec<Arc<DiskFile>>,
    names_changed: bool,
    /// Writing has been started up to here.
    started: u32,
    refuses: Option<String>,
}

#[derive(Debug, Default)]
struct SyncState {
    durable: Position,
    running: bool,
    failed: Option<String>,
    stats: SyncStats,
}

/// How often the log was synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncStats {
    /// Syncs.
    pub count: u64,
    /// Callers that waited for them.
    pub waiters: u64,
}

/// A payload ready to be written.
pub struct Payload {
    /// Flags of the record.
    pub flags: u8,
    /// Bytes in plain.
    pub raw_len: u32,
    /// Bytes as stored.
    pub bytes: Vec<u8>,
    /// For a META record: edits in it.
    pub edits: usize,
}

/// The lock on the end of the log.
pub struct Appending<'a> {
    head: MutexGuard<'a, Head>,
    appender: &'a Appender,
}

impl Appender {
    /// Appends from `end` on, in the segment of that position, which is made where it is missing. Nothing from
    /// `unsynced` on counts as durable.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(
        segments: Arc<Segments>,
        segment_bytes: u32,
        end: Position,
        unsynced: Position,
    ) -> Result<Self> {
        let mut rolled = Vec::new();
        let numbers = segments.numbers();
        for number in numbers.iter().filter(|n| **n >= unsynced.segment() && **n < end.segment()) {
            rolled.push(segments.file(*number)?);
        }
        let fresh = !numbers.contains(&end.segment());
        let number = end.segment();
        let file = if fresh { segments.create(number, 0)? } else { segments.file(number)? };
        let end = if fresh { Position::new(number, HEADER_BYTES as u32) } else { end };
        file.truncate(end.offset().into())?;
        let head = Head { file, end, rolled, names_changed: true, started: end.offset(), refuses: None };
        Ok(Self {
            segments,
            segment_bytes,
            head: Mutex::new(head),
            sync: Mutex::default(),
            synced: Condvar::new(),
        })
    }

    /// Takes the lock on the end of the log.
    ///
    /// # Errors
    /// `Unavailable` once a write could not be undone or a sync failed: what the disk holds is then uncertain.
    pub fn lock(&self) -> Result<Appending<'_>> {
        let head = self.head.lock();
        if let Some(why) = &head.refuses {
            return Err(Error::unavailable(format!(
                "the store takes no writes until it is opened again: {why}"
            )));
        }
        Ok(Appending { head, appender: self })
    }

    /// The position behind the last record.
    pub fn end(&self) -> Position {
        self.head.lock().end
    }

    /// Returns once everything before `position` is durable. Whoever comes first syncs for all who wait.
    ///
    /// # Errors
    /// Those of fdatasync(2); then the store takes no more writes.
    pub fn wait_durable(&self, position: Position) -> Result<()> {
        let mut sync = self.sync.lock();
        sync.stats.waiters += u64::from(sync.durable < position);
        loop {
            if let Some(why) = &sync.failed {
                return Err(Error::unavailable(format!("the store could not be synced: {why}")));
            }
            if sync.durable >= position {
                return Ok(());
            }
            if sync.running {
                self.synced.wait(&mut sync);
                continue;
            }
            sync.running = true;
            drop(sync);
            let outcome = self.sync_now();
            sync = self.sync.lock();
            sync.running = false;
            sync.stats.count += 1;
            match outcome {
                Ok(durable) => sync.durable = durable,
                Err(error) => sync.failed = Some(error.to_string()),
            }
            self.synced.notify_all();
        }
    }

    /// How often the log was synced so far.
    pub fn sync_stats(&self) -> SyncStats {
        self.sync.lock().stats
    }

    fn sync_now(&self) -> Result<Position> {
        let (files, end, names_changed) = {
            let head = self.head.lock();
            let mut files = head.rolled.clone();
            files.push(head.file.clone());
            (files, head.end, head.names_changed)
        };
        let sync = || {
            files.iter().try_for_each(|file| file.sync())?;
            if names_changed { self.segments.sync_names() } else { Ok(()) }
        };
        let outcome = sync();
        let mut head = self.head.lock();
        // A kernel syncs a file without a name too. No collection deletes the one that is written to.
        match outcome.and_then(|()| head.file.expect_name()) {
            Ok(()) => {
                // Only this thread takes from the list, and others add at its end.
                head.rolled.drain(..files.len() - 1);
                // A segment begun meanwhile has its name changed after the folder was synced, perhaps.
                head.names_changed &= head.end.segment() != end.segment();
                Ok(end)
            }
            Err(error) => {
                // After a failed fsync the kernel may drop dirty pages and report success next time.
                head.refuses = Some(error.to_string());
                self.segments.note_failed_sync();
                Err(error)
            }
        }
    }
}

impl Appending<'_> {
    /// The position behind the last record.
    pub fn end(&self) -> Position {
        self.head.end
    }

    /// Appends the CHUNK record that `header` describes, all but its position, with the payload `stored`; returns
    /// where it came to lie.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk; then nothing changed.
    pub fn chunk(&mut self, header: Header, stored: &[u8]) -> Result<Header> {
        let begin = self.begin();
        let append = |this: &mut Self| {
            this.make_room(HEADER_BYTES + stored.len())?;
            let header = Header { position: this.head.end, ..header };
            let bytes = this.appender.segments.format().encode(&header);
            this.write(&mut [IoSlice::new(&bytes), IoSlice::new(stored)])?;
            Ok(header)
        };
        append(self).map_err(|error| self.undo(&begin, error))
    }

    /// Appends a batch: a META record for each payload, and the COMMIT. Returns the headers of the META records.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk; then nothing changed.
    pub fn batch(&mut self, payloads: &[Payload]) -> Result<Vec<Header>> {
        let begin = self.begin();
        self.try_batch(payloads).map_err(|error| self.undo(&begin, error))
    }

    fn try_batch(&mut self, payloads: &[Payload]) -> Result<Vec<Header>> {
        let format = self.appender.segments.format();
        // Never across segments: either of them could be compacted away, and what is left would not count.
        let total =
            payloads.iter().map(|payload| HEADER_BYTES + payload.bytes.len()).sum::<usize>() + HEADER_BYTES;
        if total > BATCH_MAX_BYTES {
            return Err(Error::invalid(format!("a commit of {total} bytes, more than {BATCH_MAX_BYTES}")));
        }
        self.make_room(total)?;
        let mut headers = Vec::with_capacity(payloads.len());
        let mut waiting = Vec::with_capacity(total.min(2 * BATCH_WRITE_BYTES));
        let mut crc_of_crcs = 0;
        for payload in payloads {
            let crc = crc32c::crc32c(&payload.bytes);
            crc_of_crcs = crc32c::crc32c_append(crc_of_crcs, &crc.to_le_bytes());
            if waiting.len() >= BATCH_WRITE_BYTES {
                self.write(&mut [IoSlice::new(&waiting)])?;
                waiting.clear();
            }
            let header = self.header(RecordKind::Meta, payload, crc, waiting.len());
            waiting.extend_from_slice(&format.encode(&header));
            waiting.extend_from_slice(&payload.bytes);
            headers.push(header);
        }
        let end = Payload { flags: 0, raw_len: payloads.len() as u32, bytes: Vec::new(), edits: 0 };
        let header = self.header(RecordKind::Commit, &end, crc_of_crcs, waiting.len());
        waiting.extend_from_slice(&format.encode(&header));
        self.write(&mut [IoSlice::new(&waiting)])?;
        Ok(headers)
    }

    /// Begins a new segment, so that the current one changes no more.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk; then nothing changed.
    pub fn roll(&mut self) -> Result<()> {
        let number = self.head.end.segment() + 1;
        let file = self.appender.segments.create(number, self.head.end.offset())?;
        let old = std::mem::replace(&mut self.head.file, file);
        self.head.rolled.push(old);
        self.head.end = Position::new(number, HEADER_BYTES as u32);
        self.head.started = 0;
        self.head.names_changed = true;
        Ok(())
    }

    /// Lets go of the lock, then asks the kernel to start writing where much was appended.
    pub fn release(mut self) {
        let (from, to) = (self.head.started, self.head.end.offset());
        if to - from < WRITEBACK_BYTES {
            return;
        }
        self.head.started = to;
        let file = self.head.file.clone();
        drop(self);
        file.start_writeback(from.into(), (to - from).into());
    }

    /// The header of a record that goes `ahead` bytes behind the end.
    fn header(&self, kind: RecordKind, payload: &Payload, payload_crc: u32, ahead: usize) -> Header {
        Header {
            kind,
            flags: payload.flags,
            stored_len: payload.bytes.len() as u32,
            raw_len: payload.raw_len,
            position: Position(self.head.end.0 + ahead as u64),
            id: ChunkId::HOLE,
            payload_crc,
        }
    }

    fn make_room(&mut self, len: usize) -> Result<()> {
        let at = self.head.end.offset();
        let full = at as usize + len > self.appender.segment_bytes as usize && at > HEADER_BYTES as u32;
        if full { self.roll() } else { Ok(()) }
    }

    fn write(&mut self, parts: &mut [IoSlice<'_>]) -> Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let at = self.head.end.offset();
        self.head.file.write_at(parts, at.into())?;
        self.head.end.0 += len as u64;
        Ok(())
    }

    fn begin(&self) -> (Position, Arc<DiskFile>, usize) {
        (self.head.end, self.head.file.clone(), self.head.rolled.len())
    }

    /// Takes back what was appended since `begin`, so that a record cut short does not hide those that follow.
    fn undo(&mut self, begin: &(Position, Arc<DiskFile>, usize), error: Error) -> Error {
        let (end, file, rolled) = begin;
        let last = self.head.end.segment();
        let undo = || {
            (end.segment() + 1..=last).try_for_each(|number| self.appender.segments.remove(number))?;
            file.truncate(end.offset().into())
        };
        let undone = undo();
        self.head.end = *end;
        self.head.file = file.clone();
        self.head.rolled.truncate(*rolled);
        self.head.started = self.head.started.min(end.offset());
        if let Err(worse) = undone {
            self.head.refuses = Some(worse.to_string());
        }
        error
    }
}
