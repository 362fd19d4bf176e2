//! Which records of a segment are still of use, and moving those to the end of the log.
//!
//! A chunk is of use where the index points to it; an edit where the key's value is what it set. An edit that
//! removed a key is of use as long as an older segment may have a value for it.

use super::collect::Pace;
use super::edits::{self, Edit};
use super::engine::Engine;
use super::position::Position;
use super::record::{HEADER_BYTES, Header, RecordKind};
use super::slot::{self, Location, Slot};
use super::walk::Walk;
use crate::kv::Batch;
use larder_core::Result;

/// Edits are moved in batches of about this size, each under one lock.
pub const MOVE_BATCH_BYTES: usize = 64 << 10;

/// An [`Edit`] of its own.
pub type OwnedEdit = (Vec<u8>, Option<Vec<u8>>);

impl Engine {
    /// Returns how many bytes of segment `number` are of use, about; `None` where it is damaged or cannot be read.
    ///
    /// # Errors
    /// Those of opening it and of the index.
    pub fn used_bytes(&self, number: u32, oldest: bool, pace: Pace<'_>) -> Result<Option<u64>> {
        let mut used = 0;
        let whole = self.each_record(number, pace, |header, payload| {
            used += match header.kind {
                RecordKind::Chunk if self.is_current(header)? => u64::from(header.record_bytes()),
                RecordKind::Chunk | RecordKind::Commit => 0,
                RecordKind::Meta => self.used_edits(header, payload, oldest)?.1 as u64,
            };
            Ok(true)
        })?;
        Ok(whole.then_some(used))
    }

    /// Appends what is of use in segment `number` to the log again; returns its bytes, or `None` where the segment
    /// is damaged or cannot be read, so that it must not go.
    ///
    /// # Errors
    /// Those of opening it, of writing and of the index.
    pub fn move_used(&self, number: u32, oldest: bool, pace: Pace<'_>) -> Result<Option<u64>> {
        let mut moved = 0;
        let (mut waiting, mut waiting_bytes) = (Vec::new(), 0);
        let whole = self.each_record(number, pace, |header, payload| {
            match header.kind {
                RecordKind::Chunk if self.is_current(header)? => {
                    let payload = self.segments.payload(header.position, header.stored_len);
                    let whole = payload.ok().filter(|bytes| crc32c::crc32c(bytes) == header.payload_crc);
                    let Some(payload) = whole else { return Ok(false) };
                    moved += self.move_chunk(header, &payload)?;
                }
                RecordKind::Chunk if self.quarantined_at(&header.id)?.is_some() => {
                    return self.look_again(&header.id, Location::of(header));
                }
                RecordKind::Chunk | RecordKind::Commit => {}
                RecordKind::Meta => {
                    let (edits, bytes) = self.used_edits(header, payload, oldest)?;
                    waiting.extend(edits.into_iter().map(|edit| (Location::of(header), edit)));
                    waiting_bytes += bytes;
                }
            }
            if waiting_bytes >= MOVE_BATCH_BYTES {
                moved += self.move_edits(std::mem::take(&mut waiting))?;
                waiting_bytes = 0;
            }
            Ok(true)
        })?;
        moved += self.move_edits(waiting)?;
        Ok(whole.then_some(moved))
    }

    /// Hands each record to `visit`, META records with their plain payload, until that says stop; returns whether
    /// the segment is whole and was read to its end: what cannot be read now may be whole.
    fn each_record(
        &self,
        number: u32,
        pace: Pace<'_>,
        mut visit: impl FnMut(&Header, &[u8]) -> Result<bool>,
    ) -> Result<bool> {
        let mut walk = Walk::open(&self.segments, Position::new(number, HEADER_BYTES as u32))?;
        while !walk.at_end() {
            let Ok(Some(header)) = walk.header() else { return Ok(false) };
            let mut plain = Vec::new();
            if header.kind == RecordKind::Meta {
                let Ok(Some(payload)) = walk.payload(&header) else { return Ok(false) };
                plain = self.codec.decode_meta(header.flags, payload)?;
            }
            if !visit(&header, &plain)? {
                return Ok(false);
            }
            pace(header.record_bytes().into());
            walk.skip(&header);
        }
        Ok(true)
    }

    /// Says whether the index points to this CHUNK record.
    pub fn is_current(&self, header: &Header) -> Result<bool> {
        Ok(self
            .slot(&slot::chunk_key(&header.id))?
            .is_some_and(|slot| slot == Location::of(header).chunk_slot()))
    }

    fn used_edits(&self, header: &Header, plain: &[u8], oldest: bool) -> Result<(Vec<OwnedEdit>, usize)> {
        let (mut used, mut bytes) = (Vec::new(), 0);
        for edit in edits::decode(plain)?.edits {
            let current = self.slot(edit.0)?;
            if (edit.1.is_some() || !oldest)
                && self.is_used(edit, current.as_deref(), Location::of(header))?
            {
                bytes += edit.0.len() + edit.1.map_or(0, <[u8]>::len) + EDIT_BYTES;
                used.push((edit.0.to_vec(), edit.1.map(<[u8]>::to_vec)));
            }
        }
        Ok((used, bytes))
    }

    /// Appends the chunk of `header` again, if the index still points there; returns the bytes.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk and the index.
    pub fn move_chunk(&self, header: &Header, payload: &[u8]) -> Result<u64> {
        self.await_room()?;
        let key = slot::chunk_key(&header.id);
        let mut head = self.appender.lock()?;
        // Dropped, or damaged and put again, since it was looked up.
        if !self.is_current(header)? {
            return Ok(0);
        }
        // Unlike a new chunk, it frees more than it takes: its segment goes.
        let moved = self.reserve.at_need(|| head.chunk(*header, payload))?;
        let mut tables = self.tables.write();
        tables.active.set(key, Some(Location::of(&moved).chunk_slot()));
        let full = tables.active.bytes() >= self.settings.memtable_bytes;
        drop(tables);
        self.appended(head, full);
        Ok(moved.record_bytes().into())
    }

    /// Appends the edits that the index still has again, each with the place of its record; returns the bytes.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk and the index.
    pub fn move_edits(&self, waiting: Vec<(Location, OwnedEdit)>) -> Result<u64> {
        if waiting.is_empty() {
            return Ok(0);
        }
        self.await_room()?;
        let mut head = self.appender.lock()?;
        let mut edits = Vec::with_capacity(waiting.len());
        for (place, (key, value)) in waiting {
            let current = self.slot(&key)?;
            if self.is_used((&key, value.as_deref()), current.as_deref(), place)? {
                edits.push((key, value));
            }
        }
        if edits.is_empty() {
            return Ok(0);
        }
        let batch = Batch { edits, changes: Vec::new() };
        let payloads = self.payloads(&batch);
        let headers = self.append_batch(&mut head, &payloads)?;
        let mut tables = self.tables.write();
        let mut edits = batch.edits.into_iter();
        for (header, payload) in headers.iter().zip(&payloads) {
            for (key, value) in edits.by_ref().take(payload.edits) {
                // Short values are in the index already; of a long one the place is new.
                match value {
                    Some(value) if edits::is_long(&value) => {
                        tables.active.set(key, Some(self.codec.slot(header, &value)));
                    }
                    value => tables.active.count_known(&key, &value.unwrap_or_default()),
                }
            }
        }
        let full = tables.active.replay_bytes() >= self.settings.memtable_bytes;
        drop(tables);
        let bytes =
            headers.iter().map(|header| u64::from(header.record_bytes())).sum::<u64>() + HEADER_BYTES as u64;
        self.appended(head, full);
        Ok(bytes)
    }

    /// Says whether the index has what `edit`, in the record at `place`, set.
    fn is_used(&self, edit: Edit<'_>, current: Option<&[u8]>, place: Location) -> Result<bool> {
        let Some(current) = current else { return Ok(edit.1.is_none()) };
        Ok(match (edit.1, Slot::decode(current)?) {
            (Some(_), Slot::Pointer(now)) => now == place,
            (Some(value), now) => self.codec.value(now)?.is_some_and(|now| now == value),
            (None, _) => false,
        })
    }
}

/// What an edit takes in a record besides its key and value.
const EDIT_BYTES: usize = 6;
