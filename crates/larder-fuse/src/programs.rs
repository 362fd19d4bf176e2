//! Files that processes execute. The kernel keeps those from being written to, but has a truncation done by the request to
//! open (FUSE_ATOMIC_O_TRUNC) before it looks, and O_RDONLY | O_TRUNC would empty a program while it runs.

use larder_core::NodeId;
use larder_drive::Handle;
use parking_lot::Mutex;
use std::collections::HashMap;

/// What the kernel opens to execute it has this flag. Source: FMODE_EXEC in the kernel's include/linux/fs.h.
const FMODE_EXEC: i32 = 1 << 5;

/// The handles that programs are executed from.
#[derive(Default)]
pub(crate) struct Programs(Mutex<HashMap<u64, NodeId>>);

impl Programs {
    /// `id` was opened with the `flags` of open(2).
    pub(crate) fn opened(&self, id: NodeId, handle: Handle, flags: i32) {
        if flags & FMODE_EXEC != 0 {
            self.0.lock().insert(handle.0, id);
        }
    }

    /// A handle was closed: of a program, a moment after its last process ended.
    pub(crate) fn closed(&self, handle: u64) {
        self.0.lock().remove(&handle);
    }

    /// Says whether `flags` would empty a program that runs. Who opens to write has been looked at by the kernel.
    pub(crate) fn forbid(&self, id: NodeId, flags: i32) -> bool {
        let empties = flags & (libc::O_TRUNC | libc::O_ACCMODE) == libc::O_TRUNC;
        empties && self.0.lock().values().any(|program| *program == id)
    }
}
