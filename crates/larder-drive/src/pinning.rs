//! Keeping on a device what its rules pin, and ending fetches of what they exclude: looked over at the start and when rules change, and file by file as things change.

use crate::fetch::Pinned;
use crate::placing::{Place, Placements};
use crate::{Drive, Event, Subscription};
use larder_core::{DrivePath, Error, Kind, Name, NodeId, Result};
use larder_policy::rules::Placement;
use larder_store::{Change, Listed};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Entries read at a time.
const PAGE: usize = 1024;
/// Nodes that changed and wait for a look; beyond that everything is looked over.
const CHANGED_MAX: usize = 65_536;
/// The pause before another try where too many files are on their way.
const FULL: Duration = Duration::from_millis(250);
/// The pause after a failure.
const FAILED: Duration = Duration::from_secs(5);

/// Keeps what is pinned here until it is ended.
pub struct Pinner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    _changes: Subscription,
}

struct Shared {
    drive: Arc<Drive>,
    placements: Arc<Placements>,
    agenda: Arc<Agenda>,
}

#[derive(Default)]
struct Agenda {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    all: bool,
    nodes: VecDeque<NodeId>,
    failed: VecDeque<NodeId>,
    ended: bool,
}

/// What is still to be looked over of a folder: what comes behind a name.
struct Rest {
    folder: NodeId,
    after: Option<Name>,
}

/// What is looked at next.
enum Next {
    Everything,
    Node(NodeId),
    Folder(Rest),
}

/// A look ends before its end.
enum Stop {
    /// Everything is to be looked over anew, or nothing any more.
    Anew,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl Agenda {
    fn hear(&self, event: &Event<'_>, placements: &Placements) {
        let mut state = self.state.lock();
        if event.changes.is_empty() {
            state.all = true;
        } else if placements.book().rules.may_pin_below(&DrivePath::default()) {
            state.nodes.extend(event.changes.iter().filter_map(|change| match change {
                Change::Named { node, .. } | Change::Content(node) => Some(*node),
                Change::Unnamed { .. } | Change::Attrs(_) => None,
            }));
            if state.nodes.len() > CHANGED_MAX {
                state.nodes.clear();
                state.all = true;
            }
        }
        // A thread that wakes for each change of thousands costs as much as the change.
        let is_idle = !state.all && state.nodes.is_empty();
        drop(state);
        if !is_idle {
            self.changed.notify_all();
        }
    }

    /// Waits for something to look at, unless there is a rest; nothing once it has ended.
    fn next(&self, rest: &mut Vec<Rest>) -> Option<Next> {
        let mut state = self.state.lock();
        let idle = |state: &mut State| !state.all && state.nodes.is_empty() && !state.ended;
        if rest.is_empty() && state.failed.is_empty() {
            self.changed.wait_while(&mut state, idle);
        }
        if state.ended {
            return None;
        }
        if std::mem::take(&mut state.all) {
            state.nodes.clear();
            state.failed.clear();
            *rest = vec![Rest { folder: NodeId::ROOT, after: None }];
            return Some(Next::Everything);
        }
        let changed = state.nodes.pop_front().map(Next::Node);
        let next = changed.or_else(|| rest.pop().map(Next::Folder));
        next.or_else(|| state.failed.pop_front().map(Next::Node))
    }

    /// A node failed, and is tried again once the rest was looked at.
    fn again(&self, id: NodeId) {
        self.state.lock().failed.push_back(id);
    }

    fn pause(&self, pause: Duration) {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.ended && !state.all, pause);
    }

    fn check(&self) -> Result<(), Stop> {
        let state = self.state.lock();
        if state.all || state.ended { Err(Stop::Anew) } else { Ok(()) }
    }
}

impl Pinner {
    /// Keeps what the rules of `drive` pin; nothing where it has none.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn start(drive: Arc<Drive>) -> Result<Option<Self>> {
        let Some(placements) = drive.placements().cloned() else { return Ok(None) };
        let agenda = Arc::new(Agenda::default());
        agenda.state.lock().all = true;
        let (heard, rules) = (agenda.clone(), placements.clone());
        let changes = drive.subscribe(Box::new(move |event| heard.hear(event, &rules)), None);
        let shared = Arc::new(Shared { drive, placements, agenda });
        let keeping = shared.clone();
        let started = std::thread::Builder::new().name("larder-pin".into()).spawn(move || keeping.run());
        let thread = Mutex::new(Some(started.map_err(|e| Error::io("starting a thread", e))?));
        Ok(Some(Self { shared, thread, _changes: changes }))
    }

    /// Ends it; a call to the server that is under way has to be ended by others.
    pub fn end(&self) {
        self.shared.agenda.state.lock().ended = true;
        self.shared.agenda.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Pinner {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn run(&self) {
        let mut rest = Vec::new();
        while let Some(next) = self.agenda.next(&mut rest) {
            let is_everything = matches!(next, Next::Everything);
            let outcome = match next {
                Next::Everything => self.let_go(),
                Next::Node(id) => self.node(id, &mut rest).inspect_err(|_| self.agenda.again(id)),
                Next::Folder(part) => self.page(part, &mut rest),
            };
            // What failed is tried again, and what was looked at before stays so: without the server it may fail for days.
            if let Err(Stop::Failed(error)) = outcome {
                tracing::debug!(%error, "keeping what is pinned");
                self.agenda.pause(FAILED);
                self.agenda.state.lock().all |= is_everything;
            }
        }
    }

    /// What is not shown any more is not fetched either, whoever asked for it.
    fn let_go(&self) -> Result<(), Stop> {
        let Some(fetch) = self.drive.fetching() else { return Ok(()) };
        fetch.let_go(|id, is_pinned| match self.placement(id) {
            Ok(Placement::Excluded) => false,
            Ok(Placement::OnDemand) => !is_pinned,
            Ok(Placement::Pinned) | Err(_) => true,
        })?;
        Ok(())
    }

    fn placement(&self, id: NodeId) -> Result<Placement> {
        let node = self.drive.catalog().node(id)?;
        Ok(self.placements.decide(self.drive.catalog(), &node)?.placement)
    }

    /// A node that is new here, or changed.
    fn node(&self, id: NodeId, rest: &mut Vec<Rest>) -> Result<(), Stop> {
        let node = match self.drive.catalog().node(id) {
            Ok(node) if node.nlink > 0 => node,
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if node.is_folder() {
            rest.push(Rest { folder: id, after: None });
            return Ok(());
        }
        let is_pinned = node.is_file() && self.placement(id)? == Placement::Pinned;
        if is_pinned { self.keep(id) } else { Ok(()) }
    }

    /// Some of what is pinned in a folder. What is left, of it and below it, joins the `rest`.
    fn page(&self, part: Rest, rest: &mut Vec<Rest>) -> Result<(), Stop> {
        let Rest { folder, mut after } = part;
        let listed = self.pinned_in(folder, after.as_ref());
        let mut below = Vec::new();
        let mut look = |listed: Vec<(Listed, bool)>| {
            for (entry, is_pinned) in listed {
                match entry.node.is_folder() {
                    true => below.push(Rest { folder: entry.node.id, after: None }),
                    false if is_pinned => {
                        // One that fails holds up no other.
                        let kept = self.keep(entry.node.id).inspect_err(|_| self.agenda.again(entry.node.id));
                        after = Some(entry.name);
                        kept?;
                        continue;
                    }
                    false => {}
                }
                after = Some(entry.name);
            }
            self.agenda.check()
        };
        let outcome = match listed {
            Ok(listed) if listed.is_empty() => return Ok(()),
            Ok(listed) => look(listed),
            Err(error) => Err(error.into()),
        };
        rest.push(Rest { folder, after });
        rest.extend(below);
        outcome
    }

    /// Some entries of a folder, and whether they are pinned; none where there are no more.
    fn pinned_in(&self, folder: NodeId, after: Option<&Name>) -> Result<Vec<(Listed, bool)>> {
        let book = self.placements.book();
        let listed = Place::of_folder(self.drive.catalog(), folder).and_then(|place| {
            let path = place.path();
            match book.rules.may_pin_below(&path) {
                true => Ok((self.drive.list(folder, after, PAGE)?, path)),
                false => Ok((Vec::new(), path)),
            }
        });
        let (listed, path) = match listed {
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => {
                return Ok(Vec::new());
            }
            listed => listed?,
        };
        let pinned = |entry: Listed| {
            let decision = book.decide(&path.join(entry.name.clone()), entry.node.kind);
            let is_pinned = entry.node.is_file() && decision.placement == Placement::Pinned;
            (entry, is_pinned)
        };
        Ok(listed.into_iter().map(pinned).collect())
    }

    /// Has what is missing of a file come, once there is room for it among those that do.
    fn keep(&self, id: NodeId) -> Result<(), Stop> {
        let Some(fetch) = self.drive.fetching() else { return Ok(()) };
        while fetch.pin(id)? == Pinned::Full {
            self.agenda.pause(FULL);
            self.agenda.check()?;
        }
        Ok(())
    }
}
