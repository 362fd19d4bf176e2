//! Nodes as other sides see them: those that have a name and are no drafts, with their extended attributes.

use larder_core::{Error, Kind, Node, NodeId, Result};
use larder_drive::Drive;
use larder_store::wire::{WireNode, XATTRS_MAX};

/// An answer of many nodes ends early once it is so long: attributes may take 64 KiB each.
pub(crate) const ANSWER_BYTES: usize = 4 << 20;
/// The most bytes of names and values that are told of one node's attributes, so that no node is too long for an answer.
const XATTRS_BYTES: usize = 1 << 20;

/// Returns a node that has a name.
///
/// # Errors
/// `NotFound`, also for a draft and for what only the history has.
pub(crate) fn named(drive: &Drive, id: NodeId) -> Result<Node> {
    let node = drive.node(id).map_err(|error| match error.kind() {
        Kind::NotFound => nowhere(id),
        _ => error,
    })?;
    if node.nlink == 0 { Err(nowhere(id)) } else { Ok(node) }
}

/// Says whether a node can still be reached from the root: what is in a deleted folder keeps its name there. Of a file that
/// has several names, or had, that is believed.
///
/// # Errors
/// Those of the index.
pub(crate) fn is_in_tree(drive: &Drive, id: NodeId) -> Result<bool> {
    let mut at = id;
    loop {
        let node = match drive.catalog().node(at) {
            Ok(node) => node,
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let has_others = node.name.is_none() || (!node.is_folder() && node.nlink > 1);
        if node.nlink == 0 || node.id == NodeId::ROOT || has_others {
            return Ok(node.nlink > 0);
        }
        at = node.parent;
    }
}

/// What is said of a node that is not there.
pub(crate) fn nowhere(id: NodeId) -> Error {
    Error::not_found(format!("there is no node {id}"))
}

/// Describes `node`, with its attributes in byte order of their names as far as they fit.
///
/// # Errors
/// Those of the index.
pub(crate) fn describe(drive: &Drive, node: &Node) -> Result<WireNode> {
    let (mut xattrs, mut bytes) = (Vec::new(), 0);
    for name in drive.catalog().xattrs(node.id)?.into_iter().take(XATTRS_MAX) {
        match drive.catalog().xattr(node.id, &name) {
            Ok(value) => {
                bytes += name.len() + value.len();
                if bytes > XATTRS_BYTES {
                    break;
                }
                xattrs.push((name, value));
            }
            // Removed since.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(WireNode::new(node, &xattrs))
}

/// About how many bytes of JSON a node takes.
pub(crate) fn weight(node: &WireNode) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let extents = node.file.as_ref().map_or(0, |head| head.extents.len());
    let xattrs: usize = node.xattrs.iter().map(|(name, value)| name.len() + value.len() + 6).sum();
    400 + text(&node.name) + text(&node.target) + extents + xattrs
}
