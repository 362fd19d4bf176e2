//! Random calls of several threads at once, round by round.

use crate::tree::door::{Door, Found, walk};
use crate::tree::order::{Call, Order};
use crate::tree_model::{Inode, Model, Op, Place};
use larder_core::{Name, NodeKind};
use larder_drive::RenameFlags;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// More than cores are few, so that some thread also waits in the middle of a call.
pub const THREADS: usize = 3;
/// Calls of a thread in a round: the orders to look for grow with each by a factor.
const CALLS_MAX: usize = 6;
const ROUNDS_MAX: usize = 12;
/// Folders that the calls of a round are relative to, and names in each: few, so that calls meet.
const FOLDERS: usize = 5;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Which folder, and which name.
type Spot = (u8, u8);

#[derive(Clone, Debug)]
pub enum Step {
    Make(Spot, u8),
    Link(u8, Spot),
    Unlink(Spot),
    Rmdir(Spot),
    Rename(Spot, Spot, u8),
    Find(Spot),
}

pub type Round = [Vec<Step>; THREADS];

fn step() -> impl Strategy<Value = Step> {
    let spot = || (0..FOLDERS as u8, 0..NAMES.len() as u8);
    prop_oneof![
        8 => (spot(), 0..7u8).prop_map(|(at, kind)| Step::Make(at, kind)),
        3 => (any::<u8>(), spot()).prop_map(|(node, at)| Step::Link(node, at)),
        4 => spot().prop_map(Step::Unlink),
        3 => spot().prop_map(Step::Rmdir),
        9 => (spot(), spot(), 0..3u8).prop_map(|(from, to, flags)| Step::Rename(from, to, flags)),
        4 => spot().prop_map(Step::Find),
    ]
}

pub fn rounds() -> impl Strategy<Value = Vec<Round>> {
    let round = prop::array::uniform3(prop::collection::vec(step(), 1..=CALLS_MAX));
    prop::collection::vec(round, 1..=ROUNDS_MAX)
}

/// What the steps of a round are about: what there is at its start, by the numbers of inodes.
struct Choice {
    folders: Vec<u64>,
    /// Whatever can be linked, and the root, which cannot.
    nodes: Vec<u64>,
}

impl Choice {
    fn of(model: &Model) -> Self {
        let mut folders = model.folders();
        folders.truncate(FOLDERS);
        let mut nodes: Vec<u64> = model.inodes.keys().copied().filter(|id| !model.is_folder(*id)).collect();
        nodes.push(model.root);
        Self { folders, nodes }
    }

    fn place(&self, (folder, name): Spot) -> Place {
        let name = Name::new(NAMES[name as usize]).expect("a name");
        (self.folders[folder as usize % self.folders.len()], name)
    }

    fn op(&self, step: &Step) -> Op {
        match *step {
            Step::Make(at, kind) => {
                let (kind, bytes) = match kind {
                    0 => (NodeKind::File, Vec::new()),
                    1 | 2 => (NodeKind::File, vec![kind]),
                    3 => (NodeKind::Symlink, Vec::new()),
                    4 => (NodeKind::Fifo, Vec::new()),
                    _ => (NodeKind::Folder, Vec::new()),
                };
                Op::Make(self.place(at), Inode { bytes, ..Inode::new(kind, 0) })
            }
            Step::Link(node, at) => Op::Link(self.nodes[node as usize % self.nodes.len()], self.place(at)),
            Step::Unlink(at) => Op::Unlink(self.place(at)),
            Step::Rmdir(at) => Op::Rmdir(self.place(at)),
            Step::Rename(from, to, flags) => {
                let all = [RenameFlags::Replace, RenameFlags::NoReplace, RenameFlags::Exchange];
                Op::Rename(self.place(from), self.place(to), all[flags as usize])
            }
            Step::Find(at) => Op::Find(self.place(at)),
        }
    }
}

/// Lets each thread make its calls, all threads at once.
fn run<D: Door>(door: &D, before: &Found<D::Held>, ops: Vec<Vec<Op>>) -> Vec<Vec<Call>> {
    let (ready, time) = (AtomicUsize::new(0), AtomicU64::new(0));
    let tick = || time.fetch_add(1, Ordering::SeqCst);
    let call = |op: Op| {
        let called = tick();
        let result = door.call(&before.held, &op);
        Call { op, called, ended: tick(), result }
    };
    let turn = |ops: Vec<Op>| {
        ready.fetch_add(1, Ordering::SeqCst);
        // Not a barrier: whom that wakes comes when the others are done.
        while ready.load(Ordering::SeqCst) < THREADS {
            thread::yield_now();
        }
        ops.into_iter().map(call).collect()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = ops.into_iter().map(|ops| scope.spawn(|| turn(ops))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// Plays the rounds in a folder of their own, and looks for an order of the calls of each.
pub fn history<D: Door>(door: &D, rounds: &[Round]) {
    let mut before = walk(door, door.folder());
    let mut model = Model::new(before.root, 0);
    let mut used = BTreeSet::from([before.root]);
    for round in rounds {
        let choice = Choice::of(&model);
        let ops = round.iter().map(|steps| steps.iter().map(|step| choice.op(step)).collect()).collect();
        let calls = run(door, &before, ops);
        let root = before.held.remove(&before.root).expect("held while it is walked");
        let after = walk(door, root);
        let order = Order::new(&model, &calls, &after.nodes, &used).find();
        let (next, new) = order.unwrap_or_else(|| panic!("{}", report(&model, &calls, &after)));
        model = next;
        used.extend(new);
        before = after;
    }
}

fn report<H>(before: &Model, calls: &[Vec<Call>], after: &Found<H>) -> String {
    let mut lines = vec!["no order of these calls explains them; the tree before:".to_owned()];
    let inodes = before.inodes.iter();
    lines.extend(inodes.map(|(id, inode)| format!("  {id}: {:?} {:?}", inode.kind, inode.entries)));
    for (thread, calls) in calls.iter().enumerate() {
        lines.push(format!("thread {thread}, with the times of call and return:"));
        let line = |call: &Call| format!("  {}-{} {:?} {:?}", call.called, call.ended, call.op, call.result);
        lines.extend(calls.iter().map(line));
    }
    lines.push("the tree after:".to_owned());
    lines.extend(after.nodes.values().map(|(seen, names)| format!("  {seen:?} {names:?}")));
    lines.join("\n")
}
