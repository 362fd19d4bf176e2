//! Changes made here: numbers for new nodes, and the queue of what the server has not heard of.

use super::mirror::Mirror;
use super::{News, Pushed, RANGE_BITS, Refused};
use crate::catalog::{Commit, Durability, Entry, Op, QueueState, Queued, Replace, Table, Unlink};
use larder_core::{Error, Kind, NodeId, Result};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Key of the range of ids in [`Table::Pushing`].
const RANGE: &[u8] = b"range";
/// The bits of an id below the block that one opening of the mirror takes: 268 million new nodes, and 4096 openings of a
/// range. What an opening did not use is gone: an id is never given twice.
const BLOCK_BITS: u32 = 28;
/// Blocks of a range.
const BLOCKS: usize = 1 << (RANGE_BITS - BLOCK_BITS);

/// A range of ids, and which blocks of it were taken.
///
/// | offset | bytes | what of the record |
/// |---|---|---|
/// | 0 | 4 | the range, big endian |
/// | 4 | 512 | a bit for each block, the lowest of the first byte for the first |
struct Taken {
    range: u32,
    blocks: [u8; BLOCKS / 8],
}

impl Taken {
    fn new(range: u32) -> Self {
        Self { range, blocks: [0; BLOCKS / 8] }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (range, blocks) = bytes.split_first_chunk::<4>()?;
        Some(Self { range: u32::from_be_bytes(*range), blocks: blocks.try_into().ok()? })
    }

    fn encode(&self) -> Vec<u8> {
        [&self.range.to_be_bytes()[..], &self.blocks].concat()
    }

    /// Takes the block that is free next to a random one: a device that was brought back from a backup does not know which
    /// it took since, and the next in order would be one of those.
    fn take(&mut self, random: u64) -> Option<Range<u64>> {
        let is_free = |block: &usize| self.blocks[block / 8] & (1 << (block % 8)) == 0;
        let from = (random % BLOCKS as u64) as usize;
        let block = (from..BLOCKS).chain(0..from).find(is_free)?;
        self.blocks[block / 8] |= 1 << (block % 8);
        let first = (u64::from(self.range) << RANGE_BITS) | ((block as u64) << BLOCK_BITS);
        Some(first..first + (1 << BLOCK_BITS))
    }
}

/// Ids for nodes that are made here.
pub(super) struct Ids {
    /// Those that come next.
    next: Mutex<Range<u64>>,
    /// All that this opening may give.
    all: Mutex<Vec<Range<u64>>>,
    /// They are of a range that was never opened before.
    is_fresh: AtomicBool,
}

impl Ids {
    fn new(ids: Range<u64>, is_fresh: bool) -> Self {
        let all = Mutex::new(vec![ids.clone()]);
        Self { next: Mutex::new(ids), all, is_fresh: AtomicBool::new(is_fresh) }
    }

    fn next(&self) -> NodeId {
        let mut next = self.next.lock();
        let id = NodeId(next.start);
        next.start += 1;
        id
    }

    fn has(&self, id: NodeId) -> bool {
        self.all.lock().iter().any(|ids| ids.contains(&id.0))
    }

    fn renew(&self, ids: Range<u64>) {
        self.all.lock().push(ids.clone());
        *self.next.lock() = ids;
        self.is_fresh.store(true, Ordering::Relaxed);
    }
}

/// What became of a push.
#[derive(Debug)]
pub struct Answer {
    /// So many entries are carried out.
    pub done: usize,
    /// Why the next one is not, and what is there now of everything that was touched.
    pub refused: Option<(Refused, Vec<News>)>,
}

impl Mirror {
    /// Takes a block of ids; nothing where the device may not write.
    pub(super) fn take_ids(&self) -> Result<Option<Ids>> {
        let record = self.kept.record(Table::Pushing, RANGE)?;
        if let Some(taken) = record.as_deref().map(Taken::decode) {
            let mut taken = taken.ok_or_else(|| Error::corrupt("record of the range of ids"))?;
            if let Some(ids) = self.take_block(&mut taken, self.run)? {
                return Ok(Some(Ids::new(ids, false)));
            }
        }
        match self.new_block() {
            Ok(ids) => Ok(Some(Ids::new(ids, true))),
            Err(error) if error.kind() == Kind::Denied => Ok(None),
            Err(error) if error.kind() == Kind::Unavailable => {
                tracing::warn!(%error, "without its server, this mount is to read only");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// From now on, what is made here gets ids of a range that nobody had before. Should this device's directory have been
    /// brought back from a backup, its own range has been used further than it knows.
    ///
    /// # Errors
    /// Those of the server.
    pub fn renew_ids(&self) -> Result<()> {
        if let Some(ids) = self.ids().filter(|ids| !ids.is_fresh.load(Ordering::Relaxed)) {
            ids.renew(self.new_block()?);
        }
        Ok(())
    }

    /// A block of a range that nobody had before.
    fn new_block(&self) -> Result<Range<u64>> {
        let mut taken = Taken::new(self.origin.range()?);
        // Should a server that was brought back give a range twice, two devices hardly meet in it.
        let ids = self.take_block(&mut taken, self.run)?;
        ids.ok_or_else(|| Error::corrupt("a new range of ids has no block"))
    }

    fn take_block(&self, taken: &mut Taken, random: u64) -> Result<Option<Range<u64>>> {
        let Some(ids) = taken.take(random) else { return Ok(None) };
        let value = Some(taken.encode());
        self.note_here(vec![Op::SetRecord { table: Table::Pushing, key: RANGE.to_vec(), value }], true)?;
        Ok(Some(ids))
    }

    /// Says whether changes can be made here.
    pub fn is_writable(&self) -> bool {
        self.ids().is_some()
    }

    pub(super) fn id_for_new(&self) -> NodeId {
        self.ids().map_or(NodeId(0), Ids::next)
    }

    /// Has `ring` told that something was queued, on the thread of whoever did it.
    pub fn ring(&self, ring: Box<dyn Fn() + Send + Sync>) {
        self.rung.get_or_init(|| ring);
    }

    /// Learns what `ops` have to know: what is in a folder that nobody has looked into is not known here.
    pub(super) fn learn(&self, ops: &[Op]) -> Result<()> {
        for op in ops {
            match op {
                Op::Unlink { parent, name, what: Unlink::EmptyFolder } => self.look_into((*parent, name))?,
                Op::Rename { to, replace: Replace::Posix, .. } => self.look_into((to.0, &to.1))?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks `ops` and makes them ops that are carried out here and queued.
    pub(super) fn here(&self, ops: Vec<Op>) -> Result<Vec<Op>> {
        let Some(ids) = self.ids() else {
            return Err(Error::io("this mount", std::io::Error::from(rustix::io::Errno::ROFS)));
        };
        if ops.iter().any(|op| matches!(op, Op::Create { node, .. } if !ids.has(node.id))) {
            return Err(Error::new(Kind::NoSpace, "this mount has made too many files: mount it again"));
        }
        Ok(ops.into_iter().map(|op| Op::Here(Box::new(op))).collect())
    }

    /// Takes up to `limit` entries of the queue, those from `number` on, to tell the server of: from now on no change joins
    /// them.
    ///
    /// # Errors
    /// Those of the index.
    pub fn take(&self, number: u64, limit: usize) -> Result<Vec<Queued>> {
        let entries = self.kept.queued(number, limit)?;
        let Some(last) = entries.last() else { return Ok(entries) };
        let before = last.number + 1;
        if self.kept.queue_state()?.sent < before {
            // Were this lost with the power, a later change might join what the server has carried out.
            self.note_here(vec![Op::Sent { before }], true)?;
        }
        // Until then they may have changed.
        let entries = self.kept.queued(number, limit)?;
        Ok(entries.into_iter().filter(|entry| entry.number < before).collect())
    }

    /// Returns how long the queue is.
    ///
    /// # Errors
    /// Those of the index.
    pub fn queue_len(&self) -> Result<QueueState> {
        self.kept.queue_state()
    }

    /// Tells the server of entries from [`Mirror::take`], of which none has to wait for one before it that is left out
    /// ([`Waiting`](crate::catalog::Waiting)), and takes those off that it carried out. `commit` commits what it says of them,
    /// as for [`Mirror::follow`].
    ///
    /// # Errors
    /// Those of the server, after which nobody knows how many were carried out: telling it again does no harm; those of
    /// `commit`.
    pub fn push(&self, entries: &[Queued], commit: impl FnOnce(Vec<Op>) -> Result<()>) -> Result<Answer> {
        if entries.is_empty() {
            return Ok(Answer { done: 0, refused: None });
        }
        // News that was asked for before would be older than the answer.
        let _turn = self.exchange.lock();
        let Pushed { done, refused, news } =
            self.origin.push(&entries.iter().map(entry).collect::<Vec<_>>())?;
        let _keeping = self.keeping.lock();
        let mut ops = Vec::with_capacity(news.len() + 1);
        let numbers: Vec<u64> = entries.iter().take(done).map(|entry| entry.number).collect();
        if !numbers.is_empty() {
            ops.push(Op::Answered { numbers });
        }
        ops.extend(news.iter().cloned().map(Op::from));
        self.asking.heard(&ops);
        commit(ops)?;
        Ok(Answer { done, refused: refused.map(|why| (why, news)) })
    }

    /// Has an entry of the queue say something else, by what [`Mirror::resolve`] said, and believes what the server told
    /// meanwhile of what it does not touch any more.
    ///
    /// # Errors
    /// Those of [`Op::Restate`] and of `commit`.
    pub fn restate(
        &self,
        mut ops: Vec<Op>,
        news: Vec<News>,
        commit: impl FnOnce(Vec<Op>) -> Result<()>,
    ) -> Result<()> {
        let _turn = self.exchange.lock();
        let _keeping = self.keeping.lock();
        ops.extend(news.into_iter().map(Op::from));
        self.asking.heard(&ops);
        commit(ops)
    }

    pub(super) fn note_here(&self, ops: Vec<Op>, is_power: bool) -> Result<()> {
        let durability = if is_power { Durability::Power } else { Durability::Process };
        let (at, expect) = ((self.now)(), Vec::new());
        self.kept.commit(Commit { at, op_id: None, expect, ops, durability }).map(drop)
    }
}

impl From<News> for Op {
    fn from(news: News) -> Op {
        match news {
            News::Name { parent, name, node } => Op::AdoptName { parent, name, node },
            News::Node(node) => Op::Adopt { node, is_new: false },
            News::Gone(node) => Op::AdoptGone { node },
        }
    }
}

fn entry(queued: &Queued) -> Entry {
    Entry { op_id: queued.op_id, steps: queued.steps.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_is_taken_twice() {
        let mut taken = Taken::new(3);
        let mut seen = std::collections::HashSet::new();
        for opening in 0..BLOCKS as u64 {
            let ids = taken.take(opening.wrapping_mul(0x9e37_79b9_7f4a_7c15)).expect("a free block");
            assert!(
                seen.insert(ids.start)
                    && ids.start >> RANGE_BITS == 3
                    && ids.end - ids.start == 1 << BLOCK_BITS
            );
            taken = Taken::decode(&taken.encode()).expect("a record");
        }
        assert_eq!(taken.take(7), None);
        assert!(Taken::decode(b"short").is_none());
    }
}
