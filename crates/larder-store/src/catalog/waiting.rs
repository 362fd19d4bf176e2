//! Which entries of a queue may be told of before others that came earlier.

use super::{Queued, Removal, Spot, Step};
use larder_core::NodeId;
use std::collections::HashSet;

/// Entries that wait, by what no later entry may overtake.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    names: HashSet<Spot>,
    /// Nodes that they change.
    subjects: HashSet<NodeId>,
    /// Folders in which they change names.
    folders: HashSet<NodeId>,
    has_moves: bool,
    has_any: bool,
}

/// What a step changes, apart from the times of folders.
struct Change {
    names: Vec<Spot>,
    subjects: Vec<NodeId>,
    folders: Vec<NodeId>,
}

impl Change {
    fn of(step: &Step) -> Self {
        let touched = step.touches();
        let folders: Vec<NodeId> = touched.names.iter().map(|spot| spot.0).collect();
        let subjects = touched.nodes.into_iter().filter(|node| !folders.contains(node)).collect();
        Self { names: touched.names, subjects, folders }
    }
}

impl Waiting {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Queued) {
        for step in &entry.steps {
            let change = Change::of(step);
            self.names.extend(change.names);
            self.subjects.extend(change.subjects);
            self.folders.extend(change.folders);
            self.has_moves |= is_move(step);
        }
        self.has_any = true;
    }

    /// Says whether `entry`, which is behind all of them, has to wait as well: because it means the same name or node, or a
    /// folder that one of them makes, moves or removes. Moves keep their order: a folder that is moved below another must
    /// not have been below it.
    pub fn holds_up(&self, entry: &Queued) -> bool {
        entry.steps.iter().any(|step| {
            let change = Change::of(step);
            change.names.iter().any(|name| self.names.contains(name))
                || change.subjects.iter().any(|id| self.subjects.contains(id) || self.folders.contains(id))
                || change.folders.iter().any(|id| self.subjects.contains(id))
                || (self.has_moves && is_move(step))
                || (self.has_any && matches!(step, Step::Unlink { what: Removal::Tree, .. }))
        })
    }
}

fn is_move(step: &Step) -> bool {
    matches!(step, Step::Rename { .. } | Step::Exchange { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_core::{Head, Name, OpId};

    fn spot(folder: u64, name: &str) -> Spot {
        (NodeId(folder), Name::new(name).expect("a name"))
    }

    fn entry(step: Step) -> Queued {
        Queued { number: 0, op_id: OpId(0), steps: vec![step] }
    }

    fn content(node: u64) -> Queued {
        let mtime = Default::default();
        entry(Step::Content { node: NodeId(node), was: None, head: Head::default(), mtime })
    }

    fn unlink(folder: u64, name: &str, node: u64, what: Removal) -> Queued {
        entry(Step::Unlink { at: spot(folder, name), node: NodeId(node), was: None, what })
    }

    fn rename(node: u64, from: Spot, to: Spot) -> Queued {
        entry(Step::Rename { node: NodeId(node), from, to, over: None })
    }

    #[test]
    fn what_means_the_same_waits_and_nothing_else() {
        let mut waiting = Waiting::default();
        waiting.add(&rename(5, spot(1, "a"), spot(2, "b")));
        let held = [
            content(5),
            unlink(2, "b", 5, Removal::File),
            unlink(1, "b", 2, Removal::Folder),
            unlink(5, "x", 6, Removal::File),
            rename(7, spot(8, "x"), spot(9, "x")),
            unlink(8, "x", 9, Removal::Tree),
        ];
        held.iter().for_each(|entry| assert!(waiting.holds_up(entry), "{entry:?}"));
        let free = [content(6), unlink(1, "c", 6, Removal::File), unlink(2, "a", 6, Removal::File)];
        free.iter().for_each(|entry| assert!(!waiting.holds_up(entry), "{entry:?}"));
        assert!(!Waiting::default().holds_up(&unlink(8, "x", 9, Removal::Tree)));
    }
}
