//! A layer of changes over a file: which ranges have new bytes, and where those are.

use larder_core::ChunkId;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Where the bytes of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Nowhere: they are zeros.
    Hole,
    /// In the staging area, at the same offset as in the file.
    Staged,
    /// In a chunk of `whole` bytes, behind its first `skip`.
    Chunk { id: ChunkId, skip: u32, whole: u32 },
}

impl Source {
    /// What a range with this source has behind its first `by` bytes.
    fn skipped(self, by: u64) -> Source {
        match self {
            Source::Chunk { id, skip, whole } => {
                Source::Chunk { id, skip: skip.saturating_add(by as u32), whole }
            }
            other => other,
        }
    }

    /// Says whether `next`, `len` bytes further on, goes on where this ends.
    fn goes_on(self, len: u64, next: Source) -> bool {
        match (self, next) {
            (Source::Hole, Source::Hole) | (Source::Staged, Source::Staged) => true,
            (Source::Chunk { .. }, Source::Chunk { .. }) => self.skipped(len) == next,
            _ => false,
        }
    }
}

/// A range of the file, never empty, and where its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Offset in the file.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
    /// Where its bytes are.
    pub source: Source,
}

impl Piece {
    pub fn end(&self) -> u64 {
        self.at + self.len
    }

    /// The part from `from` to `to`, both within it.
    pub fn part(&self, from: u64, to: u64) -> Piece {
        Piece { at: from, len: to - from, source: self.source.skipped(from - self.at) }
    }

    /// The chunk that it is a part of.
    pub fn chunk(&self) -> Option<ChunkId> {
        match self.source {
            Source::Chunk { id, .. } => Some(id),
            Source::Hole | Source::Staged => None,
        }
    }

    /// Says whether it is all of a chunk, so that a manifest can name it.
    pub fn is_whole_chunk(&self) -> bool {
        matches!(self.source, Source::Chunk { skip: 0, whole, .. } if u64::from(whole) == self.len)
    }
}

/// Changed ranges, none overlapping another.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    runs: BTreeMap<u64, (u64, Source)>,
}

impl Layer {
    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes of staged ranges.
    pub fn staged_bytes(&self) -> u64 {
        self.runs.values().filter(|(_, source)| *source == Source::Staged).map(|(len, _)| len).sum()
    }

    /// Forgets what lies from `from` to `to`.
    pub fn remove(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let before = self.runs.range(..from).next_back().map(|(at, run)| (*at, *run));
        if let Some((at, (len, source))) = before
            && at + len > from
        {
            self.runs.insert(at, (from - at, source));
            self.keep_end(Piece { at, len, source }, to);
        }
        while let Some((&at, &(len, source))) = self.runs.range(from..to).next() {
            self.runs.remove(&at);
            self.keep_end(Piece { at, len, source }, to);
        }
    }

    fn keep_end(&mut self, run: Piece, from: u64) {
        if run.end() > from {
            let rest = run.part(from, run.end());
            self.runs.insert(rest.at, (rest.len, rest.source));
        }
    }

    /// Puts `piece` over whatever is there, joined with what goes on at its ends.
    pub fn insert(&mut self, mut piece: Piece) {
        if let Some((at, (len, source))) = self.runs.range(..=piece.at).next_back()
            && *source == piece.source
            && !matches!(source, Source::Chunk { .. })
            && at + len >= piece.end()
        {
            return;
        }
        self.remove(piece.at, piece.end());
        if let Some((&at, &(len, source))) = self.runs.range(..piece.at).next_back()
            && at + len == piece.at
            && source.goes_on(len, piece.source)
        {
            piece = Piece { at, len: len + piece.len, source };
        }
        if let Some(&(len, source)) = self.runs.get(&piece.end())
            && piece.source.goes_on(piece.len, source)
        {
            self.runs.remove(&piece.end());
            piece.len += len;
        }
        self.runs.insert(piece.at, (piece.len, piece.source));
    }

    /// Puts everything of `below` where this layer has nothing.
    pub fn underlay(&mut self, below: &Layer) {
        for (&at, &(len, source)) in &below.runs {
            let run = Piece { at, len, source };
            let mut gaps = Vec::new();
            let _ = self.walk(run.at, run.end(), &mut |from, to, source| {
                if source.is_none() {
                    gaps.push((from, to));
                }
                ControlFlow::Continue(())
            });
            gaps.into_iter().for_each(|(from, to)| self.insert(run.part(from, to)));
        }
    }

    /// Calls `visit` with every range of this layer, and every gap, from `from` to `to` in order.
    pub fn walk(
        &self,
        from: u64,
        to: u64,
        visit: &mut dyn FnMut(u64, u64, Option<Source>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut at = from;
        let first = self.runs.range(..=from).next_back().filter(|(at, (len, _))| **at + len > from);
        let start = first.map_or(from, |(at, _)| *at);
        for (&run_at, &(len, source)) in self.runs.range(start..to.max(start)) {
            let run = Piece { at: run_at, len, source };
            let (run_from, run_to) = (run.at.max(from), run.end().min(to));
            if run_from > at {
                visit(at, run_from, None)?;
            }
            visit(run_from, run_to, Some(run.part(run_from, run_to).source))?;
            at = run_to;
        }
        if at < to { visit(at, to, None) } else { ControlFlow::Continue(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(layer: &Layer, to: u64) -> Vec<(u64, u64, Option<Source>)> {
        let mut all = Vec::new();
        let _ = layer.walk(0, to, &mut |from, to, source| {
            all.push((from, to, source));
            ControlFlow::Continue(())
        });
        all
    }

    fn chunk(skip: u32) -> Source {
        Source::Chunk { id: ChunkId([1; 32]), skip, whole: 100 }
    }

    #[test]
    fn neighbours_join_and_overwriting_splits() {
        let mut layer = Layer::default();
        layer.insert(Piece { at: 10, len: 10, source: Source::Staged });
        layer.insert(Piece { at: 20, len: 10, source: Source::Staged });
        assert_eq!(layer.len(), 1);
        layer.insert(Piece { at: 15, len: 5, source: Source::Hole });
        assert_eq!(
            runs(&layer, 40),
            [
                (0, 10, None),
                (10, 15, Some(Source::Staged)),
                (15, 20, Some(Source::Hole)),
                (20, 30, Some(Source::Staged)),
                (30, 40, None)
            ]
        );
    }

    #[test]
    fn parts_of_a_chunk_become_whole_again() {
        let mut layer = Layer::default();
        layer.insert(Piece { at: 50, len: 50, source: chunk(50) });
        layer.insert(Piece { at: 0, len: 50, source: chunk(0) });
        assert_eq!(runs(&layer, 100), [(0, 100, Some(chunk(0)))]);
        layer.remove(20, 30);
        assert_eq!(runs(&layer, 100), [(0, 20, Some(chunk(0))), (20, 30, None), (30, 100, Some(chunk(30)))]);
    }

    #[test]
    fn an_older_layer_shows_in_gaps_only() {
        let mut new = Layer::default();
        new.insert(Piece { at: 10, len: 10, source: Source::Hole });
        let mut old = Layer::default();
        old.insert(Piece { at: 0, len: 30, source: Source::Staged });
        new.underlay(&old);
        let expected =
            [(0, 10, Some(Source::Staged)), (10, 20, Some(Source::Hole)), (20, 30, Some(Source::Staged))];
        assert_eq!(runs(&new, 30), expected);
    }
}
