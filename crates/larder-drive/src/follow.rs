//! Keeping what a device knows of a server's project right: its changes are committed here as those of any other door.

use crate::walk::Walker;
use crate::{Actor, Drive};
use larder_core::{Error, Kind, Result};
use larder_store::origin::{Mirror, Origin};
use larder_store::{Change, Durability, Op};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Changes taken over in one commit.
const CHANGES: usize = 1000;
/// How long to wait for news before asking whether there is any.
const NEWS: Duration = Duration::from_secs(300);
/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// Hears of the server's changes until it is ended.
pub struct Follower {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    drive: Arc<Drive>,
    mirror: Arc<Mirror>,
    origin: Arc<dyn Origin>,
    actor: Actor,
    walker: Walker,
    ended: Mutex<bool>,
    rung: Condvar,
}

impl Follower {
    /// Follows `origin` into `drive`, which is over `mirror`; what changes there, `actor` commits.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(
        drive: Arc<Drive>,
        mirror: Arc<Mirror>,
        origin: Arc<dyn Origin>,
        actor: Actor,
    ) -> Result<Self> {
        let telling = Arc::downgrade(&drive);
        mirror.tell(Box::new(move |changes| {
            if let Some(drive) = telling.upgrade() {
                drive.tell(changes);
            }
        }));
        let (ended, rung) = (Mutex::new(false), Condvar::new());
        let walker = Walker::start(mirror.clone())?;
        let shared = Arc::new(Shared { drive, mirror, origin, actor, walker, ended, rung });
        let following = shared.clone();
        let started = std::thread::Builder::new().name("larder-follow".into()).spawn(move || following.run());
        let thread = Mutex::new(Some(started.map_err(|e| Error::io("starting a thread", e))?));
        Ok(Self { shared, thread })
    }

    /// Has what failed tried again at once: what held it up may be over.
    pub fn try_now(&self) {
        self.shared.rung.notify_all();
    }

    /// Ends it, and every call to the server.
    pub fn end(&self) {
        *self.shared.ended.lock() = true;
        self.shared.rung.notify_all();
        self.shared.origin.end();
        self.shared.walker.end();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn run(&self) {
        let (mut pause, mut is_ruled) = (PAUSE, false);
        while !*self.ended.lock() {
            let Err(error) = self.follow(is_ruled) else {
                (pause, is_ruled) = (PAUSE, true);
                continue;
            };
            is_ruled = false;
            let mut ended = self.ended.lock();
            if *ended {
                return;
            }
            // Once for each time that it is lost.
            if pause == PAUSE {
                tracing::warn!(%error, "not in touch with the server");
            }
            self.rung.wait_for(&mut ended, pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Takes over what there is, and waits for more. Unless `is_ruled`, it asks for the rules first: a server that came back
    /// from a backup counts on from an older version, and may have others under the number that is known here.
    fn follow(&self, is_ruled: bool) -> Result<()> {
        catch_up(&self.drive, &self.mirror, &self.actor, |changes| self.walker.hear(changes))?;
        let adopt = || self.drive.adopt_rules(|| self.origin.rules(None), self.mirror.known_here());
        if !is_ruled {
            adopt()?;
        }
        let rules = self.drive.placements().map_or(0, |placements| placements.book().ruled.version);
        let heard = self.origin.wait(&self.mirror.cursor()?, rules, NEWS)?;
        if heard.rules {
            adopt()?;
        }
        Ok(())
    }
}

/// Takes over what changed at the server, in the name of `actor`; `heard` is told of it.
///
/// # Errors
/// Those of the server and of the drive: what was taken over before stays.
pub fn catch_up(drive: &Drive, mirror: &Mirror, actor: &Actor, heard: impl Fn(&[Change])) -> Result<()> {
    let commit = |ops: Vec<Op>| {
        let committed = drive.commit(actor, Vec::new(), ops, Durability::Process)?;
        heard(&committed.changes);
        Ok(())
    };
    loop {
        match mirror.follow(CHANGES, commit) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if error.kind() == Kind::Conflict => {
                tracing::info!("the server's changes do not reach back so far: comparing everything");
                mirror.compare(commit)?;
            }
            Err(error) => return Err(error),
        }
    }
}
