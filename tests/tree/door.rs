//! What the machine needs of a way into a drive.

use crate::tree_model::Op;
use larder_core::{Kind, Name, NodeKind};
use std::collections::BTreeMap;

/// What is known of a node by looking at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub number: u64,
    pub kind: NodeKind,
    pub nlink: u32,
    pub size_bytes: u64,
}

/// A way into a drive.
pub trait Door: Sync {
    /// What refers to a node whatever names it has, as a descriptor does.
    type Held: Sync;

    /// Makes an empty folder for one history.
    fn folder(&self) -> Self::Held;

    /// Refers to what `name` in `folder` names.
    fn hold(&self, folder: &Self::Held, name: &Name) -> Self::Held;

    /// Looks at a node.
    fn look(&self, node: &Self::Held) -> Seen;

    /// The names in a folder, with the numbers of what they name.
    fn names(&self, folder: &Self::Held) -> BTreeMap<Name, u64>;

    /// Carries out `op`, the nodes of which are `held`; returns the number of the node where the call tells it.
    fn call(&self, held: &BTreeMap<u64, Self::Held>, op: &Op) -> Result<Option<u64>, Kind>;
}

/// A tree as it was found.
pub struct Found<H> {
    pub root: u64,
    pub nodes: BTreeMap<u64, (Seen, BTreeMap<Name, u64>)>,
    pub held: BTreeMap<u64, H>,
}

/// Walks everything below `root`, while nobody else does anything.
pub fn walk<D: Door>(door: &D, root: D::Held) -> Found<D::Held> {
    let seen = door.look(&root);
    let number = seen.number;
    let mut found = Found { root: number, nodes: BTreeMap::new(), held: BTreeMap::new() };
    let mut ahead = vec![(seen, root)];
    while let Some((seen, node)) = ahead.pop() {
        let number = seen.number;
        let names = if seen.kind == NodeKind::Folder { door.names(&node) } else { BTreeMap::new() };
        for (name, listed) in &names {
            let named = door.hold(&node, name);
            let seen = door.look(&named);
            assert_eq!(seen.number, *listed, "{name}: what is listed is not what is found");
            ahead.push((seen, named));
        }
        let before = found.nodes.insert(number, (seen.clone(), names));
        assert!(
            before.as_ref().is_none_or(|before| before.0 == seen && seen.kind != NodeKind::Folder),
            "found twice, and not as the same file: {before:?}, {seen:?}"
        );
        found.held.insert(number, node);
    }
    found
}
