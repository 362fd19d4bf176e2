//! Turns and pauses of the work on the store beside its use.

use crate::clock::tick;
use larder_policy::Tick;
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Whose turn it is, and whether the process is about to end.
#[derive(Default)]
pub struct Maintenance {
    turn: Mutex<()>,
    ending: Mutex<bool>,
    ended: Condvar,
}

impl Maintenance {
    /// Lets a paced job run to its end without pauses.
    pub fn hurry(&self) {
        *self.ending.lock() = true;
        self.ended.notify_all();
    }

    /// Waits until no other job runs; it is ours while the guard lives.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Takes the turn where no other job runs.
    pub fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.turn.try_lock()
    }

    /// Waits until `due`, or until the process is about to end.
    pub fn wait_until(&self, due: Tick) {
        let mut ending = self.ending.lock();
        while !*ending {
            let left = due.since(tick());
            if left.is_zero() || self.ended.wait_for(&mut ending, left).timed_out() {
                return;
            }
        }
    }
}
