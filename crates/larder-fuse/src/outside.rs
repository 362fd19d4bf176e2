//! What other doors change, and how the kernel hears of it.
//!
//! The kernel keeps names, attributes and pages for long ([`crate::replies::TTL`]), so each commit through another
//! door must reach it. Notifications block while requests of the same folder or file are answered, so they have a
//! thread of their own; the callback on the committing thread only fills a bounded queue.
//!
//! Why nothing stale stays behind: a reply that was computed before the commit and arrives after the notification
//! would plant it. Replies about inodes that the kernel has are discarded there by attribute versions. Replies that
//! make names or inodes hold the folder's lock in the kernel until they are planted, and a notification about a name
//! takes that lock first. Before one about an inode we therefore notify the folder of a name that cannot exist.
//! Source: fuse_reverse_inval_entry and fuse_change_attributes in the kernel's fs/fuse.
//!
//! What the mount itself does to names changes attributes of folders, of which the kernel then drops what it has. A reply about such
//! a folder that was computed before would plant it again, and would stay: so each such change is told before it is
//! answered, which makes the kernel discard those replies.
//!
//! Listings that the kernel caches are used where no name in the folder changed since it was opened before, through whatever
//! door; else opening it drops them. Source: fuse_dir_open and fuse_readdir_cached there.

use fuser::{INodeNo, Notifier};
use larder_core::{Name, Node, NodeId};
use larder_drive::{Door, Event};
use larder_store::Change;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::time::Duration;

/// Changes that wait for the thread; beyond that everything is invalidated instead, and of what is named only names in
/// the root wait on, up to as many: a folder takes the names below it along, and a name that is gone is in no listing.
const QUEUE_MAX: usize = 65_536;
/// Folders whose listings are known to be right, 8 bytes each; beyond that the kernel reads all of them anew.
const LISTED_MAX: usize = 1 << 20;
/// No entry has this name; a notification about it only waits for the folder's requests.
const NO_NAME: &str = "/";
/// An offset that leaves pages alone. Source: fuse_reverse_inval_inode.
const ATTRIBUTES_ONLY: i64 = -1;

/// A change that the kernel has to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stale {
    /// `name` in `parent` names something else, or nothing (then `gone` is what it named).
    Entry { parent: NodeId, name: Name, gone: Option<NodeId> },
    /// Content or attributes of a node.
    Node(NodeId),
}

#[derive(Default)]
struct State {
    queue: VecDeque<Stale>,
    /// How often each node is in `queue` or being sent.
    nodes: HashMap<NodeId, usize>,
    /// The queue ran over: drop all that the kernel remembers.
    everything: bool,
    /// Commits noted, and how many of them the kernel has heard of.
    noted: u64,
    heard: u64,
    ended: bool,
    /// How many handles each node has open.
    open: HashMap<NodeId, usize>,
    /// Folders that were opened since a name in them changed.
    listed: HashSet<NodeId>,
}

/// The queue between committing threads and the notifying one.
#[derive(Default)]
pub(crate) struct Outside {
    state: Mutex<State>,
    changed: Condvar,
    notifier: OnceLock<Notifier>,
}

impl Outside {
    /// Takes note of a commit; called on the committing thread.
    pub(crate) fn note(&self, event: &Event<'_>) {
        let mut state = self.state.lock();
        for change in event.changes {
            if let Change::Named { parent, node, .. } | Change::Unnamed { parent, node, .. } = change {
                state.listed.remove(parent);
                // Its `..` is another one now.
                state.listed.remove(node);
            }
        }
        if event.door != Door::Mount && event.changes.iter().any(|change| is_moved(change, event.changes)) {
            state.listed.clear();
        }
        if event.door == Door::Mount || event.changes.is_empty() {
            drop(state);
            return self.note_own(event.changes);
        }
        for change in event.changes {
            state.push(change, event.changes);
        }
        state.noted += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Has the kernel discard replies about folders in which the mount changed names, and about what it named, that were
    /// computed before. No pages are dropped, so that nothing is waited for.
    fn note_own(&self, changes: &[Change]) {
        let Some(notifier) = self.notifier.get() else { return };
        let mut told = HashSet::new();
        for change in changes {
            if let Change::Named { parent, node, .. } | Change::Unnamed { parent, node, .. } = change {
                for id in [parent, node] {
                    if told.insert(*id) {
                        // What the kernel does not have, it cannot have wrong.
                        let _ = notifier.inval_inode(INodeNo(id.0), ATTRIBUTES_ONLY, 0);
                    }
                }
            }
        }
    }

    /// Tells this kernel from now on.
    pub(crate) fn connect(&self, notifier: &Notifier) {
        self.notifier.get_or_init(|| notifier.clone());
    }

    /// Says whether a node changed and the kernel has not heard of it yet.
    pub(crate) fn is_stale(&self, id: NodeId) -> bool {
        let state = self.state.lock();
        state.everything || state.nodes.contains_key(&id)
    }

    /// A folder was moved: what is shown below it may go by its path.
    pub(crate) fn moved(&self) {
        self.state.lock().listed.clear();
    }

    /// A folder is about to be opened; says whether its names are those of the time when it was opened before.
    pub(crate) fn is_listed(&self, folder: NodeId) -> bool {
        let listed = &mut self.state.lock().listed;
        if listed.len() >= LISTED_MAX {
            listed.clear();
        }
        !listed.insert(folder)
    }

    /// A handle of `id` was opened.
    pub(crate) fn opened(&self, id: NodeId) {
        *self.state.lock().open.entry(id).or_default() += 1;
    }

    /// A handle of `id` was closed.
    pub(crate) fn closed(&self, id: NodeId) {
        let mut state = self.state.lock();
        if let Some(count) = state.open.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&id);
            }
        }
    }

    /// Says whether a process has `id` open.
    pub(crate) fn is_open(&self, id: NodeId) -> bool {
        self.state.lock().open.contains_key(&id)
    }

    /// Returns once the kernel has heard of everything noted so far; `false` after `limit`.
    pub(crate) fn settle(&self, limit: Duration) -> bool {
        let mut state = self.state.lock();
        let noted = state.noted;
        let behind = |state: &mut State| state.heard < noted && !state.ended;
        !self.changed.wait_while_for(&mut state, behind, limit).timed_out()
    }

    /// Lets [`Outside::send`] return.
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    /// Tells the kernel, until [`Outside::end`]. `find` finds a node, also one without a name; `entries` the names in
    /// a folder.
    pub(crate) fn send(
        &self,
        notifier: &Notifier,
        find: impl Fn(NodeId) -> Option<Node>,
        entries: impl Fn(NodeId) -> Vec<Name>,
    ) {
        let mut state = self.state.lock();
        loop {
            self.changed.wait_while(&mut state, |s| s.queue.is_empty() && !s.everything && !s.ended);
            if state.ended {
                return;
            }
            let noted = state.noted;
            let (batch, all) = (std::mem::take(&mut state.queue), std::mem::take(&mut state.everything));
            let open: Vec<NodeId> = if all { state.open.keys().copied().collect() } else { Vec::new() };
            drop(state);
            if all {
                entries(NodeId::ROOT).iter().for_each(|name| entry(notifier, NodeId::ROOT, name.as_bytes()));
                open.iter().chain([&NodeId::ROOT]).for_each(|id| inode(notifier, *id));
            }
            let mut told = HashSet::new();
            for stale in &batch {
                stale.tell(notifier, &find, &mut told);
            }
            state = self.state.lock();
            state.sent(&batch);
            state.heard = noted;
            self.changed.notify_all();
        }
    }
}

impl State {
    fn push(&mut self, change: &Change, all: &[Change]) {
        if self.queue.len() >= QUEUE_MAX && !self.everything {
            self.queue.retain(Stale::is_in_root);
            self.nodes.clear();
            self.everything = true;
        }
        let (entry, nodes) = match change {
            Change::Named { parent, name, node } => {
                let entry = Stale::Entry { parent: *parent, name: name.clone(), gone: None };
                (Some(entry), vec![*parent, *node])
            }
            Change::Unnamed { parent, name, node } => {
                let gone = (!is_moved(change, all)).then_some(*node);
                let entry = Stale::Entry { parent: *parent, name: name.clone(), gone };
                (Some(entry), vec![*parent, *node])
            }
            Change::Content(node) | Change::Attrs(node) => (None, vec![*node]),
        };
        if self.everything {
            if self.queue.len() < QUEUE_MAX {
                self.queue.extend(entry.filter(Stale::is_in_root));
            }
            return;
        }
        self.queue.extend(entry);
        for node in nodes {
            *self.nodes.entry(node).or_default() += 1;
            self.queue.push_back(Stale::Node(node));
        }
    }

    fn sent(&mut self, batch: &VecDeque<Stale>) {
        for stale in batch {
            if let Stale::Node(id) = stale
                && let Some(count) = self.nodes.get_mut(id)
            {
                *count -= 1;
                if *count == 0 {
                    self.nodes.remove(id);
                }
            }
        }
    }
}

/// Says whether what loses a name by `change` has another one by `all`.
fn is_moved(change: &Change, all: &[Change]) -> bool {
    let Change::Unnamed { node, .. } = change else { return false };
    all.iter().any(|change| matches!(change, Change::Named { node: named, .. } if named == node))
}

impl Stale {
    /// A name in the root.
    fn is_in_root(&self) -> bool {
        matches!(self, Stale::Entry { parent: NodeId::ROOT, .. })
    }

    /// Sends the notifications; `told` are the nodes that this batch told already.
    fn tell(&self, notifier: &Notifier, find: &dyn Fn(NodeId) -> Option<Node>, told: &mut HashSet<NodeId>) {
        match self {
            // A folder may come back by undelete, and the kernel never revives one that it was told is deleted. Files
            // get the notification that inotify watchers wait for.
            Stale::Entry { parent, name, gone: Some(gone) }
                if find(*gone).is_some_and(|node| node.nlink == 0 && !node.is_folder()) =>
            {
                let os_name = OsStr::from_bytes(name.as_bytes());
                if notifier.delete(INodeNo(parent.0), INodeNo(gone.0), os_name).is_err() {
                    entry(notifier, *parent, name.as_bytes());
                }
            }
            Stale::Entry { parent, name, .. } => entry(notifier, *parent, name.as_bytes()),
            Stale::Node(id) => {
                if told.insert(*id) {
                    if let Some(node) = find(*id) {
                        entry(notifier, node.parent, NO_NAME.as_bytes());
                    }
                    inode(notifier, *id);
                }
            }
        }
    }
}

/// Drops a name and what it named from the kernel's memory. What it does not have is no error.
fn entry(notifier: &Notifier, parent: NodeId, name: &[u8]) {
    if let Err(error) = notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name)) {
        tracing::debug!(%error, %parent, "the kernel did not take a notification");
    }
}

/// Drops attributes and pages of a node.
fn inode(notifier: &Notifier, id: NodeId) {
    if let Err(error) = notifier.inval_inode(INodeNo(id.0), 0, 0) {
        tracing::debug!(%error, %id, "the kernel did not take a notification");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(i: u64) -> Change {
        Change::Named {
            parent: NodeId::ROOT,
            name: Name::new(i.to_string()).expect("a name"),
            node: NodeId(i),
        }
    }

    #[test]
    fn own_changes_are_not_told() {
        let outside = Outside::default();
        outside.note(&Event { door: Door::Mount, changes: &[named(2)] });
        assert!(!outside.is_stale(NodeId(2)));
        outside.note(&Event { door: Door::Dav, changes: &[named(2)] });
        assert!(outside.is_stale(NodeId(2)));
    }

    #[test]
    fn a_listing_is_right_until_a_name_changes_through_any_door() {
        let (outside, folder) = (Outside::default(), NodeId::ROOT);
        assert!(!outside.is_listed(folder), "nobody knows what the kernel has");
        assert!(outside.is_listed(folder) && outside.is_listed(folder));
        for door in [Door::Mount, Door::Dav] {
            outside.note(&Event { door, changes: &[Change::Content(folder), Change::Attrs(folder)] });
            assert!(outside.is_listed(folder));
            outside.note(&Event { door, changes: &[named(2)] });
            assert!(!outside.is_listed(folder) && outside.is_listed(folder));
        }
        assert!(!outside.is_listed(NodeId(2)) && outside.is_listed(NodeId(2)));
        outside.note(&Event { door: Door::Mount, changes: &[named(2)] });
        assert!(!outside.is_listed(NodeId(2)), "it has moved");
    }

    #[test]
    fn a_full_queue_makes_everything_stale_and_keeps_the_names_of_the_root() {
        let outside = Outside::default();
        let note = |change| outside.note(&Event { door: Door::Dav, changes: &[change] });
        let unnamed = |text: &str| Change::Unnamed {
            parent: NodeId::ROOT,
            name: Name::new(text).expect("a name"),
            node: NodeId(7),
        };
        note(unnamed("before"));
        (0..QUEUE_MAX as u64).for_each(|i| note(Change::Content(NodeId(i + 2))));
        note(unnamed("after"));
        let state = outside.state.lock();
        let gone = |text: &str| Stale::Entry {
            parent: NodeId::ROOT,
            name: Name::new(text).expect("a name"),
            gone: Some(NodeId(7)),
        };
        assert!(state.everything);
        assert_eq!(state.queue, [gone("before"), gone("after")]);
        drop(state);
        assert!(outside.is_stale(NodeId(u64::MAX)));
        (0..2 * QUEUE_MAX as u64).for_each(|i| note(named(i + 2)));
        assert_eq!(outside.state.lock().queue.len(), QUEUE_MAX, "there is a bound");
    }

    #[test]
    fn a_moved_node_is_not_told_as_deleted() {
        let outside = Outside::default();
        let unnamed =
            Change::Unnamed { parent: NodeId::ROOT, name: Name::new("a").expect("a name"), node: NodeId(7) };
        outside.note(&Event { door: Door::Api, changes: &[unnamed.clone(), named(7)] });
        outside.note(&Event { door: Door::Api, changes: &[unnamed] });
        let gone: Vec<_> = outside
            .state
            .lock()
            .queue
            .iter()
            .filter_map(|s| match s {
                Stale::Entry { gone, .. } => Some(*gone),
                Stale::Node(_) => None,
            })
            .collect();
        assert_eq!(gone, [None, None, Some(NodeId(7))]);
    }
}
