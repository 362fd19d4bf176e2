//! Where a node is, as rules ask for it.

use larder_core::name::DEPTH_MAX;
use larder_core::{DrivePath, Kind, Name, Node, NodeId, Result};
use larder_store::Catalog;

/// The names from the top down to a folder, or to something in one.
pub struct Place(Vec<Name>);

impl Place {
    /// Where `folder` is. A folder has one name; of one that is deleted what is left of its path.
    ///
    /// # Errors
    /// Those of the index.
    pub fn of_folder(catalog: &dyn Catalog, folder: NodeId) -> Result<Self> {
        let mut names = Vec::new();
        let mut at = folder;
        while at != NodeId::ROOT && names.len() < DEPTH_MAX {
            let node = match catalog.node(at) {
                Ok(node) => node,
                Err(error) if error.kind() == Kind::NotFound => break,
                Err(error) => return Err(error),
            };
            let Some(name) = node.name else { break };
            names.push(name);
            at = node.parent;
        }
        names.reverse();
        Ok(Self(names))
    }

    /// Where `node` is by the name that it had last.
    ///
    /// # Errors
    /// Those of the index.
    pub fn of(catalog: &dyn Catalog, node: &Node) -> Result<Self> {
        if node.id == NodeId::ROOT {
            return Ok(Self(Vec::new()));
        }
        let mut place = Self::of_folder(catalog, node.parent)?;
        place.0.extend(node.name.clone());
        Ok(place)
    }

    /// As a path.
    pub fn path(self) -> DrivePath {
        self.0.into()
    }
}
