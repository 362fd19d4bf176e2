//! Opening, reading, writing and publishing files.

use super::file::WorkingFile;
use super::table::Open;
use super::{Handle, Mount, OpenFlags};
use crate::{Actor, Door};
use bytes::Bytes;
use larder_core::{Content, Error, Kind, Name, Node, NodeId, NodeKind, Result};
use larder_store::catalog::NewNode;
use larder_store::{Durability, Expect, Op};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Mount {
    /// Makes and opens a file. Opened for writing it is a draft, which other doors do not see, until [`Mount::flush`],
    /// [`Mount::fsync`] or [`Mount::release`] publishes it.
    ///
    /// # Errors
    /// `Exists`; `NotFound` and `NotADirectory` for the parent; locked.
    pub fn create(
        &self,
        actor: &Actor,
        parent: NodeId,
        name: Name,
        mode: u16,
        flags: OpenFlags,
    ) -> Result<(Node, Handle)> {
        let new = NewNode { draft: flags.write, ..self.new_node(actor, parent, NodeKind::File, mode)? };
        let new = NewNode { content: Content::File(Default::default()), ..new };
        let id = new.id;
        let op = Op::Create { parent, name: name.clone(), node: Box::new(new.clone()) };
        self.drive.commit(actor, Vec::new(), vec![op], Durability::Process)?;
        let busy = flags.change().then(|| self.drive.busy());
        let file = self.table.open(id, busy, || {
            let hold = self.drive.hold();
            let node = match self.drive.catalog().node(id) {
                // Removed since, while it was a draft. Who made a file has it open, whatever becomes of its name.
                Err(error) if error.kind() == Kind::NotFound => {
                    Node { nlink: 0, ..new.named(parent, name, self.drive.now()) }
                }
                found => found?,
            };
            Ok(Arc::new(WorkingFile::new(self.shared.clone(), node, hold)))
        })?;
        let handle = self.table.add(Open { file, flags });
        let node = self.node(id).inspect_err(|_| {
            let _ = self.release(handle);
        })?;
        Ok((node, handle))
    }

    /// Opens a file. Nothing is fetched.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where another door removed it; `IsADirectory` and `Invalid` for what is no file; locked,
    /// where it is opened for writing.
    pub fn open(&self, actor: &Actor, id: NodeId, flags: OpenFlags) -> Result<Handle> {
        let handle = self.handle_for(id, flags)?;
        let ready = || {
            if flags.change() {
                // After the handle told other doors of itself: of a lock and a writer at the same time, one sees the other,
                // and a commit that asked before is made, to be followed before anything is written over it.
                self.drive.locks().check_in_turn(&self.drive, actor, id)?;
                self.table.handle(handle)?.file.stale.store(true, Ordering::Release);
            }
            if flags.truncate { self.table.handle(handle)?.file.resize(0) } else { Ok(()) }
        };
        if let Err(error) = ready() {
            // The caller gets no handle to release, and this error says more than another of taking it back.
            let _ = self.release(handle);
            return Err(error);
        }
        Ok(handle)
    }

    fn handle_for(&self, id: NodeId, flags: OpenFlags) -> Result<Handle> {
        let busy = flags.change().then(|| self.drive.busy());
        let file = self.table.open(id, busy, || self.working_file(id))?;
        Ok(self.table.add(Open { file, flags }))
    }

    fn working_file(&self, id: NodeId) -> Result<Arc<WorkingFile>> {
        // Held before the node is read: its version can no longer be purged.
        let hold = self.drive.hold();
        let node = self.drive.catalog().node(id)?;
        if !node.is_file() {
            let kind = if node.is_folder() { Kind::IsADirectory } else { Kind::Invalid };
            return Err(Error::new(kind, format!("node {id} is no file")));
        }
        if node.nlink == 0 {
            // Its name may stand for another by now. What is written to this one would reach nobody.
            return Err(Error::conflict(format!("node {id} was removed")));
        }
        Ok(Arc::new(WorkingFile::new(self.shared.clone(), node, hold)))
    }

    /// Reads up to `len` bytes from `offset` on, in pieces; fewer in all only at the end of the file.
    ///
    /// # Errors
    /// `Invalid` for an unknown handle; `Corrupt`, and those of the store.
    pub fn read(&self, handle: Handle, offset: u64, len: usize) -> Result<Vec<Bytes>> {
        let open = self.table.handle(handle)?;
        let pieces = open.file.read(offset, len)?;
        open.file.live.lock().read(|| self.drive.now());
        Ok(pieces)
    }

    /// Writes `data` at `offset`. Returns how much was written: less than all only where the rest failed.
    ///
    /// # Errors
    /// `Invalid` (EBADF, EFBIG); `NoSpace`; those of the store, also for bytes that were taken earlier and could not
    /// be stored since.
    pub fn write(&self, handle: Handle, offset: u64, data: &[u8]) -> Result<usize> {
        let open = self.table.handle(handle)?;
        open.for_writing(handle)?;
        open.file.write(Some(offset), data)
    }

    /// Writes `data` at the end of the file, whatever others write meanwhile; otherwise as [`Mount::write`].
    ///
    /// # Errors
    /// As [`Mount::write`].
    pub fn append(&self, handle: Handle, data: &[u8]) -> Result<usize> {
        let open = self.table.handle(handle)?;
        open.for_writing(handle)?;
        open.file.write(None, data)
    }

    /// Publishes what was written, as close(2) does: other doors see it when this returns, and it survives the death
    /// of the process.
    ///
    /// # Errors
    /// `NoSpace` and those of the store; what was written stays readable, and later calls try again.
    pub fn flush(&self, handle: Handle) -> Result<()> {
        let open = self.table.handle(handle)?;
        if open.flags.change() {
            open.file.commit(Durability::Process)?;
        }
        Ok(())
    }

    /// Publishes what was written, durably. `data_only` makes no difference: size and times are one with the content.
    ///
    /// # Errors
    /// As [`Mount::flush`], and those of fdatasync(2).
    pub fn fsync(&self, handle: Handle, data_only: bool) -> Result<()> {
        let _ = data_only;
        let open = self.table.handle(handle)?;
        if open.file.commit(Durability::Power)? {
            return Ok(());
        }
        // An earlier close or rename may have been committed without waiting for the disk.
        self.drive.chunks().sync()
    }

    /// Takes a handle back; the last one that changes the file publishes what is not yet published. What a close has to
    /// publish, [`Mount::flush`] did: this comes later, when somebody else may have the file open and be half-way.
    ///
    /// # Errors
    /// As [`Mount::flush`]; the handle is gone nevertheless. What could not be published is kept, and other doors are
    /// kept from the file, until [`Mount::sync_all`], the next close of the file, or one that stores another can.
    pub fn release(&self, handle: Handle) -> Result<()> {
        let open = self.table.remove(handle)?;
        let (file, wrote) = (&open.file, open.flags.change());
        let is_last = self.table.leave(file.id, wrote);
        let done = if is_last { file.commit(Durability::Process) } else { Ok(false) };
        self.save_atime(file);
        // Only now may other doors change the file: they would be overwritten otherwise.
        self.table.close(file.id);
        if done.as_ref().is_ok_and(|stored| *stored) {
            self.save_unsaved();
        }
        // What others wrote and could not be saved is no matter of who only read.
        if wrote { done.map(drop) } else { Ok(()) }
    }

    /// Tries what earlier closes could not save again, now that there seems to be space.
    fn save_unsaved(&self) {
        for file in self.table.unsaved() {
            if file.commit(Durability::Process).is_err() {
                return;
            }
            self.table.let_go(file.id);
        }
    }

    /// Commits the time of the last read: not worth an error, and not a change of the file.
    fn save_atime(&self, file: &WorkingFile) {
        if !file.live.lock().has_atime() {
            return;
        }
        // One that is set by hand meanwhile comes either before, and ends this, or after.
        let _turn = file.turn.lock();
        let Some(atime) = file.live.lock().take_atime() else { return };
        let op = Op::Touch { node: file.id, atime };
        let actor = Actor::new(Door::Mount, 0, 0, String::new());
        if let Err(error) = self.drive.commit_unchecked(&actor, Vec::new(), vec![op], Durability::Process)
            && error.kind() != Kind::NotFound
        {
            tracing::debug!(%error, node = file.id.0, "the time of the last read is lost");
        }
    }

    /// Makes changes of names in a folder, and everything committed before, durable.
    ///
    /// # Errors
    /// Those of fdatasync(2).
    pub fn fsync_folder(&self, id: NodeId) -> Result<()> {
        let _ = id;
        self.drive.chunks().sync()
    }

    /// Publishes everything that was written, durably: before an unmount.
    ///
    /// # Errors
    /// The first of any file; the others are published nevertheless.
    pub fn sync_all(&self) -> Result<()> {
        let mut result = Ok(());
        for file in self.table.all() {
            match file.commit(Durability::Process) {
                Ok(_) => self.table.let_go(file.id),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.and(self.drive.chunks().sync())
    }

    /// Publishes a draft, so that a name given to it names something for everybody.
    ///
    /// # Errors
    /// Those of the store; `Conflict` where somebody changed it meanwhile.
    pub(super) fn publish_draft(&self, node: &Node) -> Result<()> {
        if !node.draft {
            return Ok(());
        }
        if let Some(file) = self.table.find(node.id) {
            return file.commit(Durability::Process).map(drop);
        }
        // Closed since `node` was read, which then shows what was being written, and published by that; or its maker is
        // about to open it; or its last close failed and was given up.
        let node = match self.drive.catalog().node(node.id) {
            Ok(node) if node.draft => node,
            Err(error) if error.kind() != Kind::NotFound => return Err(error),
            _ => return Ok(()),
        };
        let expect = vec![Expect::Version(node.id, node.version)];
        let head = node.head().cloned().unwrap_or_default();
        let op = Op::SetContent { node: node.id, head, mtime: node.mtime, interim: None, base: None };
        let actor = Actor::new(Door::Mount, 0, 0, String::new());
        self.drive.commit_unchecked(&actor, expect, vec![op], Durability::Process).map(drop)
    }
}
