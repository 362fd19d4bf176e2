//! Attributes and extended attributes.

use super::{Handle, Mount, OpenFlags};
use crate::Actor;
use larder_core::{Kind, Node, NodeId, Result};
use larder_store::catalog::{Attrs, XattrMode};
use larder_store::{Durability, Op};

impl Mount {
    /// Returns the node with the live size and times of an open file; while such a file has unpublished bytes, its
    /// head has no extents. A file without a name is found while it is open.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn node(&self, id: NodeId) -> Result<Node> {
        let Some(file) = self.table.find(id) else { return self.drive.catalog().node(id) };
        // The live part first: a commit in between only moves what it shows into the catalog.
        let live = file.live.lock();
        match self.drive.catalog().node(id) {
            Ok(mut node) => {
                live.show(&mut node);
                Ok(node)
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(live.forgotten()),
            Err(error) => Err(error),
        }
    }

    /// Sets attributes and the size; `handle` is where the size is set through. Times given survive the commit of what
    /// was written before.
    ///
    /// A size set without a handle is published at once, unless the file is open for writing here: what its writers
    /// have so far is theirs to publish.
    ///
    /// # Errors
    /// `NotFound`; `IsADirectory` and `Invalid` for the size of what is no file; `Invalid` (EFBIG); `NoSpace`; locked.
    pub fn set_attrs(
        &self,
        actor: &Actor,
        id: NodeId,
        attrs: Attrs,
        size: Option<u64>,
        handle: Option<Handle>,
    ) -> Result<Node> {
        if let Some(size) = size {
            self.set_size(actor, id, size, handle)?;
        }
        if attrs == Attrs::default() {
            return self.node(id);
        }
        let op = Op::SetAttrs { node: id, attrs };
        let file = self.table.find(id);
        // Times: a commit of the content on its way has those of before, and so has one of the time of a read.
        let sets_times = attrs.mtime.is_some() || attrs.atime.is_some();
        let _turn = file.as_ref().filter(|_| sets_times).map(|file| file.turn.lock());
        let set = self.drive.commit(actor, Vec::new(), vec![op], Durability::Process);
        match (set, self.table.find(id)) {
            (Ok(_), Some(file)) => file.live.lock().set(&attrs, self.drive.now()),
            (Ok(_), None) => {}
            // A file that has lost its name, and was never published, has its attributes in memory only.
            (Err(error), Some(file)) if error.kind() == Kind::NotFound => {
                return Ok(file.live.lock().set_forgotten(&attrs, self.drive.now()));
            }
            (Err(error), _) => return Err(error),
        }
        self.node(id)
    }

    fn set_size(&self, actor: &Actor, id: NodeId, size: u64, handle: Option<Handle>) -> Result<()> {
        if let Some(handle) = handle {
            let open = self.table.handle(handle)?;
            open.for_writing(handle)?;
            return open.file.resize(size);
        }
        let flags = OpenFlags { write: true, ..OpenFlags::default() };
        let handle = self.open(actor, id, flags)?;
        let done = self.table.handle(handle).and_then(|open| open.file.resize(size));
        done.and(self.release(handle))
    }

    /// Returns the value of an extended attribute.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn xattr(&self, id: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.drive.catalog().xattr(id, name)
    }

    /// Returns the names of the extended attributes.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn xattrs(&self, id: NodeId) -> Result<Vec<Vec<u8>>> {
        self.drive.catalog().xattrs(id)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `Exists`, `NotFound` as `mode` has it; `Invalid` for a value that is too long; locked.
    pub fn set_xattr(
        &self,
        actor: &Actor,
        id: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        self.change_xattr(actor, id, name, Some(value.to_vec()), mode)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `NotFound`; locked.
    pub fn remove_xattr(&self, actor: &Actor, id: NodeId, name: &[u8]) -> Result<()> {
        self.change_xattr(actor, id, name, None, XattrMode::Any)
    }

    fn change_xattr(
        &self,
        actor: &Actor,
        id: NodeId,
        name: &[u8],
        value: Option<Vec<u8>>,
        mode: XattrMode,
    ) -> Result<()> {
        let op = Op::SetXattr { node: id, name: name.to_vec(), value, mode };
        self.drive.commit(actor, Vec::new(), vec![op], Durability::Process).map(drop)
    }
}
