//! Scrub: reading everything, checking it, and setting aside what is damaged.

use super::collect::Pace;
use super::engine::Engine;
use super::position::Position;
use super::record::{HEADER_BYTES, Header, RecordKind};
use super::slot::{self, CHUNK, Location, QUARANTINED, Slot};
use super::walk::Walk;
use crate::kv::Batch;
use larder_core::{ChunkId, Error, Kind, Result};
use std::ops::Range;
use std::sync::atomic::Ordering;

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Chunks that were read and are what they should be.
    pub chunks: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Chunks that are damaged, or that the disk cannot read; putting them again heals them, and so does a later scrub
    /// that can read them.
    pub damaged: Vec<ChunkId>,
    /// Chunks that could not be looked at for reasons of this machine's, such as too many open files.
    pub unreadable: u64,
    /// Other records that are damaged.
    pub damaged_records: u64,
    /// What only damaged records said and the index still has, so that it was appended again.
    pub restated: u64,
    /// What only damaged records said and nothing has any more.
    pub lost: u64,
}

impl Engine {
    /// Reads and checks every record of the log.
    ///
    /// # Errors
    /// Those of the index; reading errors count as damage.
    pub fn scrub(&self, pace: Pace<'_>) -> Result<Scrubbed> {
        let _turn = self.turn();
        self.kept.lock().clear();
        self.look_again_at_all()?;
        let end = self.appender.end();
        let mut scrubbed = Scrubbed::default();
        let mut unread = Vec::new();
        for number in self.segments.numbers().into_iter().filter(|number| *number <= end.segment()) {
            self.scrub_segment(number, end, &mut scrubbed, &mut unread, pace)?;
        }
        if !unread.is_empty() {
            self.scrub_unread(&unread, &mut scrubbed, pace)?;
        }
        if scrubbed.damaged_records > 0
            && let Err(error) = self.restate(&mut scrubbed)
        {
            tracing::error!(%error, "what damaged records of the log said was not appended again");
        }
        Ok(scrubbed)
    }

    /// Stores again what was set aside and is whole after all: a cable or a memory may have been bad, and is no more.
    fn look_again_at_all(&self) -> Result<()> {
        self.each_slot(&[QUARANTINED], |key, _| {
            let id = slot::chunk_of(&key)?;
            match self.quarantined_at(&id)? {
                Some(location) => self.look_again(&id, location).map(drop),
                None => Ok(()),
            }
        })
    }

    fn scrub_segment(
        &self,
        number: u32,
        end: Position,
        scrubbed: &mut Scrubbed,
        unread: &mut Vec<Range<Position>>,
        pace: Pace<'_>,
    ) -> Result<()> {
        let begin = Position::new(number, HEADER_BYTES as u32);
        let mut walk = Walk::open(&self.segments, begin)?;
        while !walk.at_end() && walk.position() < end {
            let at = walk.position();
            // A disk that cannot read a block has damaged it.
            let Some(header) = walk.header().unwrap_or(None) else {
                if walk.resync().is_err() {
                    walk.give_up();
                }
                scrubbed.damaged_records += 1;
                unread.push(at..walk.position());
                continue;
            };
            match header.kind {
                RecordKind::Chunk => self.scrub_chunk(&header, scrubbed)?,
                RecordKind::Meta => {
                    let whole = walk.payload(&header).is_ok_and(|payload| payload.is_some());
                    scrubbed.damaged_records += u64::from(!whole);
                }
                RecordKind::Commit => {}
            }
            scrubbed.bytes += u64::from(header.record_bytes());
            pace(header.record_bytes().into());
            walk.skip(&header);
        }
        Ok(())
    }

    fn scrub_chunk(&self, header: &Header, scrubbed: &mut Scrubbed) -> Result<()> {
        if self.is_current(header)? {
            self.check_chunk(&header.id, Location::of(header), scrubbed)?;
        }
        Ok(())
    }

    /// Checks the chunks that the index says lie where no header could be read.
    fn scrub_unread(
        &self,
        unread: &[Range<Position>],
        scrubbed: &mut Scrubbed,
        pace: Pace<'_>,
    ) -> Result<()> {
        self.each_slot(&[CHUNK], |key, slot| {
            let Slot::Chunk(location) = Slot::decode(&slot)? else { return Ok(()) };
            if unread.iter().any(|range| range.contains(&location.position)) {
                let id = slot::chunk_of(&key)?;
                if self.check_chunk(&id, location, scrubbed)? {
                    self.store_again(&id, location)?;
                }
                pace(location.stored_len.into());
            }
            Ok(())
        })
    }

    /// Gives the chunk at `location`, whose body is whole and whose header is not, a new record: a rebuild finds
    /// chunks by their headers only.
    ///
    /// # Errors
    /// Those of reading, writing and the index.
    pub fn store_again(&self, id: &ChunkId, location: Location) -> Result<()> {
        if self.location(id)? != Some(location) {
            return Ok(());
        }
        let Location { position, stored_len, raw_len, flags } = location;
        let stored = self.segments.payload(position, stored_len)?;
        let payload_crc = crc32c::crc32c(&stored);
        let kind = RecordKind::Chunk;
        let header = Header { kind, flags, stored_len, raw_len, position, id: *id, payload_crc };
        self.move_chunk(&header, &stored).map(drop)
    }

    /// Says whether the chunk at `location` is whole.
    fn check_chunk(&self, id: &ChunkId, location: Location, scrubbed: &mut Scrubbed) -> Result<bool> {
        match self.read_chunk(id, location) {
            Ok(_) => {
                scrubbed.chunks += 1;
                return Ok(true);
            }
            Err(error) if is_of_the_disk(&error) => {
                if self.quarantine(id, location, &error)? {
                    scrubbed.damaged.push(*id);
                }
            }
            Err(error) => {
                tracing::warn!(chunk = %id, %error, "the chunk could not be looked at");
                scrubbed.unreadable += 1;
            }
        }
        Ok(false)
    }

    /// Sets chunk `id` aside, if it still lies at `location`. Its record stays as long as it may be whole after all.
    fn quarantine(&self, id: &ChunkId, location: Location, why: &Error) -> Result<bool> {
        let (key, aside) = (slot::chunk_key(id), slot::quarantine_key(id));
        let place = location.chunk_slot();
        self.await_room()?;
        let mut head = self.appender.lock()?;
        if self.slot(&key)?.as_ref() != Some(&place) {
            return Ok(false);
        }
        tracing::error!(chunk = %id, at = %location.position, error = %why, "damaged chunk");
        self.quarantined.store(true, Ordering::Release);
        let edits = vec![(key.clone(), None), (aside.clone(), Some(place.clone()))];
        let headers = self.append_batch(&mut head, &self.payloads(&Batch { edits, changes: Vec::new() }))?;
        let slot = headers.first().map(|header| self.codec.slot(header, &place));
        let mut tables = self.tables.write();
        tables.active.set(key, None);
        tables.active.set(aside, slot);
        drop(tables);
        self.appended(head, false);
        Ok(true)
    }
}

/// Says whether reading failed for what is on the disk, not for want of files or memory: those say nothing of the chunk.
fn is_of_the_disk(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    let errno = source.and_then(std::io::Error::raw_os_error);
    matches!(error.kind(), Kind::Corrupt | Kind::NotFound) || errno == Some(libc::EIO)
}
