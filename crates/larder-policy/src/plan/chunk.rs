//! The table of chunks that anybody wants, in one direction.

use super::class::Class;
use super::words::JobId;
use crate::Tick;
use larder_core::{ChunkId, NodeId};
use std::collections::HashMap;

/// An empty table of more slots gives its memory back; one of a million takes well over 100 MB.
const KEPT_SLOTS: usize = 4096;

/// Where a chunk is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Wanted by paused jobs only.
    Idle,
    /// In the queue of its class.
    Queued,
    /// Failed, and tried again at the tick.
    Waiting(Tick),
    /// Requested.
    InFlight,
}

/// A chunk that somebody wants.
pub(super) struct Chunk {
    pub(super) id: ChunkId,
    /// A file that holds it: that of the first who wanted it.
    pub(super) of: NodeId,
    pub(super) size_bytes: u32,
    pub(super) place: Place,
    /// The highest class of the jobs that want it and are not paused; `None` exactly while idle.
    pub(super) class: Option<Class>,
    pub(super) failures: u32,
    pub(super) wrong_bodies: u32,
    pub(super) wanted_by: Wants,
}

/// The jobs that want a chunk. Nearly always one, which takes no memory of its own.
pub(super) enum Wants {
    One(JobId),
    Many(Vec<JobId>),
}

impl Wants {
    pub(super) fn jobs(&self) -> &[JobId] {
        match self {
            Wants::One(job) => std::slice::from_ref(job),
            Wants::Many(jobs) => jobs,
        }
    }

    fn add(&mut self, job: JobId) {
        match self {
            Wants::One(first) => *self = Wants::Many(vec![*first, job]),
            Wants::Many(jobs) => jobs.push(job),
        }
    }

    fn remove(&mut self, job: JobId) {
        let mut rest: Vec<JobId> = self.jobs().iter().copied().filter(|other| *other != job).collect();
        *self = match rest[..] {
            [one] => Wants::One(one),
            _ => {
                rest.shrink_to_fit();
                Wants::Many(rest)
            }
        };
    }
}

/// All chunks of one direction, each in a slot that stays the same until it leaves.
pub(super) struct Chunks {
    slots: Vec<Option<Chunk>>,
    free: Vec<u32>,
    by_id: HashMap<ChunkId, u32>,
}

impl Chunks {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), by_id: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The chunk in `slot`.
    pub(super) fn at(&self, slot: u32) -> &Chunk {
        self.slots[slot as usize].as_ref().expect("only slots that are taken stand in queues and flights")
    }

    /// The chunk in `slot`, to be changed.
    pub(super) fn at_mut(&mut self, slot: u32) -> &mut Chunk {
        self.slots[slot as usize].as_mut().expect("only slots that are taken stand in queues and flights")
    }

    /// Says whether the chunk in `slot` is (still) one that `job` wants: jobs keep slots of chunks that left.
    pub(super) fn is_wanted(&self, slot: u32, job: JobId) -> bool {
        let chunk = self.slots.get(slot as usize).and_then(Option::as_ref);
        chunk.is_some_and(|chunk| chunk.wanted_by.jobs().contains(&job))
    }

    /// Adds the wish of `job`; its slot, or `None` where the job wants it already.
    pub(super) fn want(&mut self, id: ChunkId, size_bytes: u32, of: NodeId, job: JobId) -> Option<u32> {
        if let Some(slot) = self.by_id.get(&id).copied() {
            let wants = &mut self.at_mut(slot).wanted_by;
            // Wishes come one job after the other, so this one would be the last.
            if wants.jobs().last() == Some(&job) {
                return None;
            }
            wants.add(job);
            return Some(slot);
        }
        let chunk = Chunk {
            id,
            of,
            size_bytes,
            place: Place::Idle,
            class: None,
            failures: 0,
            wrong_bodies: 0,
            wanted_by: Wants::One(job),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("CHUNKS_MAX is below 2^32")
        });
        self.slots[slot as usize] = Some(chunk);
        self.by_id.insert(id, slot);
        Some(slot)
    }

    /// Takes the wish of `job` back and says whether nobody wants the chunk now.
    pub(super) fn unwant(&mut self, slot: u32, job: JobId) -> bool {
        let wants = &mut self.at_mut(slot).wanted_by;
        wants.remove(job);
        wants.jobs().is_empty()
    }

    /// Takes the chunk out; its slot will be given to another.
    pub(super) fn remove(&mut self, slot: u32) -> Chunk {
        let chunk = self.slots[slot as usize].take().expect("a slot is emptied once");
        self.by_id.remove(&chunk.id);
        self.free.push(slot);
        if self.by_id.is_empty() && self.slots.len() > KEPT_SLOTS {
            *self = Self::new();
        }
        chunk
    }
}
