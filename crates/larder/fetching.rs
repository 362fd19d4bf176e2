//! What `fetch`, `pause`, `resume` and `cancel` do with what a device fetches, and what `status` says of it.

use crate::request::{Order, Scope};
use larder_core::{DrivePath, Error, NodeId, Result};
use larder_drive::fetch::{self, Progress, State, Switches, Why};
use larder_drive::{Drive, Fetch};
use larder_policy::Direction;
use larder_policy::plan::Priority;
use serde_json::{Value, json};
use std::time::Duration;

/// Files that `status` lists; it counts the others.
const LISTED_MAX: usize = 1000;

/// What to say where everything is on this machine.
pub fn not_remote(path: &str) -> Error {
    Error::invalid(format!("{path} is in no mount of a server's project: all of it is here already"))
}

fn fetching<'a>(drive: &'a Drive, path: &str) -> Result<&'a Fetch> {
    drive.fetching().ok_or_else(|| not_remote(path))
}

/// Asks for what `path` names.
///
/// # Errors
/// Those of resolving it and of [`Fetch::ask`].
pub fn fetch(
    drive: &Drive,
    path: &DrivePath,
    priority: u8,
    (ttl_ms, limit_bytes_per_s): (Option<u64>, Option<u64>),
) -> Result<Value> {
    let fetch = fetching(drive, &path.to_string())?;
    let node = drive.resolve(path)?;
    let ttl = ttl_ms.map(Duration::from_millis);
    let asked = fetch.ask(node.id, Priority::new(priority)?, ttl, limit_bytes_per_s)?;
    Ok(json!({
        "path": path.to_string(),
        "files": asked.files,
        "missing_bytes": asked.missing_bytes,
        "here_files": asked.here_files,
        "here_bytes": asked.here_bytes,
    }))
}

/// Pauses, resumes or cancels.
///
/// # Errors
/// Those of resolving a path and of [`Fetch::order`].
pub fn order(drive: &Drive, order: Order, scope: Scope) -> Result<Value> {
    let fetch = fetching(drive, "the drive")?;
    let order = match order {
        Order::Pause => fetch::Order::Pause,
        Order::Resume => fetch::Order::Resume,
        Order::Cancel => fetch::Order::Cancel,
    };
    let scope = match scope {
        Scope::Path(path) => fetch::Scope::Below(drive.resolve(&DrivePath::parse(path)?)?.id),
        Scope::All => fetch::Scope::All,
        Scope::Down => fetch::Scope::Direction(Direction::Down),
        Scope::Up => fetch::Scope::Direction(Direction::Up),
    };
    Ok(json!({ "files": fetch.order(order, scope)? }))
}

/// Adds to a status what is fetched at `top` or below it, where anything is fetched at all.
///
/// # Errors
/// Those of the index.
pub fn show(drive: &Drive, top: NodeId, shown: &mut Value) -> Result<()> {
    let Some(fetch) = drive.fetching() else { return Ok(()) };
    let report = fetch.report((top != NodeId::ROOT).then_some(top))?;
    let listed = report.files.iter().take(LISTED_MAX);
    shown["fetches"] = listed.map(|file| progress(drive, file)).collect();
    if report.files.len() > LISTED_MAX {
        shown["fetches_more"] = json!(report.files.len() - LISTED_MAX);
    }
    let Switches { all, down, up } = report.paused;
    shown["paused"] = json!({ "all": all, "down": down, "up": up });
    shown["wrong_chunks"] = json!(report.wrong_chunks);
    Ok(())
}

/// What is fetched at `top` and below it, as [`show`] has it.
///
/// # Errors
/// Those of the index.
pub fn below(drive: &Drive, top: &DrivePath) -> Result<Vec<Value>> {
    let Some(fetch) = drive.fetching() else { return Ok(Vec::new()) };
    let top = if top.is_root() { None } else { Some(drive.resolve(top)?.id) };
    Ok(fetch.report(top)?.files.iter().take(LISTED_MAX).map(|file| progress(drive, file)).collect())
}

/// Why what is at `top` and below it was fetched, the newest first; what is hidden by now is told without its path.
///
/// # Errors
/// `Invalid` where nothing is fetched.
pub fn causes(drive: &Drive, top: &DrivePath) -> Result<Value> {
    let fetch = fetching(drive, &top.to_string())?;
    let told = fetch.causes().into_iter().filter_map(|cause| {
        let path = drive.path_of(cause.of).ok();
        if !top.is_root() && !path.as_ref().is_some_and(|path| top.contains(path)) {
            return None;
        }
        let (why, program) = match &cause.why {
            Why::Read(program) => ("read", Some(program)),
            Why::Asked => ("larder fetch", None),
            Why::Pinned => ("pinned", None),
            Why::Own => ("larder itself", None),
        };
        Some(json!({
            "path": path.map_or_else(|| format!("node {}", cause.of), |path| path.to_string()),
            "why": why,
            "process": program.map(|program| &program.name),
            "pid": program.map(|program| program.pid),
            "bytes": cause.bytes,
            "chunks": cause.chunks,
            "at": crate::time::rfc3339(cause.at),
        }))
    });
    Ok(told.collect())
}

fn progress(drive: &Drive, file: &Progress) -> Value {
    let path =
        drive.path_of(file.node).map_or_else(|_| format!("node {}", file.node), |path| path.to_string());
    json!({
        "path": path,
        "state": match file.state {
            State::Active => "active",
            State::Queued => "queued",
            State::Paused => "paused",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Done => "done",
        },
        "priority": (file.priority > 0).then_some(file.priority),
        "pinned": file.priority == 0,
        "done_bytes": file.done.bytes,
        "total_bytes": file.total.bytes,
        "done_chunks": file.done.chunks,
        "total_chunks": (file.total.chunks > 0).then_some(file.total.chunks),
        "percent": percent(file.done.bytes, file.total.bytes),
        "speed_bytes_per_s": file.speed_bytes_per_s as u64,
        "left_s": file.left.map(|left| left.as_secs()),
        "ttl_s": file.ttl.map(|ttl| ttl.as_secs_f64()),
        "limit_bytes_per_s": file.limit_bytes_per_s,
        "why": file.why,
    })
}

/// `part` of `whole` in whole percent; 100 only for all of it.
pub fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 100 } else { u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(100) }
}
