//! What `why` and `free` say and do of what a device keeps of a server's project.

use crate::data::Opened;
use crate::fetching::not_remote;
use larder_core::{ChunkId, DrivePath, Error, Kind, Node, NodeId, NodeKind, Result};
use larder_drive::{Book, each_below};
use larder_policy::rules::{Decision, Placement};
use larder_store::Catalog;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// Says which rule decides about `path`, whose it is, and what it would cost to decide otherwise. What is hidden is told of,
/// too.
///
/// # Errors
/// `Invalid` where all is here anyway; `NotFound`; those of the store.
pub fn why(opened: &Opened, path: &DrivePath) -> Result<Value> {
    let drive = &*opened.drive;
    let remote = drive.placements().zip(opened.sync());
    let (placements, sync) = remote.ok_or_else(|| not_remote(&path.to_string()))?;
    let known = sync.known();
    let node = match drive.resolve(path) {
        Err(error) if error.kind() == Kind::NotFound => hidden(known, path)?,
        node => node?,
    };
    let book = placements.book();
    let decision = book.decide(path, node.kind);
    let (mut files, mut total, mut here) = (0_u64, 0, 0);
    each_below(
        known,
        (node, path.clone()),
        |_| true,
        |_, node| {
            if node.is_file() {
                files += 1;
                total += node.size_bytes();
                here += drive.here(&node)?.bytes;
            }
            Ok(())
        },
    )?;
    let is_pinned = decision.placement == Placement::Pinned;
    Ok(json!({
        "path": path.to_string(),
        "placement": word(decision),
        "rule": decision.rule.map(|rule| book.rules.rules()[rule].to_string()),
        "rule_number": decision.rule.map(|rule| rule + 1),
        "device": sync.device,
        "by": book.ruled.by,
        "on": book.ruled.on,
        "files": files,
        "total_bytes": total,
        "here_bytes": here,
        "pin_would_fetch_bytes": total - here,
        "free_would_give_bytes": if is_pinned { 0 } else { here },
    }))
}

/// As users know it.
fn word(decision: Decision) -> &'static str {
    match decision.placement {
        Placement::Pinned => "Always keep on this device",
        Placement::OnDemand => "Fetched when it is opened",
        Placement::Excluded => "Not shown on this device",
    }
}

/// What `path` names, where the rules do not show it.
fn hidden(known: &dyn Catalog, path: &DrivePath) -> Result<Node> {
    let mut node = known.node(NodeId::ROOT)?;
    for name in path.names() {
        node = known.lookup(node.id, name).map_err(|_| Error::not_found(path.to_string()))?;
    }
    Ok(node)
}

/// Drops what is here of `path`, a file or all files in a folder, but for what has to stay.
///
/// # Errors
/// `Invalid` where all is here and nowhere else; `Denied` for what is pinned; those of the store.
pub fn free(opened: &Opened, path: &DrivePath) -> Result<Value> {
    let drive = &*opened.drive;
    let remote = drive.placements().zip(drive.fetching()).zip(opened.evictor()).zip(opened.sync());
    let (((placements, fetch), evictor), sync) = remote.ok_or_else(|| not_remote(&path.to_string()))?;
    // Of what nobody has told of, nothing is here.
    let known = sync.known();
    let top = drive.resolve(path)?;
    let book = placements.book();
    let decision = book.decide(path, top.kind);
    if decision.placement == Placement::Pinned {
        return Err(kept(&book, path, decision));
    }
    let (mut chunks, mut pinned, mut unsent) = (HashMap::new(), 0_u64, 0_u64);
    each_below(
        known,
        (top, path.clone()),
        |_| true,
        |at, node| {
            if !node.is_file() {
                return Ok(());
            }
            if book.decide(at, NodeKind::File).placement == Placement::Pinned {
                pinned += 1;
            } else if drive.catalog().is_queued(node.id)? {
                unsent += 1;
            } else {
                chunks.extend(fetch.chunks_here(node.id)?);
            }
            Ok(())
        },
    )?;
    evictor.release(&chunks.keys().copied().collect::<HashSet<ChunkId>>())?;
    let ids: Vec<ChunkId> = chunks.keys().copied().collect();
    let gone = drive.chunks().missing(&ids)?;
    let freed: u64 = gone.iter().map(|id| chunks[id]).sum();
    Ok(json!({
        "path": path.to_string(),
        "freed_bytes": freed,
        "kept_bytes": chunks.values().sum::<u64>() - freed,
        "pinned_files": pinned,
        "not_sent_files": unsent,
    }))
}

fn kept(book: &Book, path: &DrivePath, decision: Decision) -> Error {
    let rule = decision.rule.map_or_else(String::new, |rule| book.rules.rules()[rule].to_string());
    Error::denied(format!(
        "{path} is kept on this device by the rule {rule:?}: `larder unpin` takes it away, `larder rules` shows all"
    ))
}
