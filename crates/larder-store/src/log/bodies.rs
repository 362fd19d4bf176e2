//! Chunks: putting and getting bodies.

use super::engine::Engine;
use super::position::Position;
use super::record::{HEADER_BYTES, Header, RecordKind};
use super::slot::{self, Location, Slot};
use crate::chunks::{Lease, Put};
use bytes::Bytes;
use larder_core::{ChunkId, Error, Kind, Result};
use std::ops::Range;
use std::sync::atomic::Ordering;

impl Engine {
    /// Returns the body of chunk `id`, verified.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, and those of the disk.
    pub fn chunk(&self, id: &ChunkId) -> Result<Bytes> {
        let mut location = self.located(id)?;
        loop {
            match self.reread(id, location).map_or_else(|| self.read_chunk(id, location), Ok) {
                Ok(body) => return Ok(body),
                Err(error) => match self.located(id)? {
                    // Compaction moved it since its place was looked up.
                    moved if moved != location => location = moved,
                    // Its segment is gone: that is damage, not absence.
                    _ if error.kind() == Kind::NotFound => {
                        return Err(Error::corrupt(format!("chunk {id}")).because(error));
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// Returns where chunk `id` lies, or lay when scrub set it aside: whether that can be read again is for the reader to
    /// see.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn located(&self, id: &ChunkId) -> Result<Location> {
        let location = match self.location(id)? {
            None => self.quarantined_at(id)?,
            found => found,
        };
        location.ok_or_else(|| Error::not_found(format!("chunk {id}")))
    }

    /// Returns where chunk `id` lies, if it is there.
    ///
    /// # Errors
    /// Those of the index.
    pub fn location(&self, id: &ChunkId) -> Result<Option<Location>> {
        let Some(slot) = self.slot(&slot::chunk_key(id))? else { return Ok(None) };
        let location = Slot::decode(&slot)?.chunk();
        location.map(Some).ok_or_else(|| Error::corrupt(format!("index entry of chunk {id}")))
    }

    /// Reads the body of chunk `id` at `location` and verifies it by its name.
    ///
    /// # Errors
    /// `NotFound` where the segment is gone; `Corrupt`; others of the disk.
    pub fn read_chunk(&self, id: &ChunkId, location: Location) -> Result<Bytes> {
        let stored = self.segments.payload(location.position, location.stored_len)?;
        let body = self.codec.decode_chunk(id, location.flags, location.raw_len, stored)?;
        if location.flags == 0 {
            self.checked.insert(location.position);
        }
        Ok(body.into())
    }

    /// Returns the body of chunk `id`, verified, where it is stored as it is and the kernel has it in memory.
    pub fn chunk_at_hand(&self, id: &ChunkId) -> Option<Bytes> {
        let location = self.location(id).ok().flatten()?;
        if self.checked.contains(location.position) {
            return self.reread(id, location);
        }
        let body = self.record_at_hand(location)?.slice(HEADER_BYTES..);
        let right = ChunkId::of(&body) == *id;
        right.then(|| self.checked.insert(location.position)).map(|()| body)
    }

    /// Returns the body of chunk `id`, verified by the checksum of its record, where the record at `location` was verified
    /// by its name before, is stored as it is and the kernel has it in memory. Else the body has to be verified by its name.
    fn reread(&self, id: &ChunkId, location: Location) -> Option<Bytes> {
        let record = self.checked.contains(location.position).then(|| self.record_at_hand(location))??;
        let (header, payload) = record.split_first_chunk()?;
        let header = self.segments.format().decode(header, location.position)?;
        let right = header.id == *id && header.payload_crc == crc32c::crc32c(payload);
        right.then(|| record.slice(HEADER_BYTES..))
    }

    /// The record of a chunk that is stored as it is, if the kernel has it in memory.
    fn record_at_hand(&self, location: Location) -> Option<Bytes> {
        let is_plain = location.flags == 0;
        is_plain
            .then(|| self.segments.record_at_hand(location.position, location.stored_len))?
            .map(Bytes::from)
    }

    /// Asks the kernel to read the bodies of `ids`. What is written together is asked for together.
    pub fn prefetch(&self, ids: &[ChunkId]) {
        let mut run: Option<Range<Position>> = None;
        for location in ids.iter().filter_map(|id| self.location(id).ok().flatten()) {
            let end = Position(location.position.0 + HEADER_BYTES as u64 + u64::from(location.stored_len));
            match &mut run {
                Some(run) if run.end == location.position => run.end = end,
                _ => {
                    run.replace(location.position..end).inspect(|run| self.segments.prefetch(run));
                }
            }
        }
        run.inspect(|run| self.segments.prefetch(run));
    }

    /// Stores `body` under `id`.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk; then nothing changed.
    pub fn put_chunk(&self, lease: &Lease, id: &ChunkId, body: &[u8]) -> Result<Put> {
        lease.hold(id);
        let key = slot::chunk_key(id);
        if self.slot(&key)?.is_some() {
            return Ok(Put::Known);
        }
        let healed = self.quarantined_at(id)?.is_some();
        self.await_room()?;
        let payload = self.codec.encode_chunk(body);
        let (flags, stored) = payload.as_ref().map_or((0, body), |p| (p.flags, p.bytes.as_slice()));
        let header = Header {
            kind: RecordKind::Chunk,
            flags,
            stored_len: stored.len() as u32,
            raw_len: body.len() as u32,
            position: Position::default(),
            id: *id,
            payload_crc: crc32c::crc32c(stored),
        };
        let mut head = self.appender.lock()?;
        // Two writers may have found it missing; the second one sees the first one's here.
        if self.tables.read().find(&key).is_some_and(|slot| slot.is_some()) {
            return Ok(Put::Known);
        }
        self.reserve.check(stored.len() as u64)?;
        let header = head.chunk(header, stored)?;
        let mut tables = self.tables.write();
        tables.active.set(key, Some(Location::of(&header).chunk_slot()));
        if healed {
            tables.active.set(slot::quarantine_key(id), None);
        }
        let full = tables.active.bytes() >= self.settings.memtable_bytes;
        drop(tables);
        self.appended(head, full);
        Ok(Put::New { stored_bytes: (HEADER_BYTES + stored.len()) as u64 })
    }

    /// Returns where chunk `id` lay when scrub set it aside, if nobody put it again since.
    ///
    /// # Errors
    /// Those of the index.
    pub fn quarantined_at(&self, id: &ChunkId) -> Result<Option<Location>> {
        if !self.quarantined.load(Ordering::Acquire) {
            return Ok(None);
        }
        let Some(place) = self.value(&slot::quarantine_key(id))? else { return Ok(None) };
        let location = Slot::decode(&place)?.chunk();
        location.map(Some).ok_or_else(|| Error::corrupt(format!("index entry of quarantined chunk {id}")))
    }

    /// Stores chunk `id` again, which was set aside, if the record at `location` is what it should be after all; says
    /// whether that could be told.
    ///
    /// # Errors
    /// Those of the index and of writing.
    pub fn look_again(&self, id: &ChunkId, location: Location) -> Result<bool> {
        match self.read_chunk(id, location) {
            Ok(body) => match self.put_chunk(&self.leases.start(), id, &body) {
                Err(error) if error.kind() == Kind::NoSpace => Ok(false),
                put => put.map(|_| true),
            },
            Err(error) => Ok(matches!(error.kind(), Kind::Corrupt | Kind::NotFound)),
        }
    }
}
