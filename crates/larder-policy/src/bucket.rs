//! A token bucket for bytes over governor, which counts cells.
//!
//! One byte as one cell does not work: governor keeps whole nanoseconds per cell, so 500 MiB/s came out 76 % too
//! fast. A cell here is a ten-thousandth of a second's bytes, and what a charge leaves of a cell is carried into the
//! next one. Only [`crate::throttle`] calls this.

use crate::{Rate, Tick};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Cells a second: few enough that a cell's nanoseconds are exact to 0.1 %, many enough that a piece has several.
const CELLS_PER_S: u64 = 10_000;
/// How much time's worth of bytes the bucket may hold beyond two pieces: makes up for a task that woke up late.
const SLACK: Duration = Duration::from_millis(100);

/// A bucket that fills at a rate; one charge takes at most a piece.
pub struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, Hand, NoOpMiddleware<Nanos>>,
    hand: Hand,
    cell_bytes: u64,
    piece_bytes: u64,
    burst_cells: u32,
    /// Bytes spent that did not fill a cell yet.
    carry_bytes: u64,
    /// Bytes taken from the limiter and not spent.
    reserved_bytes: u64,
}

impl Bucket {
    /// Makes an empty bucket that starts to fill at `now`.
    pub fn new(rate: Rate, now: Tick) -> Self {
        let cell_bytes = (rate.bytes_per_s() / CELLS_PER_S).max(1);
        let piece_bytes = piece_bytes(rate);
        let slack_bytes = (u128::from(rate.bytes_per_s()) * SLACK.as_millis() / 1000) as u64;
        let burst_cells = u32::try_from((2 * piece_bytes + slack_bytes) / cell_bytes + 2).unwrap_or(u32::MAX);
        let period = Duration::from_nanos(
            (u128::from(cell_bytes) * 1_000_000_000 / u128::from(rate.bytes_per_s())) as u64,
        );
        let burst = NonZeroU32::new(burst_cells).unwrap_or(NonZeroU32::MIN);
        let quota =
            Quota::with_period(period).expect("a cell takes at least a nanosecond").allow_burst(burst);
        let hand = Hand::at(now);
        let bucket = Self {
            limiter: RateLimiter::direct_with_clock(quota, hand.clone()),
            hand,
            cell_bytes,
            piece_bytes,
            burst_cells,
            carry_bytes: 0,
            reserved_bytes: 0,
        };
        bucket.drain(burst_cells);
        bucket
    }

    /// The most bytes of one charge.
    pub fn piece_bytes(&self) -> u64 {
        self.piece_bytes
    }

    /// How long an empty bucket takes to fill.
    pub fn fill_time(&self, rate: Rate) -> Duration {
        Duration::from_secs_f64(self.burst_cells as f64 * self.cell_bytes as f64 / rate.bytes_per_s() as f64)
    }

    /// Sets `bytes`, at most a piece, aside for whoever spends next, or says when they will be there. What is aside stays so
    /// where another bucket has nothing: asking again costs nothing.
    ///
    /// # Errors
    /// The tick to try again at.
    pub fn reserve(&mut self, bytes: u64, now: Tick) -> Result<(), Tick> {
        self.hand.set(now);
        let bytes = bytes.min(self.piece_bytes);
        let Some(missing) = bytes.checked_sub(self.reserved_bytes).filter(|missing| *missing > 0) else {
            return Ok(());
        };
        let due = self.carry_bytes + missing;
        let cells = u32::try_from(due / self.cell_bytes).unwrap_or(u32::MAX);
        if let Some(cells) = NonZeroU32::new(cells) {
            match self.limiter.check_n(cells) {
                Ok(Ok(())) => {}
                Ok(Err(until)) => return Err(Tick(until.earliest_possible().as_u64())),
                Err(_) => unreachable!("a piece and the carry fit the burst of two pieces"),
            }
        }
        self.carry_bytes = due % self.cell_bytes;
        self.reserved_bytes = bytes;
        Ok(())
    }

    /// Spends what was set aside.
    pub fn spend(&mut self, bytes: u64) {
        self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes);
    }

    /// After a pause: leaves one piece of what has gathered, so that a pause does not buy a burst.
    pub fn settle(&self, now: Tick) {
        self.hand.set(now);
        let piece_cells = u32::try_from(self.piece_bytes / self.cell_bytes + 1).unwrap_or(u32::MAX);
        self.drain(self.burst_cells.saturating_sub(piece_cells));
    }

    fn drain(&self, cells: u32) {
        if let Some(cells) = NonZeroU32::new(cells) {
            // What is not there cannot be drained; both answers leave the bucket as it should be.
            let _ = self.limiter.check_n(cells);
        }
    }
}

/// Bytes granted at once: small where slow, so that eight streams at 64 KiB/s still take turns twice a second;
/// large where fast, so that a grant costs little.
fn piece_bytes(rate: Rate) -> u64 {
    match rate.bytes_per_s() {
        0..0x4_0000 => 4 << 10,
        0x4_0000..0x10_0000 => 16 << 10,
        _ => 64 << 10,
    }
}

/// The clock that governor reads: shows what the last call was given.
#[derive(Clone, Debug)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn at(now: Tick) -> Self {
        Hand(Arc::new(AtomicU64::new(now.0)))
    }

    fn set(&self, now: Tick) {
        self.0.store(now.0, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}
