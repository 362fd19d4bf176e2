//! The planner: which chunk is fetched or pushed next, and how many at once.
//!
//! A pure state machine, which larder-drive drives: it tells [`Planner::handle`] what happened, carries out what
//! [`Planner::poll`] says until that says nothing more, and comes back at [`Planner::wake_at`] or with the next event.
//! It never decides how fast bytes move: that is the [`throttle`](crate::throttle)'s.
//!
//! A *job* is a wish for chunks. What several jobs want is moved once, in the highest of their classes: Reader, Opener,
//! Readahead, requests by priority from 10 to 1, Pin; first come, first served within a class, where a job that is
//! resumed or gets more urgent comes anew. The two directions do not wait for one another: each has its own queues
//! (`lane`), its own number of calls in flight (`window`), of which bulk work always leaves one free for Readers and
//! Openers, and its own pauses after failures (`trouble`).
//!
//! A call asks for one chunk, or for several of one file that stand in line together ([`Settings::batch`]); each of them is
//! started, answered and abandoned by itself.
//!
//! Two things are tried again: the chunk that failed, after a wait of its own, and the server, which is left alone after
//! trouble by all requests, as the next one would meet the same. An application waits two seconds at most for either,
//! but for what a server's Retry-After asks.
//!
//! What has no bound here is bounded by its owner: how long a request takes by the caller's client, how much of a job
//! larger than [`CHUNKS_MAX`] is offered at a time by the caller, who gives it as several jobs.

mod chunk;
mod class;
mod job;
mod lane;
mod planner;
mod queue;
mod trouble;
mod window;
mod words;

pub use planner::Planner;
pub use window::{IN_FLIGHT_MAX, IN_FLIGHT_MIN};
pub use words::{
    Action, Amount, Census, Event, Failure, JobId, Outcome, Priority, Progress, Request, RequestId, Scope,
    Settings, State, Urgency, Wish,
};

/// The most chunks that may be wanted at a time in one direction: 256 GiB at their mean size, in about 170 MB.
pub const CHUNKS_MAX: usize = 1 << 20;
/// The most jobs that may be there at a time.
pub const JOBS_MAX: usize = 100_000;
/// Chunks and jobs beyond these bounds that applications may still wish for, so that a long queue of bulk work never
/// refuses a read.
pub const URGENT_ROOM: usize = 1 << 16;
/// How often a chunk may come with wrong bytes before the jobs that want it fail.
pub const WRONG_BODIES_MAX: u32 = 8;
