//! One direction: which chunks wait, which are in flight, and whether another may start.

use super::chunk::{Chunk, Chunks, Place};
use super::class::Class;
use super::queue::Queues;
use super::trouble::Trouble;
use super::window::{IN_FLIGHT_MAX, Window};
use super::words::{Action, JobId, Request, RequestId};
use crate::{Direction, Tick, retry};
use larder_core::{ChunkId, NodeId};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Who may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Everybody.
    Open,
    /// Paused, but for Readers.
    Readers,
    /// Nobody: paused, or without a server.
    Shut,
}

impl Gate {
    fn lets(self, class: Class) -> bool {
        match self {
            Gate::Open => true,
            Gate::Readers => class == Class::READER,
            Gate::Shut => false,
        }
    }
}

/// A request that was started.
pub(super) struct Flight {
    pub(super) request: RequestId,
    pub(super) slot: u32,
    pub(super) moved_bytes: u32,
    /// The class that the caller knows of.
    told: Class,
    /// The request whose place it shares; those that share one stand behind one another.
    with: RequestId,
}

/// A call that was begun, and takes more chunks until anything else happens.
struct Filling {
    with: RequestId,
    class: Class,
    of: NodeId,
    chunks: usize,
}

/// The state of one direction.
pub(super) struct Lane {
    direction: Direction,
    pub(super) chunks: Chunks,
    queues: Queues,
    /// Chunks that failed, by the tick of their next try.
    waits: BTreeSet<(Tick, u32)>,
    /// In at most [`IN_FLIGHT_MAX`] places.
    pub(super) flights: Vec<Flight>,
    filling: Option<Filling>,
    window: Window,
    pub(super) trouble: Trouble,
    gate: Gate,
}

impl Lane {
    pub(super) fn new(direction: Direction) -> Self {
        Self {
            direction,
            chunks: Chunks::new(),
            queues: Queues::new(),
            waits: BTreeSet::new(),
            flights: Vec::new(),
            filling: None,
            window: Window::new(),
            trouble: Trouble::new(),
            gate: Gate::Open,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waits.len()
    }

    /// Adds the wish of `job`, served as `class`; the chunk's slot, or `None` where the job wants it already.
    pub(super) fn want(
        &mut self,
        (id, size_bytes): (ChunkId, u32),
        (job, of): (JobId, NodeId),
        class: Option<Class>,
        now: Tick,
        out: &mut VecDeque<Action>,
    ) -> Option<u32> {
        let slot = self.chunks.want(id, size_bytes, of, job)?;
        let others = self.chunks.at(slot).class;
        self.reclass(slot, [class, others].into_iter().flatten().min(), now, out);
        Some(slot)
    }

    /// Moves a chunk into another class; `None` sets it aside.
    pub(super) fn reclass(&mut self, slot: u32, class: Option<Class>, now: Tick, out: &mut VecDeque<Action>) {
        let old = std::mem::replace(&mut self.chunks.at_mut(slot).class, class);
        if old == class {
            return;
        }
        match (self.chunks.at(slot).place, class) {
            (Place::Idle, _) => self.queue(slot, Queues::push_back),
            (Place::Queued, _) => {
                self.queues.unlink(old.expect("who is queued has a class"), slot);
                self.queue(slot, Queues::push_back);
            }
            (Place::Waiting(until), None) => {
                self.waits.remove(&(until, slot));
                self.chunks.at_mut(slot).place = Place::Idle;
            }
            (Place::Waiting(until), Some(class)) if class.is_urgent() => {
                self.waits.remove(&(until, slot));
                self.wait(slot, until.min(now.after(retry::URGENT_CEILING)));
            }
            (Place::Waiting(_), Some(_)) => {}
            // Should all places come to be bulk work by losing their readers, the next reader would have none.
            (Place::InFlight, Some(class))
                if self.gate.lets(class) && (class.is_urgent() || self.bulk_in_flight() < IN_FLIGHT_MAX) => {}
            (Place::InFlight, Some(class)) if self.gate.lets(class) => self.abandon_place_of(slot, out),
            (Place::InFlight, _) => self.abandon(slot, out),
        }
    }

    /// Nothing more goes with the call that was begun last.
    pub(super) fn close(&mut self) {
        self.filling = None;
    }

    /// Calls in flight.
    pub(super) fn places(&self) -> usize {
        self.flights.chunk_by(|a, b| a.with == b.with).count()
    }

    /// Changes who may start, and abandons what may not be in flight any more.
    pub(super) fn set_gate(&mut self, gate: Gate, out: &mut VecDeque<Action>) {
        self.gate = gate;
        let class = |slot| self.chunks.at(slot).class.expect("what is in flight has a class");
        let stopped: Vec<u32> =
            self.flights.iter().map(|flight| flight.slot).filter(|slot| !gate.lets(class(*slot))).collect();
        // The one that started last first, so that they stand in the queue as they stood.
        stopped.into_iter().rev().for_each(|slot| self.abandon(slot, out));
    }

    /// Takes a chunk out, wherever it is.
    pub(super) fn remove(&mut self, slot: u32, out: &mut VecDeque<Action>) -> Chunk {
        let chunk = self.chunks.at(slot);
        match chunk.place {
            Place::Idle => {}
            Place::Queued => self.queues.unlink(chunk.class.expect("who is queued has a class"), slot),
            Place::Waiting(until) => _ = self.waits.remove(&(until, slot)),
            Place::InFlight => {
                if let Some(flight) = self.land(|flight| flight.slot == slot) {
                    out.push_back(Action::Abandon(flight.request));
                }
            }
        }
        self.chunks.remove(slot)
    }

    /// The chunk of `request` is there: it leaves, with the bytes that were not told of as moved.
    pub(super) fn arrived(&mut self, request: RequestId, now: Tick) -> Option<(Chunk, u32)> {
        let in_flight = self.places();
        let flight = self.land(|flight| flight.request == request)?;
        let chunk = self.chunks.remove(flight.slot);
        self.window.arrived(now, chunk.size_bytes, in_flight);
        self.trouble.over();
        let rest_bytes = chunk.size_bytes - flight.moved_bytes;
        Some((chunk, rest_bytes))
    }

    /// Takes a flight off; its chunk is still marked as being in flight.
    pub(super) fn land(&mut self, is_it: impl Fn(&Flight) -> bool) -> Option<Flight> {
        let index = self.flights.iter().position(is_it)?;
        Some(self.flights.remove(index))
    }

    /// The chunk failed and its flight has landed: it waits for its next try. One whose body was wrong waits a moment: a
    /// server that answers is not spared by more.
    pub(super) fn try_again(&mut self, slot: u32, now: Tick, jitter: u32, is_wrong: bool) {
        let chunk = self.chunks.at_mut(slot);
        chunk.failures = chunk.failures.saturating_add(1);
        let ceiling = match chunk.class.is_some_and(Class::is_urgent) {
            _ if is_wrong => retry::BASE,
            true => retry::URGENT_CEILING,
            false => retry::CEILING,
        };
        let until = now.after(retry::delay(chunk.failures, ceiling, jitter));
        self.wait(slot, until);
    }

    /// The server had trouble with `request`: the window shrinks, once for all that were in flight together.
    pub(super) fn had_trouble(
        &mut self,
        request: RequestId,
        next: RequestId,
        now: Tick,
        wait: (Option<Duration>, u32),
    ) {
        if self.trouble.came(request, next, now, wait) {
            self.window.shrink(now);
        }
    }

    /// Puts the chunks whose wait is over by `now` before the others of their class.
    pub(super) fn queue_due(&mut self, now: Tick) {
        if self.waits.first().is_none_or(|(until, _)| *until > now) {
            return;
        }
        let later = self.waits.split_off(&(Tick(now.0.saturating_add(1)), 0));
        let due = std::mem::replace(&mut self.waits, later);
        due.into_iter().rev().for_each(|(_, slot)| self.queue(slot, Queues::push_front));
    }

    /// The next request, where one may start.
    pub(super) fn start(&mut self, now: Tick, next: &mut RequestId, batch: usize) -> Option<Request> {
        let (class, slot) = self.queues.first()?;
        let of = self.chunks.at(slot).of;
        let goes_with = |call: &Filling| call.class == class && call.of == of && call.chunks < batch;
        let begun = self.filling.take().filter(goes_with);
        if begun.is_none() && self.opens_at(class)? > now {
            return None;
        }
        let id = *next;
        *next = RequestId(id.0 + 1);
        let mut call = begun.unwrap_or(Filling { with: id, class, of, chunks: 0 });
        call.chunks += 1;
        let with = call.with;
        self.filling = Some(call);
        self.queues.unlink(class, slot);
        let chunk = self.chunks.at_mut(slot);
        chunk.place = Place::InFlight;
        self.flights.push(Flight { request: id, slot, moved_bytes: 0, told: class, with });
        let (chunk, size_bytes, direction) = (chunk.id, chunk.size_bytes, self.direction);
        Some(Request { id, direction, chunk, size_bytes, urgency: class.urgency(), of, with })
    }

    /// A request whose class is not the one that the caller knows of.
    pub(super) fn untold(&self) -> Option<(usize, Class)> {
        self.flights.iter().enumerate().find_map(|(index, flight)| {
            self.chunks
                .at(flight.slot)
                .class
                .filter(|class| *class != flight.told)
                .map(|class| (index, class))
        })
    }

    /// Tells the caller of such a request.
    pub(super) fn tell(&mut self) -> Option<Action> {
        let (index, class) = self.untold()?;
        self.flights[index].told = class;
        Some(Action::Reclass(self.flights[index].request, class.urgency()))
    }

    /// When something may start, if nothing else happens.
    pub(super) fn wake_at(&self) -> Option<Tick> {
        let queued = self.queues.highest().and_then(|class| self.opens_at(class));
        let retried = self.waits.first().map(|(until, _)| *until).filter(|_| self.gate != Gate::Shut);
        [queued, retried].into_iter().flatten().min()
    }

    /// From when on one more of `class` may start; `None` while only an event can change that. What holds up a class
    /// holds up those below it, too: looking at the highest one that stands in line is enough.
    fn opens_at(&self, class: Class) -> Option<Tick> {
        let (in_flight, bulk) = (self.places(), self.bulk_in_flight());
        let has_place = if class.is_urgent() {
            in_flight < self.window.size() || (in_flight == bulk && in_flight < IN_FLIGHT_MAX)
        } else {
            in_flight < self.window.size() && bulk + 1 < self.window.size()
        };
        (has_place && self.gate.lets(class)).then(|| self.trouble.over_at(class))
    }

    /// Calls in flight that bring anything nobody waits for.
    fn bulk_in_flight(&self) -> usize {
        let is_bulk = |flight: &Flight| !self.chunks.at(flight.slot).class.is_some_and(Class::is_urgent);
        self.flights.chunk_by(|a, b| a.with == b.with).filter(|call| call.iter().any(is_bulk)).count()
    }

    /// Abandons the call that brings the chunk in `slot`, with all that it brings.
    fn abandon_place_of(&mut self, slot: u32, out: &mut VecDeque<Action>) {
        let with = self.flights.iter().find(|flight| flight.slot == slot).map(|flight| flight.with);
        let together = self.flights.iter().filter(|flight| Some(flight.with) == with);
        let slots: Vec<u32> = together.map(|flight| flight.slot).collect();
        slots.into_iter().rev().for_each(|slot| self.abandon(slot, out));
    }

    fn abandon(&mut self, slot: u32, out: &mut VecDeque<Action>) {
        if let Some(flight) = self.land(|flight| flight.slot == slot) {
            out.push_back(Action::Abandon(flight.request));
        }
        self.queue(slot, Queues::push_front);
    }

    /// Queues a chunk that stands nowhere, or sets it aside where it has no class.
    fn queue(&mut self, slot: u32, push: impl Fn(&mut Queues, Class, u32)) {
        let chunk = self.chunks.at_mut(slot);
        match chunk.class {
            None => chunk.place = Place::Idle,
            Some(class) => {
                chunk.place = Place::Queued;
                push(&mut self.queues, class, slot);
            }
        }
    }

    fn wait(&mut self, slot: u32, until: Tick) {
        self.chunks.at_mut(slot).place = Place::Waiting(until);
        self.waits.insert((until, slot));
    }
}
