//! From the log back to edits of the index: what a start and a rebuild do.

use super::codec::Codec;
use super::edits;
use super::position::Position;
use super::record::{HEADER_BYTES, Header, RecordKind};
use super::segments::Segments;
use super::slot::{self, Location};
use super::walk::Walk;
use larder_core::Result;

/// What replay does where a record is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The log ends there: power was lost, and what follows was not acknowledged. Bodies are verified too.
    Ends,
    /// It is skipped up to the next whole header: nothing can be missing there but what went bad.
    Skipped,
}

/// One edit that replay found.
pub struct Found {
    /// The key.
    pub key: Vec<u8>,
    /// Its slot, or that it goes.
    pub slot: Option<Vec<u8>>,
}

/// What a replay found besides the edits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Behind the last record that counts.
    pub end: Position,
    /// Something behind the end, or between records, was left out.
    pub damaged: bool,
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
}

/// Replays the log from `from` on: hands `sink` each edit of whole batches and each chunk, in order. `damage_from`
/// says from where on a record that is not whole ends the log.
///
/// # Errors
/// Those of `sink` and of the disk; `Corrupt` where a whole record cannot be decoded.
pub fn replay(
    segments: &Segments,
    codec: &Codec,
    from: Position,
    damage_at: impl Fn(Position) -> Damage,
    sink: impl FnMut(Found) -> Result<()>,
) -> Result<Replayed> {
    let replayed = Replayed { end: from, ..Replayed::default() };
    let mut replay = Replay { codec, sink, pending: Vec::new(), replayed };
    let numbers: Vec<u32> = segments.numbers().into_iter().filter(|n| *n >= from.segment()).collect();
    for number in numbers {
        let mut walk = Walk::open(segments, from.max(Position::new(number, HEADER_BYTES as u32)))?;
        if replay.segment(&mut walk, &damage_at)? {
            break;
        }
    }
    Ok(replay.replayed)
}

impl<F: FnMut(Found) -> Result<()>> Replay<'_, F> {
    /// Returns whether the log ends in this segment.
    fn segment(&mut self, walk: &mut Walk, damage_at: &impl Fn(Position) -> Damage) -> Result<bool> {
        while !walk.at_end() {
            let damage = damage_at(walk.position());
            let mut header = walk.header()?;
            let mut payload = Vec::new();
            if let Some(found) = &header
                && (found.kind == RecordKind::Meta || damage == Damage::Ends)
            {
                match walk.payload(found)? {
                    Some(bytes) => payload = bytes,
                    None if damage == Damage::Ends => header = None,
                    // The header is whole: behind it goes the next record, and this one's batch does not count.
                    None => {
                        self.replayed.damaged = true;
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
                None => {
                    self.replayed.damaged = true;
                    if damage == Damage::Ends {
                        return Ok(true);
                    }
                    walk.resync()?;
                }
            }
        }
        Ok(false)
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
                    self.replayed.damaged = true;
                }
                self.replayed.end = header.end();
            }
        }
        Ok(())
    }

    fn part(&mut self, header: &Header, payload: Vec<u8>) -> Result<()> {
        let plain = self.codec.decode_meta(header.flags, payload)?;
        for (key, value) in edits::decode(&plain)?.edits {
            let slot = value.map(|value| slot::of_value(header, value, edits::is_long(value)));
            (self.sink)(Found { key: key.to_vec(), slot })?;
        }
        Ok(())
    }
}
