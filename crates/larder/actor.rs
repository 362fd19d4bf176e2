//! Who the command itself is when it changes the drive.

use larder_drive::{Actor, Door};

/// The server or the command line, as the user that runs it.
pub fn server() -> Actor {
    let (uid, gid) = ids();
    Actor::new(Door::Api, uid, gid, "larder")
}

/// User and group that run this process: owners of what comes in over WebDAV.
pub fn ids() -> (u32, u32) {
    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}
