//! What was changed on a device and not told its server yet.

use super::Step;
use larder_core::{Error, OpId, Result};
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
    /// What is known is to be compared with the server once it was told what is queued now: something was refused, or a name
    /// was kept for the sake of a change.
    pub in_doubt: bool,
}

/// Key of the newest doubt in [`Table::Pushing`](super::Table::Pushing).
pub(crate) const DOUBT: &[u8] = b"doubt";

/// When something came to be in doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The number of the doubt.
    pub count: u64,
    /// The server has to be told of entries below this first: until then it is not believed in what they touch.
    pub before: u64,
}

impl Doubt {
    pub(crate) fn encode(self) -> Vec<u8> {
        serde_json::to_vec(&self).expect("numbers become JSON")
    }

    pub(crate) fn decode(record: Option<&[u8]>) -> Result<Self> {
        let read =
            |json| serde_json::from_slice(json).map_err(|e| Error::corrupt("record of a doubt").because(e));
        record.map_or(Ok(Self::default()), read)
    }
}
