//! The tree: the project, a node, the entries of a folder, and a path in one round trip.

use crate::caller::Role;
use crate::describe::{ANSWER_BYTES, describe, named, weight};
use crate::failure::Failure;
use crate::query::{Query, cursor_text};
use crate::{Body, Service, answer};
use http::{Response, StatusCode};
use larder_core::{Error, Kind, Name, NodeId, Result as Outcome};
use larder_drive::Drive;
use larder_store::Listed;
use larder_store::wire::{WireEntry, WireNode, WirePage, text_of};
use serde::Serialize;
use std::sync::Arc;

/// Entries of a page without a limit.
const PAGE: usize = 1024;
/// The most entries of a page.
const PAGE_MAX: usize = 4096;

#[derive(Serialize)]
struct Project {
    root: WireNode,
    role: &'static str,
    cursor: String,
}

#[derive(Serialize)]
struct Found {
    entries: Vec<WireEntry>,
    complete: bool,
}

/// Tells what a device starts with.
pub(crate) async fn project(service: Arc<Service>, role: Role) -> Result<Response<Body>, Failure> {
    let (drive, asked) = (service.drive.clone(), service.clone());
    let look = move || -> Outcome<Project> {
        // First the cursor: what changes while the rest is read is told again.
        let cursor = cursor_text(&asked.epochs.told(&drive.catalog().now()));
        let root = describe(&drive, &named(&drive, NodeId::ROOT)?)?;
        Ok(Project { root, role: role.name(), cursor })
    };
    Ok(answer::json(StatusCode::OK, &service.gate.call(look).await?))
}

/// Tells what a node is.
pub(crate) async fn node(service: Arc<Service>, id: NodeId) -> Result<Response<Body>, Failure> {
    let drive = service.drive.clone();
    let node = service.gate.call(move || describe(&drive, &named(&drive, id)?)).await?;
    Ok(answer::json(StatusCode::OK, &node))
}

/// Lists a folder.
pub(crate) async fn entries(
    service: Arc<Service>,
    id: NodeId,
    query: &Query<'_>,
) -> Result<Response<Body>, Failure> {
    let (after, limit) = (query.after_name()?, query.limit(PAGE, PAGE_MAX)?);
    let drive = service.drive.clone();
    let list = move || {
        folder(&drive, id)?;
        Ok::<_, Error>(answer::json(StatusCode::OK, &page(&drive, id, after, limit)?))
    };
    Ok(service.gate.call(list).await?)
}

fn folder(drive: &Drive, id: NodeId) -> Outcome<()> {
    match named(drive, id)?.is_folder() {
        true => Ok(()),
        false => Err(Error::new(Kind::NotADirectory, format!("node {id} is no folder"))),
    }
}

fn page(drive: &Drive, id: NodeId, mut after: Option<Name>, limit: usize) -> Outcome<WirePage> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    loop {
        // One more than asked for tells whether there are more.
        let mut listed: Vec<Listed> = drive.catalog().list(id, after.as_ref(), limit + 1)?;
        let more = listed.len() > limit;
        listed.truncate(limit);
        after = listed.last().map(|last| last.name.clone());
        for entry in listed.into_iter().filter(|entry| !entry.node.draft) {
            if bytes > ANSWER_BYTES {
                return Ok(WirePage { entries, more: true });
            }
            let node = describe(drive, &entry.node)?;
            bytes += weight(&node);
            entries.push(WireEntry { name: text_of(entry.name.as_bytes()), node });
        }
        // A page of nothing but drafts would leave whoever asks without a name to go on behind.
        if !more || !entries.is_empty() {
            return Ok(WirePage { entries, more });
        }
    }
}

/// Tells what each name of a path names, as far as they go.
pub(crate) async fn lookup(
    service: Arc<Service>,
    id: NodeId,
    query: &Query<'_>,
) -> Result<Response<Body>, Failure> {
    let names = query.path()?;
    let drive = service.drive.clone();
    let look = move || {
        folder(&drive, id)?;
        Ok::<_, Error>(answer::json(StatusCode::OK, &found(&drive, id, &names)?))
    };
    Ok(service.gate.call(look).await?)
}

fn found(drive: &Drive, mut at: NodeId, names: &[Name]) -> Outcome<Found> {
    let (mut entries, mut bytes) = (Vec::with_capacity(names.len()), 0);
    for name in names {
        // To end early would say that the rest does not exist.
        if bytes > ANSWER_BYTES {
            return Err(Error::invalid("path: too long an answer; look up fewer names at once"));
        }
        let node = match drive.lookup(at, name) {
            Ok(node) => node,
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotADirectory) => break,
            Err(error) => return Err(error),
        };
        at = node.id;
        let node = describe(drive, &node)?;
        bytes += weight(&node);
        entries.push(WireEntry { name: text_of(name.as_bytes()), node });
    }
    let complete = entries.len() == names.len();
    Ok(Found { entries, complete })
}
