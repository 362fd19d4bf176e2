//! Entries that the server does not take for a while, such as of a file that somebody has locked. Others go past them.

use larder_core::Error;
use larder_store::catalog::{Queued, Waiting};
use std::collections::BTreeMap;

/// The most entries that are held at once: each is asked about again after a pause.
pub(super) const HELD_MAX: usize = 64;

/// Entries that wait, each for something of its own.
#[derive(Default)]
pub(super) struct Held {
    entries: BTreeMap<u64, Error>,
}

impl Held {
    /// Holds an entry, for this reason.
    pub(super) fn hold(&mut self, entry: &Queued, why: Error) {
        self.entries.insert(entry.number, why);
    }

    /// Says whether no more can be held.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= HELD_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Why the first of them waits.
    pub(super) fn why(&self) -> Option<&Error> {
        self.entries.values().next()
    }

    /// All of them are tried again.
    pub(super) fn let_go(&mut self) {
        self.entries.clear();
    }

    /// Those of `entries` that need not wait, and adds the others to `waiting`.
    pub(super) fn free(&self, entries: Vec<Queued>, waiting: &mut Waiting) -> Vec<Queued> {
        let is_free = |entry: &Queued| {
            let waits = self.entries.contains_key(&entry.number) || waiting.holds_up(entry);
            if waits {
                waiting.add(entry);
            }
            !waits
        };
        entries.into_iter().filter(is_free).collect()
    }
}
