//! The parts of an open store, and what reading and writing the index's key space have in common.

use super::appender::{Appender, Appending, Payload};
use super::checked::Checked;
use super::codec::Codec;
use super::disk::Disk;
use super::edits;
use super::index::Index;
use super::position::Position;
use super::record::Header;
use super::reserve::Reserve;
use super::segments::Segments;
use super::settings::Settings;
use super::slot::{Location, Slot};
use super::superblock::Superblock;
use super::tables::Tables;
use crate::chunks::Leases;
use crate::kv::{Batch, Pair};
use larder_core::{Error, Kind, Result, Timestamp};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Entries of the index looked at under one lock.
const PAGE: usize = 1024;

/// An open store.
///
/// Locks are taken in this order: `maintenance`, `superblock`, the end of the log, `tables`, `index`, `work`.
pub struct Engine {
    pub settings: Settings,
    pub disk: Arc<Disk>,
    pub segments: Arc<Segments>,
    pub appender: Appender,
    pub codec: Codec,
    pub checked: Checked,
    pub tables: RwLock<Tables>,
    pub index: RwLock<Option<Arc<Index>>>,
    pub superblock: Mutex<Superblock>,
    pub leases: Leases,
    /// A chunk is quarantined, or was at some time since the store was opened.
    pub quarantined: AtomicBool,
    pub reserve: Reserve,
    pub work: Mutex<Work>,
    pub work_changed: Condvar,
    /// Collecting, scrubbing and rebuilding take turns.
    pub maintenance: Mutex<()>,
    /// Segments that no collection tries to move again before a scrub: what of them can be moved was, and the rest
    /// cannot be read.
    pub kept: Mutex<BTreeSet<u32>>,
    /// The index was made again when the store was opened.
    pub rebuilt: bool,
}

/// What the checkpointer is asked for and how it went.
#[derive(Debug, Default)]
pub struct Work {
    /// A checkpoint is wanted.
    pub wanted: bool,
    /// The index failed and must be made again.
    pub rebuild: bool,
    /// The index failed and was not made again yet, whether or not that was tried.
    pub index_lost: bool,
    /// The index was made from a log with these holes, and lacks what they held.
    pub incomplete: Option<String>,
    /// The store is being closed.
    pub closing: bool,
    /// When a checkpoint was last asked for because of the time.
    pub asked: Option<Timestamp>,
    /// Checkpoints tried.
    pub tried: u64,
    /// Where the log ended at the last checkpoint.
    pub checkpoint: Position,
    /// Why the last one failed.
    pub failed: Option<Error>,
}

impl Engine {
    /// Returns the slot of `key`.
    ///
    /// # Errors
    /// Those of the index.
    pub fn slot(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(found) = self.tables.read().find(key) {
            return Ok(found.cloned());
        }
        let found = self.index()?.get(key).inspect_err(|error| self.index_failed(error))?;
        Ok(found.map(|slot| slot.to_vec()))
    }

    /// Returns the value of a key of the catalog.
    ///
    /// # Errors
    /// Those of the index; `Corrupt`.
    pub fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(mut slot) = self.slot(key)? else { return Ok(None) };
        loop {
            let location = match Slot::decode(&slot)? {
                found @ (Slot::Inline(_) | Slot::Sealed(_)) => return self.codec.value(found),
                Slot::Pointer(location) => location,
                Slot::Chunk(_) => return Err(Error::invalid("the key of a chunk")),
            };
            match self.long_value(key, location) {
                Ok(value) => return Ok(Some(value)),
                Err(error) => match self.slot(key)? {
                    None => return Ok(None),
                    // The record was moved since the slot was read.
                    Some(moved) if moved != slot => slot = moved,
                    Some(_) => return Err(error),
                },
            }
        }
    }

    /// Returns up to `limit` pairs whose keys start with `prefix` and are greater than `after`.
    ///
    /// # Errors
    /// Those of the index; `Corrupt`.
    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>> {
        let mut pairs = self.scan_slots(prefix, after, limit)?;
        let mut kept = Vec::with_capacity(pairs.len());
        for (key, slot) in pairs.drain(..) {
            match Slot::decode(&slot)? {
                found @ (Slot::Inline(_) | Slot::Sealed(_)) => {
                    kept.extend(self.codec.value(found)?.map(|value| (key, value)));
                }
                // Gone since: as if the scan had been later.
                Slot::Pointer(_) => kept.extend(self.value(&key)?.map(|value| (key, value))),
                Slot::Chunk(_) => return Err(Error::invalid("the keys of chunks")),
            }
        }
        Ok(kept)
    }

    /// As [`Engine::scan`], with the slots as they are.
    ///
    /// # Errors
    /// Those of the index.
    pub fn scan_slots(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let mut pairs = Vec::new();
        if limit == 0 {
            return Ok(pairs);
        }
        // Held to the end: a scan sees whole commits only, and no checkpoint ends meanwhile.
        let tables = self.tables.read();
        let below = self.index()?;
        tables
            .merge(start, below.range(start), |key, slot| {
                let inside = key.starts_with(prefix);
                if inside {
                    pairs.push((key.to_vec(), slot.to_vec()));
                }
                inside && pairs.len() < limit
            })
            .inspect_err(|error| self.index_failed(error))?;
        Ok(pairs)
    }

    /// Calls `visit` with each key below `prefix`, in order, and its slot as it is. A page of them is looked at under one
    /// lock, so that what changes meanwhile is seen or not.
    ///
    /// # Errors
    /// Those of the index and of `visit`.
    pub fn each_slot(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(Vec<u8>, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.scan_slots(prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            page.into_iter().try_for_each(|(key, slot)| visit(key, slot))?;
        }
    }

    /// Appends `batch` to the log and applies it; returns the position behind it.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk; then nothing changed.
    pub fn apply(&self, batch: Batch) -> Result<Position> {
        self.await_room_for(&batch)?;
        let payloads = self.payloads(&batch);
        let mut head = self.appender.lock()?;
        let headers = self.append_batch(&mut head, &payloads)?;
        let mut tables = self.tables.write();
        let mut edits = batch.edits.into_iter();
        for (header, payload) in headers.iter().zip(&payloads) {
            for (key, value) in edits.by_ref().take(payload.edits) {
                tables.active.set(key, value.map(|value| self.codec.slot(header, &value)));
            }
        }
        let full = tables.active.bytes() >= self.settings.memtable_bytes;
        drop(tables);
        let end = head.end();
        self.appended(head, full);
        Ok(end)
    }

    /// Appends a batch, at need with the space that is kept for that.
    ///
    /// # Errors
    /// `NoSpace` and others of the disk; then nothing changed.
    pub fn append_batch(&self, head: &mut Appending<'_>, payloads: &[Payload]) -> Result<Vec<Header>> {
        self.reserve.at_need(|| head.batch(payloads))
    }

    /// Makes the payloads of a batch.
    pub fn payloads(&self, batch: &Batch) -> Vec<Payload> {
        let parts = edits::encode(batch).into_iter();
        parts.map(|part| Payload { edits: part.edits, ..self.codec.encode_meta(part.bytes) }).collect()
    }

    /// Lets go of the end of the log, and asks for a checkpoint where one is due; `full` says whether the memtable is.
    pub fn appended(&self, head: Appending<'_>, full: bool) {
        let end = head.end();
        head.release();
        let mut work = self.work.lock();
        let segments = u64::from(end.segment() - work.checkpoint.segment());
        let grown = segments * u64::from(self.settings.segment_bytes) + u64::from(end.offset());
        let due = full || grown > self.settings.checkpoint_log_bytes + u64::from(work.checkpoint.offset());
        if due && !work.wanted {
            work.wanted = true;
            self.work_changed.notify_all();
        }
    }

    /// The index.
    ///
    /// # Errors
    /// `Unavailable` while there is none.
    pub fn index(&self) -> Result<Arc<Index>> {
        let index = self.index.read().clone();
        index.ok_or_else(|| Error::unavailable("the index is being made again, or the store is closed"))
    }

    fn long_value(&self, key: &[u8], location: Location) -> Result<Vec<u8>> {
        let stored = self.segments.payload(location.position, location.stored_len);
        // Its segment is gone: that is damage, not absence.
        let stored = stored.map_err(|error| match error.kind() {
            Kind::NotFound => Error::corrupt(format!("record {}", location.position)).because(error),
            _ => error,
        })?;
        let plain = self.codec.decode_meta(location.flags, stored)?;
        match edits::decode(&plain)?.edits.as_slice() {
            [(found, Some(value))] if *found == key => Ok(value.to_vec()),
            _ => Err(Error::corrupt(format!("record {} holds another value", location.position))),
        }
    }
}
