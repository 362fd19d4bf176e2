//! Names for what stays beside another, and the names that nodes have here.

use super::mirror::Mirror;
use crate::catalog::Spot;
use larder_core::{Error, Kind, Name, Node, NodeId, Result};

/// Names tried for what stays beside another.
const NAMES_MAX: u32 = 1000;
/// The longest end of a name that tells its kind, with its dot.
const EXTENSION_MAX_BYTES: usize = 16;
/// The longest name. Source: NAME_MAX of limits.h, as larder_core::Name has it.
const NAME_MAX_BYTES: usize = 255;
/// Entries read at a time.
const PAGE: usize = 1024;

impl Mirror {
    /// A name of a node as things are here, or the one that it had.
    pub(super) fn spot_of(&self, node: &Node) -> Result<Spot> {
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
    pub(super) fn beside(&self, (parent, name): &Spot, label: &str) -> Result<Spot> {
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
}
