//! Which names appear and go where rules change, found without a look at what no changed rule can be about.

use larder_core::{DrivePath, NodeId, Result};
use larder_policy::rules::Rules;
use larder_store::{Catalog, Change};

/// Entries read at a time.
const PAGE: usize = 1024;

/// Calls `tell` with each name that is shown by one of the rules and not by the other; what is below a folder goes and comes
/// with it and is not told.
pub(super) fn changed(
    known: &dyn Catalog,
    was: &Rules,
    is: &Rules,
    mut tell: impl FnMut(Change),
) -> Result<()> {
    let mut folders = vec![(NodeId::ROOT, DrivePath::default())];
    while let Some((parent, path)) = folders.pop() {
        if !is.may_differ_below(was, &path) {
            continue;
        }
        let mut after = None;
        loop {
            let page = known.list(parent, after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for entry in page {
                let at = path.join(entry.name.clone());
                let (name, node, kind) = (entry.name, entry.node.id, entry.node.kind);
                match (was.placement(&at, kind).is_shown(), is.placement(&at, kind).is_shown()) {
                    (true, false) => tell(Change::Unnamed { parent, name, node }),
                    (false, true) => tell(Change::Named { parent, name, node }),
                    (true, true) if entry.node.is_folder() => folders.push((node, at)),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}
