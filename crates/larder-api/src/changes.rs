//! The change feed, with what is there now: an answer may be read twice, or late, and does no harm.

use crate::describe::{ANSWER_BYTES, describe, named, weight};
use crate::failure::Failure;
use crate::query::{Query, cursor_text};
use crate::{Body, Service, answer};
use http::{Response, StatusCode};
use larder_core::{Error, Kind, Name, NodeId, Result as Outcome};
use larder_drive::Drive;
use larder_store::Change;
use larder_store::catalog::Cursor;
use larder_store::wire::{WireChange, WireChanges, WireNode, text_of};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Entries of the feed that one answer tells of without a limit.
const USUAL: usize = 1024;
/// The most that may be asked for.
const LIMIT_MAX: usize = 4096;

/// Tells what changed behind a cursor.
pub(crate) async fn changes(service: Arc<Service>, query: &Query<'_>) -> Result<Response<Body>, Failure> {
    let (after, limit) = (query.after_cursor()?, query.limit(USUAL, LIMIT_MAX)?);
    let asked = service.clone();
    service.gate.call(move || Ok(answer::json(StatusCode::OK, &told(&asked, &after, limit)?))).await
}

/// Fewer than `limit` entries of the feed where their nodes take too long an answer.
fn told(service: &Service, after: &Cursor, mut limit: usize) -> Result<WireChanges, Failure> {
    let (drive, epochs) = (&service.drive, &service.epochs);
    let after = epochs.read(after).map_err(void)?;
    loop {
        let (changes, cursor) = drive.catalog().changes(&after, limit).map_err(void)?;
        let more = changes.len() >= limit;
        // One entry is told in any case, so that whoever reads gets on.
        let room = if limit == 1 { usize::MAX } else { ANSWER_BYTES };
        limit = changes.len().min(limit).div_ceil(2).max(1);
        if let Some(changes) = now(drive, merged(changes), room)? {
            return Ok(WireChanges { changes, cursor: cursor_text(&epochs.told(&cursor)), more });
        }
    }
}

/// Damage, or a made-up cursor in the middle of a record, is a place where the feed has a hole: the device starts again
/// in either case.
fn void(error: Error) -> Failure {
    match error.kind() {
        Kind::Conflict | Kind::Corrupt => {
            let what = "the feed does not reach back so far";
            Failure::new(StatusCode::CONFLICT, Kind::Conflict, what)
                .hint("start again from the project's cursor and a listing")
        }
        Kind::Invalid => Failure::invalid("after", "no cursor"),
        _ => error.into(),
    }
}

/// What an answer tells of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum About {
    Name(NodeId, Name),
    Node(NodeId),
}

/// What `changes` are about, each once, where it came up last; and of names, whether they may have been taken away.
fn merged(changes: Vec<Change>) -> Vec<(About, bool)> {
    let mut gone = HashSet::new();
    let mut all = Vec::with_capacity(3 * changes.len());
    for change in changes {
        match change {
            // A name also changes the folder's time and number of subfolders.
            Change::Named { parent, name, node } => {
                all.extend([About::Name(parent, name), About::Node(node), About::Node(parent)]);
            }
            Change::Unnamed { parent, name, node } => {
                gone.insert((parent, name.clone()));
                all.extend([About::Name(parent, name), About::Node(node), About::Node(parent)]);
            }
            Change::Content(node) | Change::Attrs(node) => all.push(About::Node(node)),
        }
    }
    let last: HashMap<&About, usize> = all.iter().enumerate().map(|(at, about)| (about, at)).collect();
    let mut places: Vec<usize> = last.into_values().collect();
    places.sort_unstable();
    let known = |about: &About| match about {
        About::Name(parent, name) => gone.contains(&(*parent, name.clone())),
        About::Node(_) => false,
    };
    places.into_iter().map(|at| (all[at].clone(), known(&all[at]))).collect()
}

/// What is there now; `None` where that takes more than `room` bytes. A node that a name brings along is not told again.
fn now(drive: &Drive, abouts: Vec<(About, bool)>, mut room: usize) -> Outcome<Option<Vec<WireChange>>> {
    let mut names = HashMap::new();
    let mut brought = HashSet::new();
    let mut fits = |node: &WireNode| match room.checked_sub(weight(node)) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    for (about, was_taken) in &abouts {
        let About::Name(parent, name) = about else { continue };
        let change = name_now(drive, *parent, name, *was_taken)?;
        if let Some(WireChange::Name { node: Some(node), .. }) = &change {
            if !fits(node) {
                return Ok(None);
            }
            brought.insert(node.id.clone());
        }
        names.insert(about.clone(), change);
    }
    let mut changes = Vec::with_capacity(abouts.len());
    for (about, _) in &abouts {
        match about {
            About::Name(..) => changes.extend(names.remove(about).flatten()),
            About::Node(id) if brought.contains(&id.to_string()) => {}
            About::Node(id) => {
                let change = node_now(drive, *id)?;
                if let Some(WireChange::Node(node)) = &change
                    && !fits(node)
                {
                    return Ok(None);
                }
                changes.extend(change);
            }
        }
    }
    Ok(Some(changes))
}

/// Nothing where a draft has the name, unless something else had it before.
pub(crate) fn name_now(
    drive: &Drive,
    parent: NodeId,
    name: &Name,
    was_taken: bool,
) -> Outcome<Option<WireChange>> {
    let node: Option<Box<WireNode>> = match drive.catalog().lookup(parent, name) {
        Ok(node) if node.draft && !was_taken => return Ok(None),
        Ok(node) if node.draft => None,
        Ok(node) => Some(Box::new(describe(drive, &node)?)),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => None,
        Err(error) => return Err(error),
    };
    Ok(Some(WireChange::Name { parent: parent.to_string(), name: text_of(name.as_bytes()), node }))
}

/// Nothing for a draft.
pub(crate) fn node_now(drive: &Drive, id: NodeId) -> Outcome<Option<WireChange>> {
    match drive.catalog().node(id) {
        Ok(node) if node.draft => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == Kind::NotFound => {}
        Err(error) => return Err(error),
    }
    match named(drive, id) {
        Ok(node) => Ok(Some(WireChange::Node(Box::new(describe(drive, &node)?)))),
        Err(error) if error.kind() == Kind::NotFound => Ok(Some(WireChange::Gone(id.to_string()))),
        Err(error) => Err(error),
    }
}
