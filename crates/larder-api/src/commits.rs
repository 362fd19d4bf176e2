//! A device's entries: carried out in order, each in one commit of the drive, until one is refused.

use crate::caller::Caller;
use crate::changes::{About, name_now, node_now};
use crate::contents::Contents;
use crate::describe::{ANSWER_BYTES, is_in_tree, weight};
use crate::failure::Failure;
use crate::ranges::Ranges;
use crate::{Body, Incoming, Service, answer};
use http::{Response, StatusCode, request};
use larder_core::{ChunkId, Error, Kind, NodeId, Result as Outcome};
use larder_drive::{Actor, Door, Drive};
use larder_store::catalog::{Entry, Step};
use larder_store::origin::{PUSHED_MAX, PUSHED_MAX_BYTES};
use larder_store::wire::{WireChange, WireEntryOf, WireStep};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

#[derive(Deserialize)]
struct WireEntries {
    entries: Vec<WireEntryOf>,
}

#[derive(Serialize)]
struct WirePushed {
    done: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<WireRefused>,
    changes: Vec<WireChange>,
}

#[derive(Serialize)]
struct WireRefused {
    kind: &'static str,
    what: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lacks: Vec<String>,
}

/// Carries entries out, and tells what is there then.
pub(crate) async fn carry_out(
    service: Arc<Service>,
    caller: Caller,
    head: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Failure> {
    let body = answer::whole(&head.headers, body, answer::JSON, PUSHED_MAX_BYTES).await?;
    let drive = service.drive.clone();
    let push = move || {
        let entries = read(&body)?;
        Ok::<_, Failure>(answer::json(StatusCode::OK, &pushed(&drive, &caller, entries)?))
    };
    service.gate.call(push).await
}

/// All of them, before the first is carried out.
fn read(body: &[u8]) -> Result<Vec<Entry>, Failure> {
    let wire: WireEntries = serde_json::from_slice(body).map_err(|error| Failure::invalid("body", error))?;
    if wire.entries.len() > PUSHED_MAX {
        return Err(Failure::invalid("entries", format_args!("at most {PUSHED_MAX}")));
    }
    let entries = wire.entries.iter().enumerate();
    entries.map(|(at, entry)| entry.read().map_err(|error| wrong(at, entry, &error))).collect()
}

fn wrong(at: usize, entry: &WireEntryOf, error: &Error) -> Failure {
    let step = entry.steps.iter().position(|step: &WireStep| step.read().is_err());
    let step = step.map_or(String::new(), |step| format!(".steps[{step}]"));
    let why = error.what().trim_start_matches("the other side sent ");
    Failure::invalid(&format!("entries[{at}]{step}"), why)
}

fn pushed(drive: &Drive, caller: &Caller, entries: Vec<Entry>) -> Outcome<WirePushed> {
    let actor = Actor::new(Door::Api, 0, 0, caller.user.as_str());
    let ranges = Ranges::given(drive)?;
    let (mut told, mut done, mut refused) = (Told::default(), 0, None);
    for entry in entries {
        if told.bytes > ANSWER_BYTES {
            let full = Error::unavailable("the answer is full: push the rest again");
            refused = Some(Refused::from(full));
            break;
        }
        let nodes = told.add(&entry);
        let outcome = commit(drive, &actor, &ranges, entry);
        told.weigh(drive, &nodes)?;
        if let Err(why) = outcome {
            refused = Some(why);
            break;
        }
        done += 1;
    }
    if done > 0 {
        drive.settle()?;
    }
    Ok(WirePushed { done, refused: refused.map(Refused::told), changes: told.changes(drive)? })
}

/// Why an entry is not carried out.
struct Refused {
    error: Error,
    lacks: Vec<ChunkId>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, lacks: Vec::new() }
    }
}

impl Refused {
    fn told(self) -> WireRefused {
        let kind = match self.error.kind() {
            // A lock ends by itself: the device is to try again.
            Kind::Conflict if larder_drive::is_locked(&self.error) => Kind::Unavailable,
            // More names than a file may have are no want of room: trying again does not help.
            Kind::NoSpace if is_one_name_too_many(&self.error) => Kind::Conflict,
            kind => kind,
        };
        if kind == Kind::Corrupt {
            tracing::warn!(error = %self.error, "a device's entry failed");
        }
        let lacks = self.lacks.iter().map(ChunkId::to_string).collect();
        WireRefused { kind: kind.word(), what: self.error.what().to_owned(), lacks }
    }
}

fn is_one_name_too_many(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| source.kind() == std::io::ErrorKind::TooManyLinks)
}

fn commit(drive: &Drive, actor: &Actor, ranges: &Ranges, entry: Entry) -> Result<(), Refused> {
    // What it needed then may be gone since.
    if drive.catalog().is_done(entry.op_id)? {
        return Ok(());
    }
    let mut contents = Contents::new(drive.chunks());
    for step in &entry.steps {
        if let Step::Create { node, .. } = step
            && !ranges.contain(drive, node.node.id)
        {
            let what = format!("node {}: nobody was given its id", node.node.id);
            return Err(Error::invalid(what).into());
        }
        if let Some(head) = step.head() {
            contents.look_through(head)?;
        }
    }
    if !contents.lacks().is_empty() {
        let lacks: Vec<ChunkId> = contents.lacks().iter().copied().collect();
        let error = Error::conflict(format!("chunks of it that are not here: {}", lacks.len()));
        return Err(Refused { error, lacks });
    }
    let op_id = entry.op_id;
    let (expect, ops) = entry.carried_out();
    drive.commit_once(actor, op_id, expect, ops)?;
    Ok(())
}

/// What entries are about, each once, names before nodes.
#[derive(Default)]
struct Told {
    abouts: BTreeSet<About>,
    /// About as long as an answer is that tells of them.
    bytes: usize,
}

impl Told {
    /// Adds what an entry is about, before it is carried out.
    fn add(&mut self, entry: &Entry) -> Vec<NodeId> {
        let mut new = Vec::new();
        for touched in entry.steps.iter().map(Step::touches) {
            self.abouts.extend(touched.names.into_iter().map(|(parent, name)| About::Name(parent, name)));
            new.extend(touched.nodes.into_iter().filter(|node| self.abouts.insert(About::Node(*node))));
        }
        new
    }

    fn weigh(&mut self, drive: &Drive, nodes: &[NodeId]) -> Outcome<()> {
        for node in nodes {
            if let Some(WireChange::Node(node)) = node_now(drive, *node)? {
                self.bytes += weight(&node);
            }
        }
        Ok(())
    }

    /// A node that a name brings along is not told again, unless it went with a folder above it.
    fn changes(self, drive: &Drive) -> Outcome<Vec<WireChange>> {
        let (mut changes, mut brought) = (Vec::with_capacity(self.abouts.len()), HashSet::new());
        for about in self.abouts {
            let change = match about {
                // What a device holds at a name is gone, whatever a mount is writing there.
                About::Name(parent, name) => name_now(drive, parent, &name, true)?,
                About::Node(node) => match node_now(drive, node)? {
                    Some(WireChange::Node(_)) if !is_in_tree(drive, node)? => {
                        Some(WireChange::Gone(node.to_string()))
                    }
                    Some(WireChange::Node(node)) if brought.contains(&node.id) => None,
                    change => change,
                },
            };
            if let Some(WireChange::Name { node: Some(node), .. }) = &change {
                brought.insert(node.id.clone());
            }
            changes.extend(change);
        }
        Ok(changes)
    }
}
