//! Requests that may wait for a server, answered aside: those that answer everything else must stay free, for lookups and
//! attributes of what is known never wait.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;

/// Threads for lookups and listings that may wait. Each of them is a process that waits; more of those wait for one another.
pub(crate) const NAMES: usize = 32;
/// Threads for reads: more than the kernel asks for ahead of readers, 64, so that those cannot take them all.
pub(crate) const READS: usize = 96;

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    /// One for each waiting request: the kernel bounds them.
    waiting: VecDeque<Work>,
    ended: bool,
}

/// The queue between the threads that take requests and those that wait.
#[derive(Default)]
pub(crate) struct Aside {
    state: Mutex<State>,
    changed: Condvar,
}

impl Aside {
    /// Has a thread do `work`, soon.
    pub(crate) fn run(&self, work: Work) {
        self.state.lock().waiting.push_back(work);
        self.changed.notify_one();
    }

    /// Does what there is to do until [`Aside::end`]; [`NAMES`] or [`READS`] threads call this.
    pub(crate) fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            self.changed.wait_while(&mut state, |state| state.waiting.is_empty() && !state.ended);
            if state.ended {
                return;
            }
            if let Some(work) = state.waiting.pop_front() {
                parking_lot::MutexGuard::unlocked(&mut state, work);
            }
        }
    }

    /// Lets [`Aside::serve`] return. What still waits is dropped: nobody hears its answer any more.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let dropped = std::mem::take(&mut state.waiting);
        drop(state);
        drop(dropped);
        self.changed.notify_all();
    }
}
