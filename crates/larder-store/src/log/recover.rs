//! Opening a store: from whatever the last process, the power and the disk left to an engine that serves.
//!
//! The index is used where it can be trusted and made again from the log where not: nothing about it keeps a store
//! from opening.

use super::appender::Appender;
use super::checked::Checked;
use super::codec::{Codec, NO_KEY};
use super::disk::Disk;
use super::engine::{Engine, Work};
use super::holes;
use super::index::{self, Index};
use super::position::Position;
use super::record::{Format, HEADER_BYTES};
use super::replay::{Damage, Refill, Replayed, replay};
use super::reserve::Reserve;
use super::segments::{self, Segments};
use super::settings::{Parts, Settings};
use super::slot::QUARANTINED;
use super::superblock::{self, IndexState, Superblock};
use super::tables::Tables;
use crate::chunks::Leases;
use larder_core::{Error, Kind, Result};
use parking_lot::{Condvar, Mutex, RwLock};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Where the log of a new store begins.
const BEGIN: Position = Position(1 << 32 | HEADER_BYTES as u64);

/// More segments than a power cut can take whole, names and all: the kernel starts to write what is older than 30 s.
const LOST_SEGMENTS_MAX: u32 = 64;

/// Opens the store in `disk`, which this process has locked.
///
/// # Errors
/// `Unsupported` for a store of another version; `Denied` for a wrong key; those of the disk.
pub fn recover(disk: Disk, settings: Settings, parts: &Parts) -> Result<Engine> {
    [segments::FOLDER, "staging"].into_iter().try_for_each(|folder| disk.make_folder(folder))?;
    let disk = Arc::new(disk);
    let codec = Codec::new(parts.key.as_ref());
    let boot = boot_of(&parts.boot_id);
    let (mut superblock, same_boot) = load(&disk, parts, &codec, boot)?;
    let settings = settings.on_disk_of(disk.free_bytes()?.1);
    let reserve = Reserve::open(disk.clone(), &settings)?;
    let segments = Arc::new(Segments::open(disk.clone(), Format { store_id: superblock.store_id })?);
    let (checkpoint, sync_failed) = (superblock.checkpoint, segments.sync_failed());
    if sync_failed {
        segments.read_anew(checkpoint.segment())?;
    }
    // What a failed sync lost, it lost like a power cut.
    let same_boot = same_boot && !sync_failed;
    let opened = trusted(&disk, &settings, &superblock, same_boot)?;
    let rebuilt = opened.is_none();
    let (index, quarantined) = match opened {
        Some(trusted) => trusted,
        None => (Index::fresh(&disk.path(index::FOLDER), settings.index_cache_bytes)?, false),
    };
    let from = if rebuilt { first(&segments) } else { checkpoint };
    let damage_at = |at: Position| match same_boot || at < checkpoint {
        true => Damage::Skipped,
        false => Damage::Ends,
    };
    let mut refill = Refill::new(&index, quarantined);
    refill.spill_at = rebuilt.then_some(settings.memtable_bytes);
    let mut replayed = replay(&segments, &codec, from..Position::MAX, damage_at, |found| refill.take(found))?;
    cut_torn_end(&segments, &mut replayed, checkpoint)?;
    let (tables, quarantined) = (Tables { active: refill.table, ..Tables::default() }, refill.quarantined);
    tell(&replayed, rebuilt, from);
    let incomplete = lacking(&replayed, &tables, &index)?;
    // A proper close says nothing of what was written behind it, and a full disk may keep a start from noting that it
    // wrote.
    let closed = superblock.clean && !replayed.damaged && replayed.end <= checkpoint;
    let end = settle_end(&segments, &replayed, same_boot || closed, checkpoint)?;
    superblock.boot = boot;
    superblock.clean = false;
    superblock.index = if rebuilt { IndexState::Lost } else { superblock.index };
    match disk.replace(superblock::NAME, &superblock.encode()) {
        // A full disk does not keep a store from opening. The old superblock only makes the next start more careful.
        Err(error) if error.kind() == Kind::NoSpace => {
            tracing::warn!(%error, "the superblock is not renewed")
        }
        outcome => outcome?,
    }
    segments.forget_failed_sync()?;
    let appender = Appender::open(segments.clone(), settings.segment_bytes, end, from.min(checkpoint))?;
    let work = Work { checkpoint: if rebuilt { BEGIN } else { checkpoint }, incomplete, ..Work::default() };
    Ok(Engine {
        settings,
        disk,
        segments,
        appender,
        codec,
        checked: Checked::new(),
        tables: RwLock::new(tables),
        index: RwLock::new(Some(Arc::new(index))),
        superblock: Mutex::new(superblock),
        leases: Leases::default(),
        quarantined: AtomicBool::new(quarantined),
        reserve,
        work: Mutex::new(work),
        work_changed: Condvar::new(),
        maintenance: Mutex::new(()),
        kept: Mutex::default(),
        rebuilt,
    })
}

/// The superblock, or the first one of a new store; and whether the power was on ever since it was written.
fn load(disk: &Disk, parts: &Parts, codec: &Codec, boot: [u8; 16]) -> Result<(Superblock, bool)> {
    let root = disk.root().display();
    let fresh = |store_id| Superblock {
        store_id,
        index: IndexState::Lost,
        generation: 0,
        checkpoint: BEGIN,
        boot,
        clean: false,
        key_check: codec.key_check(),
    };
    let found = disk.read(superblock::NAME)?.map(|bytes| Superblock::decode(&bytes));
    let (superblock, same_boot) = match found {
        // Where the boot has no name, nothing says that it is the same.
        Some(superblock::Found::Whole(found)) => (found, found.boot == boot && !parts.boot_id.is_empty()),
        Some(superblock::Found::Foreign) => {
            return Err(Error::unsupported(format!("{root} was written by another version of this program")));
        }
        Some(superblock::Found::Damaged) | None => match segments::format_on(disk)? {
            Some(format) => {
                tracing::warn!(store = %root, "the superblock is missing or damaged: the index is made again");
                (fresh(format.store_id), true)
            }
            None => {
                let mut store_id = [0; 16];
                (parts.random)(&mut store_id);
                let superblock = fresh(store_id);
                disk.replace(superblock::NAME, &superblock.encode())?;
                (superblock, true)
            }
        },
    };
    if superblock.key_check != codec.key_check() {
        let why = match superblock.key_check == NO_KEY {
            true => "was made without an encryption key and takes none",
            false => "needs the encryption key that it was made with",
        };
        return Err(Error::denied(format!("{root} {why}")));
    }
    Ok((superblock, same_boot))
}

/// The index, if the superblock and what is on the disk allow to trust it, and whether it has quarantined chunks.
///
/// # Errors
/// `NoSpace`: sled writes when it is opened; the index stays as it is.
fn trusted(
    disk: &Disk,
    settings: &Settings,
    superblock: &Superblock,
    same_boot: bool,
) -> Result<Option<(Index, bool)>> {
    // The newest is one that a rebuild had not finished, perhaps.
    for folder in index::newest_first(&disk.path(index::FOLDER)) {
        let whole = match superblock.index {
            IndexState::Sealed(hash) => same_boot || index::fingerprint(&folder) == Some(hash),
            IndexState::Applying => same_boot,
            IndexState::Lost => false,
        };
        if !whole || !folder.join("db").exists() {
            continue;
        }
        if !same_boot {
            index::drop_snapshots(&folder);
        }
        if let Some(trusted) = fitting(&folder, settings, superblock)? {
            return Ok(Some(trusted));
        }
    }
    Ok(None)
}

/// The index in `folder`, if it is of the superblock's generation, and whether it has quarantined chunks.
///
/// # Errors
/// `NoSpace`.
fn fitting(folder: &Path, settings: &Settings, superblock: &Superblock) -> Result<Option<(Index, bool)>> {
    let opened = Index::open(folder, settings.index_cache_bytes).and_then(|index| {
        let generation = index.generation()?;
        // A checkpoint that was writing has perhaps not come to its generation key.
        let applying = superblock.index == IndexState::Applying;
        let fits = generation == Some(superblock.generation)
            || applying && generation == superblock.generation.checked_sub(1).filter(|g| *g > 0);
        let quarantined = has_quarantined(&index)?;
        match fits {
            true => Ok((index, quarantined)),
            false => Err(Error::corrupt(format!("index of generation {generation:?}"))),
        }
    });
    match opened {
        Ok(trusted) => Ok(Some(trusted)),
        Err(error) if error.kind() == Kind::NoSpace => Err(error),
        Err(error) => {
            tracing::warn!(%error, "the index cannot be used");
            Ok(None)
        }
    }
}

/// Says where the log has holes that may hold what the index now lacks.
fn lacking(replayed: &Replayed, tables: &Tables, index: &Index) -> Result<Option<String>> {
    let known = |key: &[u8]| match tables.find(key) {
        Some(slot) => Ok(slot.is_some()),
        None => index.get(key).map(|slot| slot.is_some()),
    };
    let lacking = holes::told(&holes::unknown(replayed.holes.clone(), known)?);
    if let Some(holes) = &lacking {
        tracing::error!(%holes, "the index lacks what damaged records of the log hold; nothing is collected");
    }
    Ok(lacking)
}

/// Forgets the hole that a write left which the death of the process cut short: nothing of it was acknowledged.
///
/// # Errors
/// `Unavailable` where it is a hole only because the disk cannot read it now: the log must not be cut there.
fn cut_torn_end(segments: &Segments, replayed: &mut Replayed, checkpoint: Position) -> Result<()> {
    let Some(last) = segments.numbers().last().copied() else { return Ok(()) };
    let end = Position(Position::new(last, 0).0 + segments.file(last)?.len()?);
    let Some(torn) = replayed.holes.pop_if(|hole| hole.start >= checkpoint && hole.end >= end) else {
        return Ok(());
    };
    if replayed.unread >= torn.start {
        return Err(Error::unavailable(format!(
            "the end of the log, from {} on, cannot be read",
            torn.start
        )));
    }
    Ok(())
}

/// Cuts the log behind what counts, and says where it goes on.
fn settle_end(
    segments: &Segments,
    replayed: &Replayed,
    nothing_lost: bool,
    checkpoint: Position,
) -> Result<Position> {
    let end = replayed.end.max(checkpoint);
    let last = segments.numbers().last().copied().unwrap_or(end.segment());
    if nothing_lost {
        return Ok(end);
    }
    for number in segments.numbers().into_iter().filter(|number| *number > end.segment()) {
        segments.remove(number)?;
    }
    if segments.numbers().contains(&end.segment()) {
        let file = segments.file(end.segment())?;
        file.truncate(end.offset().into())?;
        file.sync()?;
    }
    // Before anything is written: a second cut must not bring them back.
    segments.sync_names()?;
    // Numbers that were never used: cursors of the feed that point behind the cut are then seen to be void.
    Ok(Position::new(last + LOST_SEGMENTS_MAX, HEADER_BYTES as u32))
}

fn first(segments: &Segments) -> Position {
    segments.numbers().first().map_or(BEGIN, |number| Position::new(*number, HEADER_BYTES as u32))
}

fn has_quarantined(index: &Index) -> Result<bool> {
    let first = index.range(Bound::Included(&[QUARANTINED])).next().transpose()?;
    Ok(first.is_some_and(|(key, _)| key.first() == Some(&QUARANTINED)))
}

fn boot_of(id: &str) -> [u8; 16] {
    let hash = blake3::hash(id.as_bytes());
    hash.as_bytes()[..16].try_into().expect("16 of 32 bytes")
}

fn tell(replayed: &Replayed, rebuilt: bool, from: Position) {
    let Replayed { end, damaged, chunks, batches, .. } = replayed;
    if *damaged {
        tracing::warn!(%from, %end, "the log has records that are not whole; they were left out");
    }
    tracing::info!(rebuilt, %from, %end, chunks, batches, "log replayed");
}
