//! What of a file is here and what is missing, found out without asking a server.

use larder_core::manifest::{EXTENT_BYTES, PAGE_EXTENTS};
use larder_core::{ChunkId, Head, Kind, Listed, Outline, Result};
use larder_policy::plan::Amount;
use larder_store::ChunkStore;
use std::collections::HashSet;

/// Chunks of a file that are wished for at once: a GiB at their mean size.
pub(super) const PIECE: usize = 4096;

/// How much of a file is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Bytes, holes among them.
    pub bytes: u64,
    /// In so many runs.
    pub ranges: u64,
}

/// What to fetch next of a file.
pub(super) struct Survey {
    /// All of the file; without the number of chunks while the pages that name them are missing.
    pub(super) total: Amount,
    pub(super) here: Amount,
    /// Up to [`PIECE`] chunks, with their lengths; none where all of the file is here.
    pub(super) missing: Vec<(ChunkId, u32)>,
    /// They are pages, which name the chunks.
    pub(super) are_pages: bool,
    /// How many extents lie before the last of the missing, and that one: all of them are here once those are.
    pub(super) from: usize,
}

/// What is known of a file without asking.
fn outline(chunks: &dyn ChunkStore, head: &Head) -> Result<Outline> {
    let (mut outline, all) = (Outline::new(head)?, 0..head.size_bytes);
    for _ in 0..head.depth {
        outline.unfold(&all, |page| match chunks.get(page) {
            Ok(bytes) => Ok(Some(bytes)),
            // What is damaged here is whole at the server.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => Ok(None),
            Err(error) => Err(error),
        })?;
    }
    Ok(outline)
}

/// Looks over a file of which the first `from` extents are here.
pub(super) fn survey(chunks: &dyn ChunkStore, head: &Head, from: usize) -> Result<Survey> {
    let outline = outline(chunks, head)?;
    let Some(manifest) = outline.manifest() else {
        let page_bytes = (PAGE_EXTENTS * EXTENT_BYTES) as u32;
        let pages = outline.pages(&(0..head.size_bytes), PIECE);
        let missing = pages.into_iter().map(|id| (id, page_bytes)).collect();
        let total = Amount { bytes: head.allocated_bytes, chunks: 0 };
        return Ok(Survey { total, here: Amount::default(), missing, are_pages: true, from: 0 });
    };
    let level = manifest.extents();
    let ids: Vec<ChunkId> =
        level.iter().skip(from).map(|extent| extent.id).filter(|id| !id.is_hole()).collect();
    let missing: HashSet<ChunkId> = chunks.missing(&ids)?.into_iter().collect();
    let (mut total, mut here) = (Amount::default(), Amount::default());
    let mut survey = Survey { total, here, missing: Vec::new(), are_pages: false, from };
    for (index, extent) in level.iter().enumerate().filter(|(_, extent)| !extent.id.is_hole()) {
        let one = Amount { bytes: extent.len_bytes, chunks: 1 };
        total = sum(total, one);
        if index < from || !missing.contains(&extent.id) {
            here = sum(here, one);
        } else if survey.missing.len() < PIECE {
            // One that is longer than a chunk may be will not come.
            survey.missing.push((extent.id, u32::try_from(extent.len_bytes).unwrap_or(u32::MAX)));
            survey.from = index + 1;
        }
    }
    Ok(Survey { total, here, ..survey })
}

fn sum(a: Amount, b: Amount) -> Amount {
    Amount { bytes: a.bytes.saturating_add(b.bytes), chunks: a.chunks.saturating_add(b.chunks) }
}

/// How much of a file is here; nothing of what pages list that are not.
pub(crate) fn here(chunks: &dyn ChunkStore, head: &Head) -> Result<Here> {
    let outline = outline(chunks, head)?;
    let missing = missing(chunks, &outline)?;
    let (mut here, mut was_here) = (Here::default(), false);
    for listed in outline.locate(0) {
        let is_here = match listed {
            Listed::Extent(located) => !missing.contains(&located.extent.id),
            Listed::Page(_) => false,
        };
        if is_here {
            here.bytes += listed.located().extent.len_bytes;
            here.ranges += u64::from(!was_here);
        }
        was_here = is_here;
    }
    Ok(here)
}

/// The chunks of a file that are here, with their lengths.
pub(super) fn chunks_here(chunks: &dyn ChunkStore, head: &Head) -> Result<Vec<(ChunkId, u64)>> {
    let outline = outline(chunks, head)?;
    let missing = missing(chunks, &outline)?;
    let listed =
        outline.locate(0).filter_map(|listed| Some((listed.chunk()?, listed.located().extent.len_bytes)));
    Ok(listed.filter(|(id, _)| !missing.contains(id)).collect())
}

/// Those chunks that are not here.
fn missing(chunks: &dyn ChunkStore, outline: &Outline) -> Result<HashSet<ChunkId>> {
    let ids: Vec<ChunkId> = outline.locate(0).filter_map(Listed::chunk).collect();
    Ok(chunks.missing(&ids)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_core::Manifest;
    use larder_store::memory::MemoryChunks;

    /// A file of so many chunks, of which the store has those of the given numbers, and its pages.
    fn file(store: &MemoryChunks, chunks: u32, here: impl Fn(u32) -> bool, pages: bool) -> Head {
        let (mut manifest, lease) = (Manifest::default(), store.lease());
        for number in 0..chunks {
            let body = number.to_le_bytes();
            let id = ChunkId::of(&body);
            manifest.push(id, 4);
            if here(number) {
                store.put(&lease, &id, &body).expect("room");
            }
        }
        let keep = |id, body: &[u8]| if pages { store.put(&lease, &id, body).map(drop) } else { Ok(()) };
        manifest.to_head(keep).expect("few extents")
    }

    #[test]
    fn runs_of_what_is_here_are_counted() {
        let store = MemoryChunks::default();
        let head = file(&store, 60, |number| number % 10 < 3, true);
        assert_eq!(here(&store, &head).expect("readable"), Here { bytes: 18 * 4, ranges: 6 });
        let found = survey(&store, &head, 0).expect("readable");
        assert_eq!((found.here.chunks, found.total.chunks, found.missing.len()), (18, 60, 42));
    }

    #[test]
    fn pages_come_before_what_they_name() {
        let store = MemoryChunks::default();
        let head = file(&store, 3000, |number| number < 100, false);
        let found = survey(&store, &head, 0).expect("readable");
        assert!(found.are_pages && found.missing.len() == 3, "{:?}", found.missing.len());
        assert_eq!(found.total, Amount { bytes: 12_000, chunks: 0 });
        assert_eq!(here(&store, &head).expect("readable"), Here::default());
    }

    #[test]
    fn long_file_comes_in_pieces() {
        let store = MemoryChunks::default();
        let head = file(&store, 10_000, |number| number == 5, true);
        let found = survey(&store, &head, 0).expect("readable");
        assert_eq!((found.missing.len(), found.from), (PIECE, PIECE + 1));
        let found = survey(&store, &head, found.from).expect("readable");
        assert_eq!((found.here.chunks, found.missing.len(), found.from), (4097, PIECE, 2 * PIECE + 1));
    }
}
