//! Dead properties: kept as extended attributes that mounts do not show, as the client wrote them.
//!
//! The attribute's name is `dav.{NAMESPACE}LOCAL`; its value is the whole element, which declares what it needs.

use crate::xml::PropName;
use larder_core::{Kind, NodeId, Result};
use larder_drive::Drive;
use larder_store::catalog::XATTR_NAME_MAX_BYTES;

/// What the names of these attributes begin with.
const PREFIX: &str = "dav.{";
/// The longest name of a property with its namespace.
pub(crate) const NAME_MAX_BYTES: usize = 1024;
const _: () = assert!(PREFIX.len() + NAME_MAX_BYTES + "}".len() <= XATTR_NAME_MAX_BYTES);

/// The attribute that keeps the property.
pub(crate) fn key(name: &PropName) -> Vec<u8> {
    format!("{PREFIX}{}}}{}", name.ns, name.local).into_bytes()
}

fn name(key: &[u8]) -> Option<PropName> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?;
    let (ns, local) = rest.rsplit_once('}')?;
    Some(PropName { ns: ns.to_owned(), local: local.to_owned() })
}

/// Returns the element, or `None` where the node does not have the property.
///
/// # Errors
/// Those of the catalog.
pub(crate) fn get(drive: &Drive, node: NodeId, property: &PropName) -> Result<Option<Vec<u8>>> {
    match drive.catalog().xattr(node, &key(property)) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the names of all properties that are kept this way; one of them may be a live one's.
///
/// # Errors
/// Those of the catalog.
pub(crate) fn names(drive: &Drive, node: NodeId) -> Result<Vec<PropName>> {
    let keys = drive.catalog().xattrs(node)?;
    Ok(keys.iter().filter_map(|key| name(key)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_keys() {
        for (ns, local) in [("DAV:", "x"), ("", "y"), ("urn:{odd}", "z")] {
            let property = PropName { ns: ns.to_owned(), local: local.to_owned() };
            assert_eq!(name(&key(&property)), Some(property));
        }
        assert_eq!(name(b"user.other"), None);
    }
}
