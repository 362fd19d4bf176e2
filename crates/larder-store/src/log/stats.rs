//! Figures about an open store.

use super::appender::SyncStats;
use super::engine::Engine;
use super::record::HEADER_BYTES;
use super::slot::{CHUNK, QUARANTINED, Slot};
use larder_core::Result;
use std::collections::BTreeMap;

/// One segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentStats {
    /// Its number.
    pub number: u32,
    /// Its length.
    pub bytes: u64,
    /// Of that, records of chunks that the index points to.
    pub chunk_bytes: u64,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Chunks.
    pub chunks: u64,
    /// Bytes of the chunks in plain.
    pub plain_bytes: u64,
    /// Bytes that they take in the log.
    pub stored_bytes: u64,
    /// Chunks that scrub set aside and nobody put again.
    pub quarantined: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// The segments, oldest first.
    pub segments: Vec<SegmentStats>,
    /// Memory of the memtables, about.
    pub memtable_bytes: u64,
    /// Checkpoints so far.
    pub checkpoints: u64,
    /// Syncs of the log since the store was opened.
    pub syncs: SyncStats,
}

impl Engine {
    /// Counts what the store holds; reads the whole index.
    ///
    /// # Errors
    /// Those of the index and the disk.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats { syncs: self.appender.sync_stats(), ..Stats::default() };
        let mut used: BTreeMap<u32, u64> = BTreeMap::new();
        self.each_slot(&[CHUNK], |_, slot| {
            if let Slot::Chunk(location) = Slot::decode(&slot)? {
                let bytes = HEADER_BYTES as u64 + u64::from(location.stored_len);
                stats.chunks += 1;
                stats.plain_bytes += u64::from(location.raw_len);
                stats.stored_bytes += bytes;
                *used.entry(location.position.segment()).or_default() += bytes;
            }
            Ok(())
        })?;
        self.each_slot(&[QUARANTINED], |_, _| {
            stats.quarantined += 1;
            Ok(())
        })?;
        for number in self.segments.numbers() {
            let bytes = self.segments.file(number)?.len()?;
            stats.log_bytes += bytes;
            let chunk_bytes = used.get(&number).copied().unwrap_or(0);
            stats.segments.push(SegmentStats { number, bytes, chunk_bytes });
        }
        let tables = self.tables.read();
        stats.memtable_bytes =
            (tables.active.bytes() + tables.frozen.as_ref().map_or(0, |t| t.bytes())) as u64;
        drop(tables);
        stats.checkpoints = self.superblock.lock().generation;
        Ok(stats)
    }

    /// Returns a hash of everything in the index: equal for equal stores, whatever the index went through.
    ///
    /// # Errors
    /// Those of the index.
    pub fn digest(&self) -> Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        self.each_slot(&[], |key, slot| {
            hasher.update(&(key.len() as u32).to_le_bytes()).update(&key);
            hasher.update(&(slot.len() as u32).to_le_bytes()).update(&slot);
            Ok(())
        })?;
        Ok(*hasher.finalize().as_bytes())
    }
}
