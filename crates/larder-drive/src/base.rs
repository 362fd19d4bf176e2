//! What a drive stands on, and what is in use in it: all that locks need to know of it.

use crate::{Busy, Clock};
use larder_core::Timestamp;
use larder_store::{Catalog, ChunkStore};
use std::sync::Arc;

/// What a drive is made of.
pub struct Parts {
    /// Bodies.
    pub chunks: Arc<dyn ChunkStore>,
    /// Everything else.
    pub catalog: Arc<dyn Catalog>,
    /// The time.
    pub clock: Clock,
    /// Fills a slice with unpredictable bytes.
    pub random: fn(&mut [u8]),
}

/// Parts and what is in use; a [`crate::Drive`] derefs to it.
pub struct Base {
    parts: Parts,
    busy: Arc<Busy>,
}

impl Base {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, busy: Arc::default() }
    }

    /// The same with another catalog over its own.
    pub(crate) fn over(&self, show: impl FnOnce(Arc<dyn Catalog>) -> Arc<dyn Catalog>) -> Self {
        let Parts { chunks, catalog, clock, random } = &self.parts;
        let (chunks, clock) = (chunks.clone(), clock.clone());
        let parts = Parts { chunks, catalog: show(catalog.clone()), clock, random: *random };
        Self { parts, busy: self.busy.clone() }
    }

    /// The catalog; commits go through [`crate::Drive::commit`] instead.
    pub fn catalog(&self) -> &dyn Catalog {
        &*self.parts.catalog
    }

    /// The chunk store; reads go through [`crate::Drive::chunk`] instead.
    pub fn chunks(&self) -> &dyn ChunkStore {
        &*self.parts.chunks
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.parts.clock
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// What mounts have in use.
    pub fn busy(&self) -> &Busy {
        &self.busy
    }

    pub(crate) fn random(&self, bytes: &mut [u8]) {
        (self.parts.random)(bytes);
    }
}
