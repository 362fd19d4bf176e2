//! The drive itself, without a kernel.

use crate::support::mount::unheard;
use crate::tree::door::{Door, Seen};
use crate::tree_model::{Op, Place};
use larder_core::{Kind, Name, NodeId, NodeKind};
use larder_drive::{Actor, Drive, MakeKind, Mount, OpenFlags};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const WRITE: OpenFlags = OpenFlags { read: false, write: true, truncate: false };

/// A drive as a mount sees it.
pub struct Plain {
    mount: Mount,
    actor: Actor,
    folders: AtomicU64,
}

impl Plain {
    pub fn new(drive: &Arc<Drive>) -> Self {
        Self { mount: drive.mount(), actor: unheard(), folders: AtomicU64::new(0) }
    }

    /// A file is made as open(2) does, and closed after its bytes were written.
    fn make(&self, place: &Place, kind: NodeKind, bytes: &[u8]) -> larder_core::Result<u64> {
        let (parent, name) = (NodeId(place.0), place.1.clone());
        let other = match kind {
            NodeKind::File => {
                let (node, handle) = self.mount.create(&self.actor, parent, name, 0o600, WRITE)?;
                let written = self.mount.write(handle, 0, bytes);
                self.mount.release(handle).and(written)?;
                return Ok(node.id.0);
            }
            NodeKind::Folder => MakeKind::Folder,
            NodeKind::Symlink => MakeKind::Symlink(b"target".to_vec()),
            _ => MakeKind::Fifo,
        };
        self.mount.make(&self.actor, parent, name, other, 0o700).map(|node| node.id.0)
    }
}

impl Door for Plain {
    type Held = NodeId;

    fn folder(&self) -> NodeId {
        let name = Name::new(format!("history {}", self.folders.fetch_add(1, Ordering::Relaxed)));
        let name = name.expect("a name");
        let made = self.mount.make(&self.actor, NodeId::ROOT, name, MakeKind::Folder, 0o700);
        made.expect("a folder").id
    }

    fn hold(&self, folder: &NodeId, name: &Name) -> NodeId {
        self.mount.lookup(*folder, name).expect("listed").id
    }

    fn look(&self, node: &NodeId) -> Seen {
        let node = self.mount.node(*node).expect("named");
        Seen { number: node.id.0, kind: node.kind, nlink: node.nlink, size_bytes: node.size_bytes() }
    }

    fn names(&self, folder: &NodeId) -> BTreeMap<Name, u64> {
        let listed = self.mount.list(*folder, None, usize::MAX).expect("a folder");
        listed.into_iter().map(|entry| (entry.name, entry.node.id.0)).collect()
    }

    fn call(&self, _held: &BTreeMap<u64, NodeId>, op: &Op) -> Result<Option<u64>, Kind> {
        let (mount, actor) = (&self.mount, &self.actor);
        let place = |(folder, name): &Place| (NodeId(*folder), name.clone());
        let done = match op {
            Op::Make(at, inode) => self.make(at, inode.kind, &inode.bytes).map(Some),
            Op::Link(id, (folder, name)) => {
                let linked = mount.link(actor, NodeId(*id), NodeId(*folder), name.clone());
                linked.map(|node| Some(node.id.0))
            }
            Op::Unlink((folder, name)) => mount.unlink(actor, NodeId(*folder), name).map(|()| None),
            Op::Rmdir((folder, name)) => mount.rmdir(actor, NodeId(*folder), name).map(|()| None),
            Op::Rename(from, to, flags) => mount.rename(actor, place(from), place(to), *flags).map(|()| None),
            Op::Find((folder, name)) => mount.lookup(NodeId(*folder), name).map(|node| Some(node.id.0)),
        };
        done.map_err(|error| error.kind())
    }
}
