//! Whether the store has all that a content refers to, before a commit refers to it.

use larder_core::{ChunkId, Error, Extent, Head, Kind, Result, manifest};
use larder_store::{ChunkStore, Lease};
use std::collections::{BTreeSet, HashMap};

/// The most chunks that a refusal names; more are named once those are there.
pub(crate) const LACKS_MAX: usize = 4096;

/// Looks through contents, and holds what they refer to against the sweep for as long as it lives.
pub(crate) struct Contents<'a> {
    chunks: &'a dyn ChunkStore,
    lease: Lease,
    lacks: BTreeSet<ChunkId>,
    /// A page that was looked through, by its level: a few pages may say that they are repeated without end.
    known: HashMap<(ChunkId, u8), Sum>,
}

/// What extents come to.
#[derive(Clone, Copy, Default)]
struct Sum {
    size_bytes: u64,
    allocated_bytes: u64,
    /// Chunks and holes.
    extents: u64,
}

impl<'a> Contents<'a> {
    pub(crate) fn new(chunks: &'a dyn ChunkStore) -> Self {
        Self { chunks, lease: chunks.lease(), lacks: BTreeSet::new(), known: HashMap::new() }
    }

    /// What the store lacks, up to [`LACKS_MAX`].
    pub(crate) fn lacks(&self) -> &BTreeSet<ChunkId> {
        &self.lacks
    }

    /// Looks through all levels of a content, as far as the store has them.
    ///
    /// # Errors
    /// `Invalid` where its sizes do not agree; those of the store.
    pub(crate) fn look_through(&mut self, head: &Head) -> Result<()> {
        let sum = self.level(&head.extents, head.depth)?;
        if !self.lacks.is_empty() {
            return Ok(());
        }
        match (sum.size_bytes, sum.allocated_bytes) == (head.size_bytes, head.allocated_bytes) {
            true => Ok(()),
            false => Err(disagree()),
        }
    }

    /// Where something lacks, the sum means nothing.
    fn level(&mut self, extents: &[Extent], depth: u8) -> Result<Sum> {
        let ids: Vec<ChunkId> = extents.iter().map(|extent| extent.id).filter(|id| !id.is_hole()).collect();
        // First held, then looked for: what is there then stays.
        ids.iter().for_each(|id| self.lease.hold(id));
        let missing = self.chunks.missing(&ids)?;
        let room = LACKS_MAX - self.lacks.len();
        self.lacks.extend(missing.iter().take(room));
        let mut all = Sum::default();
        for extent in extents {
            let sum = match depth {
                0 => Sum {
                    size_bytes: extent.len_bytes,
                    allocated_bytes: if extent.id.is_hole() { 0 } else { extent.len_bytes },
                    extents: 1,
                },
                _ if missing.contains(&extent.id) => continue,
                _ => self.page(extent, depth)?,
            };
            let size_bytes = all.size_bytes.checked_add(sum.size_bytes).ok_or_else(disagree)?;
            // As many as their bytes at the most.
            all.extents += sum.extents;
            all = Sum { size_bytes, allocated_bytes: all.allocated_bytes + sum.allocated_bytes, ..all };
            if extent.len_bytes == 0 || all.extents > manifest::EXTENTS_MAX as u64 {
                return Err(disagree());
            }
        }
        Ok(all)
    }

    fn page(&mut self, page: &Extent, depth: u8) -> Result<Sum> {
        let known = self.known.get(&(page.id, depth)).copied();
        let sum = match known {
            Some(sum) => sum,
            None if page.id.is_hole() => return Err(invalid("a hole where a page has to be")),
            None => {
                let mut below = Vec::new();
                let body = self.chunks.get(&page.id)?;
                manifest::decode(&body, &mut below).map_err(|error| invalid(error.what()))?;
                let sum = self.level(&below, depth - 1)?;
                self.known.insert((page.id, depth), sum);
                sum
            }
        };
        match sum.size_bytes == page.len_bytes || !self.lacks.is_empty() {
            true => Ok(sum),
            false => Err(disagree()),
        }
    }
}

fn disagree() -> Error {
    invalid("its sizes do not agree")
}

fn invalid(why: &str) -> Error {
    Error::new(Kind::Invalid, format!("no content of a file: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_store::memory::MemoryChunks;

    fn put(chunks: &MemoryChunks, body: &[u8]) -> ChunkId {
        let id = ChunkId::of(body);
        chunks.put(&chunks.lease(), &id, body).expect("stored");
        id
    }

    /// A page that lists `below` so often.
    fn page(chunks: &MemoryChunks, below: Extent, times: usize) -> Extent {
        let extents = vec![below; times];
        let id = put(chunks, &manifest::encode(&extents));
        Extent { id, len_bytes: below.len_bytes * times as u64 }
    }

    fn head(extents: Vec<Extent>, depth: u8) -> Head {
        let size_bytes = extents.iter().map(|extent| extent.len_bytes).sum();
        Head { size_bytes, allocated_bytes: size_bytes, depth, extents }
    }

    #[test]
    fn what_was_looked_through_is_not_swept() {
        let chunks = MemoryChunks::default();
        let chunk = Extent { id: put(&chunks, b"a"), len_bytes: 1 };
        let page = page(&chunks, chunk, 2);
        let mut contents = Contents::new(&chunks);
        contents.look_through(&head(vec![page], 1)).expect("a content");
        assert!(contents.lacks().is_empty());
        chunks.sweep(|_| false);
        assert_eq!(chunks.missing(&[chunk.id, page.id]).expect("an answer"), []);
        drop(contents);
        chunks.sweep(|_| false);
        assert_eq!(chunks.missing(&[chunk.id, page.id]).expect("an answer"), [chunk.id, page.id]);
    }

    #[test]
    fn pages_that_repeat_one_another_without_end_are_refused_at_once() {
        let chunks = MemoryChunks::default();
        let mut at = Extent { id: put(&chunks, b"a"), len_bytes: 1 };
        for depth in 1..=manifest::DEPTH_MAX {
            at = page(&chunks, at, manifest::PAGE_EXTENTS);
            let mut contents = Contents::new(&chunks);
            let outcome = contents.look_through(&head(vec![at; manifest::HEAD_MAX], depth));
            match depth {
                // As many as a file may have.
                1 | 2 => outcome.expect("a content"),
                _ => assert_eq!(outcome.expect_err("too many").kind(), Kind::Invalid),
            }
        }
    }
}
