//! The search for an order of calls.

use crate::tree::door::Seen;
use crate::tree::machine::THREADS;
use crate::tree_model::{Inode, Model, Op};
use larder_core::{Kind, Name, NodeKind};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What is made in a round has a number from here on, until it is known which it has in the drive.
const MADE: u64 = 1 << 63;

/// A call that returned.
#[derive(Debug)]
pub struct Call {
    pub op: Op,
    /// When it began and when it returned, on a clock that all threads share.
    pub called: u64,
    pub ended: u64,
    /// The number of the node, where the call tells it.
    pub result: Result<Option<u64>, Kind>,
}

/// Some calls of each thread, and what they made of the tree.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    done: [usize; THREADS],
    tree: Model,
    /// Which number in the drive a new node has, as far as something told.
    known: BTreeMap<u64, u64>,
}

/// A round, and what came of it.
pub struct Order<'a> {
    before: &'a Model,
    calls: &'a [Vec<Call>],
    after: &'a BTreeMap<u64, (Seen, BTreeMap<Name, u64>)>,
    /// Numbers that new nodes cannot have.
    used: &'a BTreeSet<u64>,
    /// States that were looked at: different orders of the same calls mostly come to the same.
    looked: HashSet<State>,
}

impl<'a> Order<'a> {
    pub fn new(
        before: &'a Model,
        calls: &'a [Vec<Call>],
        after: &'a BTreeMap<u64, (Seen, BTreeMap<Name, u64>)>,
        used: &'a BTreeSet<u64>,
    ) -> Self {
        Self { before, calls, after, used, looked: HashSet::new() }
    }

    /// Returns the tree afterwards, with the numbers that the drive gave, and all that became known of these. Where
    /// several orders fit, their trees are the same: it was walked.
    pub fn find(mut self) -> Option<(Model, BTreeSet<u64>)> {
        let start = State { done: [0; THREADS], tree: self.before.clone(), known: BTreeMap::new() };
        let end = self.from(&start)?;
        Some((renumbered(&end), end.known.into_values().collect()))
    }

    /// Returns the end of an order that goes on from `state`.
    fn from(&mut self, state: &State) -> Option<State> {
        if (0..THREADS).all(|thread| self.next(state, thread).is_none()) {
            return self.ended(state.clone());
        }
        (0..THREADS).find_map(|thread| {
            let next = self.step(state, thread)?;
            if self.looked.insert(next.clone()) { self.from(&next) } else { None }
        })
    }

    fn next(&self, state: &State, thread: usize) -> Option<&'a Call> {
        self.calls[thread].get(state.done[thread])
    }

    /// Makes the next call of `thread`, if it can be the next of all and what came of it is right.
    fn step(&self, state: &State, thread: usize) -> Option<State> {
        let call = self.next(state, thread)?;
        let mut waiting = (0..THREADS).filter_map(|other| self.next(state, other));
        if waiting.any(|other| other.ended < call.called) {
            return None;
        }
        let mut next = state.clone();
        next.done[thread] += 1;
        let faults = state.tree.faults(&call.op);
        match call.result {
            Err(kind) => faults.contains(&kind).then_some(next),
            Ok(told) => {
                let made = MADE | (thread << 32 | state.done[thread]) as u64;
                let node = faults.is_empty().then(|| next.tree.apply(&call.op, made))?;
                told.is_none_or(|number| self.is(&mut next, node, number)).then_some(next)
            }
        }
    }

    /// Says whether the node can have this number in the drive, and notes that it has.
    fn is(&self, state: &mut State, node: u64, number: u64) -> bool {
        if node < MADE {
            return node == number;
        }
        if let Some(known) = state.known.get(&node) {
            return *known == number;
        }
        let is_new = !self.used.contains(&number) && state.known.values().all(|known| *known != number);
        state.known.insert(node, number);
        is_new
    }

    /// Returns the state if its tree is what was found, with all numbers of it.
    fn ended(&self, mut state: State) -> Option<State> {
        let mut ahead = vec![(state.tree.root, state.tree.root)];
        while let Some((node, number)) = ahead.pop() {
            if !self.is(&mut state, node, number) {
                return None;
            }
            let inode = &state.tree.inodes[&node];
            let (seen, names) = self.after.get(&number)?;
            let sizes = inode.kind != NodeKind::File || seen.size_bytes == inode.bytes.len() as u64;
            let nodes = seen.kind == inode.kind && seen.nlink == state.tree.nlink(node);
            if !(sizes && nodes && names.keys().eq(inode.entries.keys())) {
                return None;
            }
            ahead.extend(inode.entries.values().copied().zip(names.values().copied()));
        }
        Some(state)
    }
}

/// The tree by the numbers of the drive, without what lost its last name.
fn renumbered(state: &State) -> Model {
    let number = |node: &u64| state.known.get(node).copied().unwrap_or(*node);
    let named = |(node, inode): &(&u64, &Inode)| **node == state.tree.root || inode.names > 0;
    let inodes = state.tree.inodes.iter().filter(named).map(|(node, inode)| {
        let entries = inode.entries.iter().map(|(name, node)| (name.clone(), number(node))).collect();
        (number(node), Inode { entries, ..inode.clone() })
    });
    Model { root: state.tree.root, inodes: inodes.collect() }
}
