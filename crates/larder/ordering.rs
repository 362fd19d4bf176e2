//! `larder fetch`, `pause`, `resume` and `cancel`: whom they ask, and what they tell.

use crate::args::{Command, Whole};
use crate::client;
use crate::config::StoreSettings;
use crate::fetching::not_remote;
use crate::limiting::Limiting;
use crate::limits::Written;
use crate::mounts::{self, Place};
use crate::origin;
use crate::payers::Who;
use crate::request::{Order, Request, Scope};
use crate::show::size;
use larder_core::{Error, Result};
use larder_policy::Rate;
use larder_store::origin::Link;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Has one of these commands carried out; what to tell of it, for each drive that was asked. `data` is the directory that
/// the user named, if any; `store` reads the settings of one.
///
/// # Errors
/// `Invalid` for a path in no mount of a server's project; `Unavailable` where nothing has it mounted; those of the order.
pub fn run(
    command: Command,
    data: Option<PathBuf>,
    store: impl Fn(PathBuf) -> Result<StoreSettings>,
) -> Result<Vec<(String, Value)>> {
    let ask = |data: PathBuf, request: &Request| {
        let none = || Error::unavailable(format!("nothing has {} mounted", data.display()));
        client::ask_running(&store(data.clone())?, request)?.ok_or_else(none)
    };
    let (order, whole) = match command {
        Command::Fetch { path, priority, ttl, limit } => {
            let (data, place) = remote(&path)?;
            let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
            let limit_bytes_per_s = limit.map(Rate::bytes_per_s);
            let answer =
                ask(data, &Request::Fetch { path: place.bytes(), priority, ttl_ms, limit_bytes_per_s })?;
            return Ok(vec![(asked_line(&answer), answer)]);
        }
        Command::Pause(whole) => (Order::Pause, whole),
        Command::Resume(whole) => (Order::Resume, whole),
        Command::Cancel(whole) => (Order::Cancel, whole),
        other => unreachable!("{other:?} is no such command"),
    };
    let scope = match whole {
        Whole { path: Some(path), .. } => {
            let (data, place) = remote(&path)?;
            let answer = ask(data, &Request::Order { order, scope: Scope::Path(place.bytes()) })?;
            return Ok(vec![(order_line(order, &Scope::Path(Vec::new()), "", &answer), answer)]);
        }
        Whole { all: true, .. } => Scope::All,
        Whole { down: true, .. } => Scope::Down,
        Whole { .. } => Scope::Up,
    };
    let all = data.map_or_else(remotes, |data| Ok(vec![(data.clone(), data)]))?;
    let told = all.into_iter().map(|(data, shown)| {
        let mut answer = ask(data.clone(), &Request::Order { order, scope: scope.clone() })?;
        answer["data"] = json!(data);
        Ok((order_line(order, &scope, &shown.display().to_string(), &answer), answer))
    });
    told.collect()
}

impl Limiting {
    /// The mount that is meant, and what to ask.
    pub fn request(self) -> (Option<PathBuf>, Request) {
        let Limiting { mount, down, up, total, window, user, device, offline, metered, online } = self;
        let links = [(offline, Link::Offline), (metered, Link::Metered), (online, Link::Online)];
        let link = links.into_iter().find_map(|(is_meant, link)| is_meant.then_some(link));
        let who = user.map(Who::User).or(device.map(Who::Device));
        (mount, Request::Limit { who, limits: Written { down, up, total, window }, link })
    }
}

/// The data directory and the path in the drive that `path` leads to.
///
/// # Errors
/// `Invalid` for a path in no mount of a server's project; those of reading the mounts.
pub fn remote(path: &Path) -> Result<(PathBuf, Place)> {
    let place = mounts::place(path)?;
    let source = place.source.clone().map(|source| Ok((origin::Place::of(&source)?.is_some(), source)));
    match source.transpose()? {
        Some((true, source)) => Ok((source, place)),
        Some((false, _)) => Err(not_remote(&path.display().to_string())),
        None => Err(Error::invalid(format!("{} is in no mount of a server's project", path.display()))),
    }
}

/// The data directories of all mounts of servers' projects, and where each is mounted.
///
/// # Errors
/// `NotFound` where there is none; those of reading the mounts.
pub fn remotes() -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut all: Vec<_> = mounts::list()?.into_iter().map(|mount| (mount.source, mount.dir)).collect();
    all.sort_unstable();
    all.dedup_by(|one, other| one.0 == other.0);
    // Those of others cannot be asked.
    all.retain(|(data, _)| origin::Place::of(data).is_ok_and(|place| place.is_some()));
    if all.is_empty() {
        return Err(Error::not_found("a mount of a server's project"));
    }
    Ok(all)
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

fn asked_line(answer: &Value) -> String {
    let number = |key: &str| answer[key].as_u64().unwrap_or_default();
    let here = format!("{}, {}", files(number("here_files")), size(number("here_bytes")));
    let (count, missing) = (number("files"), size(number("missing_bytes")));
    match (count, number("here_bytes")) {
        (0, _) => format!("Nothing to fetch ({here} here)"),
        (_, 0) => format!("Fetching {}, {missing}", files(count)),
        _ => format!("Fetching {}, {missing} ({here} here already)", files(count)),
    }
}

fn order_line(order: Order, scope: &Scope, shown: &str, answer: &Value) -> String {
    let done = match order {
        Order::Pause => "Paused",
        Order::Resume => "Resumed",
        Order::Cancel => "Cancelled",
    };
    let count = files(answer["files"].as_u64().unwrap_or_default());
    match scope {
        Scope::Path(_) => format!("{done} {count}"),
        Scope::All => format!("{done} everything of {shown} ({count})"),
        Scope::Down => format!("{done} what {shown} fetches ({count})"),
        Scope::Up => format!("{done} what {shown} sends"),
    }
}
