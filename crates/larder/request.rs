//! What a command asks of the process that has the drive open: JSON, one value a line.
//!
//! The client writes one [`Request`]; the server writes any number of [`Reply::Progress`] and then one other.

use crate::args::{Keep, Ways};
use crate::limits::Written;
use crate::payers::Who;
use crate::users::Role;
use larder_core::{Error, Result};
use larder_store::origin::Link;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// One order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// What runs, or what is known of a path.
    Status {
        /// A path of the drive, as bytes.
        path: Option<Vec<u8>>,
    },
    /// What is not sent to the server yet.
    Push {
        /// Wait so long for that to be nothing.
        wait_ms: u64,
    },
    /// Fetch a file, or those in a folder.
    Fetch {
        /// A path of the drive.
        path: Vec<u8>,
        /// 1 to 10.
        priority: u8,
        /// Give a file up when it moved nothing for so long.
        ttl_ms: Option<u64>,
        /// Bytes a second that each may move.
        limit_bytes_per_s: Option<u64>,
    },
    /// Pause, resume or cancel what is fetched.
    Order {
        /// Which.
        order: Order,
        /// What of it.
        scope: Scope,
    },
    /// The conflicts at a path and below it, or the end of one.
    Conflicts {
        /// A path of the drive.
        path: Vec<u8>,
        /// How it ends.
        keep: Option<Keep>,
    },
    /// What changes, and how transfers go on, until the client goes away: [`Reply::Event`]s.
    Events {
        /// At this path of the drive, and below it.
        path: Vec<u8>,
    },
    /// Show or change the rules of a device.
    Rules {
        /// Which; without one the device itself.
        device: Option<String>,
        /// What to change.
        change: Option<RulesChange>,
    },
    /// Keep a path on this device.
    Pin {
        /// A path of the drive.
        path: Vec<u8>,
    },
    /// Take the rule away that does.
    Unpin {
        /// A path of the drive.
        path: Vec<u8>,
    },
    /// Why files at a path and below it were fetched.
    WhyFetched {
        /// A path of the drive.
        path: Vec<u8>,
    },
    /// Which rule decides about a path, and what another would cost.
    Why {
        /// A path of the drive.
        path: Vec<u8>,
    },
    /// Drop what is here of a path.
    Free {
        /// A path of the drive.
        path: Vec<u8>,
    },
    /// The versions of a path.
    Versions {
        /// A path of the drive.
        path: Vec<u8>,
    },
    /// Brings one back.
    Restore {
        /// A path of the drive.
        path: Vec<u8>,
        /// The number of a version.
        version: Option<u64>,
        /// Or a point in time.
        at_ns: Option<i64>,
    },
    /// Purge and sweep.
    Gc,
    /// Check every body.
    Scrub {
        /// Read no faster.
        rate: Option<String>,
    },
    /// Make the index again.
    Rebuild {
        /// Whatever the log lacks.
        accept_loss: bool,
    },
    /// How much is stored.
    Stats,
    /// Show or change limits.
    Limit {
        /// Whose; nobody's in particular means everybody's.
        who: Option<Who>,
        /// To what.
        limits: Written,
        /// How a device may use its way to the server.
        link: Option<Link>,
    },
    /// A new user.
    UserAdd {
        /// The name.
        name: String,
        /// The role.
        role: Role,
        /// The password.
        password: String,
    },
    /// All users.
    UserList,
    /// Another password.
    UserPassword {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
    /// One user less.
    UserRemove {
        /// The name.
        name: String,
    },
    /// All devices.
    DeviceList,
    /// One device less.
    DeviceRemove {
        /// Its id.
        id: String,
    },
    /// Mount the drive that is open.
    Mount {
        /// What /proc/mounts is to show.
        source: PathBuf,
        /// Where.
        dir: PathBuf,
        /// Mount options.
        options: Vec<String>,
        /// What the caller said of them.
        ways: Ways,
    },
    /// Take a mount of this process away, with everything written committed.
    Umount {
        /// Where it is.
        dir: PathBuf,
    },
}

/// What to do about rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RulesChange {
    /// Have these instead, one a line.
    Set(String),
    /// Have this one more, at the end.
    Add(String),
    /// Have this one no more: its number from 1, or its words.
    Remove(String),
}

/// What to do about what is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Move nothing of it.
    Pause,
    /// Go on.
    Resume,
    /// End it.
    Cancel,
}

/// What of all that is fetched or sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// A file, or those in a folder: a path of the drive.
    Path(Vec<u8>),
    /// Everything.
    All,
    /// Fetches.
    Down,
    /// Pushes.
    Up,
}

/// How far a long job is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// What it does now.
    pub what: String,
    /// So much is done.
    pub done: u64,
    /// Of so much; 0 where that is not known.
    pub total: u64,
    /// The numbers are bytes.
    pub bytes: bool,
}

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It goes on.
    Progress(Progress),
    /// Something happened.
    Event(Value),
    /// It is done.
    Done(Value),
    /// It failed.
    Failed {
        /// The name of the kind.
        kind: String,
        /// The message.
        what: String,
    },
}

impl Reply {
    /// The last line for an outcome.
    pub fn of(outcome: Result<Value>) -> Reply {
        match outcome {
            Ok(value) => Reply::Done(value),
            Err(error) => {
                Reply::Failed { kind: crate::failure::kind_name(error.kind()), what: error.to_string() }
            }
        }
    }

    /// The outcome, if this is the last line.
    pub fn outcome(self) -> Option<Result<Value>> {
        match self {
            Reply::Progress(_) | Reply::Event(_) => None,
            Reply::Done(value) => Some(Ok(value)),
            Reply::Failed { kind, what } => Some(Err(Error::new(crate::failure::kind_named(&kind), what))),
        }
    }
}
