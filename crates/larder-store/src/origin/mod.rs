//! The other side of a remote mount: the server, as a device asks it.
//!
//! Calls block and end: each has a time after which it fails. Whatever a server sends is checked before it is believed.

mod asking;
mod beside;
mod cancel;
mod comparing;
mod conflict;
mod connection;
mod ears;
mod facts;
mod http;
mod known;
mod mirror;
mod outbox;
mod pacing;
mod pushing;
mod resolve;
mod ruled;
mod tls;

pub use cancel::Cancel;
pub use conflict::{Conflict, Over, Policy};
pub use connection::{Again, Connection, Credentials};
pub use http::HttpOrigin;
pub(crate) use mirror::CURSOR;
pub use mirror::{Hear, Mirror};
pub use outbox::Answer;
pub use pacing::{Flow, Free, Link, Meter, Pace};
pub use resolve::Resolving;
pub use ruled::Ruled;

use crate::catalog::{Cursor, Entry};
use crate::wire::Described;
use bytes::Bytes;
use larder_core::{ChunkId, Error, Name, NodeId, Result};
use std::time::Duration;

/// Chunks asked for by [`Origin::missing`] at once.
pub const ASKED_MAX: usize = 4096;
/// Bytes of chunks sent at once.
pub const SENT_MAX_BYTES: usize = 8 << 20;
/// Chunks sent at once.
pub const SENT_MAX: usize = 65_536;
/// Entries pushed at once.
pub const PUSHED_MAX: usize = 256;
/// Bytes of entries pushed at once, as JSON. One that is longer by itself is refused.
pub const PUSHED_MAX_BYTES: usize = 4 << 20;
/// The bits of a node's id below its range. Ids of range 0 are the server's own.
pub const RANGE_BITS: u32 = 40;

/// What a device may do in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Owner,
    /// Read and write.
    Editor,
    /// Read.
    Viewer,
}

/// A project as the server tells it.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its top folder.
    pub root: Described,
    /// What the device may do there.
    pub role: Role,
    /// Where the change feed is now: what is read later is at least as new.
    pub cursor: Cursor,
}

/// Some entries of a folder, in byte order of their names.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Names and what they name.
    pub entries: Vec<(Name, Described)>,
    /// The name to go on behind; `None` at the end of the folder.
    pub next: Option<Name>,
}

/// A change with what is there now; hearing of it twice, or late, does no harm.
#[derive(Clone, Debug)]
pub enum News {
    /// What a name in a folder names now.
    Name {
        /// The folder.
        parent: NodeId,
        /// The name.
        name: Name,
        /// What it names; nothing where it is gone.
        node: Option<Box<Described>>,
    },
    /// A node as it is now.
    Node(Box<Described>),
    /// A node that has no name any more.
    Gone(NodeId),
}

/// What [`Origin::wait`] heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// There are changes.
    pub changes: bool,
    /// The device has other rules.
    pub rules: bool,
}

/// Some changes.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    /// In the order in which they were made.
    pub news: Vec<News>,
    /// Where to go on.
    pub cursor: Cursor,
    /// There are more.
    pub more: bool,
}

/// What became of entries that were pushed.
#[derive(Debug, Default)]
pub struct Pushed {
    /// So many, from the first on, are carried out and durable.
    pub done: usize,
    /// Why the next one is not: nothing where all are, or where the rest is to be pushed in a request of its own.
    pub refused: Option<Refused>,
    /// What is there now of everything that those entries touch, and the refused one.
    pub news: Vec<News>,
}

/// Why an entry is not carried out.
#[derive(Debug)]
pub enum Refused {
    /// The server lacks these chunks of its content: they have to be sent first.
    Lacks(Vec<ChunkId>),
    /// What was expected is not so, or it cannot be done.
    Failed(Error),
}

/// A server's project.
///
/// Errors of every call: `Unavailable` where the server cannot be reached or does not answer in time; `Denied` where it does not
/// know the device any more; `Corrupt` where what it says makes no sense.
pub trait Origin: Send + Sync {
    /// Returns the project.
    ///
    /// # Errors
    /// `NotFound` where there is no such project.
    fn project(&self) -> Result<Project>;

    /// Returns up to `limit` entries of a folder behind `after`.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    fn entries(&self, folder: NodeId, after: Option<&Name>, limit: usize) -> Result<Page>;

    /// Returns what `name` in `folder` names.
    ///
    /// # Errors
    /// `NotFound` and `NotADirectory` for the folder.
    fn find(&self, folder: NodeId, name: &Name) -> Result<Option<Described>>;

    /// Fetches chunks that the content of file `of` holds, in one request, and hands each over as it arrives: its place in
    /// `ids` and its body, which nobody has checked yet; no body where the server does not have it for this file.
    /// `cancel` ends the call from elsewhere, with `Unavailable`.
    ///
    /// # Errors
    /// Those of `arrived`, which end the call.
    fn chunks(
        &self,
        of: NodeId,
        ids: &[ChunkId],
        cancel: &Cancel,
        arrived: &mut dyn FnMut(usize, Option<Bytes>) -> Result<()>,
    ) -> Result<()>;

    /// Returns up to `limit` changes behind `after`.
    ///
    /// # Errors
    /// `Conflict` where the feed does not reach back so far.
    fn changes(&self, after: &Cursor, limit: usize) -> Result<Feed>;

    /// Returns those of `ids`, at most [`ASKED_MAX`], that the server does not have, in their order.
    ///
    /// # Errors
    /// Those of every call.
    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>>;

    /// Sends chunks, up to [`SENT_MAX`] of [`SENT_MAX_BYTES`], in one request.
    ///
    /// # Errors
    /// `NoSpace`.
    fn send(&self, bodies: &[Bytes]) -> Result<()>;

    /// Has the server carry out entries in their order, at most [`PUSHED_MAX`], until one is refused.
    ///
    /// # Errors
    /// `Denied` where the device may not write; those of every call, and then nobody knows how many were carried out.
    fn push(&self, entries: &[Entry]) -> Result<Pushed>;

    /// Reserves a range of ids for nodes that are made here: those from `range << 40` on, 2^40 of them.
    ///
    /// # Errors
    /// `Denied` where the device may not write.
    fn range(&self) -> Result<u32>;

    /// Ends every call under way, and fails those to come.
    fn end(&self);

    /// Waits until there are changes behind `after`, or this device has other rules than those of version `rules`, up to
    /// `limit`; says which.
    ///
    /// # Errors
    /// Those of every call.
    fn wait(&self, after: &Cursor, rules: u64, limit: Duration) -> Result<Heard>;

    /// Returns the rules of `device` as its server has them; without one those of this device.
    ///
    /// # Errors
    /// `NotFound` where there is no such device, or it is another user's.
    fn rules(&self, device: Option<&str>) -> Result<Ruled>;

    /// Gives a device other rules than those of version `was`, and returns what it has then.
    ///
    /// # Errors
    /// As for [`Origin::rules`]; `Conflict` where somebody else was first; `Invalid` for what are no rules.
    fn set_rules(&self, device: Option<&str>, was: u64, text: &str) -> Result<Ruled>;
}
