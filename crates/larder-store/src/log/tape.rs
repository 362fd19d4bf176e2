//! What a store does to its files, for tests: recorded, or made to fail.
//!
//! A recorded tape holds every write, sync, rename and removal in order. From it a test makes the disk as a power
//! cut may leave it: what was synced, and of the rest any part in any order.

use parking_lot::Mutex;
use std::io;

/// One thing done to a file; names are relative to the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The file was made.
    Create(String),
    /// Bytes were written at an offset.
    Write(String, u64, Vec<u8>),
    /// The file was cut or extended to a length.
    Truncate(String, u64),
    /// fdatasync(2) of the file returned.
    Sync(String),
    /// The entries of the folder were synced.
    SyncFolder(String),
    /// The first name became the second.
    Rename(String, String),
    /// The name was removed.
    Remove(String),
    /// The test put a mark.
    Mark(u64),
}

/// What a rule of [`Tape::fail`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Appending to a file.
    Write,
    /// fdatasync(2) and fsync(2).
    Sync,
    /// Making a file.
    Create,
    /// pread(2).
    Read,
}

/// Records what is done to files and lets it fail where told.
#[derive(Debug, Default)]
pub struct Tape(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    recording: bool,
    events: Vec<Event>,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    action: Action,
    passes: u64,
    fails: u64,
    errno: i32,
}

impl Tape {
    /// Makes a tape that keeps every event.
    pub fn recording() -> Self {
        Self(Mutex::new(Inner { recording: true, ..Inner::default() }))
    }

    /// Lets the next `passes` actions of this sort pass and the `fails` behind them fail with `errno`.
    pub fn fail(&self, action: Action, passes: u64, fails: u64, errno: i32) {
        self.0.lock().rules.push(Rule { action, passes, fails, errno });
    }

    /// Forgets all rules.
    pub fn heal(&self) {
        self.0.lock().rules.clear();
    }

    /// Puts a mark, such as "commit 7 was acknowledged".
    pub fn mark(&self, number: u64) {
        self.record(|| Event::Mark(number));
    }

    /// Returns what happened so far, in order.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().events.clone()
    }

    pub(super) fn record(&self, event: impl FnOnce() -> Event) {
        let mut inner = self.0.lock();
        if inner.recording {
            inner.events.push(event());
        }
    }

    pub(super) fn check(&self, action: Action) -> io::Result<()> {
        let mut inner = self.0.lock();
        for rule in inner.rules.iter_mut().filter(|rule| rule.action == action) {
            if rule.passes > 0 {
                rule.passes -= 1;
            } else if rule.fails > 0 {
                rule.fails -= 1;
                return Err(io::Error::from_raw_os_error(rule.errno));
            }
        }
        Ok(())
    }
}
