//! Who acts on a drive, and through which door.

/// A way into the drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// A kernel mount.
    Mount,
    /// WebDAV.
    Dav,
    /// The REST API and the command line.
    Api,
}

/// Who acts: decides the owner of new nodes, which locks bind, and who is not told of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The door.
    pub door: Door,
    /// Owner of new nodes.
    pub uid: u32,
    /// Group of new nodes.
    pub gid: u32,
    /// The user's name; a lock binds everybody but its own user.
    pub user: String,
    /// Lock tokens that the request carries.
    pub lock_tokens: Vec<String>,
}

impl Actor {
    /// An actor of `door` without lock tokens.
    pub fn new(door: Door, uid: u32, gid: u32, user: impl Into<String>) -> Self {
        Self { door, uid, gid, user: user.into(), lock_tokens: Vec::new() }
    }
}
