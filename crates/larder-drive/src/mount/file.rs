//! An open file: one for all handles of a node, so that each sees every write at once.
//!
//! Lock order: the turn to commit, the data, the live attributes. The data's lock is held for copies in memory and for
//! calls into the page cache, never while chunks are read, cut or stored.

use super::budget::Budget;
use super::data::Data;
use super::layer::Source;
use super::live::Live;
use super::staging::Place;
use super::stream::{self, Block, Stream, WRITE_MAX_BYTES};
use super::worker::{Job, Queue};
use crate::{Drive, Hold};
use larder_core::{Error, Kind, Node, NodeId, Result};
use larder_policy::ReadAhead;
use larder_store::Lease;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::io::Errno;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest file. Source: off_t of sys_types.h(0P) is signed.
pub(super) const SIZE_MAX_BYTES: u64 = i64::MAX as u64;
/// More changed ranges than this are stored as chunks before the commit: about 24 MiB of map. Writing all of a 1 GiB
/// file in pieces of 4 KiB at random has 66,000 at most.
const RUNS_MAX: usize = 256 * 1024;
/// More staged bytes than this are stored as chunks before the commit: bounds the disk that staging takes.
const STAGED_MAX_BYTES: u64 = 1 << 30;

/// What all open files of a mount share.
pub(super) struct Shared {
    pub drive: Arc<Drive>,
    pub budget: Arc<Budget>,
    pub place: Place,
    pub queue: Queue,
}

/// A file that is open.
pub(super) struct WorkingFile {
    pub id: NodeId,
    pub shared: Arc<Shared>,
    pub data: Mutex<Data>,
    /// Rung when a block of the stream has been cut.
    settled: Condvar,
    pub live: Mutex<Live>,
    /// Commits go one after the other.
    pub turn: Mutex<()>,
    /// Another door may have published a version.
    pub stale: AtomicBool,
    /// Keeps the version that this started from, and everything since.
    pub hold: Mutex<Hold>,
    /// What is read in a row.
    pub ahead: Mutex<ReadAhead>,
}

/// The data, locked.
pub(super) type Locked<'a> = MutexGuard<'a, Data>;

impl WorkingFile {
    /// Opens `node`, which was read after `hold` was taken.
    pub fn new(shared: Arc<Shared>, node: Node, hold: Hold) -> Self {
        let head = node.head().cloned().unwrap_or_default();
        let mut data = Data::new(head, shared.place.clone(), shared.budget.clone());
        // A draft has something to publish even where nobody writes.
        data.generation = u64::from(node.draft);
        Self {
            id: node.id,
            data: Mutex::new(data),
            settled: Condvar::new(),
            live: Mutex::new(Live::new(node)),
            turn: Mutex::new(()),
            stale: AtomicBool::new(false),
            ahead: Mutex::default(),
            hold: Mutex::new(hold),
            shared,
        }
    }

    /// Locks the data, up to date, and all of its manifest known.
    ///
    /// # Errors
    /// Those of reading the manifest.
    pub fn ready(&self) -> Result<Locked<'_>> {
        self.ready_for(&(0..u64::MAX))
    }

    /// Does what [`WorkingFile::ready`] does for who looks at `range` only, and changes nothing.
    ///
    /// # Errors
    /// Those of reading the manifest.
    pub fn ready_for(&self, range: &Range<u64>) -> Result<Locked<'_>> {
        let mut data = self.data.lock();
        if self.stale.load(Ordering::Acquire) && data.is_clean() {
            self.stale.store(false, Ordering::Release);
            self.follow(&mut data).inspect_err(|_| self.stale.store(true, Ordering::Release))?;
        }
        let drive = &self.shared.drive;
        loop {
            let Some(outline) = data.outline.clone() else {
                let head = data.head.clone();
                let outline = MutexGuard::unlocked(&mut data, || drive.outline(self.id, &head))?;
                if data.outline.is_none() && data.head == head {
                    data.outline = Some(Arc::new(outline));
                }
                continue;
            };
            if outline.pages(range, 1).is_empty() {
                return Ok(data);
            }
            let pages = MutexGuard::unlocked(&mut data, || drive.pages(self.id, &outline, range))?;
            // Another version, or one with more of its pages, may be there now.
            drop(outline);
            if let Some(outline) = &mut data.outline {
                Arc::make_mut(outline).unfold(range, |id| Ok(pages.get(id).cloned()))?;
            }
        }
    }

    /// Shows the version that another door published.
    fn follow(&self, data: &mut Data) -> Result<()> {
        match self.shared.drive.catalog().node(self.id) {
            Ok(node) => {
                if let Some(head) = node.head().filter(|head| **head != data.head) {
                    data.rebase(head.clone());
                }
                self.live.lock().follow(node);
                Ok(())
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As [`WorkingFile::ready`], for a change that may make the map longer: stores the changes before where there are
    /// too many.
    ///
    /// # Errors
    /// Those of reading the manifest, and of storing.
    pub fn ready_to_change(&self) -> Result<Locked<'_>> {
        let mut data = self.ready()?;
        if data.live.len() > RUNS_MAX || data.has_staged(STAGED_MAX_BYTES) {
            drop(data);
            self.consolidate()?;
            data = self.ready()?;
        }
        Ok(data)
    }

    /// Waits until nobody is cutting a block of the stream. One that could not be stored stays, in memory.
    pub fn wait_for_cut(&self, data: &mut Locked<'_>) {
        while data.stream.as_ref().is_some_and(|stream| stream.in_flight) {
            self.settled.wait(data);
        }
    }

    /// Waits until every full block of the stream has been cut.
    ///
    /// # Errors
    /// Those of storing chunks, where that failed before and fails again.
    pub fn settle(&self, data: &mut Locked<'_>) -> Result<()> {
        loop {
            self.wait_for_cut(data);
            match data.stream.as_mut().and_then(Stream::retry) {
                Some(block) => self.cut_here(data, block)?,
                None => return Ok(()),
            }
        }
    }

    /// Cuts a block on this thread.
    fn cut_here(&self, data: &mut Locked<'_>, block: Arc<Block>) -> Result<()> {
        let lease = self.lease(data);
        let cut = MutexGuard::unlocked(data, || self.cut(&lease, &block));
        let done = data.cut_done(block, cut);
        self.settled.notify_all();
        done
    }

    fn cut(&self, lease: &Lease, block: &Block) -> Result<stream::Cut> {
        let chunks = self.shared.drive.chunks();
        stream::cut(block.pending(), |id, body| chunks.put(lease, id, body).map(drop))
    }

    /// Cuts a block on the worker's thread. An error stays with the block: the next write or commit tries again.
    pub fn cut_there(&self, lease: &Lease, block: Arc<Block>) {
        let cut = catch_unwind(AssertUnwindSafe(|| self.cut(lease, &block)));
        let cut = cut.unwrap_or_else(|_| Err(Error::corrupt("storing a chunk panicked")));
        let _ = self.data.lock().cut_done(block, cut);
        self.settled.notify_all();
    }

    pub fn lease(&self, data: &mut Data) -> Arc<Lease> {
        data.lease.get_or_insert_with(|| Arc::new(self.shared.drive.chunks().lease())).clone()
    }

    /// Writes `bytes` at `at`, or at the end.
    ///
    /// # Errors
    /// `NoSpace`; `Invalid` (EFBIG) behind [`SIZE_MAX_BYTES`]; those of reading the end of the file.
    pub fn write(self: &Arc<Self>, at: Option<u64>, bytes: &[u8]) -> Result<usize> {
        let mut written = 0;
        for part in bytes.chunks(WRITE_MAX_BYTES) {
            match self.write_one(at.map(|at| at + written as u64), part) {
                Err(error) if written == 0 => return Err(error),
                // What is written is written: the caller asks again for the rest and learns why.
                Err(_) => break,
                Ok(()) => written += part.len(),
            }
        }
        Ok(written)
    }

    fn write_one(self: &Arc<Self>, at: Option<u64>, bytes: &[u8]) -> Result<()> {
        let data = &mut self.ready_to_change()?;
        let mut has_memory = true;
        loop {
            let at = at.unwrap_or(data.size);
            let end = at.checked_add(bytes.len() as u64).filter(|end| *end <= SIZE_MAX_BYTES);
            let end = end.ok_or_else(|| too_big("write"))?;
            if at > data.size {
                self.wait_for_cut(data);
                if at > data.size {
                    data.end_stream()?;
                    return self.stage(data, at, bytes);
                }
                continue;
            }
            let Some(stream) = &data.stream else {
                if has_memory && at == data.size {
                    has_memory = self.start_stream(data)?;
                    continue;
                }
                return self.stage(data, at, bytes);
            };
            if end <= stream.start() {
                return self.stage(data, at, bytes);
            }
            if stream.is_cutting()
                && (at < stream.filling_start() || (stream.is_full() && end > stream.end()))
            {
                self.settle(data)?;
            } else if stream.is_full() && end > stream.end() {
                self.hand_on(data)?;
            } else if data.write_to_stream(at, bytes)? {
                self.changed(data);
                if data.stream.as_ref().is_some_and(|stream| stream.is_full() && !stream.is_cutting()) {
                    // Should storing fail, the next write or commit says so; these bytes are kept.
                    let _ = self.hand_on(data);
                }
                return Ok(());
            } else {
                self.settle(data)?;
                data.end_stream()?;
                has_memory = false;
            }
        }
    }

    fn stage(&self, data: &mut Data, at: u64, bytes: &[u8]) -> Result<()> {
        data.stage(at, bytes)?;
        self.changed(data);
        Ok(())
    }

    /// Has a full block cut, elsewhere where somebody is free.
    fn hand_on(self: &Arc<Self>, data: &mut Locked<'_>) -> Result<()> {
        // Cutting unlocks the data: a commit under way must not take the stream for the one that it stored.
        data.generation += 1;
        let lease = self.lease(data);
        let budget = data.budget.clone();
        let Some(stream) = &mut data.stream else { return Ok(()) };
        if let Some(block) = stream.rotate(&budget) {
            let job = Job { file: self.clone(), block, lease };
            return match self.shared.queue.offer(job) {
                Ok(()) => Ok(()),
                Err(Job { block, .. }) => self.cut_here(data, block),
            };
        }
        // No memory for a second block: in place, with the lock held.
        let at = stream.start();
        let chunks = self.shared.drive.chunks();
        let cut = stream.cut_in_place(|id, body| chunks.put(&lease, id, body).map(drop))?;
        data.chunks_at(at, cut);
        Ok(())
    }

    /// Starts a stream at the end of the file, or at its last chunk; says whether there is memory for one.
    fn start_stream(&self, data: &mut Locked<'_>) -> Result<bool> {
        let budget = data.budget.clone();
        let Some(last) = data.last_chunk() else {
            data.stream = Stream::new(&budget, data.size, &[]);
            return Ok(data.stream.is_some());
        };
        let Source::Chunk { id, .. } = last.source else { return Ok(false) };
        let size = data.size;
        let body = MutexGuard::unlocked(data, || self.shared.drive.chunk(self.id, &id))?;
        if data.stream.is_none() && data.size == size && data.last_chunk() == Some(last) {
            data.stream = Stream::new(&budget, last.at, &body);
            return Ok(data.stream.is_some());
        }
        Ok(true)
    }

    /// Makes the file `size` bytes long.
    ///
    /// # Errors
    /// `Invalid` (EFBIG); `NoSpace`.
    pub fn resize(&self, size: u64) -> Result<()> {
        if size > SIZE_MAX_BYTES {
            return Err(too_big("truncate"));
        }
        let mut data = self.ready()?;
        if size != data.size {
            // Bytes that go need no space: a block that could not be stored is not tried again.
            self.wait_for_cut(&mut data);
            data.resize(size)?;
        }
        self.changed(&mut data);
        Ok(())
    }

    /// Notes a change of the data, before anything unlocks it: a commit that ends then must see that there is more.
    pub fn changed(&self, data: &mut Data) {
        data.generation += 1;
        self.live.lock().wrote(data.size, data.size - data.hole_bytes, self.shared.drive.now());
    }
}

/// An error that a mount answers with EFBIG.
pub(super) fn too_big(what: &str) -> Error {
    Error::invalid(format!("{what}: file too large")).because(std::io::Error::from(Errno::FBIG))
}
