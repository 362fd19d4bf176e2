//! What was changed on a device and not told its server yet.

use super::Step;
use larder_core::OpId;
use serde::{Deserialize, Serialize};

/// An entry of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its place; later ones have greater numbers.
    pub number: u64,
    /// By which the server knows whether it has carried it out.
    pub op_id: OpId,
    /// What the server is told, in one piece.
    pub steps: Vec<Step>,
}

/// How long a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Entries in it.
    pub len: u64,
    /// The number that the next one gets.
    pub next: u64,
    /// The upper half of the ids of entries to come, from [`Op::Begin`](super::Op::Begin).
    pub run: u64,
    /// Entries below this may have reached the server, and stay as they are.
    pub sent: u64,
    /// What is known is to be compared with the server once the queue is empty: something was refused, or a name was kept
    /// for the sake of a change.
    pub in_doubt: bool,
}
