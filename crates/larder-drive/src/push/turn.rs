//! What follows a step of telling: the next one at once, or after a pause that grows while nothing gets through.

use super::Conflicts;
use super::held::Held;
use super::telling::{Next, Refusals, Telling};
use crate::{Actor, Drive};
use larder_core::Error;
use larder_store::origin::{Mirror, Origin};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What is to be done after a step.
#[derive(Debug)]
pub enum After {
    /// Something was told, and there may be more.
    Told,
    /// Something is held since, and there may be more.
    Around,
    /// Nothing is queued.
    Idle,
    /// Somebody has paused it.
    Paused,
    /// What is queued waits for what is held; some of that is told again after this time.
    Held(Duration),
    /// It failed, and is tried again after this time.
    Failed(Error, Duration),
}

/// Where somebody stands who tells a server of changes.
pub(super) struct Turn {
    pub(super) held: Held,
    refusals: Refusals,
    pause: Duration,
    /// What was sent when it failed the last time.
    sent_bytes: u64,
}

impl Turn {
    pub(super) fn new(now: Instant) -> Self {
        Self { held: Held::new(now), refusals: Refusals::default(), pause: PAUSE, sent_bytes: 0 }
    }

    /// Tells the server of what comes next.
    pub(super) fn step(&mut self, telling: &Telling, now: Instant) -> After {
        self.held.let_go(now);
        match telling.step(&mut self.refusals, &mut self.held) {
            Ok(Next::More) => {
                self.pause = PAUSE;
                After::Told
            }
            Ok(Next::Around) => After::Around,
            Ok(Next::Idle) => {
                self.held.end();
                After::Idle
            }
            Ok(Next::Paused) => After::Paused,
            Ok(Next::Held) => After::Held(self.held.wait()),
            Err(error) => After::Failed(error, self.rest(telling.bodies.sent_bytes())),
        }
    }

    /// The pause after a failure. What was sent since the one before stays at the server: a large file goes on at once,
    /// however often its server dies.
    fn rest(&mut self, sent_bytes: u64) -> Duration {
        if sent_bytes > self.sent_bytes {
            (self.sent_bytes, self.pause) = (sent_bytes, PAUSE);
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

/// Tells a server of changes in steps that somebody else times; [`crate::Pusher`] makes them from a thread.
pub struct Steps {
    telling: Telling,
    turn: Turn,
}

impl Steps {
    /// As [`crate::Pusher::start`].
    pub fn new(
        drive: Arc<Drive>,
        mirror: Arc<Mirror>,
        origin: Arc<dyn Origin>,
        actor: Actor,
        conflicts: Conflicts,
        now: Instant,
    ) -> Self {
        let telling = Telling::new(drive, mirror, origin, actor, conflicts);
        Self { telling, turn: Turn::new(now) }
    }

    /// Makes one step.
    pub fn step(&mut self, now: Instant) -> After {
        self.turn.step(&self.telling, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_only_while_nothing_gets_through() {
        let mut turn = Turn::new(Instant::now());
        let pauses = [0, 0, 0, 1, 1, 2, 2].map(|sent| turn.rest(sent).as_millis());
        assert_eq!(pauses, [250, 500, 1000, 250, 500, 250, 500]);
        let longest = (0..20).map(|_| turn.rest(2)).max();
        assert_eq!(longest, Some(PAUSE_MAX));
    }
}
