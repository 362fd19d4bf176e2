//! The throttle: who may move the next piece, and when.
//!
//! A pure state machine. A stream asks for a piece and gets a [`Ticket`]; the caller calls [`Throttle::poll`] until
//! it says [`Step::Wait`] or [`Step::Idle`], and again at that tick or after any other call.
//!
//! Limits form a tree: a transfer below its device, that below its user, that below a direction, that below everything. A
//! piece is granted where every level from the stream's own to the root has it. Requests at one level are served first come,
//! first served, one piece each, which shares a rate evenly among the streams; levels share by bytes, however many
//! streams each has.

use crate::{Rate, Tick, bucket::Bucket};
use std::collections::{HashMap, VecDeque};

/// The most bytes granted at once where nothing limits.
pub const FREE_PIECE_BYTES: u64 = 1 << 20;
/// Grants to one class while another waits, before the other gets one: the lower class never starves.
const URGENT_IN_A_ROW_MAX: u32 = 16;

/// How urgent a stream is; a class is served before those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// An application waits for these bytes.
    Reader = 0,
    /// Everything else.
    Bulk = 1,
}

/// A place in the tree of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level(u64);

impl Level {
    /// What everything else is below.
    pub const ROOT: Level = Level(0);
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The holder of the ticket may move so many bytes.
    Grant(Ticket, u64),
    /// Nothing before this tick, unless the rate changes or a ticket comes or goes.
    Wait(Tick),
    /// Nobody waits.
    Idle,
}

/// Limits, shared by the streams that ask for their pieces.
pub struct Throttle {
    levels: HashMap<Level, Node>,
    /// Levels at which somebody waits.
    busy: Vec<Level>,
    wanted: HashMap<Ticket, (Level, u64)>,
    next_level: u64,
    next_ticket: u64,
    urgent_in_a_row: u32,
    /// Where the level that was served last stood among the others.
    served_bytes: u64,
}

struct Node {
    parent: Option<Level>,
    limit: Option<(Rate, Bucket)>,
    queues: [VecDeque<Ticket>; 2],
    /// Requests here and below.
    waiting: usize,
    last_grant: Tick,
    /// Bytes granted here, counted on from where the others stood when it came.
    served_bytes: u64,
}

impl Node {
    fn new(parent: Option<Level>, limit: Option<Rate>, now: Tick) -> Self {
        let limit = limit.map(|rate| (rate, Bucket::new(rate, now)));
        Self { parent, limit, queues: Default::default(), waiting: 0, last_grant: now, served_bytes: 0 }
    }
}

impl Throttle {
    /// Makes a throttle of one level; `None` limits nothing.
    pub fn new(limit: Option<Rate>, now: Tick) -> Self {
        Self {
            levels: HashMap::from([(Level::ROOT, Node::new(None, limit, now))]),
            busy: Vec::new(),
            wanted: HashMap::new(),
            next_level: 1,
            next_ticket: 0,
            urgent_in_a_row: 0,
            served_bytes: 0,
        }
    }

    /// Adds a level below `parent`.
    pub fn add(&mut self, parent: Level, limit: Option<Rate>, now: Tick) -> Level {
        let level = Level(self.next_level);
        self.next_level += 1;
        self.levels.insert(level, Node::new(Some(parent), limit, now));
        level
    }

    /// Removes a level below which there is none, and the requests at it.
    pub fn remove(&mut self, level: Level) {
        let Some(node) = self.levels.get(&level) else { return };
        let queued: Vec<Ticket> = node.queues.iter().flatten().copied().collect();
        queued.into_iter().for_each(|ticket| self.cancel(ticket));
        self.levels.remove(&level);
    }

    /// The rate in force at a level.
    pub fn limit(&self, level: Level) -> Option<Rate> {
        self.levels.get(&level)?.limit.as_ref().map(|(rate, _)| *rate)
    }

    /// Changes a level's rate from `now` on. The new bucket starts empty, so a change never makes a burst.
    pub fn set_limit(&mut self, level: Level, limit: Option<Rate>, now: Tick) {
        if self.limit(level) != limit
            && let Some(node) = self.levels.get_mut(&level)
        {
            node.limit = limit.map(|rate| (rate, Bucket::new(rate, now)));
        }
    }

    /// Queues a stream at `level` that wants to move `bytes`; it will be granted a piece of them at most.
    pub fn request(&mut self, level: Level, class: Class, bytes: u64, now: Tick) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.wanted.insert(ticket, (level, bytes.max(1)));
        let mut at = Some(level);
        while let Some(node) = at.and_then(|at| self.levels.get_mut(&at)) {
            if let (0, Some((rate, bucket))) = (node.waiting, &node.limit)
                && now.since(node.last_grant) >= bucket.fill_time(*rate)
            {
                bucket.settle(now);
            }
            node.waiting += 1;
            at = node.parent;
        }
        if let Some(node) = self.levels.get_mut(&level) {
            if node.queues.iter().all(VecDeque::is_empty) {
                self.busy.push(level);
            }
            node.queues[class as usize].push_back(ticket);
        }
        ticket
    }

    /// Takes a request back.
    pub fn cancel(&mut self, ticket: Ticket) {
        if let Some((level, _)) = self.wanted.remove(&ticket) {
            self.leave(level, |queue| queue.retain(|queued| *queued != ticket));
        }
    }

    /// Says what to do at `now`.
    pub fn poll(&mut self, now: Tick) -> Step {
        if self.wanted.is_empty() {
            return Step::Idle;
        }
        let is_turn_of_bulk = self.urgent_in_a_row >= URGENT_IN_A_ROW_MAX;
        let classes = [Class::Reader, Class::Bulk];
        // Whom a level made wait is not overtaken there by others who want less.
        let (mut empty, mut earliest): (Vec<Level>, Option<Tick>) = (Vec::new(), None);
        for class in if is_turn_of_bulk { [classes[1], classes[0]] } else { classes } {
            let has_some = |level: &&Level| !self.levels[*level].queues[class as usize].is_empty();
            let mut levels: Vec<Level> = self.busy.iter().filter(has_some).copied().collect();
            levels.sort_by_key(|level| self.levels[level].served_bytes);
            for level in levels {
                match self.reserve(level, class, &mut empty, now) {
                    Ok(piece_bytes) => return self.grant(level, class, piece_bytes, now),
                    Err(at) => earliest = earliest.into_iter().chain(at).min(),
                }
            }
        }
        earliest.map_or(Step::Idle, Step::Wait)
    }

    /// Sets the next piece of a level aside in every bucket above it; else says when to look again, where one of them has
    /// not said so already.
    fn reserve(
        &mut self,
        level: Level,
        class: Class,
        empty: &mut Vec<Level>,
        now: Tick,
    ) -> Result<u64, Option<Tick>> {
        let (_, wanted_bytes) = self.wanted[&self.levels[&level].queues[class as usize][0]];
        let mut piece_bytes = wanted_bytes.min(FREE_PIECE_BYTES);
        let mut path = Vec::with_capacity(4);
        let mut at = Some(level);
        while let Some(node) = at.and_then(|at| self.levels.get(&at)) {
            if let (Some((_, bucket)), Some(level)) = (&node.limit, at) {
                piece_bytes = piece_bytes.min(bucket.piece_bytes());
                path.push(level);
            }
            at = node.parent;
        }
        if path.iter().any(|level| empty.contains(level)) {
            return Err(None);
        }
        for level in path {
            let limit = self.levels.get_mut(&level).and_then(|node| node.limit.as_mut());
            if let Some(at) = limit.and_then(|(_, bucket)| bucket.reserve(piece_bytes, now).err()) {
                empty.push(level);
                return Err(Some(at));
            }
        }
        Ok(piece_bytes)
    }

    fn grant(&mut self, level: Level, class: Class, piece_bytes: u64, now: Tick) -> Step {
        let mut at = Some(level);
        while let Some(node) = at.and_then(|at| self.levels.get_mut(&at)) {
            if let Some((_, bucket)) = &mut node.limit {
                bucket.spend(piece_bytes);
            }
            node.last_grant = now;
            at = node.parent;
        }
        let ticket = self.levels[&level].queues[class as usize][0];
        self.leave(level, |queue| queue.retain(|queued| *queued != ticket));
        self.wanted.remove(&ticket);
        self.urgent_in_a_row = if class == Class::Reader { self.urgent_in_a_row + 1 } else { 0 };
        if let Some(node) = self.levels.get_mut(&level) {
            // Who was away, or held up elsewhere, saves nothing up.
            self.served_bytes = self.served_bytes.max(node.served_bytes);
            node.served_bytes = self.served_bytes + piece_bytes;
        }
        Step::Grant(ticket, piece_bytes)
    }

    /// One request less at `level`; `take` removes it from its queue.
    fn leave(&mut self, level: Level, take: impl Fn(&mut VecDeque<Ticket>)) {
        if let Some(node) = self.levels.get_mut(&level) {
            node.queues.iter_mut().for_each(take);
            if node.queues.iter().all(VecDeque::is_empty) {
                self.busy.retain(|busy| *busy != level);
            }
        }
        let mut at = Some(level);
        while let Some(node) = at.and_then(|at| self.levels.get_mut(&at)) {
            node.waiting -= 1;
            at = node.parent;
        }
    }
}
