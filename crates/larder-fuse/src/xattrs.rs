//! Extended attributes, and the virtual ones that tell tools about a file: `user.larder.*`.

use crate::attributes::actor;
use crate::errno::{self, Answer};
use crate::view::View;
use fuser::{Errno, Request};
use larder_core::NodeId;
use larder_drive::Placement;
use larder_store::catalog::XattrMode;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Namespaces that this file system has. Source: xattr(7). POSIX ACLs (`system.`) are not among them.
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// Where the virtual attributes live; they are not listed, so that copying a tree does not try to copy them.
const OURS: &[u8] = b"user.larder.";

/// Takes an attribute's name, which has a namespace that is ours to store.
fn stored(name: &OsStr) -> Answer<&[u8]> {
    let name = name.as_bytes();
    match NAMESPACES.iter().any(|space| name.len() > space.len() && name.starts_with(space)) {
        true => Ok(name),
        false => Err(Errno::EOPNOTSUPP),
    }
}

fn changeable(name: &OsStr) -> Answer<&[u8]> {
    stored(name).and_then(|name| if name.starts_with(OURS) { Err(Errno::EPERM) } else { Ok(name) })
}

impl View {
    pub(crate) fn xattr(&self, id: u64, name: &OsStr) -> Answer<Vec<u8>> {
        let name = stored(name)?;
        if let Some(virtual_name) = name.strip_prefix(OURS) {
            return self.virtual_xattr(NodeId(id), virtual_name);
        }
        self.mount.xattr(NodeId(id), name).map_err(|e| errno::of_xattr(&e))
    }

    /// The names with a NUL behind each, as listxattr(2) wants them.
    pub(crate) fn xattrs(&self, id: u64, by_root: bool) -> Answer<Vec<u8>> {
        let names = self.mount.xattrs(NodeId(id)).map_err(|e| errno::of(&e))?;
        let mut answer = Vec::new();
        for name in names.iter().filter(|name| stored(OsStr::from_bytes(name)).is_ok()) {
            if by_root || !name.starts_with(b"trusted.") {
                answer.extend_from_slice(name);
                answer.push(0);
            }
        }
        Ok(answer)
    }

    pub(crate) fn set_xattr(
        &self,
        req: &Request,
        id: u64,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> Answer<()> {
        let mode = match flags {
            0 => XattrMode::Any,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(Errno::EINVAL),
        };
        let set = self.mount.set_xattr(&actor(req), NodeId(id), changeable(name)?, value, mode);
        set.map_err(|e| errno::of_xattr(&e))
    }

    pub(crate) fn remove_xattr(&self, req: &Request, id: u64, name: &OsStr) -> Answer<()> {
        let removed = self.mount.remove_xattr(&actor(req), NodeId(id), changeable(name)?);
        removed.map_err(|e| errno::of_xattr(&e))
    }

    fn virtual_xattr(&self, id: NodeId, name: &[u8]) -> Answer<Vec<u8>> {
        let node = self.mount.node(id).map_err(|e| errno::of(&e))?;
        if let (b"pinned" | b"why", Some(placements)) = (name, self.drive.placements()) {
            let decision = placements.decide(self.drive.catalog(), &node).map_err(|e| errno::of(&e))?;
            return Ok(match name {
                b"pinned" if decision.placement == Placement::Pinned => b"yes".to_vec(),
                b"pinned" => b"no".to_vec(),
                _ => placements.why(decision).into_bytes(),
            });
        }
        let text = match (name, node.head()) {
            (b"state", _) => self.drive.kept(&node).map_err(|e| errno::of(&e))?.0.word().to_owned(),
            (b"percent", Some(_)) => self.drive.kept(&node).map_err(|e| errno::of(&e))?.1.to_string(),
            (b"why", _) => "stored in this drive".to_owned(),
            (b"hash", Some(head)) => head.etag(),
            (b"versions", Some(_)) => {
                let versions = self.drive.catalog().versions(id).map_err(|e| errno::of(&e))?;
                versions.len().to_string()
            }
            _ => return Err(Errno::ENODATA),
        };
        Ok(text.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acls_and_unknown_namespaces_are_not_supported() {
        for name in ["system.posix_acl_access", "system.posix_acl_default", "plain", "user.", "os2.x"] {
            let errno = stored(OsStr::new(name)).expect_err(name);
            assert_eq!(i32::from(errno), libc::EOPNOTSUPP, "{name}");
        }
        assert!(stored(OsStr::new("user.x")).is_ok());
    }

    #[test]
    fn what_we_tell_cannot_be_set() {
        let errno = changeable(OsStr::new("user.larder.hash")).expect_err("ours");
        assert_eq!(i32::from(errno), libc::EPERM);
    }
}
