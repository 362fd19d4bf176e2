//! What a server said is there, of everything that a refused entry touches.

use super::News;
use crate::catalog::Spot;
use crate::wire::Described;
use larder_core::{Head, Node, NodeId};
use std::collections::HashMap;

/// What is there now, as the server told it.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) names: HashMap<Spot, Option<NodeId>>,
    pub(super) nodes: HashMap<NodeId, Option<Node>>,
    pub(super) folders: HashMap<NodeId, Described>,
}

impl Facts {
    pub(super) fn of(news: &[News]) -> Self {
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

    pub(super) fn is_alive(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(Option::is_some)
    }

    /// Says whether what has the id of `made` there is what was made here: the same kind of thing, of the same time.
    pub(super) fn is_same(&self, made: &Node) -> bool {
        let there = self.nodes.get(&made.id).and_then(Option::as_ref);
        there.is_some_and(|there| (there.kind, there.btime) == (made.kind, made.btime))
    }

    pub(super) fn named(&self, spot: &Spot) -> Option<NodeId> {
        self.names.get(spot).copied().flatten()
    }

    pub(super) fn holds(&self, id: NodeId, head: &Head) -> bool {
        self.nodes.get(&id).and_then(Option::as_ref).and_then(Node::head) == Some(head)
    }
}
