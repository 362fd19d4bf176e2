//! Entries of the queue that come to say something else: joined with a later change, or changed where the server refused.

use super::keys;
use super::queue::decode;
use super::txn::Txn;
use crate::catalog::{CREATE_XATTRS_BYTES, Queued, Replace, Spot, Step};
use crate::kv::Kv;
use crate::wire::Described;
use larder_core::{Content, Error, NodeId, Result};
use std::collections::HashSet;

/// Entries of the queue read at a time.
const LATER: usize = 64;

impl<K: Kv> Txn<'_, K> {
    /// Has an entry say something else; without steps it goes.
    pub(super) fn restate(&mut self, number: u64, steps: Vec<Step>) -> Result<()> {
        let entry = self.queued(number)?.ok_or_else(|| Error::not_found(format!("entry {number}")))?;
        self.doubt()?;
        if steps.is_empty() {
            return self.dequeue(entry);
        }
        let made = |steps: &[Step], id| {
            steps.iter().any(|step| matches!(step, Step::Create { node, .. } if node.node.id == id))
        };
        // First marked, so that nothing common to both is let go meanwhile.
        self.mark_all(&steps, number)?;
        self.unmark_all(&entry.steps)?;
        self.save_entry(&Queued { steps: steps.clone(), ..entry.clone() });
        for step in steps {
            let Step::Create { at, node } = &step else { continue };
            if self.node_if(node.node.id)?.is_some() {
                if !made(&entry.steps, node.node.id) {
                    self.tell_other_xattrs(node.node.id, node)?;
                }
            } else if self.is_alive(at.0)? {
                // A copy that keeps what was written here beside what is there is seen here at once.
                step.carried_out()
                    .1
                    .into_iter()
                    .try_for_each(|op| self.carry_out(op, &Default::default()))?;
            }
        }
        Ok(())
    }

    /// Gives what is made the attributes of `from` that one step does not bring, here and in entries of their own.
    fn tell_other_xattrs(&mut self, from: NodeId, made: &Described) -> Result<()> {
        let to = made.node.id;
        let told: HashSet<&[u8]> = made.xattrs.iter().map(|(name, _)| &name[..]).collect();
        for key in self.keys_below(&keys::xattr(from, &[]), usize::MAX)? {
            let name = key[9..].to_vec();
            if told.contains(&name[..]) {
                continue;
            }
            let value = self.read(&key)?;
            if self.node_if(to)?.is_some() {
                self.write(keys::xattr(to, &name), value.clone());
            }
            self.append(vec![Step::Xattr { node: to, name, value }])?;
        }
        Ok(())
    }

    /// Node `node` is `to` instead of `from` at the server: later entries that mean it say so, and here it gets that name
    /// too, unless it has left the old one since. What takes its place then has that place there.
    pub(super) fn move_queued(&mut self, number: u64, node: NodeId, from: Spot, to: Spot) -> Result<()> {
        let mut holder = Some(node);
        let mut later = Later::about(node, number, self)?;
        while let Some(Queued { number, mut steps, .. }) = later.next(self)? {
            let Some(mut node) = holder else { return Ok(()) };
            let before = steps.clone();
            for step in &mut steps {
                match meant(step, node, &from, &to) {
                    Meant::Same => {}
                    Meant::Left => holder = None,
                    Meant::Taken(by) => {
                        node = by;
                        holder = Some(by);
                        later.turn_to(by);
                    }
                }
            }
            if steps != before {
                self.restate(number, steps)?;
            }
        }
        // In a folder that is gone here, what the server tells makes it right.
        if let Some(node) = holder
            && self.entry(from.0, &from.1)? == Some(node)
            && self.is_alive(from.0)?
        {
            self.rename(from, to, Replace::Nothing)?;
        }
        Ok(())
    }

    /// Folder `from` is folder `to`: what is in it moves there, here and in later entries.
    pub(super) fn merge_queued(&mut self, number: u64, from: NodeId, to: Described) -> Result<()> {
        let id = to.node.id;
        self.adopt(to, true)?;
        let mut later = Later::about(from, number, self)?;
        while let Some(Queued { number, mut steps, .. }) = later.next(self)? {
            let before = steps.clone();
            // What was set of the folder here is of one that nobody will have.
            steps.retain(
                |step| !matches!(step, Step::Attrs { node, .. } | Step::Xattr { node, .. } if *node == from),
            );
            steps
                .iter_mut()
                .flat_map(Step::spots_mut)
                .filter(|spot| spot.0 == from)
                .for_each(|spot| spot.0 = id);
            if steps != before {
                self.restate(number, steps)?;
            }
        }
        for key in self.keys_below(&keys::entries(from), usize::MAX)? {
            let name = keys::name_of(&key)?;
            self.rename((from, name.clone()), (id, name), Replace::Nothing)?;
        }
        Ok(())
    }

    /// Later contents of file `from` are those of file `to`, which entry `number` makes from it, and which has the last of them
    /// here at once.
    pub(super) fn redirect_queued(&mut self, number: u64, from: NodeId, to: NodeId) -> Result<()> {
        for step in self.queued(number)?.into_iter().flat_map(|entry| entry.steps) {
            if let Step::Create { node, .. } = step
                && node.node.id == to
            {
                self.tell_other_xattrs(from, &node)?;
            }
        }
        let mut newest = None;
        let mut later = Later::about(from, number, self)?;
        while let Some(Queued { number, mut steps, .. }) = later.next(self)? {
            let before = steps.clone();
            for step in &mut steps {
                if let Step::Content { node, was, head, mtime } = step
                    && *node == from
                {
                    (*node, *was) = (to, None);
                    newest = Some((head.clone(), *mtime));
                }
            }
            if steps != before {
                self.restate(number, steps)?;
            }
        }
        let newest = newest.filter(|_| matches!(self.node_if(to), Ok(Some(_))));
        newest.map_or(Ok(()), |(head, mtime)| self.set_content(to, head, mtime, None))
    }
}

/// Later entries that touch a node, in their order. The mark of the node says how many there are: behind the last of them nobody
/// looks, for a queue may be long and most of it be refused.
struct Later {
    node: NodeId,
    number: u64,
    page: std::vec::IntoIter<Queued>,
    /// Steps that touch the node and were not found yet.
    left: u32,
}

impl Later {
    /// Those behind entry `number`.
    fn about<K: Kv>(node: NodeId, number: u64, txn: &Txn<'_, K>) -> Result<Self> {
        let own = txn.queued(number)?.map_or(0, |entry| times(&entry, node));
        let all = txn.mark_of(&keys::mark_node(node))?.map_or(0, |mark| mark.count);
        Ok(Self { node, number, page: Vec::new().into_iter(), left: all.saturating_sub(own) })
    }

    /// From now on those that touch another node.
    fn turn_to(&mut self, node: NodeId) {
        // Some of those may lie before.
        (self.node, self.left) = (node, u32::MAX);
    }

    fn next<K: Kv>(&mut self, txn: &Txn<'_, K>) -> Result<Option<Queued>> {
        while self.left > 0 {
            let Some(entry) = self.page.next() else {
                let pairs = txn.pairs_behind(keys::QUEUE, &keys::queued(self.number), LATER)?;
                let read = |(key, value): &(Vec<u8>, Vec<u8>)| decode(keys::queue_number(key)?, value);
                self.page = pairs.iter().map(read).collect::<Result<Vec<_>>>()?.into_iter();
                if self.page.len() == 0 {
                    return Ok(None);
                }
                continue;
            };
            self.number = entry.number;
            let touching = times(&entry, self.node);
            if touching > 0 {
                self.left = self.left.saturating_sub(touching);
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

/// How many steps of an entry touch a node.
fn times(entry: &Queued, node: NodeId) -> u32 {
    entry.steps.iter().filter(|step| step.touches().nodes.contains(&node)).count() as u32
}

/// What became of a name that a node had.
enum Meant {
    /// The node has it.
    Same,
    /// Nothing has it.
    Left,
    /// Another node has it.
    Taken(NodeId),
}

/// Has a step that means `id` by the name `from` say `to`; says what has that name then.
fn meant(step: &mut Step, id: NodeId, from: &Spot, to: &Spot) -> Meant {
    match step {
        Step::Unlink { at, node, .. } if *node == id && at == from => *at = to.clone(),
        Step::Rename { node, from: old, .. } if *node == id && old == from => *old = to.clone(),
        Step::Rename { node, to: new, over: Some((over, _)), .. } if *over == id && new == from => {
            *new = to.clone();
            return Meant::Taken(*node);
        }
        Step::Exchange { a, b } => {
            let ends = [(&*a, &*b), (&*b, &*a)];
            let taken = ends.iter().find(|(one, _)| (&one.0, one.1) == (from, id)).map(|(_, other)| other.1);
            for end in [a, b] {
                if (&end.0, end.1) == (from, id) {
                    end.0 = to.clone();
                }
            }
            return taken.map_or(Meant::Same, Meant::Taken);
        }
        _ => return Meant::Same,
    }
    Meant::Left
}

/// Has `step` say what `more` says too, where one step can.
pub(super) fn joined(step: &mut Step, more: &Step) -> bool {
    match (step, more) {
        (Step::Content { head, mtime, .. }, Step::Content { head: now, mtime: then, .. }) => {
            (*head, *mtime) = (now.clone(), *then);
            true
        }
        (Step::Create { node, .. }, Step::Content { head, mtime, .. }) => {
            node.node.content = Content::File(head.clone());
            node.node.mtime = *mtime;
            true
        }
        (Step::Create { node, .. }, Step::Attrs { attrs, .. }) => {
            attrs.set_on(&mut node.node);
            true
        }
        (Step::Attrs { attrs, .. }, Step::Attrs { attrs: more, .. }) => {
            attrs.mode = more.mode.or(attrs.mode);
            attrs.uid = more.uid.or(attrs.uid);
            attrs.gid = more.gid.or(attrs.gid);
            attrs.atime = more.atime.or(attrs.atime);
            attrs.mtime = more.mtime.or(attrs.mtime);
            attrs.btime = more.btime.or(attrs.btime);
            true
        }
        (Step::Create { node, .. }, Step::Xattr { name, value, .. }) => {
            let others = node.xattrs.iter().filter(|(kept, _)| kept != name);
            let bytes: usize = others.map(|(name, value)| name.len() + value.len()).sum();
            if bytes + name.len() + value.as_ref().map_or(0, Vec::len) > CREATE_XATTRS_BYTES {
                return false;
            }
            node.xattrs.retain(|(kept, _)| kept != name);
            node.xattrs.extend(value.clone().map(|value| (name.clone(), value)));
            true
        }
        _ => false,
    }
}
