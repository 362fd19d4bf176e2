//! Publishing what was written: chunks for what changed, then one commit of the catalog.
//!
//! Writers go on meanwhile: changes being stored are frozen in a layer of their own, and what comes on top stays dirty.

use super::data::{Base, walk};
use super::file::WorkingFile;
use super::layer::{Layer, Piece, Source};
use super::rechunk::Rechunker;
use super::staging::Staged;
use crate::{Actor, Door};
use larder_core::{ChunkId, Error, Head, Kind, Manifest, Name, NodeId, Result, Timestamp};
use larder_store::{Durability, Lease, Op};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A stream keeps no more than this of committed bytes: the next append takes them from the chunk store otherwise.
const KEPT_MAX_BYTES: u64 = 64 * 1024;

/// Names tried for a file that was removed elsewhere while it was written.
const NAMES_MAX: u32 = 1000;

/// The file at one moment.
struct Snapshot {
    size: u64,
    generation: u64,
    /// What is committed, and the writer began with.
    head: Head,
    layer: Arc<Layer>,
    base: Base,
    staged: Staged,
    /// The stream's bytes and where they begin.
    tail: (u64, Vec<u8>),
    mtime: Timestamp,
    lease: Arc<Lease>,
}

impl WorkingFile {
    /// Commits what was written; returns false where there was nothing. What is written meanwhile stays for the next commit.
    ///
    /// A file without a name has nobody to show a version to: it is left as it is.
    ///
    /// # Errors
    /// `NoSpace` and those of the store; what was written stays readable and uncommitted.
    pub fn commit(&self, durability: Durability) -> Result<bool> {
        let _turn = self.turn.lock();
        if self.is_published(durability) {
            return Ok(false);
        }
        // Before the look: what is current then is not purged.
        let hold = self.shared.drive.hold();
        if self.is_deleted()? && !self.is_taken_away()? {
            return Ok(false);
        }
        let snapshot = self.snapshot()?;
        let published = self.store(&snapshot).and_then(|manifest| {
            let chunks = self.shared.drive.chunks();
            let head = manifest.to_head(|id, page| chunks.put(&snapshot.lease, &id, page).map(drop))?;
            let is_there = self.publish(&snapshot, &head, durability)?;
            Ok((manifest, is_there.then_some(head)))
        });
        match published {
            Ok((manifest, Some(head))) => {
                *self.hold.lock() = hold;
                self.committed(snapshot, manifest, head);
                self.data.lock().interim_since =
                    (durability == Durability::Power).then(|| self.shared.drive.now());
                Ok(true)
            }
            // The catalog does not refer to its chunks: it stays uncommitted, and its lease holds them.
            Ok((manifest, None)) => {
                self.based(&snapshot, manifest);
                Ok(false)
            }
            Err(error) => {
                self.undo();
                Err(error)
            }
        }
    }

    /// Says whether there is nothing to publish. What an fsync published counts as saved once a writer closes the file.
    fn is_published(&self, durability: Durability) -> bool {
        let mut data = self.data.lock();
        let is_clean = data.is_clean();
        if is_clean && durability == Durability::Process {
            data.interim_since = None;
        }
        is_clean
    }

    /// Stores what was written as chunks without publishing it, so that maps and staging stay small.
    ///
    /// # Errors
    /// As [`WorkingFile::commit`].
    pub fn consolidate(&self) -> Result<()> {
        let _turn = self.turn.lock();
        let snapshot = self.snapshot()?;
        match self.store(&snapshot) {
            Ok(manifest) => {
                self.based(&snapshot, manifest);
                Ok(())
            }
            Err(error) => {
                self.undo();
                Err(error)
            }
        }
    }

    /// Says whether nothing would be lost by forgetting this file.
    pub fn is_saved(&self) -> bool {
        let is_gone = || Ok::<_, Error>(self.is_deleted()? && !self.is_taken_away()?);
        self.data.lock().is_clean() || is_gone().unwrap_or(false)
    }

    fn is_deleted(&self) -> Result<bool> {
        match self.shared.drive.catalog().node(self.id) {
            Ok(node) => Ok(node.nlink == 0),
            Err(error) if error.kind() == Kind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Says whether the file was removed at a server, and not here: what was written into it is to be kept.
    fn is_taken_away(&self) -> Result<bool> {
        if !self.shared.drive.fetches() || self.live.lock().is_removed() {
            return Ok(false);
        }
        match self.shared.drive.catalog().node(self.id) {
            Ok(node) => Ok(node.nlink == 0 && !node.draft),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a file that was taken away its name again, or a free one beside it.
    fn revival(&self) -> Result<Option<Op>> {
        if !self.is_taken_away()? {
            return Ok(None);
        }
        let catalog = self.shared.drive.catalog();
        let node = catalog.node(self.id)?;
        let Some(name) = node.name else { return Ok(None) };
        let is_there = catalog.node(node.parent).is_ok_and(|folder| folder.nlink > 0);
        let parent = if is_there { node.parent } else { NodeId::ROOT };
        let mut free = name.clone();
        for number in 1..=NAMES_MAX {
            match catalog.lookup(parent, &free) {
                Ok(_) => free = numbered(&name, number)?,
                Err(error) if error.kind() == Kind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Op::Revive { node: self.id, to: (parent, free) }))
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let mut data = self.ready()?;
        self.settle(&mut data)?;
        let layer = Arc::new(std::mem::take(&mut data.live));
        data.frozen = Some(layer.clone());
        data.low_water = data.size;
        let start = data.settled_end();
        let bytes =
            data.stream.as_ref().map_or(Vec::new(), |stream| stream.slices(start, data.size).concat());
        Ok(Snapshot {
            size: data.size,
            generation: data.generation,
            head: data.head.clone(),
            layer,
            base: data.base(),
            staged: data.staging.staged(),
            tail: (start, bytes),
            mtime: self.live.lock().mtime(),
            lease: self.lease(&mut data),
        })
    }

    fn store(&self, snapshot: &Snapshot) -> Result<Manifest> {
        let drive = &self.shared.drive;
        let mut put = |id: &ChunkId, body: &[u8]| drive.chunks().put(&snapshot.lease, id, body).map(drop);
        let mut read = |piece: Piece, into: &mut Vec<u8>| {
            if piece.source != Source::Staged {
                let mut bytes = Vec::new();
                self.fetch(piece, &mut bytes)?;
                bytes.iter().for_each(|bytes| into.extend_from_slice(bytes));
                return Ok(());
            }
            let from = into.len();
            into.resize(from + piece.len as usize, 0);
            snapshot.staged.read(piece.at, &mut into[from..])
        };
        let mut rechunker = Rechunker::new(&mut read, &mut put);
        let (tail_at, tail) = &snapshot.tail;
        let mut failed = None;
        let _ = walk(&[&snapshot.layer], &snapshot.base, (0, *tail_at), &mut |piece| match rechunker
            .piece(piece)
        {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        });
        failed.map_or(Ok(()), Err)?;
        rechunker.bytes(tail)?;
        let manifest = rechunker.finish()?;
        if manifest.size_bytes() != snapshot.size {
            return Err(Error::corrupt(format!("node {} lost bytes while it was cut into chunks", self.id)));
        }
        Ok(manifest)
    }

    /// Returns whether there was a node to publish it in.
    fn publish(&self, snapshot: &Snapshot, head: &Head, durability: Durability) -> Result<bool> {
        let now = self.shared.drive.now();
        let op = Op::SetContent {
            node: self.id,
            head: head.clone(),
            mtime: snapshot.mtime,
            interim: self.data.lock().interim(now),
            base: Some(snapshot.head.clone()),
        };
        let revival = self.revival()?;
        let is_revived = revival.is_some();
        let ops = revival.into_iter().chain([op]).collect();
        let actor = Actor::new(Door::Mount, 0, 0, String::new());
        // Locks were asked when the file was opened for writing; nobody gets one since.
        match self.shared.drive.commit_unchecked(&actor, Vec::new(), ops, durability) {
            Ok(committed) => {
                if is_revived {
                    // No process asked the kernel for that name.
                    self.shared.drive.tell(&committed.changes);
                }
                Ok(true)
            }
            // A draft removed since the look at the start: nobody is left to see it.
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the frozen changes back: they are as uncommitted as they were.
    fn undo(&self) {
        let mut data = self.data.lock();
        if let Some(frozen) = data.frozen.take() {
            data.live.underlay(&frozen);
        }
    }

    /// Goes on from the new version; what was written meanwhile lies on top of it. Returns whether there was something.
    fn based(&self, snapshot: &Snapshot, manifest: Manifest) -> bool {
        let manifest = Arc::new(manifest);
        let mut data = self.data.lock();
        let more = data.generation != snapshot.generation;
        data.limit = snapshot.size.min(data.low_water);
        data.outline = Some(Arc::new(manifest.clone().into()));
        data.frozen = None;
        data.staged_since = 0;
        if more {
            let size = data.size;
            data.hole_bytes = data.holes_in(0, size);
            return true;
        }
        let last = manifest.extents().last();
        data.hole_bytes = manifest.extents().iter().filter(|e| e.id.is_hole()).map(|e| e.len_bytes).sum();
        data.live = Layer::default();
        data.staging.clear();
        if let Some(stream) = &mut data.stream {
            stream.dirty = false;
            let start = snapshot.size - last.map_or(0, |extent| extent.len_bytes);
            if start >= stream.start() && snapshot.size - start <= KEPT_MAX_BYTES {
                stream.trim(start);
            } else {
                data.stream = None;
            }
        }
        false
    }

    fn committed(&self, snapshot: Snapshot, manifest: Manifest, head: Head) {
        let more = self.based(&snapshot, manifest);
        let mut data = self.data.lock();
        data.committed = snapshot.generation;
        data.head = head;
        if data.is_clean() {
            data.lease = None;
        }
        let more = more || !data.is_clean();
        self.live.lock().committed(data.size - data.hole_bytes, more);
        // Should another door have published on top of this, the next look at the catalog finds it.
        self.stale.store(true, Ordering::Release);
    }
}

/// `name (kept N)`, cut where it would be too long.
fn numbered(name: &Name, number: u32) -> Result<Name> {
    let suffix = format!(" (kept {number})");
    let room = name.as_bytes().len().min(255 - suffix.len());
    Name::new([&name.as_bytes()[..room], suffix.as_bytes()].concat())
}
