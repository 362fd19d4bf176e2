//! Files that are to be kept on this device: fetched behind everything that somebody asked for. Rules say which, so nothing is
//! recorded of them but a pause.

use super::orders::Order;
use super::records::Wish;
use super::survey::{self, Survey};
use super::{Fetch, Shared};
use larder_core::{ChunkId, Kind, NodeId, Result};

/// Stands for the class behind all priorities.
pub(super) const PRIORITY: u8 = 0;
/// Files that may be on their way before no more are added: who keeps files goes on where some came.
const UNFINISHED_MAX: usize = 1000;

/// What becomes of a file that is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// All of it is here, or it is no file any more.
    Here,
    /// It is on its way.
    Coming,
    /// Too many are on their way.
    Full,
}

impl Fetch {
    /// Has what is missing of a file come, if anything is.
    ///
    /// # Errors
    /// Those of the store.
    pub fn pin(&self, id: NodeId) -> Result<Pinned> {
        let shared = &*self.shared;
        let Some(found) = shared.missing_of(id)? else { return Ok(Pinned::Here) };
        let mut driver = shared.driver.lock();
        let now = shared.now();
        let requested = &mut driver.requested;
        if requested.files.get(&id).is_some_and(|file| !file.phase.has_ended()) {
            return Ok(Pinned::Coming);
        }
        if requested.unfinished() >= UNFINISHED_MAX {
            return Ok(Pinned::Full);
        }
        let order = requested.next_order;
        let wish =
            Wish { priority: PRIORITY, ttl_ms: None, order, is_paused: false, limit_bytes_per_s: None };
        requested.add(id, wish, Some((found.total, found.here)), now);
        shared.pump(&mut driver, None);
        shared.hungry.notify_one();
        Ok(Pinned::Coming)
    }

    /// Ends what is on its way and `keeps` says no to; it is told of each file whether that is only to be kept here.
    ///
    /// # Errors
    /// Those of the index.
    pub fn let_go(&self, keeps: impl Fn(NodeId, bool) -> bool) -> Result<()> {
        let shared = &*self.shared;
        let _one = shared.keeping.lock();
        let mut unfinished: Vec<(NodeId, bool)> = {
            let driver = shared.driver.lock();
            let files = driver.requested.files.iter().filter(|(_, file)| !file.phase.has_ended());
            files.map(|(id, file)| (*id, file.wish.priority == PRIORITY)).collect()
        };
        unfinished.retain(|(id, is_pinned)| !keeps(*id, *is_pinned));
        let mut driver = shared.driver.lock();
        let gone = unfinished.into_iter().map(|(id, _)| id);
        let ops: Vec<_> = gone.filter_map(|id| shared.ordered(&mut driver, Order::Cancel, id)).collect();
        shared.pump(&mut driver, None);
        drop(driver);
        shared.keep(ops)
    }

    /// The chunks of a file's content that are here.
    ///
    /// # Errors
    /// `NotFound`; those of the store.
    pub fn chunks_here(&self, id: NodeId) -> Result<Vec<(ChunkId, u64)>> {
        let node = self.shared.catalog.node(id)?;
        node.head().map_or(Ok(Vec::new()), |head| survey::chunks_here(&*self.shared.chunks, head))
    }
}

impl Shared {
    fn missing_of(&self, id: NodeId) -> Result<Option<Survey>> {
        match self.look(id, 0) {
            Ok(found) if found.missing.is_empty() => Ok(None),
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
