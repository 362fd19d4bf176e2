//! The rules of a device as a server keeps and tells them: text that nobody here reads.

use larder_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Rules as somebody wrote them. The record of a catalog and the JSON of the protocol are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruled {
    /// Grows with each change; 0 where nobody wrote any.
    pub version: u64,
    /// One rule a line.
    pub text: String,
    /// Who wrote them; empty where nobody did.
    pub by: String,
    /// On which device; empty for the server itself.
    pub on: String,
    /// When, in nanoseconds of Unix time.
    pub changed: String,
}

impl Ruled {
    /// As a record.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers become JSON")
    }

    /// Reads a record; none says that nobody wrote any rules.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(record: Option<&[u8]>) -> Result<Self> {
        let Some(record) = record else { return Ok(Self::default()) };
        serde_json::from_slice(record).map_err(|e| Error::corrupt("record of rules").because(e))
    }
}
