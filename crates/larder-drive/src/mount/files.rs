//! Opening, reading, writing and publishing files.

use super::file::WorkingFile;
use super::table::Open;
use super::{Handle, Mount, OpenFlags};
use crate::{Actor, Door};
use bytes::Bytes;
use larder_core::{Content, Error, Kind, Name, Node, NodeId, NodeKind, Result};
use larder_store::catalog::NewNode;
use larder_store::{Durability, Op};
use std::sync::Arc;

impl Mount {
    /// Makes and opens a file. It is a draft, which other doors do not see, until [`Mount::flush`], [`Mount::fsync`] or
    /// [`Mount::release`] publishes it.
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
        let new = NewNode { draft: true, ..self.new_node(actor, parent, NodeKind::File, mode)? };
        let new = NewNode { content: Content::File(Default::default()), ..new };
        let id = new.id;
        let op = Op::Create { parent, name, node: Box::new(new) };
        self.drive.commit(actor, Vec::new(), vec![op], Durability::Process)?;
        let node = self.drive.catalog().node(id)?;
        let handle = self.handle_for(id, flags)?;
        Ok((node, handle))
    }

    /// Opens a file. Nothing is fetched.
    ///
    /// # Errors
    /// `NotFound`; `IsADirectory` and `Invalid` for what is no file; locked, where it is opened for writing.
    pub fn open(&self, actor: &Actor, id: NodeId, flags: OpenFlags) -> Result<Handle> {
        if flags.write || flags.truncate {
            self.drive.locks().check(&self.drive, actor, id, false)?;
        }
        let handle = self.handle_for(id, flags)?;
        if flags.truncate {
            let truncated = self.table.handle(handle)?.file.resize(0);
            if let Err(error) = truncated {
                // Taken back: the caller gets no handle to release.
                self.release(handle)?;
                return Err(error);
            }
        }
        Ok(handle)
    }

    pub(super) fn handle_for(&self, id: NodeId, flags: OpenFlags) -> Result<Handle> {
        let file = self.table.open(id, || self.working_file(id))?;
        let writing = flags.write.then(|| self.drive.busy().writing(id));
        Ok(self.table.add(Open { file, flags, _writing: writing }))
    }

    fn working_file(&self, id: NodeId) -> Result<Arc<WorkingFile>> {
        // Held before the node is read: its version can no longer be purged.
        let hold = self.drive.hold();
        let node = self.drive.catalog().node(id)?;
        if !node.is_file() {
            let kind = if node.is_folder() { Kind::IsADirectory } else { Kind::Invalid };
            return Err(Error::new(kind, format!("node {id} is no file")));
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

    /// Writes `data` at `offset`; where the handle appends, at the end of the file, whatever others write meanwhile.
    /// Returns how much was written: less than all only where the rest failed.
    ///
    /// # Errors
    /// `Invalid` (EBADF, EFBIG); `NoSpace`; those of the store, also for bytes that were taken earlier and could not
    /// be stored since.
    pub fn write(&self, handle: Handle, offset: u64, data: &[u8]) -> Result<usize> {
        let open = self.table.handle(handle)?;
        open.for_writing(handle)?;
        open.file.write((!open.flags.append).then_some(offset), data)
    }

    /// Publishes what was written, as close(2) does: other doors see it when this returns, and it survives the death
    /// of the process.
    ///
    /// # Errors
    /// `NoSpace` and those of the store; what was written stays readable, and later calls try again.
    pub fn flush(&self, handle: Handle) -> Result<()> {
        let open = self.table.handle(handle)?;
        if open.flags.write {
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

    /// Takes a handle back, publishing what is not yet published.
    ///
    /// # Errors
    /// As [`Mount::flush`]; the handle is gone nevertheless. What could not be published is kept for
    /// [`Mount::sync_all`] or the next who opens the file.
    pub fn release(&self, handle: Handle) -> Result<()> {
        let open = self.table.remove(handle)?;
        let file = open.file.clone();
        let done = if open.flags.write { file.commit(Durability::Process).map(drop) } else { Ok(()) };
        // Only now may other doors change the file: they would be overwritten otherwise.
        drop(open);
        self.save_atime(&file);
        self.table.close(file.id, file.is_saved());
        done
    }

    /// Commits the time of the last read: not worth an error, and not a change of the file.
    fn save_atime(&self, file: &WorkingFile) {
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
                Ok(_) => self.table.saved(file.id),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.and(self.drive.chunks().sync())
    }

    /// Publishes a draft, so that a name given to it names something for everybody.
    pub(super) fn publish_draft(&self, node: &Node) -> Result<()> {
        if !node.draft {
            return Ok(());
        }
        if let Some(file) = self.table.find(node.id) {
            return file.commit(Durability::Process).map(drop);
        }
        let head = node.head().cloned().unwrap_or_default();
        let op = Op::SetContent { node: node.id, head, mtime: node.mtime };
        let actor = Actor::new(Door::Mount, 0, 0, String::new());
        self.drive.commit_unchecked(&actor, Vec::new(), vec![op], Durability::Process).map(drop)
    }
}
