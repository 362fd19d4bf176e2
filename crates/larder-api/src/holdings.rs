//! Which chunks a node holds: what a device may ask for by hash.
//!
//! A chunk is a secret of those who may read a file that has it, so its hash alone opens nothing. The content of a node
//! now is looked at first, as nearly all requests are of it; what a long one holds is kept as a sorted list, so that a
//! request of 256 chunks does not read 40,000 extents for them.

use crate::describe::nowhere;
use larder_core::{ChunkId, Extent, Head, Node, NodeId, Result, manifest};
use larder_drive::Drive;
use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Ids kept in all lists, 16 bytes each: 32 MiB, about 500 GB of files.
const KEPT_MAX: usize = 2 << 20;
/// Lists kept.
const LISTS_MAX: usize = 64;
/// How many earlier versions are looked through, newest first: bounds what asking for a chunk that nobody has costs.
const VERSIONS_MAX: usize = 256;

/// The first 16 bytes of an id. To find another chunk with the same ones is as hard as to break a 128-bit key.
fn short(id: &ChunkId) -> u128 {
    u128::from_be_bytes(id.0[..16].try_into().expect("16 of 32 bytes"))
}

/// Lists of long contents, the one used last at the end.
#[derive(Default)]
pub(crate) struct Holdings(Mutex<VecDeque<(Head, Arc<[u128]>)>>);

impl Holdings {
    /// Returns those of `wanted` that `node` holds: its content now, or one of its versions in the history.
    /// The caller has a hold, so that what it finds stays.
    ///
    /// # Errors
    /// `NotFound` for no node and for a draft; those of reading manifests.
    pub(crate) fn held(&self, drive: &Drive, node: NodeId, wanted: &[ChunkId]) -> Result<HashSet<ChunkId>> {
        let node = drive.node(node).map_err(|_| nowhere(node))?;
        let mut search = Search::new(wanted);
        self.now(drive, &node, &mut search)?;
        if search.left.is_empty() {
            return Ok(search.found);
        }
        let mut seen = HashSet::new();
        let versions = drive.catalog().versions(node.id)?;
        for head in versions.iter().rev().take(VERSIONS_MAX).filter_map(|old| old.node.head()) {
            let go_on = walk(drive, &head.extents, head.depth, &mut seen, &mut |id| {
                search.meet(id);
                !search.left.is_empty()
            })?;
            if !go_on {
                break;
            }
        }
        Ok(search.found)
    }

    fn now(&self, drive: &Drive, node: &Node, search: &mut Search) -> Result<()> {
        let Some(head) = node.head() else { return Ok(()) };
        if head.depth == 0 {
            head.extents.iter().for_each(|extent| search.meet(&extent.id));
            return Ok(());
        }
        if let Some(list) = self.kept(head) {
            search.look_into(&list);
            return Ok(());
        }
        let (mut list, mut all) = (Vec::new(), true);
        walk(drive, &head.extents, head.depth, &mut HashSet::new(), &mut |id| {
            search.meet(id);
            all &= list.len() < KEPT_MAX;
            if all {
                list.push(short(id));
            }
            all || !search.left.is_empty()
        })?;
        if all {
            list.sort_unstable();
            list.dedup();
            self.keep(head, list.into());
        }
        Ok(())
    }

    fn kept(&self, head: &Head) -> Option<Arc<[u128]>> {
        let mut lists = self.0.lock();
        let at = lists.iter().position(|(known, _)| known == head)?;
        let found = lists.remove(at)?;
        let list = found.1.clone();
        lists.push_back(found);
        Some(list)
    }

    fn keep(&self, head: &Head, list: Arc<[u128]>) {
        let mut lists = self.0.lock();
        lists.retain(|(known, _)| known != head);
        lists.push_back((head.clone(), list));
        let mut kept: usize = lists.iter().map(|(_, list)| list.len()).sum();
        while lists.len() > LISTS_MAX || kept > KEPT_MAX {
            kept -= lists.pop_front().map_or(0, |(_, list)| list.len());
        }
    }
}

/// What is looked for.
struct Search {
    left: HashSet<ChunkId>,
    found: HashSet<ChunkId>,
}

impl Search {
    fn new(wanted: &[ChunkId]) -> Self {
        let left = wanted.iter().filter(|id| !id.is_hole()).copied().collect();
        Self { left, found: HashSet::new() }
    }

    fn meet(&mut self, id: &ChunkId) {
        self.found.extend(self.left.take(id));
    }

    fn look_into(&mut self, list: &[u128]) {
        let (found, left) = self.left.iter().partition(|id| list.binary_search(&short(id)).is_ok());
        self.left = left;
        self.found.extend::<HashSet<ChunkId>>(found);
    }
}

/// Shows `visit` every chunk and page below `extents` until it says false; pages in `seen` are passed over. Says whether
/// it came to the end.
fn walk(
    drive: &Drive,
    extents: &[Extent],
    depth: u8,
    seen: &mut HashSet<ChunkId>,
    visit: &mut dyn FnMut(&ChunkId) -> bool,
) -> Result<bool> {
    for extent in extents.iter().filter(|extent| !extent.id.is_hole()) {
        if !visit(&extent.id) {
            return Ok(false);
        }
        // A head lists at most four levels; the store checked that when it took it.
        let Some(below) = depth.min(manifest::DEPTH_MAX).checked_sub(1) else { continue };
        if seen.insert(extent.id) {
            let mut page = Vec::new();
            manifest::decode(&drive.chunks().get(&extent.id)?, &mut page)?;
            if !walk(drive, &page, below, seen, visit)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
