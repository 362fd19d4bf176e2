//! What becomes of a change that the server refuses, because somebody else was first.
//!
//! Nothing that was written is lost: a content that both sides changed, and a name that both gave, stay beside the
//! server's under another name; what was deleted there and changed here comes back. What was deleted, moved or set
//! here only, where the server has something else by now, is left as the server has it.

use super::News;
use super::mirror::Mirror;
use crate::catalog::{Op, Queued, Spot, Step};
use crate::wire::Described;
use larder_core::{Content, Error, Head, Kind, Name, Node, NodeId, Result};
use std::collections::HashMap;

/// Names tried for what stays beside another.
const NAMES_MAX: u32 = 1000;
/// The longest end of a name that tells its kind, with its dot.
const EXTENSION_MAX_BYTES: usize = 16;
/// Entries read at a time.
const PAGE: usize = 1024;
/// The longest name. Source: NAME_MAX of limits.h, as larder_core::Name has it.
const NAME_MAX_BYTES: usize = 255;

/// What is there now, as the server told it.
#[derive(Default)]
struct Facts {
    names: HashMap<Spot, Option<NodeId>>,
    nodes: HashMap<NodeId, Option<Node>>,
    folders: HashMap<NodeId, Described>,
}

impl Facts {
    fn of(news: &[News]) -> Self {
        let mut facts = Self::default();
        for news in news {
            match news {
                News::Name { parent, name, node } => {
                    let named = node.as_ref().map(|told| told.node.clone());
                    if let Some(told) = node.as_ref().filter(|told| told.node.is_folder()) {
                        facts.folders.insert(told.node.id, (**told).clone());
                    }
                    facts.names.insert((*parent, name.clone()), named.as_ref().map(|node| node.id));
                    if let Some(node) = named {
                        facts.nodes.insert(node.id, Some(node));
                    }
                }
                News::Node(told) => drop(facts.nodes.insert(told.node.id, Some(told.node.clone()))),
                News::Gone(id) => drop(facts.nodes.insert(*id, None)),
            }
        }
        facts
    }

    fn is_alive(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(Option::is_some)
    }

    fn named(&self, spot: &Spot) -> Option<NodeId> {
        self.names.get(spot).copied().flatten()
    }

    fn holds(&self, id: NodeId, head: &Head) -> bool {
        self.nodes.get(&id).and_then(Option::as_ref).and_then(Node::head) == Some(head)
    }
}

/// What an entry says instead.
#[derive(Default)]
struct Instead {
    steps: Vec<Step>,
    moved: Option<(NodeId, Spot, Spot)>,
    redirected: Option<(NodeId, NodeId)>,
    merged: Option<(NodeId, Box<Described>)>,
}

impl Mirror {
    /// Says what a refused entry is to say instead, as an operation for [`Mirror::restate`]; nothing where telling it
    /// again may do. What stays beside another is called after `label`. At `last`, what brings nothing that was written goes,
    /// whatever it is refused for: nothing may hold up what comes behind it.
    ///
    /// # Errors
    /// Those of the index.
    pub fn resolve(
        &self,
        entry: &Queued,
        why: &Error,
        news: &[News],
        label: &str,
        last: bool,
    ) -> Result<Option<Op>> {
        // The server does not even remember what is to come back.
        let is_unknown = why.kind() == Kind::NotFound;
        let mut facts = Facts::of(news);
        let mut instead = Instead::default();
        for step in entry.steps.iter().cloned() {
            // Something new may be wrong with what follows, too: the next answer says so.
            if instead.moved.is_some() || instead.redirected.is_some() {
                instead.steps.push(step);
                continue;
            }
            self.mend(step, is_unknown, &facts, label, &mut instead)?;
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
        let Instead { mut steps, moved, redirected, merged } = instead;
        if last && steps == entry.steps {
            steps.retain(|step| {
                matches!(step, Step::Create { .. } | Step::Content { .. } | Step::Undelete { .. })
            });
        }
        let is_same = steps == entry.steps && moved.is_none() && redirected.is_none();
        let number = entry.number;
        Ok((!is_same).then_some(Op::Restate { number, steps, moved, redirected, merged }))
    }

    fn mend(
        &self,
        step: Step,
        is_unknown: bool,
        facts: &Facts,
        label: &str,
        instead: &mut Instead,
    ) -> Result<()> {
        match step {
            Step::Create { at, node } if !facts.is_alive(node.node.id) => {
                if let Some(folder) = self.same_folder(&at, &node, facts)? {
                    instead.merged = Some((node.node.id, Box::new(folder)));
                    return Ok(());
                }
                let at = self.place(node.node.id, at, facts, label, instead)?;
                instead.steps.push(Step::Create { at, node });
            }
            Step::Content { node, was, head, mtime } => {
                self.mend_content((node, was, head), facts, label, instead).map(|step| {
                    instead.steps.extend(step.map(|step| match step {
                        Step::Content { node, was, head, .. } => Step::Content { node, was, head, mtime },
                        other => other,
                    }));
                })?;
            }
            Step::Attrs { node, .. } | Step::Xattr { node, .. } if facts.is_alive(node) => {
                instead.steps.push(step);
            }
            Step::Link { node, at } if facts.is_alive(node) && facts.named(&at) != Some(node) => {
                let at = self.place(node, at, facts, label, instead)?;
                instead.steps.push(Step::Link { node, at });
            }
            Step::Rename { node, from, to, over } if facts.named(&from) == Some(node) => {
                self.mend_rename((node, from, to, over), facts, label, instead)?;
            }
            Step::Undelete { node, to } if !facts.is_alive(node) => {
                let is_forgotten = is_unknown && instead.steps.is_empty();
                let to = self.place(node, to, facts, label, instead)?;
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
        if self.kept.node(told.node.id).is_ok() || self.is_any_queued(is_named)? {
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

    /// What a content becomes: it comes back with its file, is the same, or stays beside the server's.
    fn mend_content(
        &self,
        (node, was, head): (NodeId, Option<Head>, Head),
        facts: &Facts,
        label: &str,
        instead: &mut Instead,
    ) -> Result<Option<Step>> {
        let mtime = Default::default();
        if !facts.is_alive(node) {
            let kept = self.kept.node(node)?;
            let to = self.spot_of(&kept)?;
            if !instead.steps.contains(&Step::Undelete { node, to: to.clone() }) {
                instead.steps.push(Step::Undelete { node, to });
            }
            return Ok(Some(Step::Content { node, was: None, head, mtime }));
        }
        if was.as_ref().is_none_or(|was| facts.holds(node, was)) {
            return Ok(Some(Step::Content { node, was, head, mtime }));
        }
        if facts.holds(node, &head) {
            return Ok(None);
        }
        let kept = self.kept.node(node)?;
        let id = self.id_for_new();
        // Beside the server's: the folder that it is in here may be one that the server has not heard of yet.
        let told = facts.nodes.get(&node).cloned().flatten().unwrap_or_else(|| kept.clone());
        let at = self.beside(&self.spot_of(&told)?, label)?;
        let mut copy = self.described(kept)?;
        copy.node = Node {
            id,
            nlink: 1,
            parent: at.0,
            name: Some(at.1.clone()),
            content: Content::File(head),
            ..copy.node
        };
        instead.redirected = Some((node, id));
        Ok(Some(Step::Create { at, node: Box::new(copy) }))
    }

    fn mend_rename(
        &self,
        (node, from, to, over): (NodeId, Spot, Spot, Option<(NodeId, Option<Head>)>),
        facts: &Facts,
        label: &str,
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
                let to = self.place(node, to, facts, label, instead)?;
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
        label: &str,
        instead: &mut Instead,
    ) -> Result<Spot> {
        if !facts.is_alive(at.0)
            && let Ok(folder) = self.kept.node(at.0)
            && let Some(name) = folder.name
        {
            instead.steps.push(Step::Undelete { node: at.0, to: (folder.parent, name) });
            return Ok(at);
        }
        if facts.named(&at).is_none_or(|there| there == node) {
            return Ok(at);
        }
        let to = self.beside(&at, label)?;
        instead.moved = Some((node, at, to.clone()));
        Ok(to)
    }

    /// Says whether the server is told only later that the node was made.
    fn is_to_be_made(&self, id: NodeId) -> Result<bool> {
        let makes = |step: &Step| matches!(step, Step::Create { node, .. } if node.node.id == id);
        self.is_any_queued(makes)
    }

    fn is_any_queued(&self, is_one: impl Fn(&Step) -> bool) -> Result<bool> {
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

    /// A name of a node as things are here, or the one that it had.
    fn spot_of(&self, node: &Node) -> Result<Spot> {
        if let Some(name) = &node.name {
            return Ok((node.parent, name.clone()));
        }
        // The name given last is gone, and it has another one: rare enough for a walk.
        let mut folders = vec![NodeId::ROOT];
        while let Some(folder) = folders.pop() {
            let mut after = None;
            loop {
                let page = self.kept.list(folder, after.as_ref(), PAGE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                if let Some(found) = page.iter().find(|entry| entry.node.id == node.id) {
                    return Ok((folder, found.name.clone()));
                }
                folders.extend(page.iter().filter(|e| e.node.is_folder()).map(|e| e.node.id));
            }
        }
        Ok((NodeId::ROOT, Name::new(node.id.to_string())?))
    }

    /// A free name that tells why it is not `spot`: `name (label).ext`.
    fn beside(&self, (parent, name): &Spot, label: &str) -> Result<Spot> {
        let bytes = name.as_bytes();
        let dot = bytes.iter().rposition(|byte| *byte == b'.');
        let dot = dot.filter(|at| *at > 0 && bytes.len() - at <= EXTENSION_MAX_BYTES);
        let (stem, end) = bytes.split_at(dot.unwrap_or(bytes.len()));
        let text = std::str::from_utf8(bytes).ok();
        for number in 1..=NAMES_MAX {
            let middle = if number == 1 { format!(" ({label})") } else { format!(" ({label} {number})") };
            let room = NAME_MAX_BYTES.saturating_sub(middle.len() + end.len());
            let mut len = stem.len().min(room);
            // A letter cut in half would be no text any more.
            while text.is_some_and(|text| !text.is_char_boundary(len)) {
                len -= 1;
            }
            let stem = &stem[..len];
            let name = Name::new([stem, middle.as_bytes(), end].concat())?;
            match self.kept.lookup(*parent, &name) {
                Ok(_) => {}
                Err(error) if error.kind() == Kind::NotFound => return Ok((*parent, name)),
                Err(error) => return Err(error),
            }
        }
        Err(Error::exists(format!("{NAMES_MAX} names beside {name}")))
    }

    fn described(&self, node: Node) -> Result<Described> {
        let names = self.kept.xattrs(node.id)?;
        let value = |name: Vec<u8>| Ok((name.clone(), self.kept.xattr(node.id, &name)?));
        Ok(Described { xattrs: names.into_iter().map(value).collect::<Result<_>>()?, node })
    }
}

fn is_file(node: &Option<Node>) -> bool {
    node.as_ref().is_some_and(|node| !node.is_folder())
}
