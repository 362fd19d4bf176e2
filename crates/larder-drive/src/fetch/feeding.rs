//! Offering to the planner what is missing of the files that a user asked for, a piece at a time.

use super::driver::Driver;
use super::requested::Phase;
use super::survey::{Survey, survey};
use super::{Shared, pinned, records};
use larder_core::{Error, Kind, NodeId, Result};
use larder_policy::plan::{Priority, Urgency};
use parking_lot::MutexGuard;
use std::time::Duration;

impl Shared {
    /// Looks files over and offers what is missing of them to the planner, until the end.
    pub(super) fn feed(&self) {
        let mut driver = self.driver.lock();
        while !driver.ended {
            let now = self.now();
            let timer = driver.requested.wake(now);
            if !driver.requested.kept.is_empty() {
                MutexGuard::unlocked(&mut driver, || self.forget());
            } else if let Some((id, from)) = driver.requested.next(now) {
                let found = MutexGuard::unlocked(&mut driver, || self.look(id, from));
                self.offer(&mut driver, id, found);
            } else if let Some(timer) = timer {
                self.hungry.wait_until(&mut driver, self.instant(timer));
            } else {
                self.hungry.wait(&mut driver);
            }
        }
    }

    /// Removes the records of files that ended.
    fn forget(&self) {
        let _one = self.keeping.lock();
        let ended = {
            let requested = &mut self.driver.lock().requested;
            let mut ended = std::mem::take(&mut requested.kept);
            ended.retain(|id| requested.files.get(id).is_none_or(|file| file.phase.has_ended()));
            ended
        };
        if let Err(error) = self.keep(ended.iter().map(|id| records::of_file(*id, None)).collect()) {
            tracing::warn!(%error, "what was fetched is looked over again at the next start");
        }
    }

    pub(super) fn look(&self, id: NodeId, from: usize) -> Result<Survey> {
        let node = self.catalog.node(id)?;
        let head = node.head().ok_or_else(|| Error::not_found("it is no file any more"))?;
        survey(&*self.chunks, head, from)
    }

    fn offer(&self, driver: &mut Driver, id: NodeId, found: Result<Survey>) {
        let now = self.now();
        let Some(file) = driver.requested.files.get_mut(&id).filter(|file| file.phase == Phase::Looked)
        else {
            return;
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let why = match error.kind() {
                    Kind::NotFound => "the file is gone".to_owned(),
                    _ => error.to_string(),
                };
                return driver.requested.enter(id, Phase::Failed(why), now);
            }
        };
        file.known = Some((found.total, found.here));
        if found.missing.is_empty() {
            return driver.requested.enter(id, Phase::Done, now);
        }
        file.from = found.from;
        let wish = file.wish;
        let urgency = match wish.priority {
            pinned::PRIORITY => Urgency::Pin,
            asked => Urgency::Requested(Priority::new(asked).expect("checked when it was asked for")),
        };
        let (chunks, are_pages) = (found.missing.len(), found.are_pages);
        let ttl = wish.ttl_ms.map(Duration::from_millis);
        let phase = match driver.wish(now, (id, urgency), found.missing, found.here, (None, ttl)) {
            Ok(job) => Phase::Moving { job, chunks, are_pages },
            // No room now.
            Err(_) => Phase::Resting,
        };
        driver.requested.enter(id, phase, now);
        self.pump(driver, None);
    }
}
