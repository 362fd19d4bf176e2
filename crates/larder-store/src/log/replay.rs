//! From the log back to edits of the index: what a start and a rebuild do.

use super::codec::Codec;
use super::edits;
use super::index::Index;
use super::position::Position;
use super::record::{HEADER_BYTES, Header, RecordKind};
use super::segments::Segments;
use super::slot::{self, Location};
use super::tables::Table;
use super::walk::Walk;
use larder_core::{Error, Result};
use std::ops::Range;

/// What replay does where a record is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The log ends there: power was lost, and what follows was not acknowledged. Bodies are verified too.
    Ends,
    /// It is skipped up to the next whole header: nothing can be missing there but what went bad.
    Skipped,
    /// As `Skipped`, but what the disk cannot read is an error: it may be able to the next time.
    SkippedIfRead,
}

/// From the first byte of the log that could not be used to the next record. One that grows is another one.
pub type Hole = Range<Position>;

/// One edit that replay found.
pub struct Found {
    /// The key.
    pub key: Vec<u8>,
    /// Its slot, or that it goes.
    pub slot: Option<Vec<u8>>,
}

/// What a replay found besides the edits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Behind the last record that counts.
    pub end: Position,
    /// Something behind the end, or between records, was left out.
    pub damaged: bool,
    /// What was skipped.
    pub holes: Vec<Hole>,
    /// The last place that was skipped because the disk cannot read it.
    pub unread: Position,
    /// CHUNK records.
    pub chunks: u64,
    /// Whole batches.
    pub batches: u64,
}

struct Replay<'a, F> {
    codec: &'a Codec,
    sink: F,
    pending: Vec<(Header, Vec<u8>)>,
    replayed: Replayed,
    to: Position,
}

/// Replays the log of `span`: hands `sink` each edit of whole batches and each chunk, in order. `damage_at` says what
/// a record that is not whole means.
///
/// # Errors
/// Those of `sink` and of the disk; `Corrupt` where a whole record cannot be decoded.
pub fn replay(
    segments: &Segments,
    codec: &Codec,
    span: Range<Position>,
    damage_at: impl Fn(Position) -> Damage,
    sink: impl FnMut(Found) -> Result<()>,
) -> Result<Replayed> {
    let Range { start: from, end: to } = span;
    let replayed = Replayed { end: from, ..Replayed::default() };
    let mut replay = Replay { codec, sink, pending: Vec::new(), replayed, to };
    let wanted = from.segment()..=to.segment();
    let mut reached = from;
    for number in segments.numbers().into_iter().filter(|n| wanted.contains(n)) {
        if number > from.segment() && ends_before(segments, number, reached, &damage_at)? {
            replay.replayed.damaged = true;
            break;
        }
        let mut walk = Walk::open(segments, from.max(Position::new(number, HEADER_BYTES as u32)))?;
        if replay.segment(&mut walk, &damage_at)? {
            break;
        }
        reached = walk.position();
    }
    Ok(replay.replayed)
}

/// Says whether the log, read up to `reached`, ends before segment `number`: a power cut may take the end of the segment
/// before it and leave a file that ends behind a whole record.
fn ends_before(
    segments: &Segments,
    number: u32,
    reached: Position,
    damage_at: &impl Fn(Position) -> Damage,
) -> Result<bool> {
    let ends = |at: Position| damage_at(at) == Damage::Ends;
    let begin = Position::new(number, HEADER_BYTES as u32);
    if !ends(begin) {
        return Ok(false);
    }
    let Some(predecessor_bytes) = segments.predecessor_bytes(number)? else { return Ok(true) };
    let end = Position::new(number - 1, predecessor_bytes);
    // Up to the checkpoint nothing was lost; that part may have been compacted away.
    Ok(predecessor_bytes > 0 && end > reached && ends(Position(end.0 - 1)))
}

impl<F: FnMut(Found) -> Result<()>> Replay<'_, F> {
    /// Returns whether the log ends in this segment.
    fn segment(&mut self, walk: &mut Walk, damage_at: &impl Fn(Position) -> Damage) -> Result<bool> {
        // A batch lies in one segment.
        self.pending.clear();
        while !walk.at_end() && walk.position() < self.to {
            let at = walk.position();
            let damage = damage_at(at);
            let mut header = self.readable(walk.header(), damage, at)?;
            let mut payload = Vec::new();
            if let Some(found) = &header
                && (found.kind == RecordKind::Meta || damage == Damage::Ends)
            {
                match self.readable(walk.payload(found), damage, at)? {
                    Some(bytes) => payload = bytes,
                    None if damage == Damage::Ends => header = None,
                    // The header is whole: behind it goes the next record, and this one's batch does not count.
                    None => {
                        self.skipped(at..found.end());
                        walk.skip(found);
                        continue;
                    }
                }
            }
            match header {
                Some(header) => {
                    self.record(header, payload)?;
                    walk.skip(&header);
                }
                None if damage == Damage::Ends => {
                    self.replayed.damaged = true;
                    return Ok(true);
                }
                None => {
                    if !walk.resync()? {
                        self.unreadable(Error::unavailable("skipped"), damage, at)?;
                    }
                    self.skipped(at..walk.position());
                }
            }
        }
        Ok(false)
    }

    /// What could be read.
    fn readable<T>(&mut self, outcome: Result<Option<T>>, damage: Damage, at: Position) -> Result<Option<T>> {
        outcome.or_else(|error| self.unreadable(error, damage, at).map(|()| None))
    }

    /// Notes a block that cannot be read and is skipped like any other damage, unless it should be tried again.
    fn unreadable(&mut self, error: Error, damage: Damage, at: Position) -> Result<()> {
        if damage != Damage::Skipped {
            return Err(error);
        }
        tracing::warn!(%error, %at, "the log cannot be read");
        self.replayed.unread = at;
        Ok(())
    }

    fn record(&mut self, header: Header, payload: Vec<u8>) -> Result<()> {
        match header.kind {
            RecordKind::Chunk => {
                self.pending.clear();
                let slot = Some(Location::of(&header).chunk_slot());
                (self.sink)(Found { key: slot::chunk_key(&header.id), slot })?;
                self.replayed.chunks += 1;
                self.replayed.end = header.end();
            }
            RecordKind::Meta => self.pending.push((header, payload)),
            RecordKind::Commit => {
                let parts = std::mem::take(&mut self.pending);
                let crc = |crc, part: &(Header, Vec<u8>)| {
                    crc32c::crc32c_append(crc, &part.0.payload_crc.to_le_bytes())
                };
                if parts.len() == header.raw_len as usize && parts.iter().fold(0, crc) == header.payload_crc {
                    parts.into_iter().try_for_each(|(header, payload)| self.part(&header, payload))?;
                    self.replayed.batches += 1;
                } else {
                    self.skipped(header.position..header.end());
                }
                self.replayed.end = header.end();
            }
        }
        Ok(())
    }

    fn skipped(&mut self, hole: Hole) {
        self.replayed.damaged = true;
        self.replayed.holes.push(hole);
    }

    fn part(&mut self, header: &Header, payload: Vec<u8>) -> Result<()> {
        let plain = self.codec.decode_meta(header.flags, payload)?;
        for (key, value) in edits::decode(&plain)?.edits {
            let slot = value.map(|value| self.codec.slot(header, value));
            (self.sink)(Found { key: key.to_vec(), slot })?;
        }
        Ok(())
    }
}

/// Collects what replay finds in a table, and spills it to an index that is being made again.
pub struct Refill<'a> {
    /// What was found and is not in the index.
    pub table: Table,
    /// Moves the table to the index at this size; `None` for an index that is in use.
    pub spill_at: Option<usize>,
    /// A chunk is quarantined, or was.
    pub quarantined: bool,
    index: &'a Index,
}

impl<'a> Refill<'a> {
    /// Starts with an empty table over `index`.
    pub fn new(index: &'a Index, quarantined: bool) -> Self {
        Self { table: Table::default(), spill_at: None, quarantined, index }
    }

    /// Takes an edit.
    ///
    /// # Errors
    /// Those of the index.
    pub fn take(&mut self, found: Found) -> Result<()> {
        self.quarantined |= found.key.first() == Some(&slot::QUARANTINED);
        if self.quarantined && found.key.first() == Some(&slot::CHUNK) && found.slot.is_some() {
            // A chunk that was put again after scrub had found it damaged.
            self.table.set(slot::quarantine_key(&slot::chunk_of(&found.key)?), None);
        }
        self.table.set(found.key, found.slot);
        if self.spill_at.is_some_and(|limit| self.table.bytes() >= limit) {
            self.index.apply(&self.table)?;
            self.table = Table::default();
        }
        Ok(())
    }
}
