//! What the planner is told and what it says.

use crate::{Direction, Tick};
use larder_core::{ChunkId, Error, Kind, NodeId, Result};
use std::time::Duration;

/// The caller's name of a job; it may be given again once the job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// The planner's name of one request for one chunk; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// How urgent a requested fetch or push is: 1 to 10, 10 is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// Takes a number as a priority.
    ///
    /// # Errors
    /// `Invalid` outside of 1 to 10.
    pub fn new(number: u8) -> Result<Self> {
        match number {
            1..=10 => Ok(Self(number)),
            _ => Err(Error::invalid(format!("priority {number} is not between 1 and 10, the most urgent"))),
        }
    }

    /// The number.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// How urgent a job is; each is served before those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Urgency {
    /// An application waits in a read.
    Reader,
    /// An application opened the file and has not read yet.
    Opener,
    /// What a sequential reader will want next.
    Readahead,
    /// A user asked for the file.
    Requested(Priority),
    /// A rule keeps the file here.
    Pin,
}

/// Why bytes that somebody wished for are wished for, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whose wish it is.
    pub job: JobId,
    /// Fetch (`Down`) or push (`Up`).
    pub direction: Direction,
    /// Before whom it is served.
    pub urgency: Urgency,
    /// The file that holds the chunks: one call to a server asks for chunks of one file.
    pub of: NodeId,
    /// The chunks to move, in order, with their sizes in bytes. What is already there is left out and counted in
    /// `here`; a chunk that occurs twice counts once, and a hole not at all.
    pub chunks: Vec<(ChunkId, u32)>,
    /// What of the whole is already there: the job starts as far as this.
    pub here: Amount,
    /// When it fails if it has not ended. A Reader without one gets [`Settings::reader_wait`].
    pub deadline: Option<Tick>,
    /// It expires when it moved nothing for so long, paused or not: a wish that nobody resumes ends, too.
    pub ttl: Option<Duration>,
}

/// Bytes and chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes.
    pub bytes: u64,
    /// Chunks.
    pub chunks: u64,
}

impl Amount {
    pub(super) fn plus(self, more: Amount) -> Amount {
        Amount {
            bytes: self.bytes.saturating_add(more.bytes),
            chunks: self.chunks.saturating_add(more.chunks),
        }
    }
}

/// Whom an order is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One job; of an unknown one (it may just have ended) nothing happens.
    Job(JobId),
    /// All fetches or all pushes, those to come included.
    Direction(Direction),
    /// Everything.
    All,
}

/// What the planner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wishes for chunks.
    Wish(Wish),
    /// A job is from now on as urgent as this.
    Urge(JobId, Urgency),
    /// Nothing of the scope is started any more, and what is in flight is abandoned. A job, a direction and everything
    /// are switches of their own: what was paused as a job stays so until the job is resumed.
    Pause(Scope),
    /// The same switch back.
    Resume(Scope),
    /// The jobs of the scope end. Readers end only as [`Scope::Job`]: an application's read is no transfer that a user
    /// sees and cancels.
    Cancel(Scope),
    /// The request moved so many bytes more. A sign of life and a part of the speed; the chunk is not here yet.
    Moved(RequestId, u32),
    /// The chunk is where it should be: verified and stored, or taken by the server.
    Arrived(RequestId),
    /// The request failed; `jitter` is random, from 0 to `u32::MAX`.
    Failed(RequestId, Failure, u32),
    /// The server cannot or must not be reached: nothing is started until [`Event::Online`].
    Offline,
    /// The server can be reached (again); waits for it end at once.
    Online,
    /// The settings changed.
    Set(Settings),
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer, an answer that ended early, 429 or 5xx: the server or the way to it. Tried again, as often as it takes.
    Unavailable {
        /// What the server's Retry-After says.
        retry_after: Option<Duration>,
    },
    /// The body is not what the chunk's name says. Asked again, [`WRONG_BODIES_MAX`](super::WRONG_BODIES_MAX) times.
    WrongBody,
    /// Trying again does not help: refused, not there, no space. The jobs that want the chunk fail.
    Refused(Kind),
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Request this chunk, and answer with `Arrived` or `Failed`. The caller owns the request's own time limit: one
    /// that is never answered holds its place.
    Start(Request),
    /// A request in flight is now as urgent as this, for the throttle.
    Reclass(RequestId, Urgency),
    /// Drop this request. Its place is free already, and whatever still comes of it is ignored.
    Abandon(RequestId),
    /// The job ended and is forgotten.
    Ended(JobId, Outcome),
}

/// One request to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its name.
    pub id: RequestId,
    /// Fetch or push.
    pub direction: Direction,
    /// Which chunk.
    pub chunk: ChunkId,
    /// How long the chunk is.
    pub size_bytes: u32,
    /// The highest urgency of those who want it.
    pub urgency: Urgency,
    /// A file that holds it.
    pub of: NodeId,
    /// The request that it goes with in one call: itself, or the one before it that was started for the same file. They
    /// share a place, which is free again when each of them was answered or abandoned.
    pub with: RequestId,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is there.
    Done,
    /// It was taken back.
    Cancelled,
    /// Its deadline came.
    TimedOut,
    /// It moved nothing for its ttl.
    Expired,
    /// A chunk came with wrong bytes too often.
    Corrupt,
    /// A chunk was refused for this reason.
    Refused(Kind),
}

impl Outcome {
    /// The kind of error that this is to whoever waited; `None` for [`Outcome::Done`].
    pub fn kind(self) -> Option<Kind> {
        match self {
            Outcome::Done => None,
            Outcome::Cancelled | Outcome::TimedOut | Outcome::Expired => Some(Kind::Unavailable),
            Outcome::Corrupt => Some(Kind::Corrupt),
            Outcome::Refused(kind) => Some(kind),
        }
    }
}

/// What a user tunes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pausing holds application reads, too; else they go on.
    pub pause_holds_readers: bool,
    /// The deadline of a Reader that brings none.
    pub reader_wait: Duration,
    /// Chunks of one file that stand in line behind one another go together, so many of them in one call.
    pub batch: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pause_holds_readers: false, reader_wait: Duration::from_secs(30), batch: 1 }
    }
}

/// How a job stands that has not ended; the other states are [`Outcome`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for its turn, for a server, or for its next try.
    Queued,
    /// A request for one of its chunks is in flight.
    Active,
    /// It, its direction or everything is paused.
    Paused,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// How it stands.
    pub state: State,
    /// What is there.
    pub done: Amount,
    /// What is to be there, `done` included.
    pub total: Amount,
    /// Bytes a second over the last ten seconds.
    pub speed_bytes_per_s: f64,
    /// How long the rest takes at that speed; `None` while nothing moves.
    pub left: Option<Duration>,
}

/// What the planner holds, for status pages and for tests that look for leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Jobs that have not ended.
    pub jobs: usize,
    /// Chunks that any job wants, those in flight included.
    pub chunks: usize,
    /// Of them, those that wait for their next try.
    pub waiting: usize,
    /// Calls in flight.
    pub in_flight: usize,
    /// Bodies that were not what their name says, since the start.
    pub wrong_bodies: u64,
}
