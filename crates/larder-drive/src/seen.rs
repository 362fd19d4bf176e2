//! A drive as a device sees it.

use crate::placing::{Placed, Placements};
use crate::{Door, Drive};
use larder_core::Result;
use larder_store::origin::Ruled;
use larder_store::{Catalog, Commit, Durability};
use std::sync::Arc;

impl Drive {
    /// This drive as a device sees it: the same locks, commits and bytes, and of its names those that are shown. For a
    /// drive that has all its bodies.
    pub fn seen_through(&self, placements: Arc<Placements>) -> Arc<Self> {
        let base = self.base.over(|catalog| Arc::new(Placed::new(catalog, placements.clone())));
        Arc::new(Self {
            base,
            settings: self.settings.clone(),
            caches: self.caches.clone(),
            locks: self.locks.clone(),
            subscribers: self.subscribers.clone(),
            horizon: self.horizon.clone(),
            fetch: None,
            placements: Some(placements),
        })
    }

    /// What of it is shown, and kept; nothing for a drive that shows all.
    pub fn placements(&self) -> Option<&Arc<Placements>> {
        self.placements.as_ref()
    }

    /// Has the rules that `ask` returns hold for a device from now on; whoever has seen names that appear or go has heard of
    /// it when this returns. Nobody else asks meanwhile, so no answer replaces a newer one. `known` is what was told of the
    /// server's names.
    ///
    /// # Errors
    /// Those of asking and of the index.
    pub fn adopt_rules(&self, ask: impl FnOnce() -> Result<Ruled>, known: &dyn Catalog) -> Result<Ruled> {
        let Some(placements) = &self.placements else { return ask() };
        let keep = |op| {
            let (expect, durability) = (Vec::new(), Durability::Power);
            let commit = Commit { at: self.now(), op_id: None, expect, ops: vec![op], durability };
            self.catalog().commit(commit).map(drop)
        };
        let (ruled, is_new) = placements.adopt(ask, known, keep, |changes| self.tell(changes))?;
        if is_new {
            self.subscribers.ring(Door::Api, &[]);
            self.subscribers.settle();
        }
        Ok(ruled)
    }
}
