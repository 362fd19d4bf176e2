//! Entries that the server does not take for a while, such as of a file that somebody has locked. Others go past them.

use larder_core::Error;
use larder_store::catalog::{Queued, Waiting};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The most entries that are held at once.
const HELD_MAX: usize = 16_384;
/// Those that are told again after a pause: each may cost a request.
const RETRIED_MAX: usize = 64;
/// The first pause; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Entries that wait, each for something of its own.
pub(super) struct Held {
    now: Instant,
    entries: BTreeMap<u64, Error>,
    /// How often those were refused that nothing shows a reason for.
    unresolved: BTreeMap<u64, u32>,
    /// Pauses since any was held.
    pauses: u32,
    retry_at: Option<Instant>,
    /// Those behind this number are told next.
    retried: u64,
}

impl Held {
    /// Nothing is held.
    pub(super) fn new(now: Instant) -> Self {
        let (entries, unresolved) = (BTreeMap::new(), BTreeMap::new());
        Self { now, entries, unresolved, pauses: 0, retry_at: None, retried: 0 }
    }

    /// Holds an entry, for this reason.
    pub(super) fn hold(&mut self, entry: &Queued, why: Error) {
        self.entries.insert(entry.number, why);
        self.wait_from_now();
    }

    fn wait_from_now(&mut self) {
        let pause = PAUSE.saturating_mul(1 << self.pauses.min(16)).min(PAUSE_MAX);
        self.retry_at.get_or_insert(self.now + pause);
    }

    /// Counts that nothing shows why an entry is refused.
    pub(super) fn count(&mut self, entry: &Queued) {
        *self.unresolved.entry(entry.number).or_default() += 1;
    }

    /// How often that was counted.
    pub(super) fn count_of(&self, entry: &Queued) -> u32 {
        self.unresolved.get(&entry.number).copied().unwrap_or_default()
    }

    /// Says whether no more can be held.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= HELD_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Why the first of them waits.
    pub(super) fn why(&self) -> Option<&Error> {
        self.entries.values().next()
    }

    /// How long it is until some of them are told again.
    pub(super) fn wait(&self) -> Duration {
        self.retry_at.map_or(PAUSE_MAX, |at| at.saturating_duration_since(self.now))
    }

    /// Some are told again at once.
    pub(super) fn hurry(&mut self) {
        self.retry_at = self.retry_at.map(|_| self.now);
    }

    /// Lets some go where it is time, those first that were not told again for the longest time.
    pub(super) fn let_go(&mut self, now: Instant) {
        self.now = now;
        if self.retry_at.is_none_or(|at| at > now) {
            return;
        }
        let behind = self.entries.range(self.retried + 1..).map(|(number, _)| *number);
        let others = self.entries.range(..=self.retried).map(|(number, _)| *number);
        let going: Vec<u64> = behind.chain(others).take(RETRIED_MAX).collect();
        for number in going {
            self.entries.remove(&number);
            self.retried = number;
        }
        self.pauses += 1;
        self.retry_at = None;
        if !self.is_empty() {
            self.wait_from_now();
        }
    }

    /// Nothing is queued any more.
    pub(super) fn end(&mut self) {
        *self = Self::new(self.now);
    }

    /// Those of `entries` that need not wait, and adds the others to `waiting`.
    pub(super) fn free(&self, entries: Vec<Queued>, waiting: &mut Waiting) -> Vec<Queued> {
        let is_free = |entry: &Queued| {
            let waits = self.entries.contains_key(&entry.number) || waiting.holds_up(entry);
            if waits {
                waiting.add(entry);
            }
            !waits
        };
        entries.into_iter().filter(is_free).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_core::OpId;

    fn entry(number: u64) -> Queued {
        Queued { number, op_id: OpId(0), steps: Vec::new() }
    }

    #[test]
    fn each_that_waits_is_told_again_in_its_turn() {
        let now = Instant::now();
        let mut held = Held::new(now);
        let count = 3 * RETRIED_MAX as u64;
        (0..count).for_each(|number| held.hold(&entry(number), Error::unavailable("locked")));
        let mut told = BTreeMap::new();
        for _ in 0..3 {
            held.let_go(now);
            assert_eq!(held.len() as u64, count, "not before its time");
            held.hurry();
            held.let_go(now);
            let gone: Vec<u64> = (0..count).filter(|number| !held.entries.contains_key(number)).collect();
            assert_eq!(gone.len(), RETRIED_MAX);
            for number in gone {
                *told.entry(number).or_insert(0) += 1;
                held.hold(&entry(number), Error::unavailable("locked"));
            }
        }
        assert!((0..count).all(|number| told.get(&number) == Some(&1)), "{told:?}");
    }
}
