//! A change as a device tells its server of it: what is done, and what was there before on the device.
//!
//! A step names nodes by their ids, so that it means the same whatever else happened at the server. Where what was there is
//! not there any more the whole entry is refused, and the device decides what to do.

use super::{Attrs, Described, Expect, NewNode, Op, Replace, Unlink, XattrMode};
use larder_core::{Head, Name, NodeId, OpId, Timestamp};
use serde::{Deserialize, Serialize};

/// The most steps of one [`Entry`].
pub const STEPS_MAX: usize = 256;

/// Names and values of the extended attributes that [`Step::Create`] has at the most; others follow one by one, so that each
/// entry is shorter than what a server takes at once, as base64 too.
pub const CREATE_XATTRS_BYTES: usize = 1 << 20;

/// A folder and a name in it.
pub type Spot = (NodeId, Name);

/// What a device commits at its server in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Carrying out the same id again changes nothing and succeeds.
    pub op_id: OpId,
    /// At most [`STEPS_MAX`], all or none.
    pub steps: Vec<Step>,
}

impl Entry {
    /// What a server's catalog makes of it: what must hold before, and what is done.
    pub fn carried_out(self) -> (Vec<Expect>, Vec<Op>) {
        let (mut expect, mut ops, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for step in self.steps {
            match &step {
                Step::Create { node, .. } => made.push(node.node.id),
                Step::Undelete { node, .. } => made.push(*node),
                _ => {}
            }
            let (needed, done) = step.carried_out();
            // What an earlier step brings about need not be so before.
            let is_made = |e: &Expect| matches!(e, Expect::Alive(id) if made.contains(id));
            expect.extend(needed.into_iter().filter(|e| !is_made(e)));
            ops.extend(done);
        }
        (expect, ops)
    }
}

/// One step of an [`Entry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Makes a node, with its content, attributes and extended attributes.
    Create {
        /// The new name.
        at: Spot,
        /// The node; the server fills in number of names, version and ctime.
        node: Box<Described>,
    },
    /// Gives a file new content.
    Content {
        /// The file.
        node: NodeId,
        /// What it must hold before; with `None` that is no matter.
        was: Option<Head>,
        /// What it holds then.
        head: Head,
        /// Its mtime then.
        mtime: Timestamp,
    },
    /// Sets attributes.
    Attrs {
        /// The node.
        node: NodeId,
        /// Which.
        attrs: Attrs,
    },
    /// Sets or removes an extended attribute.
    Xattr {
        /// The node.
        node: NodeId,
        /// Its name.
        name: Vec<u8>,
        /// Its value; nothing removes it.
        value: Option<Vec<u8>>,
    },
    /// Gives a node one more name.
    Link {
        /// The node.
        node: NodeId,
        /// The new name.
        at: Spot,
    },
    /// Takes a name away.
    Unlink {
        /// The name.
        at: Spot,
        /// What it must name.
        node: NodeId,
        /// What the file must hold, where this is its last name.
        was: Option<Head>,
        /// What may be removed.
        what: Removal,
    },
    /// Renames.
    Rename {
        /// What `from` must name.
        node: NodeId,
        /// The name now.
        from: Spot,
        /// The name then.
        to: Spot,
        /// What `to` must name, and that file hold; with `None` it must be free.
        over: Option<(NodeId, Option<Head>)>,
    },
    /// Swaps two names.
    Exchange {
        /// One, and what it must name.
        a: (Spot, NodeId),
        /// The other.
        b: (Spot, NodeId),
    },
    /// Gives a node a name again, if it is deleted.
    Undelete {
        /// The node.
        node: NodeId,
        /// Its name.
        to: Spot,
    },
}

/// What [`Step::Unlink`] may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removal {
    /// Anything but a folder.
    File,
    /// An empty folder.
    Folder,
    /// Anything, with all it holds.
    Tree,
}

/// Names and nodes that a step may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Names.
    pub names: Vec<Spot>,
    /// Nodes, the folders of the names among them.
    pub nodes: Vec<NodeId>,
}

impl Step {
    /// The names and nodes that it may change.
    pub fn touches(&self) -> Touched {
        let (names, mut nodes) = match self {
            Step::Create { at, node } => (vec![at], vec![node.node.id]),
            Step::Content { node, .. } | Step::Attrs { node, .. } | Step::Xattr { node, .. } => {
                (vec![], vec![*node])
            }
            Step::Link { node, at } | Step::Unlink { at, node, .. } | Step::Undelete { node, to: at } => {
                (vec![at], vec![*node])
            }
            Step::Rename { node, from, to, over } => {
                let nodes = [Some(*node), over.as_ref().map(|over| over.0)];
                (vec![from, to], nodes.into_iter().flatten().collect())
            }
            Step::Exchange { a, b } => (vec![&a.0, &b.0], vec![a.1, b.1]),
        };
        nodes.extend(names.iter().map(|spot| spot.0));
        nodes.sort_unstable();
        nodes.dedup();
        Touched { names: names.into_iter().cloned().collect(), nodes }
    }

    /// The node whose content or attributes it is about.
    pub(crate) fn subject(&self) -> Option<NodeId> {
        match self {
            Step::Create { node, .. } => Some(node.node.id),
            Step::Content { node, .. } | Step::Attrs { node, .. } | Step::Xattr { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// The names in it, to be changed.
    pub(crate) fn spots_mut(&mut self) -> Vec<&mut Spot> {
        match self {
            Step::Content { .. } | Step::Attrs { .. } | Step::Xattr { .. } => vec![],
            Step::Create { at, .. }
            | Step::Link { at, .. }
            | Step::Unlink { at, .. }
            | Step::Undelete { to: at, .. } => vec![at],
            Step::Rename { from, to, .. } => vec![from, to],
            Step::Exchange { a, b } => vec![&mut a.0, &mut b.0],
        }
    }

    /// The content that it brings.
    pub fn head(&self) -> Option<&Head> {
        match self {
            Step::Create { node, .. } => node.node.head(),
            Step::Content { head, .. } => Some(head),
            _ => None,
        }
    }

    /// What a server's catalog makes of it: what must hold, and what is done.
    pub fn carried_out(self) -> (Vec<Expect>, Vec<Op>) {
        match self {
            Step::Create { at, node } => (vec![Expect::Alive(at.0)], create(at, *node)),
            Step::Content { node, was, head, mtime } => (
                [Expect::Alive(node)].into_iter().chain(was.map(|was| Expect::Content(node, was))).collect(),
                vec![Op::SetContent { node, head, mtime, interim: None, base: None }],
            ),
            Step::Attrs { node, attrs } => (vec![Expect::Alive(node)], vec![Op::SetAttrs { node, attrs }]),
            Step::Xattr { node, name, value } => {
                (vec![Expect::Alive(node)], vec![Op::SetXattr { node, name, value, mode: XattrMode::Any }])
            }
            Step::Link { node, at: (parent, name) } => {
                (vec![Expect::Alive(node), Expect::Alive(parent)], vec![Op::Link { node, parent, name }])
            }
            Step::Unlink { at: (parent, name), node, was, what } => {
                let mut expect = vec![Expect::Name(parent, name.clone(), Some(node))];
                expect.extend(was.map(|was| Expect::Content(node, was)));
                (expect, vec![Op::Unlink { parent, name, what: what.into() }])
            }
            Step::Rename { node, from, to, over } => {
                let mut expect = vec![Expect::Name(from.0, from.1.clone(), Some(node)), Expect::Alive(to.0)];
                expect.push(Expect::Name(to.0, to.1.clone(), over.as_ref().map(|over| over.0)));
                expect.extend(over.and_then(|(id, was)| Some(Expect::Content(id, was?))));
                (expect, vec![Op::Rename { from, to, replace: Replace::Posix }])
            }
            Step::Exchange { a: (a, first), b: (b, second) } => {
                let expect = [(&a, first), (&b, second)];
                let expect = expect.map(|(spot, node)| Expect::Name(spot.0, spot.1.clone(), Some(node)));
                (expect.to_vec(), vec![Op::Exchange { a, b }])
            }
            Step::Undelete { node, to } => (vec![Expect::Alive(to.0)], vec![Op::Revive { node, to }]),
        }
    }
}

fn create((parent, name): Spot, told: Described) -> Vec<Op> {
    let Described { node, xattrs } = told;
    let id = node.id;
    let attrs = Attrs {
        atime: Some(node.atime),
        mtime: Some(node.mtime),
        btime: Some(node.btime),
        ..Attrs::default()
    };
    let new = NewNode {
        id,
        kind: node.kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        content: node.content,
        mtime: Some(node.mtime),
        draft: false,
    };
    let mut ops = vec![Op::Create { parent, name, node: Box::new(new) }];
    ops.extend(xattrs.into_iter().map(|(name, value)| Op::SetXattr {
        node: id,
        name,
        value: Some(value),
        mode: XattrMode::Any,
    }));
    ops.push(Op::SetAttrs { node: id, attrs });
    ops
}

impl From<Removal> for Unlink {
    fn from(what: Removal) -> Self {
        match what {
            Removal::File => Unlink::File,
            Removal::Folder => Unlink::EmptyFolder,
            Removal::Tree => Unlink::Tree,
        }
    }
}

impl From<Unlink> for Removal {
    fn from(what: Unlink) -> Self {
        match what {
            Unlink::File => Removal::File,
            Unlink::EmptyFolder => Removal::Folder,
            Unlink::Tree => Removal::Tree,
        }
    }
}
