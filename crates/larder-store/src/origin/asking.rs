//! What is being asked at a server, and which answers are still true when they come.

use crate::catalog::{Change, Op};
use larder_core::{Error, Name, NodeId, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How long a caller waits for others who ask about the same folder.
const WAIT: Duration = Duration::from_secs(30);
/// Names that were asked for and not there, remembered; beyond it every name that comes is told of.
const MISSED_MAX: usize = 65_536;

#[derive(Default)]
struct State {
    /// Folders that somebody asks about, each with the names in it that the feed told of since.
    folders: HashMap<NodeId, HashSet<Name>>,
    /// Names that were said not to be there, in folders that are not known whole.
    missed: HashSet<(NodeId, Name)>,
    missed_all: bool,
}

/// Who asks about which folder.
#[derive(Default)]
pub(super) struct Asking {
    state: Mutex<State>,
    answered: Condvar,
}

/// The right to ask about a folder; dropping it lets the next one ask.
pub(super) struct Turn<'a> {
    asking: &'a Asking,
    folder: NodeId,
}

impl Asking {
    /// Waits for the turn to ask about `folder`.
    ///
    /// # Errors
    /// `Unavailable` where others do not get their answers in time.
    pub(super) fn turn(&self, folder: NodeId) -> Result<Turn<'_>> {
        let mut state = self.state.lock();
        let others = |state: &mut State| state.folders.contains_key(&folder);
        if self.answered.wait_while_for(&mut state, others, WAIT).timed_out() {
            return Err(Error::unavailable("the server did not answer in time"));
        }
        state.folders.insert(folder, HashSet::new());
        Ok(Turn { asking: self, folder })
    }

    /// Notes which names are told anew, for those who wait for an older answer.
    pub(super) fn heard(&self, ops: &[Op]) {
        let mut state = self.state.lock();
        for op in ops {
            if let Op::AdoptName { parent, name, .. } = op
                && let Some(heard) = state.folders.get_mut(parent)
            {
                heard.insert(name.clone());
            }
        }
    }

    /// A name is asked for, and perhaps not there: whoever asks may remember that.
    pub(super) fn missed(&self, folder: NodeId, name: &Name) {
        let mut state = self.state.lock();
        if state.missed.len() >= MISSED_MAX {
            state.missed = HashSet::new();
            state.missed_all = true;
        }
        if !state.missed_all {
            state.missed.insert((folder, name.clone()));
        }
    }

    /// The name is there.
    pub(super) fn found(&self, folder: NodeId, name: &Name) {
        self.state.lock().missed.remove(&(folder, name.clone()));
    }

    /// Those changes that concern what was shown before: a name that is simply new was not, unless it was asked for.
    pub(super) fn seen_before(&self, changes: Vec<Change>) -> Vec<Change> {
        let mut state = self.state.lock();
        let mut renamed = HashSet::new();
        for change in &changes {
            if let Change::Unnamed { parent, name, .. } = change {
                renamed.insert((*parent, name.clone()));
            }
        }
        let was_seen = |change: &Change| match change {
            Change::Named { parent, name, .. } => {
                let place = (*parent, name.clone());
                state.missed.remove(&place) || state.missed_all || renamed.contains(&place)
            }
            _ => true,
        };
        changes.into_iter().filter(was_seen).collect()
    }
}

impl Turn<'_> {
    /// Those of `ops`, made of an answer, that the feed has told nothing of since: what it told is no older.
    pub(super) fn still_true(&self, ops: Vec<Op>) -> Vec<Op> {
        let heard = self.asking.state.lock().folders.get_mut(&self.folder).map(std::mem::take);
        let heard = heard.unwrap_or_default();
        let is_true = |op: &Op| match op {
            Op::AdoptName { parent, name, .. } => *parent != self.folder || !heard.contains(name),
            _ => true,
        };
        ops.into_iter().filter(is_true).collect()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.asking.state.lock().folders.remove(&self.folder);
        self.asking.answered.notify_all();
    }
}
