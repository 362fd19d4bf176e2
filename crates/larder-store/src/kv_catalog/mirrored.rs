//! What of a mirror's chunks nobody else may have: those have to stay, and all others may be had from its server again.

use super::history::mark_head;
use super::{KvCatalog, keys, queue};
use crate::catalog::{OldVersion, Step};
use crate::chunks::ChunkStore;
use crate::kv::Kv;
use larder_core::{ChunkId, Error, Head, Kind, Node, NodeId, Result, manifest};
use std::collections::HashSet;

impl<K: Kv> KvCatalog<K> {
    /// Calls `live` with every chunk that has to stay in a mirror's store: of contents that the server has not been told
    /// of, of nodes with changes that it has not been told of, of drafts, of the history that was made here, and of the nodes
    /// `in_use`; and with the pages of other contents that list chunks which are here. Returns what [`KvCatalog::mark`]
    /// does.
    ///
    /// What is put under a lease while this runs, or was before, has to be held until its end: then what a node refers to
    /// is held, or is found here, or is the server's.
    ///
    /// # Errors
    /// As for [`KvCatalog::mark`].
    pub fn mark_own(
        &self,
        chunks: &dyn ChunkStore,
        in_use: &HashSet<NodeId>,
        mut live: impl FnMut(&ChunkId),
    ) -> Result<u64> {
        let (mut unread, mut changed) = (0, in_use.clone());
        self.each(b"k", |key, _| {
            changed.insert(keys::decode_id(&key[1..])?);
            Ok(true)
        })?;
        self.each(b"n", |_, value| {
            let node: Node = keys::decode(value)?;
            let Some(head) = node.head() else { return Ok(true) };
            // A deleted node may never have been anywhere else.
            if node.draft || node.nlink == 0 || changed.contains(&node.id) {
                unread += mark_head(head, chunks, true, &mut live)?;
            } else {
                mark_pages(head, chunks, &mut live)?;
            }
            Ok(true)
        })?;
        for prefix in [b"v", b"w"] {
            self.each(prefix, |_, value| {
                if let Some(head) = keys::decode::<OldVersion>(value)?.node.head() {
                    unread += mark_head(head, chunks, true, &mut live)?;
                }
                Ok(true)
            })?;
        }
        // Last, as in a collection: content moves from nodes to the history and to the queue.
        self.each(keys::QUEUE, |key, value| {
            for head in queue::decode(keys::queue_number(key)?, value)?.steps.iter().filter_map(Step::head) {
                unread += mark_head(head, chunks, true, &mut live)?;
            }
            Ok(true)
        })?;
        Ok(unread)
    }
}

/// Reports those pages of a content of the server's of which something is here that they list: without them nobody would
/// know what it is for. What cannot be read now may be had from the server.
fn mark_pages(head: &Head, chunks: &dyn ChunkStore, live: &mut impl FnMut(&ChunkId)) -> Result<()> {
    let mut level = if head.depth > 0 { head.extents.clone() } else { Vec::new() };
    for _ in 0..head.depth {
        let mut below = Vec::new();
        for page in &level {
            let mut listed = Vec::new();
            match chunks.get(&page.id) {
                Ok(bytes) => manifest::decode(&bytes, &mut listed)?,
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => continue,
                Err(error) => return Err(error),
            }
            let ids: Vec<ChunkId> = listed.iter().map(|e| e.id).filter(|id| !id.is_hole()).collect();
            if chunks.missing(&ids)?.len() < ids.len() {
                live(&page.id);
            }
            below.append(&mut listed);
            if below.len() > manifest::EXTENTS_MAX {
                return Err(Error::corrupt("a manifest without end"));
            }
        }
        level = below;
    }
    Ok(())
}
