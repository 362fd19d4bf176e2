//! Nodes as `struct stat`, and changes of attributes.

use crate::errno::{self, Answer};
use crate::view::View;
use fuser::{FileAttr, Request, TimeOrNow};
use larder_core::{Node, NodeId, Timestamp};
use larder_drive::Handle;
use larder_store::catalog::Attrs;
use std::time::UNIX_EPOCH;

const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o0010;

/// What setattr asks for.
pub(crate) struct Wanted {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<TimeOrNow>,
    pub(crate) mtime: Option<TimeOrNow>,
}

impl Wanted {
    /// Whether the set-id bits must go. FUSE_HANDLE_KILLPRIV_V2 leaves that to us: on every change of owner, and on
    /// a truncation by anybody but root. A request for nothing is chown(path, -1, -1) or the kernel's own "remove
    /// privileges" before a write. Source: include/uapi/linux/fuse.h.
    fn ends_privileges(&self, by_root: bool) -> bool {
        let owner = self.uid.is_some() || self.gid.is_some();
        let nothing =
            self.mode.is_none() && self.size.is_none() && self.atime.is_none() && self.mtime.is_none();
        owner || nothing || (self.size.is_some() && !by_root)
    }
}

/// The mode without set-id bits, where it has some that a change of owner or content ends. A set-gid bit without
/// group execute marks mandatory locking and stays. Source: setattr_should_drop_suidgid in the kernel's fs/attr.c.
pub(crate) fn unprivileged(node: &Node) -> Option<u16> {
    let with_group = SET_GID | GROUP_EXECUTE;
    let mut mode = node.mode & !SET_UID;
    if mode & with_group == with_group {
        mode &= !SET_GID;
    }
    (node.is_file() && mode != node.mode).then_some(mode)
}

/// The time that a request names. fuser 0.18 reads a time before 1970 as −(seconds + nanoseconds), where the kernel
/// means −seconds + nanoseconds; this turns it back.
fn timestamp(time: TimeOrNow, now: Timestamp) -> Timestamp {
    let TimeOrNow::SpecificTime(time) = time else { return now };
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let secs = i64::try_from(before.as_secs()).map_or(i64::MIN, |secs| -secs);
            Timestamp::new(secs, before.subsec_nanos())
        }
    }
}

impl View {
    pub(crate) fn attributes(&self, id: u64) -> Answer<FileAttr> {
        match self.mount.node(NodeId(id)) {
            Ok(node) => Ok(self.seen(&node)),
            Err(error) => self.orphans.stat(id).ok_or_else(|| errno::of(&error)),
        }
    }

    pub(crate) fn set_attributes(
        &self,
        req: &Request,
        id: u64,
        wanted: Wanted,
        fh: Option<u64>,
    ) -> Answer<FileAttr> {
        let now = self.drive.clock().now();
        let mut attrs = Attrs {
            mode: wanted.mode.map(|mode| (mode & 0o7777) as u16),
            uid: wanted.uid,
            gid: wanted.gid,
            atime: wanted.atime.map(|time| timestamp(time, now)),
            mtime: wanted.mtime.map(|time| timestamp(time, now)),
            btime: None,
        };
        if attrs.mode.is_none() && wanted.ends_privileges(req.uid() == 0) {
            attrs.mode = unprivileged(&self.mount.node(NodeId(id)).map_err(|e| errno::of(&e))?);
        }
        let handle = fh.map(Handle);
        let node = self.mount.set_attrs(&actor(req), NodeId(id), attrs, wanted.size, handle);
        node.map(|node| self.seen(&node)).map_err(|e| errno::of(&e))
    }

    pub(crate) fn usage(&self) -> Answer<larder_drive::Usage> {
        let usage = self.mount.stats().map_err(|e| errno::of(&e))?;
        if let Some(stand_in) = self.stand_in.get() {
            stand_in.tell(&usage);
        }
        Ok(usage)
    }

    /// Ends the set-id bits before somebody who may not keep them writes.
    pub(crate) fn end_privileges(&self, req: &Request, id: u64, handle: Handle) -> Answer<()> {
        let node = self.mount.node(NodeId(id)).map_err(|e| errno::of(&e))?;
        if let Some(mode) = unprivileged(&node) {
            let attrs = Attrs { mode: Some(mode), ..Attrs::default() };
            let changed = self.mount.set_attrs(&actor(req), node.id, attrs, None, Some(handle));
            changed.map_err(|e| errno::of(&e))?;
        }
        Ok(())
    }
}

pub(crate) fn actor(req: &Request) -> larder_drive::Actor {
    larder_drive::Actor::new(larder_drive::Door::Mount, req.uid(), req.gid(), String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stat::system_time;
    use std::time::Duration;

    #[test]
    fn times_before_1970_come_back_as_the_kernel_meant_them() {
        // what fuser makes of tv_sec = -5, tv_nsec = 250
        let read = UNIX_EPOCH - Duration::new(5, 250);
        let meant = Timestamp::new(-5, 250);
        assert_eq!(timestamp(TimeOrNow::SpecificTime(read), Timestamp(0)), meant);
        let told = system_time(meant).duration_since(UNIX_EPOCH).expect_err("before 1970").duration();
        assert_eq!(told, Duration::new(4, 999_999_750));
    }

    #[test]
    fn now_is_the_drives_now() {
        assert_eq!(timestamp(TimeOrNow::Now, Timestamp(7)), Timestamp(7));
    }
}
