//! Kernel to drive: a mount of a drive through FUSE.
//!
//! An adapter only: semantics are `larder_drive::Mount`'s, permission checks the kernel's (`default_permissions`).
//! It must never wait for anything but the disk below the store, and never answer ENOSYS where the kernel would
//! remember it. [`spawn`] mounts; [`Mounted`] lasts as long as the mount.

mod adapter;
mod aside;
mod askers;
mod attach;
mod attributes;
mod content;
mod errno;
mod helped;
mod kernel;
mod listing;
mod mounted;
mod mountinfo;
mod names;
mod orphans;
mod outside;
mod places;
mod programs;
mod replies;
mod stand_in;
mod stat;
mod statfs;
mod view;
mod xattrs;

pub use attach::{clean_stale, is_available};
pub use mounted::{Mounted, spawn};
pub use stand_in::stand_in;

/// Threads that answer requests. One that waits for the disk holds up nobody while others are left; idle ones cost
/// a stack.
pub const THREADS: usize = 8;

/// How to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What `/proc/mounts` names as the source, word for word.
    pub source: String,
    /// Other users than the one who mounts may come in; their permissions are checked as on any file system. A user
    /// other than root needs `user_allow_other` in /etc/fuse.conf.
    pub allow_other: bool,
    /// Nothing can be changed through this mount.
    pub read_only: bool,
    /// Set-id bits have their effect, as on a local disk. Only root can mount so.
    pub suid: bool,
    /// Device nodes have their effect. Only root can mount so.
    pub dev: bool,
    /// Programs can be run from here.
    pub exec: bool,
    /// Each write is durable before it returns.
    pub sync: bool,
    /// This program once more answers `df` while this process is stopped, and takes the mount away should it die. Only
    /// for programs that call [`stand_in()`] before anything else.
    pub stand_in: bool,
    /// Threads that answer requests, at least 1.
    pub threads: usize,
}

impl Options {
    /// The default options, with the name of a source.
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), ..Self::default() }
    }
}

impl Default for Options {
    /// The options that suit the user who mounts: root shares the mount and trusts it as it does a local disk.
    fn default() -> Self {
        let root = rustix::process::geteuid().is_root();
        let source = "larder".to_owned();
        Self {
            source,
            allow_other: root,
            read_only: false,
            suid: root,
            dev: root,
            exec: true,
            sync: false,
            stand_in: false,
            threads: THREADS,
        }
    }
}

/// Unmounts what another process mounted; where it is in use, it disappears at once and ends with its last user.
///
/// # Errors
/// `Denied`, and those of umount(2).
pub fn unmount(mountpoint: &std::path::Path) -> larder_core::Result<()> {
    match attach::unmount(mountpoint, false) {
        Err(error) if error.kind() == larder_core::Kind::Conflict => attach::unmount(mountpoint, true),
        done => done,
    }
}
