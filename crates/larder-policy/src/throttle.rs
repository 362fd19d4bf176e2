//! The throttle: who may move the next piece, and when.
//!
//! A pure state machine. A stream asks for a piece and gets a [`Ticket`]; the caller calls [`Throttle::poll`] until
//! it says [`Step::Wait`] or [`Step::Idle`], and again at that tick or after any other call. Requests of one class
//! are served first come, first served, one piece each, which shares the rate evenly among the streams.

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

/// One limit, shared by the streams that ask for its pieces.
pub struct Throttle {
    limit: Option<(Rate, Bucket)>,
    queues: [VecDeque<Ticket>; 2],
    wanted_bytes: HashMap<Ticket, u64>,
    next_ticket: u64,
    urgent_in_a_row: u32,
    last_grant: Tick,
}

impl Throttle {
    /// Makes a throttle; `None` limits nothing.
    pub fn new(limit: Option<Rate>, now: Tick) -> Self {
        Self {
            limit: limit.map(|rate| (rate, Bucket::new(rate, now))),
            queues: Default::default(),
            wanted_bytes: HashMap::new(),
            next_ticket: 0,
            urgent_in_a_row: 0,
            last_grant: now,
        }
    }

    /// The rate in force.
    pub fn limit(&self) -> Option<Rate> {
        self.limit.as_ref().map(|(rate, _)| *rate)
    }

    /// Changes the rate from `now` on. The new bucket starts empty, so a change never makes a burst.
    pub fn set_limit(&mut self, limit: Option<Rate>, now: Tick) {
        if self.limit() != limit {
            self.limit = limit.map(|rate| (rate, Bucket::new(rate, now)));
        }
    }

    /// Queues a stream that wants to move `bytes`; it will be granted a piece of them at most.
    pub fn request(&mut self, class: Class, bytes: u64, now: Tick) -> Ticket {
        if let (true, Some((rate, bucket))) = (self.wanted_bytes.is_empty(), &self.limit)
            && now.since(self.last_grant) >= bucket.fill_time(*rate)
        {
            bucket.settle(now);
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.queues[class as usize].push_back(ticket);
        self.wanted_bytes.insert(ticket, bytes.max(1));
        ticket
    }

    /// Takes a request back.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.wanted_bytes.remove(&ticket);
        for queue in &mut self.queues {
            queue.retain(|queued| *queued != ticket);
        }
    }

    /// Says what to do at `now`.
    pub fn poll(&mut self, now: Tick) -> Step {
        let Some(class) = self.next_class() else { return Step::Idle };
        let ticket = self.queues[class as usize][0];
        let wanted_bytes = self.wanted_bytes[&ticket];
        let granted_bytes = match &mut self.limit {
            None => wanted_bytes.min(FREE_PIECE_BYTES),
            Some((_, bucket)) => {
                let piece_bytes = wanted_bytes.min(bucket.piece_bytes());
                match bucket.take(piece_bytes, now) {
                    Ok(()) => piece_bytes,
                    Err(at) => return Step::Wait(at),
                }
            }
        };
        self.queues[class as usize].pop_front();
        self.wanted_bytes.remove(&ticket);
        self.last_grant = now;
        self.urgent_in_a_row = if class == Class::Reader { self.urgent_in_a_row + 1 } else { 0 };
        Step::Grant(ticket, granted_bytes)
    }

    fn next_class(&self) -> Option<Class> {
        match (self.queues[0].is_empty(), self.queues[1].is_empty()) {
            (true, true) => None,
            (false, true) => Some(Class::Reader),
            (true, false) => Some(Class::Bulk),
            (false, false) if self.urgent_in_a_row >= URGENT_IN_A_ROW_MAX => Some(Class::Bulk),
            (false, false) => Some(Class::Reader),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Runs `streams` greedy streams for `seconds`; every wake-up comes `late_ns` late. Returns each stream's bytes.
    fn run(throttle: &mut Throttle, start: Tick, streams: usize, seconds: u64, late_ns: u64) -> Vec<u64> {
        let end = start.after(Duration::from_secs(seconds));
        let mut now = start;
        let mut moved = vec![0; streams];
        let mut holder: HashMap<Ticket, usize> = HashMap::new();
        for stream in 0..streams {
            holder.insert(throttle.request(Class::Bulk, 1 << 20, now), stream);
        }
        loop {
            match throttle.poll(now) {
                Step::Grant(ticket, bytes) => {
                    let stream = holder.remove(&ticket).expect("a known ticket");
                    moved[stream] += bytes;
                    holder.insert(throttle.request(Class::Bulk, 1 << 20, now), stream);
                }
                Step::Wait(at) if at.after(Duration::from_nanos(late_ns)) > end => break,
                Step::Wait(at) => now = Tick(at.0 + late_ns),
                Step::Idle => unreachable!("greedy streams never stop asking"),
            }
        }
        for ticket in holder.keys() {
            throttle.cancel(*ticket);
        }
        moved
    }

    #[test]
    fn rates_are_kept_within_three_per_cent_and_shared_within_ten() {
        for late_ns in [0, 1_100_000, 7_000_000] {
            for rate_kib in [64, 200, 500, 1024, 5 << 10, 50 << 10, 500 << 10] {
                for streams in [1, 8] {
                    let rate = Rate::new(rate_kib << 10);
                    let mut throttle = Throttle::new(Some(rate), Tick(5));
                    let moved = run(&mut throttle, Tick(5), streams, 10, late_ns);
                    let total = moved.iter().sum::<u64>() as f64 / 10.0;
                    let error = total / rate.bytes_per_s() as f64 - 1.0;
                    assert!(
                        error.abs() < 0.03,
                        "{rate} {streams} streams {late_ns} ns late: {:+.1} %",
                        error * 100.0
                    );
                    let (low, high) = (moved.iter().min(), moved.iter().max());
                    let share = *low.expect("streams") as f64 / *high.expect("streams") as f64;
                    assert!(share > 0.9, "{rate} {streams} streams: shares {share:.2}");
                }
            }
        }
    }

    #[test]
    fn pause_buys_one_piece_and_no_burst() {
        let rate = Rate::new(64 << 10);
        let mut throttle = Throttle::new(Some(rate), Tick(0));
        let moved = run(&mut throttle, Tick(3_600_000_000_000), 1, 2, 0)[0];
        assert!(moved <= 2 * rate.bytes_per_s() + 2 * 4096, "{moved}");
    }

    #[test]
    fn new_rate_holds_at_once() {
        let mut throttle = Throttle::new(Some(Rate::new(500 << 20)), Tick(0));
        run(&mut throttle, Tick(0), 4, 1, 0);
        let now = Tick(1_000_000_000);
        throttle.set_limit(Some(Rate::new(1 << 20)), now);
        let moved: u64 = run(&mut throttle, now, 4, 1, 0).iter().sum();
        assert!((1_000_000..1_060_000).contains(&moved), "{moved}");
        throttle.set_limit(None, now);
        let ticket = throttle.request(Class::Bulk, 5 << 20, now);
        assert_eq!(throttle.poll(now), Step::Grant(ticket, FREE_PIECE_BYTES));
    }

    #[test]
    fn readers_go_first_and_bulk_does_not_starve() {
        let mut throttle = Throttle::new(None, Tick(0));
        let bulk = throttle.request(Class::Bulk, 1, Tick(0));
        let readers: Vec<Ticket> = (0..20).map(|_| throttle.request(Class::Reader, 1, Tick(0))).collect();
        let order: Vec<Ticket> = std::iter::from_fn(|| match throttle.poll(Tick(0)) {
            Step::Grant(ticket, _) => Some(ticket),
            _ => None,
        })
        .collect();
        assert_eq!(order[0], readers[0]);
        assert_eq!(order[16], bulk);
        assert_eq!(order.len(), 21);
    }

    #[test]
    fn cancelled_request_gets_nothing() {
        let mut throttle = Throttle::new(Some(Rate::new(1 << 20)), Tick(0));
        let first = throttle.request(Class::Bulk, 1 << 20, Tick(0));
        let second = throttle.request(Class::Bulk, 100, Tick(0));
        throttle.cancel(first);
        assert_eq!(throttle.poll(Tick(1_000_000)), Step::Grant(second, 100));
        assert_eq!(throttle.poll(Tick(1_000_000)), Step::Idle);
    }
}
