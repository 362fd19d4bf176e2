//! How the way to the server may be used: all of it, for readers only, or not at all.

use super::{Fetch, Shared};
use crate::fetch::driver::Driver;
use larder_policy::Direction;
use larder_policy::plan::{Event, Scope};
use larder_store::origin::Link;
use std::sync::atomic::Ordering;

impl Fetch {
    /// Uses the way to the server so from now on. Who waits for the server while it is cut off is told so at once.
    pub fn set_link(&self, link: Link) {
        let shared = &*self.shared;
        let mut driver = shared.driver.lock();
        let was = std::mem::replace(&mut driver.link, link);
        let now = shared.now();
        match (was == Link::Offline, link.refusal(false)) {
            (false, Some(refusal)) => {
                driver.tell(now, Event::Offline);
                let ended = driver.readers.refuse(&refusal);
                ended.into_iter().for_each(|event| driver.tell(now, event));
                shared.answered.notify_all();
            }
            (true, None) => driver.tell(now, Event::Online),
            _ => {}
        }
        // What is paused by a switch of its own may hold readers as well; this never does.
        let holds_readers = shared.holds_readers.load(Ordering::Relaxed) && link != Link::Metered;
        driver.set_pause_holds_readers(now, &shared.settings, holds_readers);
        shared.hold_fetches(&mut driver);
        shared.pump(&mut driver, None);
        shared.hungry.notify_one();
    }

    /// Has programs wait for what they read of a file whose fetch is paused, or go on, from now on.
    pub fn set_pause_holds_readers(&self, holds: bool) {
        let shared = &*self.shared;
        let now = shared.now();
        let mut driver = shared.driver.lock();
        shared.holds_readers.store(holds, Ordering::Relaxed);
        let holds_now = holds && driver.link != Link::Metered;
        driver.set_pause_holds_readers(now, &shared.settings, holds_now);
        let files = driver.requested.files.keys().copied();
        let paused: Vec<_> = files.filter(|file| driver.requested.is_held(*file)).collect();
        for file in paused {
            let events = if holds { driver.readers.hold(file) } else { driver.readers.let_go(file) };
            events.into_iter().for_each(|event| driver.tell(now, event));
        }
        shared.pump(&mut driver, None);
    }
}

impl Shared {
    /// Has the planner hold all fetches where a user or a metered link says so.
    pub(super) fn hold_fetches(&self, driver: &mut Driver) {
        let scope = Scope::Direction(Direction::Down);
        let is_held = driver.requested.switches().down || driver.link == Link::Metered;
        driver.tell(self.now(), if is_held { Event::Pause(scope) } else { Event::Resume(scope) });
    }
}
