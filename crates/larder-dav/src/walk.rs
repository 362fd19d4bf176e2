//! Going through folders a page at a time, flat in memory whatever their size.

use crate::path::{self, Spot, is_shown};
use larder_core::{Name, Node, NodeId, NodeKind, Result};
use larder_drive::Drive;
use std::sync::Arc;

/// Entries of one page.
const PAGE: usize = 1000;

/// Lists a folder, or everything below it, in the order of names; each folder before its entries.
pub(crate) struct Walk {
    drive: Arc<Drive>,
    /// Symlinks are followed from here.
    root: NodeId,
    deep: bool,
    /// Folders being listed, the innermost last.
    open: Vec<Open>,
}

struct Open {
    folder: NodeId,
    href: Arc<[u8]>,
    after: Option<Name>,
    /// Entries read and not yet handed out, the next one last.
    page: Vec<larder_store::Listed>,
    ended: bool,
}

/// An entry as a client sees it: the target in place of a link.
pub(crate) struct Entry<'a> {
    /// The href of its folder, encoded, with a slash at the end.
    pub folder: &'a [u8],
    pub name: &'a Name,
    pub node: &'a Node,
}

impl Walk {
    /// Lists `folder`, whose encoded href ends with a slash; `deep`: and every folder in it.
    pub fn new(drive: Arc<Drive>, root: NodeId, folder: NodeId, href: Vec<u8>, deep: bool) -> Self {
        let open = vec![Open { folder, href: href.into(), after: None, page: Vec::new(), ended: false }];
        Self { drive, root, deep, open }
    }

    /// Calls `visit` with up to a page of entries; says whether there may be more.
    pub fn page(&mut self, mut visit: impl FnMut(Entry<'_>) -> Result<()>) -> Result<bool> {
        let mut left = PAGE;
        while left > 0 {
            let Some(open) = self.open.last_mut() else { return Ok(false) };
            let Some(listed) = open.page.pop() else {
                if open.ended {
                    self.open.pop();
                    continue;
                }
                let mut page = self.drive.list(open.folder, open.after.as_ref(), PAGE)?;
                open.ended = page.is_empty();
                open.after = page.last().map(|listed| listed.name.clone());
                page.reverse();
                open.page = page;
                continue;
            };
            left -= 1;
            let href = open.href.clone();
            let below = listed.node.is_folder() && self.deep;
            let Some(node) = self.shown(open_folder(&self.open), &listed)? else { continue };
            visit(Entry { folder: &href, name: &listed.name, node: &node })?;
            // Links are listed and not entered: a link to a folder above would never end.
            if below {
                let mut inner = href.to_vec();
                path::encode(listed.name.as_bytes(), &mut inner);
                inner.push(b'/');
                self.open.push(Open {
                    folder: node.id,
                    href: inner.into(),
                    after: None,
                    page: Vec::new(),
                    ended: false,
                });
            }
        }
        Ok(true)
    }

    fn shown<'a>(
        &self,
        folder: NodeId,
        listed: &'a larder_store::Listed,
    ) -> Result<Option<std::borrow::Cow<'a, Node>>> {
        use std::borrow::Cow;
        if listed.node.kind != NodeKind::Symlink {
            return Ok(is_shown(listed.node.kind).then_some(Cow::Borrowed(&listed.node)));
        }
        let found = path::walk_from(&self.drive, self.root, folder, &listed.name);
        Ok(match found {
            Ok(Spot::Known(found)) if is_shown(found.node.kind) => Some(Cow::Owned(found.node)),
            _ => None,
        })
    }
}

fn open_folder(open: &[Open]) -> NodeId {
    open.last().map_or(NodeId::ROOT, |open| open.folder)
}
