//! Outlines: which chunks are one version of one file, as far as its pages were read.

use crate::manifest::{self, DEPTH_MAX, EXTENTS_MAX, Extent, Head, Located, Manifest};
use crate::{ChunkId, Error, Result};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// What a file consists of; parts of it are known only by the page that lists them. Whoever reads the beginning of a file of
/// terabytes needs a page of each level instead of all of them.
#[derive(Clone, Debug)]
pub struct Outline {
    /// In order, without gaps.
    parts: Vec<Part>,
    size_bytes: u64,
    /// Extents and pages that are listed.
    listed: usize,
}

/// One part of an outline.
#[derive(Clone, Debug)]
struct Part {
    start: u64,
    run: Run,
}

#[derive(Clone, Debug)]
enum Run {
    Known(Arc<Manifest>),
    /// A page that was not read, and how many levels of pages it begins.
    Page(Extent, u8),
}

/// What an outline says of a place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// A chunk or a hole.
    Extent(Located),
    /// A page that has to be read first.
    Page(Located),
}

impl Listed {
    /// What and where it is.
    pub fn located(self) -> Located {
        let (Listed::Extent(located) | Listed::Page(located)) = self;
        located
    }

    /// The chunk that lies there; nothing for a hole and for a page.
    pub fn chunk(self) -> Option<ChunkId> {
        match self {
            Listed::Extent(located) => Some(located.extent.id).filter(|id| !id.is_hole()),
            Listed::Page(_) => None,
        }
    }
}

impl Run {
    fn len_bytes(&self) -> u64 {
        match self {
            Run::Known(manifest) => manifest.size_bytes(),
            Run::Page(page, _) => page.len_bytes,
        }
    }
}

impl Default for Outline {
    fn default() -> Self {
        Arc::new(Manifest::default()).into()
    }
}

impl From<Arc<Manifest>> for Outline {
    fn from(manifest: Arc<Manifest>) -> Self {
        let (size_bytes, listed) = (manifest.size_bytes(), manifest.extents().len());
        Self { parts: vec![Part { start: 0, run: Run::Known(manifest) }], size_bytes, listed }
    }
}

impl Outline {
    /// What `head` says by itself.
    ///
    /// # Errors
    /// `Corrupt` where its extents do not add up to its size, or it has more than [`DEPTH_MAX`] levels.
    pub fn new(head: &Head) -> Result<Self> {
        if head.depth > DEPTH_MAX {
            return Err(Error::corrupt(format!("manifest with {} levels", head.depth)));
        }
        manifest::sum_is(&head.extents, head.size_bytes)?;
        let mut outline = Self { parts: Vec::new(), size_bytes: head.size_bytes, listed: head.extents.len() };
        list(&head.extents, head.depth, 0, &mut outline.parts);
        Ok(outline)
    }

    /// Size of the file.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Up to `max` pages that have to be read next to know what is in `range`, each once.
    pub fn pages(&self, range: &Range<u64>, max: usize) -> Vec<ChunkId> {
        let mut pages = Vec::new();
        for part in &self.parts[self.index_at(range.start)..] {
            if part.start >= range.end || pages.len() == max {
                break;
            }
            if let Run::Page(page, _) = &part.run
                && !pages.contains(&page.id)
            {
                pages.push(page.id);
            }
        }
        pages
    }

    /// Puts what pages list in their place: those that overlap `range` and that `read` has.
    ///
    /// # Errors
    /// Those of `read`; `Corrupt` where a page does not add up to what its parent says, or over [`EXTENTS_MAX`] extents are
    /// listed. Then nothing changed.
    pub fn unfold(
        &mut self,
        range: &Range<u64>,
        read: impl FnMut(&ChunkId) -> Result<Option<Bytes>>,
    ) -> Result<()> {
        self.unfold_within(EXTENTS_MAX, range, read)
    }

    fn unfold_within(
        &mut self,
        max: usize,
        range: &Range<u64>,
        mut read: impl FnMut(&ChunkId) -> Result<Option<Bytes>>,
    ) -> Result<()> {
        let from = self.index_at(range.start);
        let behind = self.parts[from..].partition_point(|part| part.start < range.end);
        let (mut unfolded, mut listed) = (Vec::with_capacity(behind), self.listed);
        for part in &self.parts[from..from + behind] {
            let body = match &part.run {
                Run::Page(page, _) => read(&page.id)?,
                Run::Known(_) => None,
            };
            let (Run::Page(page, depth), Some(body)) = (&part.run, body) else {
                unfolded.push(part.clone());
                continue;
            };
            let mut below = Vec::new();
            manifest::decode(&body, &mut below)?;
            manifest::sum_is(&below, page.len_bytes)?;
            listed += below.len();
            if listed > max {
                return Err(Error::corrupt(format!("manifest with more than {max} extents")));
            }
            list(&below, depth - 1, part.start, &mut unfolded);
        }
        self.parts.splice(from..from + behind, unfolded);
        self.listed = listed;
        Ok(())
    }

    /// What lies from byte `offset` on; the first holds that byte.
    pub fn locate(&self, offset: u64) -> impl Iterator<Item = Listed> + '_ {
        self.parts[self.index_at(offset)..].iter().flat_map(move |part| {
            let start = part.start;
            let (known, page) = match &part.run {
                Run::Known(manifest) => (Some(manifest.locate(offset.saturating_sub(start))), None),
                Run::Page(page, _) => (None, Some(Listed::Page(Located { start, extent: *page }))),
            };
            let place =
                move |located: Located| Listed::Extent(Located { start: start + located.start, ..located });
            known.into_iter().flatten().map(place).chain(page)
        })
    }

    /// The manifest, where no page is left to be read.
    pub fn manifest(&self) -> Option<Arc<Manifest>> {
        if let [Part { run: Run::Known(manifest), .. }] = &self.parts[..] {
            return Some(manifest.clone());
        }
        if self.parts.iter().any(|part| matches!(part.run, Run::Page(..))) {
            return None;
        }
        let mut all = Manifest::default();
        all.reserve(self.listed);
        for part in &self.parts {
            let Run::Known(manifest) = &part.run else { return None };
            manifest.extents().iter().for_each(|extent| all.push(extent.id, extent.len_bytes));
        }
        Some(Arc::new(all))
    }

    /// The number of the part that holds byte `offset`; the number of parts where that is at or behind the end.
    fn index_at(&self, offset: u64) -> usize {
        self.parts.partition_point(|part| part.start + part.run.len_bytes() <= offset)
    }
}

/// Adds what a page or head lists that begins at `start` and has `depth` levels of pages below it.
fn list(extents: &[Extent], depth: u8, mut start: u64, into: &mut Vec<Part>) {
    if depth == 0 {
        let mut manifest = Manifest::default();
        manifest.reserve(extents.len());
        extents.iter().for_each(|extent| manifest.push(extent.id, extent.len_bytes));
        into.push(Part { start, run: Run::Known(Arc::new(manifest)) });
        return;
    }
    for page in extents {
        into.push(Part { start, run: Run::Page(*page, depth) });
        start += page.len_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::manifest::{HEAD_MAX, PAGE_EXTENTS, encode};
    use std::collections::HashMap;

    /// A file of so many chunks of 10 bytes, and its pages.
    fn file(chunks: u32) -> (Head, Manifest, HashMap<ChunkId, Bytes>) {
        let mut manifest = Manifest::default();
        (0..chunks).for_each(|i| manifest.push(ChunkId::of(&i.to_le_bytes()), 10));
        let mut pages = HashMap::new();
        let put = |id, body: &[u8]| {
            pages.insert(id, Bytes::copy_from_slice(body));
            Ok(())
        };
        let head = manifest.to_head(put).expect("few extents");
        (head, manifest, pages)
    }

    #[test]
    fn a_part_takes_a_page_of_each_level() {
        let (head, manifest, pages) = file(70_000);
        assert_eq!(head.depth, 2);
        let mut outline = Outline::new(&head).expect("adds up");
        let (range, mut read) = (500_005..500_006, 0);
        while let [page] = outline.pages(&range, 64)[..] {
            read += 1;
            outline.unfold(&range, |id| Ok((*id == page).then(|| pages[id].clone()))).expect("pages");
        }
        assert_eq!((read, outline.manifest()), (2, None));
        let found = outline.locate(500_005).next();
        assert_eq!(found, manifest.locate(500_005).next().map(Listed::Extent));
        assert!(matches!(outline.locate(0).next(), Some(Listed::Page(page)) if page.start == 0));
        assert_eq!(outline.locate(700_000).next(), None);
    }

    #[test]
    fn all_pages_give_the_manifest() {
        for chunks in [0, 1, 64, 65, 1025, 70_000] {
            let (head, manifest, pages) = file(chunks);
            assert!(head.extents.len() <= HEAD_MAX);
            let mut outline = Outline::new(&head).expect("adds up");
            let all = 0..u64::MAX;
            while !outline.pages(&all, 1).is_empty() {
                outline.unfold(&all, |id| Ok(Some(pages[id].clone()))).expect("pages");
            }
            let located: Vec<Listed> = outline.locate(0).collect();
            assert_eq!(located, manifest.locate(0).map(Listed::Extent).collect::<Vec<_>>());
            assert_eq!(outline.manifest().as_deref(), Some(&manifest));
        }
    }

    #[test]
    fn head_that_does_not_add_up_is_corrupt() {
        let (mut head, ..) = file(3);
        head.size_bytes += 1;
        assert_eq!(Outline::new(&head).expect_err("one byte too many").kind(), Kind::Corrupt);
        head.depth = DEPTH_MAX + 1;
        assert_eq!(Outline::new(&head).expect_err("too deep").kind(), Kind::Corrupt);
    }

    #[test]
    fn pages_that_are_not_there_are_left() {
        let (head, _, pages) = file(3000);
        let mut outline = Outline::new(&head).expect("adds up");
        let all = 0..u64::MAX;
        let [first, second, third] = outline.pages(&all, 64)[..] else { panic!("three pages") };
        outline.unfold(&all, |id| Ok((*id == second).then(|| pages[id].clone()))).expect("pages");
        assert_eq!(outline.pages(&all, 64), [first, third]);
        assert_eq!(outline.pages(&(10_240..20_480), 64), []);
    }

    #[test]
    fn page_that_does_not_add_up_changes_nothing() {
        let (head, _, pages) = file(3000);
        let mut outline = Outline::new(&head).expect("adds up");
        let all = 0..u64::MAX;
        let short = |id: &ChunkId| Ok(Some(pages[id].slice(40..)));
        assert_eq!(outline.unfold(&all, short).expect_err("too short").kind(), Kind::Corrupt);
        assert_eq!(outline.pages(&all, 64).len(), 3);
    }

    #[test]
    fn pages_that_repeat_one_another_end() {
        let page = |id: ChunkId, len_bytes| {
            let body = Bytes::from(encode(&[Extent { id, len_bytes }; PAGE_EXTENTS]));
            (ChunkId::of(&body), body)
        };
        let (leaf, leaf_body) = page(ChunkId([7; 32]), 1);
        let (inner, inner_body) = page(leaf, PAGE_EXTENTS as u64);
        let size_bytes = (PAGE_EXTENTS * PAGE_EXTENTS) as u64;
        let extents = vec![Extent { id: inner, len_bytes: size_bytes }];
        let head = Head { size_bytes, allocated_bytes: size_bytes, depth: 2, extents };
        let mut outline = Outline::new(&head).expect("adds up");
        let (all, mut read) = (0..u64::MAX, 0);
        let mut get = |id: &ChunkId| {
            read += 1;
            Ok(Some(if *id == leaf { leaf_body.clone() } else { inner_body.clone() }))
        };
        outline.unfold_within(4 * PAGE_EXTENTS, &all, &mut get).expect("one page");
        assert_eq!(outline.pages(&all, 64), [leaf], "asked for once");
        let error = outline.unfold_within(4 * PAGE_EXTENTS, &all, &mut get).expect_err("too many extents");
        assert_eq!((error.kind(), read), (Kind::Corrupt, 1 + 3));
    }
}
