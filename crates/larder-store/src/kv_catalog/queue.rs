//! Changes made on a device: carried out here at once, and queued for the server.
//!
//! A name or node that an entry of the queue touches is marked: what the server tells of it is not believed until the
//! server has answered that entry, with what is there then. A later change joins the last entry of its node where that says
//! the same in fewer words and has not been sent.

use super::keys;
use super::restate::joined;
use super::txn::Txn;
use crate::catalog::{Attrs, CREATE_XATTRS_BYTES, DOUBT, Doubt, Op, QueueState, Queued, Spot, Step, Table};
use crate::kv::Kv;
use crate::wire::Described;
use larder_core::{Error, Name, Node, NodeId, OpId, Result};
use serde::{Deserialize, Serialize};

/// What the queue says of a name or a node.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Entries that touch it; a draft counts for its name.
    pub(super) count: u32,
    /// The last of them.
    last: u64,
    /// The server told something that was not believed.
    is_behind: bool,
}

/// Reads an entry as it is kept.
pub(super) fn decode(number: u64, bytes: &[u8]) -> Result<Queued> {
    let (op_id, steps) = keys::decode(bytes)?;
    Ok(Queued { number, op_id: OpId(op_id), steps })
}

/// How often the queue touches what has this mark.
pub(super) fn times(mark: &[u8]) -> Result<u32> {
    Ok(keys::decode::<Mark>(mark)?.count)
}

/// Names and values of extended attributes.
type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

impl<K: Kv> Txn<'_, K> {
    /// Carries out what was changed here, and queues it.
    pub(super) fn carry_out_here(&mut self, op: Op) -> Result<()> {
        let Some(steps) = self.steps_of(&op)? else { return self.carry_out(op, &Default::default()) };
        let publishes = match &op {
            Op::SetContent { node, .. } => Some(self.node(*node)?).filter(|node| node.draft),
            _ => None,
        };
        let draft = match &op {
            Op::Create { parent, name, node } if node.draft => Some((*parent, name.clone())),
            _ => None,
        };
        let made = match &op {
            Op::Create { node, .. } => Some(node.id),
            _ => None,
        };
        self.carry_out(op, &Default::default())?;
        if let Some(spot) = draft {
            return self.mark(keys::mark_name(&spot), 0);
        }
        if let Some(id) = publishes.as_ref().map(|node| node.id).or(made) {
            let node = self.node(id)?;
            if node.is_folder() {
                // Nobody else has been there.
                self.write(keys::record(Table::Mirror as u8, &id.0.to_be_bytes()), Some(b"a".to_vec()));
            }
            let spot =
                (node.parent, node.name.clone().ok_or_else(|| Error::corrupt("a node without a name"))?);
            let (told, rest) = self.described(node)?;
            self.append(vec![Step::Create { at: spot.clone(), node: Box::new(told) }])?;
            for (name, value) in rest {
                self.append(vec![Step::Xattr { node: id, name, value: Some(value) }])?;
            }
            return if publishes.is_some() { self.unmark(keys::mark_name(&spot)).map(drop) } else { Ok(()) };
        }
        steps.into_iter().try_for_each(|step| self.join_or_append(step))
    }

    /// What a server is told of `op`, as things are before it; nothing where it is no matter of the server's.
    fn steps_of(&self, op: &Op) -> Result<Option<Vec<Step>>> {
        let is_draft = |id: NodeId| Ok::<_, Error>(self.node(id)?.draft);
        let step = match op {
            Op::Create { .. } => return Ok(Some(Vec::new())),
            Op::SetContent { node, head, mtime, base, .. } => {
                let before = self.node(*node)?;
                if before.draft {
                    return Ok(Some(Vec::new()));
                }
                let was = base.as_ref().or(before.head()).cloned();
                Step::Content { node: *node, was, head: head.clone(), mtime: *mtime }
            }
            Op::SetAttrs { node, attrs } if !is_draft(*node)? => Step::Attrs { node: *node, attrs: *attrs },
            Op::SetXattr { node, name, value, .. } if !is_draft(*node)? => {
                Step::Xattr { node: *node, name: name.clone(), value: value.clone() }
            }
            Op::Link { node, parent, name } => Step::Link { node: *node, at: (*parent, name.clone()) },
            Op::Unlink { parent, name, what } => {
                let node = self.named(*parent, name)?;
                if node.draft {
                    return Ok(None);
                }
                let was = node.head().filter(|_| node.nlink == 1).cloned();
                Step::Unlink { at: (*parent, name.clone()), node: node.id, was, what: (*what).into() }
            }
            Op::Rename { from, to, .. } => {
                let node = self.named(from.0, &from.1)?;
                let target = self.entry(to.0, &to.1)?.map(|id| self.node(id)).transpose()?;
                // rename(2): two names of one file stay as they are.
                if target.as_ref().is_some_and(|target| target.id == node.id) {
                    return Ok(None);
                }
                let over = target.map(|t| (t.id, t.head().filter(|_| t.nlink == 1).cloned()));
                Step::Rename { node: node.id, from: from.clone(), to: to.clone(), over }
            }
            Op::Exchange { a, b } => {
                let (one, two) = (self.named(a.0, &a.1)?.id, self.named(b.0, &b.1)?.id);
                Step::Exchange { a: (a.clone(), one), b: (b.clone(), two) }
            }
            Op::Revive { node, .. } if self.node(*node)?.nlink > 0 => return Ok(None),
            Op::Undelete { node, to } | Op::Revive { node, to } => {
                Step::Undelete { node: *node, to: to.clone() }
            }
            _ => return Ok(None),
        };
        Ok(Some(vec![step]))
    }

    /// A node with as many of its attributes as come with it, and the others.
    fn described(&self, node: Node) -> Result<(Described, Xattrs)> {
        let (mut xattrs, mut rest, mut bytes) = (Vec::new(), Vec::new(), 0);
        for key in self.keys_below(&keys::xattr(node.id, &[]), usize::MAX)? {
            let (name, value) = (key[9..].to_vec(), self.read(&key)?.unwrap_or_default());
            bytes += name.len() + value.len();
            if bytes <= CREATE_XATTRS_BYTES { &mut xattrs } else { &mut rest }.push((name, value));
        }
        Ok((Described { node, xattrs }, rest))
    }

    fn join_or_append(&mut self, step: Step) -> Result<()> {
        if let Step::Unlink { node, was: Some(_), .. } = &step
            && self.cancels_creation(*node)?
        {
            return Ok(());
        }
        let id = match &step {
            Step::Content { node, .. } | Step::Attrs { node, .. } | Step::Xattr { node, .. } => *node,
            _ => return self.append(vec![step]),
        };
        let state = self.queue_state()?;
        let last = self.mark_of(&keys::mark_node(id))?.map(|mark| mark.last);
        if let Some(last) = last.filter(|last| *last >= state.sent)
            && let Some(mut entry) = self.queued(last)?
            && let [only] = &mut entry.steps[..]
            && only.subject() == Some(id)
            && joined(only, &step)
        {
            self.save_entry(&entry);
            return Ok(());
        }
        self.append(vec![step])
    }

    /// A file that was made here and removed before anybody heard of it: nobody will.
    fn cancels_creation(&mut self, id: NodeId) -> Result<bool> {
        let state = self.queue_state()?;
        let Some(mark) = self.mark_of(&keys::mark_node(id))?.filter(|mark| mark.last >= state.sent) else {
            return Ok(false);
        };
        let entry = self.queued(mark.last)?;
        let Some(entry) = entry else { return Ok(false) };
        let [Step::Create { at, .. }] = &entry.steps[..] else { return Ok(false) };
        let at = at.clone();
        self.unmark_name(&at)?;
        // Once more in a moment, with everything else that it touches.
        self.mark(keys::mark_name(&at), 0)?;
        self.dequeue(entry)?;
        // All that is left of it.
        let attrs = Attrs { mtime: Some(self.at), ..Attrs::default() };
        self.append(vec![Step::Attrs { node: at.0, attrs }])?;
        Ok(true)
    }

    pub(super) fn append(&mut self, steps: Vec<Step>) -> Result<()> {
        let mut state = self.queue_state()?;
        let number = state.next;
        self.mark_all(&steps, number)?;
        let op_id = OpId((u128::from(state.run) << 64) | u128::from(number));
        self.save_entry(&Queued { number, op_id, steps });
        state.next += 1;
        state.len += 1;
        self.save_queue_state(state);
        Ok(())
    }

    pub(super) fn mark_all(&mut self, steps: &[Step], number: u64) -> Result<()> {
        for step in steps {
            let touched = step.touches();
            for spot in &touched.names {
                self.mark(keys::mark_name(spot), number)?;
            }
            for id in touched.nodes {
                self.mark(keys::mark_node(id), number)?;
            }
        }
        Ok(())
    }

    pub(super) fn unmark_all(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            let touched = step.touches();
            for spot in &touched.names {
                self.unmark(keys::mark_name(spot))?;
            }
            for id in touched.nodes {
                self.unmark_node(id)?;
            }
        }
        Ok(())
    }

    pub(super) fn dequeue(&mut self, entry: Queued) -> Result<()> {
        self.unmark_all(&entry.steps)?;
        self.write(keys::queued(entry.number), None);
        let mut state = self.queue_state()?;
        state.len = state.len.saturating_sub(1);
        self.save_queue_state(state);
        Ok(())
    }

    /// Takes entries away; what the server tells of what they touched is believed again.
    pub(super) fn answered(&mut self, numbers: &[u64]) -> Result<()> {
        for number in numbers {
            if let Some(entry) = self.queued(*number)? {
                self.dequeue(entry)?;
            }
        }
        Ok(())
    }

    /// Something that is kept may not be so at the server.
    pub(super) fn doubt(&mut self) -> Result<()> {
        let (state, doubt) = (self.queue_state()?, self.newest_doubt()?);
        let now = Doubt { count: doubt.count + 1, before: state.next };
        self.write(keys::record(Table::Pushing as u8, DOUBT), Some(now.encode()));
        if !state.in_doubt {
            self.save_queue_state(QueueState { in_doubt: true, ..state });
        }
        Ok(())
    }

    fn newest_doubt(&self) -> Result<Doubt> {
        Doubt::decode(self.read(&keys::record(Table::Pushing as u8, DOUBT))?.as_deref())
    }

    /// Ends a doubt, unless there is a newer one.
    pub(super) fn compared(&mut self, doubt: Doubt) -> Result<()> {
        let state = self.queue_state()?;
        if state.in_doubt && self.newest_doubt()? == doubt {
            self.save_queue_state(QueueState { in_doubt: false, ..state });
        }
        Ok(())
    }

    /// Notes that entries below `before` may have reached the server.
    pub(super) fn sent(&mut self, before: u64) -> Result<()> {
        let state = self.queue_state()?;
        if before > state.sent {
            self.save_queue_state(QueueState { sent: before, ..state });
        }
        Ok(())
    }

    pub(super) fn queued(&self, number: u64) -> Result<Option<Queued>> {
        let bytes = self.read(&keys::queued(number))?;
        bytes.map(|bytes| decode(number, &bytes)).transpose()
    }

    pub(super) fn save_entry(&mut self, entry: &Queued) {
        self.write(keys::queued(entry.number), Some(keys::encode(&(entry.op_id.0, &entry.steps))));
    }

    /// Begins a run.
    pub(super) fn begin(&mut self, run: u64) -> Result<()> {
        let state = self.queue_state()?;
        self.save_queue_state(QueueState { run, ..state });
        Ok(())
    }

    pub(super) fn queue_state(&self) -> Result<QueueState> {
        Ok(self.read(keys::QUEUE_STATE)?.map(|bytes| keys::decode(&bytes)).transpose()?.unwrap_or_default())
    }

    fn save_queue_state(&mut self, state: QueueState) {
        self.write(keys::QUEUE_STATE.to_vec(), Some(keys::encode(&state)));
    }

    pub(super) fn mark_of(&self, key: &[u8]) -> Result<Option<Mark>> {
        self.read(key)?.map(|bytes| keys::decode(&bytes)).transpose()
    }

    fn mark(&mut self, key: Vec<u8>, last: u64) -> Result<()> {
        let mut mark = self.mark_of(&key)?.unwrap_or_default();
        mark.count += 1;
        mark.last = mark.last.max(last);
        self.write(key, Some(keys::encode(&mark)));
        Ok(())
    }

    /// Says whether changes of the name are under way; then the server told something in vain.
    pub(super) fn is_name_marked(&mut self, parent: NodeId, name: &Name) -> Result<bool> {
        self.is_marked(keys::mark_name(&(parent, name.clone())))
    }

    /// Says the same of a node.
    pub(super) fn is_node_marked(&mut self, id: NodeId) -> Result<bool> {
        self.is_marked(keys::mark_node(id))
    }

    fn is_marked(&mut self, key: Vec<u8>) -> Result<bool> {
        let Some(mut mark) = self.mark_of(&key)? else { return Ok(false) };
        if !mark.is_behind {
            mark.is_behind = true;
            self.write(key, Some(keys::encode(&mark)));
        }
        Ok(true)
    }

    /// A draft goes, or what was made here and nobody heard of. Where the server told of the name meanwhile, its folder is
    /// asked for anew.
    pub(super) fn unmark_name(&mut self, spot: &Spot) -> Result<()> {
        if self.unmark(keys::mark_name(spot))? {
            self.write(keys::record(Table::Mirror as u8, &spot.0.0.to_be_bytes()), None);
        }
        Ok(())
    }

    fn unmark_node(&mut self, id: NodeId) -> Result<()> {
        self.unmark(keys::mark_node(id))?;
        if self.mark_of(&keys::mark_node(id))?.is_none()
            && let Some(node) = self.node_if(id)?
        {
            // Its version was counted here: whatever the server tells next is newer.
            self.save(&Node { version: 0, ..node });
        }
        Ok(())
    }

    /// Takes one entry off a mark; says whether it is gone and the server told something in vain.
    fn unmark(&mut self, key: Vec<u8>) -> Result<bool> {
        let Some(mut mark) = self.mark_of(&key)? else { return Ok(false) };
        mark.count = mark.count.saturating_sub(1);
        if mark.count > 0 {
            self.write(key, Some(keys::encode(&mark)));
            return Ok(false);
        }
        self.write(key, None);
        Ok(mark.is_behind)
    }
}
