//! What becomes of a change that the server refuses, because somebody else was first.
//!
//! Nothing that was written is lost: a content that both sides changed stays beside the server's under another name, or in
//! the history, as the [`Policy`] says; a name that both gave, beside it in any case; what was deleted there and changed
//! here comes back. What was deleted, moved or set here only, where the server has something else by now, is left as the
//! server has it.

use super::News;
use super::conflict::{Conflict, Over, Policy, Side};
use super::facts::Facts;
use super::mirror::Mirror;
use crate::catalog::{CREATE_XATTRS_BYTES, Op, Queued, Spot, Step};
use crate::wire::Described;
use larder_core::{Content, Error, Head, Kind, Node, NodeId, Result, Timestamp};
use std::collections::HashSet;

/// Entries read at a time.
const PAGE: usize = 1024;

/// How a refused entry is resolved.
#[derive(Clone, Copy, Debug)]
pub struct Resolving<'a> {
    /// What stays beside another is called after this.
    pub label: &'a str,
    /// Which content a file gets that both sides changed.
    pub policy: Policy,
    /// What brings nothing that was written goes, whatever it is refused for: nothing may hold up what comes behind it.
    pub is_last: bool,
    /// The time that notes of conflicts get.
    pub at: Timestamp,
}

/// What an entry says instead.
#[derive(Default)]
struct Instead {
    steps: Vec<Step>,
    moved: Option<(NodeId, Spot, Spot)>,
    redirected: Option<(NodeId, NodeId)>,
    merged: Option<(NodeId, Box<Described>)>,
    /// What is the server's, what is beside it, and what was in conflict.
    conflict: Option<(NodeId, NodeId, Over)>,
}

/// What steps have in common.
#[derive(Clone, Copy)]
enum Touching<'a> {
    Node(NodeId),
    Name(&'a Spot),
}

/// A content that was written here.
struct Written {
    node: NodeId,
    was: Option<Head>,
    head: Head,
    mtime: Timestamp,
}

impl From<Written> for Step {
    fn from(Written { node, was, head, mtime }: Written) -> Step {
        Step::Content { node, was, head, mtime }
    }
}

impl Mirror {
    /// Says what a refused entry is to say instead, as operations for [`Mirror::restate`]; nothing where telling it
    /// again may do.
    ///
    /// # Errors
    /// Those of the index.
    pub fn resolve(
        &self,
        entry: &Queued,
        why: &Error,
        news: &[News],
        how: &Resolving<'_>,
    ) -> Result<Option<Vec<Op>>> {
        // The server does not even remember what is to come back.
        let is_unknown = why.kind() == Kind::NotFound;
        let mut facts = Facts::of(news);
        let mut instead = Instead::default();
        let mut written = HashSet::new();
        for step in entry.steps.iter().cloned() {
            // A second content of a file is what the server had when the first was said.
            if matches!(&step, Step::Content { node, .. } if !written.insert(*node)) {
                continue;
            }
            // Something new may be wrong with what follows, too: the next answer says so.
            if instead.moved.is_some() || instead.redirected.is_some() {
                instead.steps.push(step);
                continue;
            }
            self.mend(step, is_unknown, &facts, how, &mut instead)?;
            match instead.steps.last() {
                Some(Step::Create { at, node }) => {
                    facts.names.insert(at.clone(), Some(node.node.id));
                    facts.nodes.insert(node.node.id, Some(node.node.clone()));
                }
                Some(Step::Undelete { node, .. }) => {
                    let kept = self.kept.node(*node)?;
                    facts.nodes.insert(*node, Some(kept));
                }
                _ => {}
            }
        }
        let Instead { mut steps, moved, redirected, merged, conflict } = instead;
        if how.is_last && steps == entry.steps {
            steps.retain(|step| {
                matches!(step, Step::Create { .. } | Step::Content { .. } | Step::Undelete { .. })
            });
        }
        let is_same = steps == entry.steps && moved.is_none() && redirected.is_none();
        if is_same {
            return Ok(None);
        }
        let mut ops = vec![Op::Restate { number: entry.number, steps, moved, redirected, merged }];
        if let Some((theirs, ours, over)) = conflict {
            ops.extend(self.note(&Conflict { theirs, ours, over, at: how.at })?);
        }
        Ok(Some(ops))
    }

    fn mend(
        &self,
        step: Step,
        is_unknown: bool,
        facts: &Facts,
        how: &Resolving<'_>,
        instead: &mut Instead,
    ) -> Result<()> {
        match step {
            Step::Create { at, node } if !facts.is_alive(node.node.id) => {
                if let Some(folder) = self.same_folder(&at, &node, facts)? {
                    instead.merged = Some((node.node.id, Box::new(folder)));
                    return Ok(());
                }
                if self.is_same_file(&at, &node, facts)? {
                    return Ok(());
                }
                let at = self.place(node.node.id, at, facts, how, instead)?;
                instead.steps.push(Step::Create { at, node });
            }
            Step::Create { node, .. } if !facts.is_same(&node.node) => {
                let what =
                    "the server has something else by its number: copy it under another name, and remove it";
                return Err(Error::new(Kind::Unsupported, what));
            }
            Step::Content { node, was, head, mtime } => {
                self.mend_content(Written { node, was, head, mtime }, facts, how, instead)?;
            }
            Step::Attrs { node, .. } | Step::Xattr { node, .. } if facts.is_alive(node) => {
                instead.steps.push(step);
            }
            Step::Link { node, at } if facts.is_alive(node) && facts.named(&at) != Some(node) => {
                let at = self.place(node, at, facts, how, instead)?;
                instead.steps.push(Step::Link { node, at });
            }
            Step::Rename { node, from, to, over } if facts.named(&from) == Some(node) => {
                self.mend_rename((node, from, to, over), facts, how, instead)?;
            }
            Step::Undelete { node, to } if !facts.is_alive(node) => {
                let is_forgotten = is_unknown && instead.steps.is_empty();
                let to = self.place(node, to, facts, how, instead)?;
                let is_new = (is_forgotten && instead.steps.is_empty()) || self.is_to_be_made(node)?;
                instead.steps.push(match is_new {
                    true => Step::Create { at: to, node: Box::new(self.described(self.kept.node(node)?)?) },
                    false => Step::Undelete { node, to },
                });
            }
            // Done already, or it is something else by now, and that stays.
            _ => {}
        }
        Ok(())
    }

    /// The folder that the server has where one is to be made, if what was made in this one can be in that one: nothing of a
    /// name that both have here, and it was not renamed, moved or removed since.
    fn same_folder(&self, at: &Spot, made: &Described, facts: &Facts) -> Result<Option<Described>> {
        let told = facts.named(at).and_then(|id| facts.folders.get(&id));
        let Some(told) = told.filter(|_| made.node.is_folder()) else { return Ok(None) };
        let id = made.node.id;
        if !self.kept.lookup(at.0, &at.1).is_ok_and(|node| node.id == id) {
            return Ok(None);
        }
        let is_named = |step: &Step| match step {
            Step::Rename { node, over, .. } => *node == id || over.as_ref().is_some_and(|o| o.0 == id),
            Step::Exchange { a, b } => a.1 == id || b.1 == id,
            Step::Unlink { node, .. } | Step::Undelete { node, .. } => *node == id,
            _ => false,
        };
        // One that is known here was moved or removed here: its name is another's.
        if self.kept.node(told.node.id).is_ok() || self.is_any_queued(Touching::Name(at), is_named)? {
            return Ok(None);
        }
        let mut after = None;
        loop {
            let page = self.kept.list(id, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { return Ok(Some(told.clone())) };
            after = Some(last.name.clone());
            for entry in page {
                match self.kept.lookup(told.node.id, &entry.name) {
                    Ok(_) => return Ok(None),
                    Err(error) if error.kind() == Kind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Says whether the server's file at `at` is what `made` is, and nothing else was done with that here.
    fn is_same_file(&self, at: &Spot, told: &Described, facts: &Facts) -> Result<bool> {
        let made = &told.node;
        let there = facts.named(at).filter(|there| made.head().is_some_and(|head| facts.holds(*there, head)));
        let there = there.and_then(|there| facts.nodes.get(&there)?.as_ref());
        // What was set here goes on saying so.
        if there.is_none_or(|there| there.mode != made.mode) || !told.xattrs.is_empty() {
            return Ok(false);
        }
        let is_other = |step: &Step| match step {
            Step::Create { node, .. } if node.node.id == made.id => false,
            step => step.touches().nodes.contains(&made.id),
        };
        Ok(!self.is_any_queued(Touching::Node(made.id), is_other)?)
    }

    /// What a content becomes: it comes back with its file, is the same, wins, is a version, or stays beside the server's.
    fn mend_content(
        &self,
        written: Written,
        facts: &Facts,
        how: &Resolving<'_>,
        instead: &mut Instead,
    ) -> Result<()> {
        let node = written.node;
        let Some(there) = facts.nodes.get(&node).and_then(Option::as_ref) else {
            let to = self.spot_of(&self.kept.node(node)?)?;
            if !instead.steps.contains(&Step::Undelete { node, to: to.clone() }) {
                instead.steps.push(Step::Undelete { node, to });
            }
            instead.steps.push(Written { was: None, ..written }.into());
            return Ok(());
        };
        if written.was.as_ref().is_none_or(|was| facts.holds(node, was)) {
            instead.steps.push(written.into());
            return Ok(());
        }
        if facts.holds(node, &written.head) {
            return Ok(());
        }
        match how.policy.choose(written.mtime, there.mtime) {
            None => self.keep_beside(written, there, how, instead)?,
            Some(side) => {
                // The one that does not win becomes a version.
                let was = there.head().cloned();
                instead.steps.push(Written { was: was.clone(), ..written }.into());
                if let Some(head) = was.filter(|_| side == Side::There) {
                    instead.steps.push(Written { node, was: None, head, mtime: there.mtime }.into());
                }
            }
        }
        Ok(())
    }

    /// A file of its own for a content, beside the server's: the folder that this is in here may be one that the server has not
    /// heard of yet.
    fn keep_beside(
        &self,
        written: Written,
        there: &Node,
        how: &Resolving<'_>,
        instead: &mut Instead,
    ) -> Result<()> {
        let Written { node, head, mtime, .. } = written;
        let id = self.id_for_new();
        let at = self.beside(&self.spot_of(there)?, how.label)?;
        let mut copy = self.described(self.kept.node(node)?)?;
        copy.node = Node {
            id,
            nlink: 1,
            parent: at.0,
            name: Some(at.1.clone()),
            content: Content::File(head),
            mtime,
            ..copy.node
        };
        instead.redirected = Some((node, id));
        instead.conflict = Some((node, id, Over::Content));
        instead.steps.push(Step::Create { at, node: Box::new(copy) });
        Ok(())
    }

    fn mend_rename(
        &self,
        (node, from, to, over): (NodeId, Spot, Spot, Option<(NodeId, Option<Head>)>),
        facts: &Facts,
        how: &Resolving<'_>,
        instead: &mut Instead,
    ) -> Result<()> {
        let there = facts.named(&to);
        if there == Some(node) || !facts.is_alive(node) {
            return Ok(());
        }
        let is_expected = |(id, was): &(NodeId, Option<Head>)| {
            there == Some(*id) && was.as_ref().is_none_or(|was| facts.holds(*id, was))
        };
        let is_there = facts.is_alive(to.0);
        match over {
            None if there.is_none() && is_there => {
                // Nothing is in the way: it cannot be done, as a folder below itself.
            }
            Some(over) if is_expected(&over) && facts.nodes.get(&over.0).is_some_and(is_file) => {}
            Some(_) if there.is_none() && is_there => {
                instead.steps.push(Step::Rename { node, from, to, over: None });
            }
            _ => {
                let to = self.place(node, to, facts, how, instead)?;
                instead.steps.push(Step::Rename { node, from, to, over: None });
            }
        }
        Ok(())
    }

    /// Where a node can be that is to be at `at`: there, or beside what is there; its folder comes back where it is gone.
    fn place(
        &self,
        node: NodeId,
        at: Spot,
        facts: &Facts,
        how: &Resolving<'_>,
        instead: &mut Instead,
    ) -> Result<Spot> {
        if !facts.is_alive(at.0)
            && let Ok(folder) = self.kept.node(at.0)
            && let Some(name) = folder.name
        {
            instead.steps.push(Step::Undelete { node: at.0, to: (folder.parent, name) });
            return Ok(at);
        }
        let Some(there) = facts.named(&at).filter(|there| *there != node) else { return Ok(at) };
        let to = self.beside(&at, how.label)?;
        instead.conflict = Some((there, node, Over::Name));
        instead.moved = Some((node, at, to.clone()));
        Ok(to)
    }

    /// Says whether the server is told only later that the node was made.
    fn is_to_be_made(&self, id: NodeId) -> Result<bool> {
        let makes = |step: &Step| matches!(step, Step::Create { node, .. } if node.node.id == id);
        self.is_any_queued(Touching::Node(id), makes)
    }

    /// Says whether there is such a step besides the one in hand, which is known to touch the same as all of them.
    fn is_any_queued(&self, touching: Touching<'_>, is_one: impl Fn(&Step) -> bool) -> Result<bool> {
        let times = match touching {
            Touching::Node(id) => self.kept.queued_times(id, None)?,
            Touching::Name((folder, name)) => self.kept.queued_times(*folder, Some(name))?,
        };
        // Most often there is none, and the queue may be long.
        if times <= 1 {
            return Ok(false);
        }
        let mut number = 0;
        loop {
            let page = self.kept.queued(number, PAGE)?;
            let Some(last) = page.last() else { return Ok(false) };
            number = last.number + 1;
            if page.iter().flat_map(|entry| &entry.steps).any(&is_one) {
                return Ok(true);
            }
        }
    }

    /// A node with its attributes, as far as one step brings them; [`Op::Restate`] tells the others.
    fn described(&self, node: Node) -> Result<Described> {
        let (mut xattrs, mut bytes) = (Vec::new(), 0);
        for name in self.kept.xattrs(node.id)? {
            let value = self.kept.xattr(node.id, &name)?;
            bytes += name.len() + value.len();
            if bytes > CREATE_XATTRS_BYTES {
                break;
            }
            xattrs.push((name, value));
        }
        Ok(Described { xattrs, node })
    }
}

fn is_file(node: &Option<Node>) -> bool {
    node.as_ref().is_some_and(|node| !node.is_folder())
}
