//! Telling a server of entries: which come next, and what becomes of those that it refuses.

use super::bodies::Bodies;
use super::held::Held;
use super::{Conflicts, Label};
use crate::{Actor, Drive};
use larder_core::{Error, Kind, Result};
use larder_store::catalog::{Queued, Step, Waiting};
use larder_store::origin::{Mirror, Origin, PUSHED_MAX, Policy, Refused, Resolving};
use larder_store::{Durability, Op};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Content that entries told at once bring, unless one alone brings more.
const BATCH_BYTES: u64 = 64 << 20;
/// How often an entry is told again where nothing shows why it is refused.
const TRIES: u32 = 3;
/// How often one entry may be refused before it waits like any failure.
const REFUSALS_MAX: u32 = 4096;
/// Entries behind one that waits that are looked at for some that need not.
const AHEAD_MAX: usize = 64 * PUSHED_MAX;

/// Pages of what is in doubt that are asked for at a time.
const COMPARED: usize = 4;

/// What is to be done next.
pub(super) enum Next {
    /// There may be more to tell.
    More,
    /// Something is held since, and there may be more.
    Around,
    /// Nothing is queued.
    Idle,
    /// What is queued waits for what is held.
    Held,
    /// What is queued waits for somebody who has paused it.
    Paused,
}

/// How often the first entry of the queue was refused, and how many are worth telling at once.
pub(super) struct Refusals {
    number: u64,
    count: u32,
    fit: usize,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { number: 0, count: 0, fit: PUSHED_MAX }
    }
}

impl Refusals {
    fn turn_to(&mut self, number: u64) {
        if self.number != number {
            (self.number, self.count) = (number, 0);
        }
    }

    /// As many as were taken of those before and again as many: of a tree that another device has told of, each is refused, and
    /// all behind it would be sent once more each time.
    fn fit(&self) -> usize {
        self.fit
    }

    fn answered(&mut self, done: usize, is_refused: bool) {
        let base = if is_refused { done } else { self.fit };
        self.fit = (2 * base).clamp(1, PUSHED_MAX);
    }
}

/// Tells a server of what is queued.
pub(super) struct Telling {
    pub(super) bodies: Bodies,
    pub(super) mirror: Arc<Mirror>,
    pub(super) actor: Actor,
    label: Label,
    pub(super) policy: Mutex<Policy>,
    /// Refusals that were resolved.
    pub(super) resolved: AtomicU64,
}

impl Telling {
    pub(super) fn new(
        drive: Arc<Drive>,
        mirror: Arc<Mirror>,
        origin: Arc<dyn Origin>,
        actor: Actor,
        conflicts: Conflicts,
    ) -> Self {
        let bodies = Bodies::new(drive, origin);
        let Conflicts { label, policy } = conflicts;
        let (policy, resolved) = (Mutex::new(policy), AtomicU64::new(0));
        Self { bodies, mirror, actor, label, policy, resolved }
    }

    fn drive(&self) -> &Drive {
        &self.bodies.drive
    }

    fn commit(&self, ops: Vec<Op>) -> Result<()> {
        self.drive().commit(&self.actor, Vec::new(), ops, Durability::Process).map(drop)
    }

    /// Tells the server of the first entries that need not wait, and compares some of what is in doubt.
    pub(super) fn step(&self, refusals: &mut Refusals, held: &mut Held) -> Result<Next> {
        let next = self.tell(refusals, held)?;
        let compare = || self.mirror.compare_some(COMPARED, |ops| self.commit(ops));
        match next {
            Next::More => match compare() {
                Ok(_) => {}
                // Changes go first; once there are none, it is tried again and said.
                Err(error) => tracing::debug!(%error, "not compared"),
            },
            Next::Idle | Next::Held if !compare()? => return Ok(Next::More),
            _ => {}
        }
        Ok(next)
    }

    fn tell(&self, refusals: &mut Refusals, held: &mut Held) -> Result<Next> {
        let mut entries = self.batch(held)?;
        entries.truncate(refusals.fit());
        if entries.is_empty() {
            return Ok(if held.is_empty() { Next::Idle } else { Next::Held });
        }
        if self.bodies.is_paused() {
            return Ok(Next::Paused);
        }
        if let Err(error) = self.bodies.send_lacking(&entries) {
            return self.hold_spoilt(&entries, error, held);
        }
        let answer = self.mirror.push(&entries, |ops| self.commit(ops))?;
        refusals.answered(answer.done, answer.refused.is_some());
        let Some((why, news)) = answer.refused else { return Ok(Next::More) };
        let entry = &entries[answer.done];
        refusals.turn_to(entry.number);
        match why {
            // By itself it may be taken.
            Refused::Failed(error) if is_temporary(error.kind()) && answer.done > 0 => {
                tracing::debug!(%error, "the rest is told by itself");
            }
            Refused::Failed(error) if is_general(error.kind()) => return Err(error),
            Refused::Failed(error) if is_temporary(error.kind()) || refusals.count >= REFUSALS_MAX => {
                return Ok(self.hold(entry, &error, held));
            }
            Refused::Lacks(ids) => {
                refusals.count += 1;
                if refusals.count >= REFUSALS_MAX {
                    return Err(Error::unavailable("the server loses what it is sent"));
                }
                if let Err(error) = self.bodies.send(&ids) {
                    return self.hold_spoilt(std::slice::from_ref(entry), error, held);
                }
            }
            Refused::Failed(error) => {
                refusals.count += 1;
                let is_last = held.count_of(entry) >= TRIES;
                let at = self.drive().now();
                let label = (self.label)(at);
                let how = Resolving { label: &label, policy: *self.policy.lock(), is_last, at };
                let instead = match self.mirror.resolve(entry, &error, &news, &how) {
                    Ok(Some(instead)) => instead,
                    Ok(None) => {
                        held.count(entry);
                        return Ok(self.hold(entry, &error, held));
                    }
                    Err(error) if error.kind() == Kind::Unsupported => {
                        return Ok(self.hold(entry, &error, held));
                    }
                    Err(error) => return Err(error),
                };
                tracing::info!(%error, ?instead, "somebody else was first");
                self.mirror.restate(instead, news, |ops| self.commit(ops))?;
                self.resolved.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(Next::More)
    }

    fn hold(&self, entry: &Queued, error: &Error, held: &mut Held) -> Next {
        held.hold(entry, self.named(entry, error));
        Next::Around
    }

    /// Holds those of `entries` whose content is not here as it was; `error` where that is none of them.
    fn hold_spoilt(&self, entries: &[Queued], error: Error, held: &mut Held) -> Result<Next> {
        if error.kind() != Kind::Corrupt {
            return Err(error);
        }
        let before = held.len();
        for entry in entries {
            match self.bodies.send_lacking(std::slice::from_ref(entry)) {
                Err(error) if error.kind() == Kind::Corrupt => held.hold(entry, self.named(entry, &error)),
                outcome => outcome?,
            }
        }
        if held.len() > before { Ok(Next::Around) } else { Err(error) }
    }

    /// An error about an entry, with the name of what it is about.
    fn named(&self, entry: &Queued, error: &Error) -> Error {
        let nodes = entry.steps.iter().flat_map(|step| match step.touches() {
            touched if touched.names.is_empty() => touched.nodes,
            touched => touched.names.into_iter().map(|spot| spot.0).collect(),
        });
        let name = entry.steps.iter().find_map(|step| step.touches().names.pop()).map(|spot| spot.1);
        let path = nodes.into_iter().find_map(|node| self.drive().path_of(node).ok());
        let what = match (path, name) {
            (Some(path), Some(name)) if path.is_root() => format!("/{name}: {error}"),
            (Some(path), Some(name)) => format!("{path}/{name}: {error}"),
            (Some(path), None) => format!("{path}: {error}"),
            (None, _) => error.to_string(),
        };
        Error::new(error.kind(), what)
    }

    /// The first entries that need not wait, as many as are told at once.
    fn batch(&self, held: &Held) -> Result<Vec<Queued>> {
        let (mut entries, mut waiting) = (Vec::new(), Waiting::default());
        let (mut number, mut seen) = (0, 0);
        while entries.is_empty() && seen < AHEAD_MAX && !held.is_full() {
            let page = self.mirror.take(number, PUSHED_MAX)?;
            let Some(last) = page.last() else { break };
            (number, seen) = (last.number + 1, seen + page.len());
            entries = held.free(page, &mut waiting);
        }
        let mut bytes = 0;
        let fits = |entry: &Queued| {
            let heads = entry.steps.iter().filter_map(Step::head);
            let is_first = bytes == 0;
            bytes += heads.map(|head| head.allocated_bytes).sum::<u64>();
            is_first || bytes <= BATCH_BYTES
        };
        let len = entries.iter().map(fits).take_while(|fits| *fits).count();
        entries.truncate(len);
        Ok(entries)
    }
}

/// What concerns every entry alike.
fn is_general(kind: Kind) -> bool {
    matches!(kind, Kind::NoSpace | Kind::Denied)
}

/// What passes, or what somebody has to do something about.
fn is_temporary(kind: Kind) -> bool {
    matches!(kind, Kind::Unavailable | Kind::NoSpace | Kind::Denied | Kind::Corrupt | Kind::Unsupported)
}
