//! `larder events`: what changes in a drive, and how fetches and pushes go on, told as it happens.
//!
//! A commit leaves its changes in a bounded queue; a thread of the listener's own finds out what they mean and hands them on, as
//! fast as the listener reads. One who is too slow is told how many were left out.

use crate::data::Opened;
use crate::fetching;
use larder_core::{DrivePath, Name, NodeId};
use larder_drive::{Door, Drive};
use larder_store::Change;
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Changes that wait for a slow listener; more are only counted.
const CHANGES_MAX: usize = 4096;
/// How often fetches and pushes are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Fetches whose last state is remembered; of more than that every look tells anew.
const FETCHES_MAX: usize = 10_000;

/// Somebody who listens.
#[derive(Default)]
pub struct Listener {
    heard: Mutex<Heard>,
    rung: Condvar,
}

#[derive(Default)]
struct Heard {
    changes: VecDeque<(Door, Change)>,
    missed: u64,
    ended: bool,
}

impl Listener {
    /// Ends [`tell`].
    pub fn end(&self) {
        self.heard.lock().ended = true;
        self.rung.notify_all();
    }

    fn hear(&self, door: Door, changes: &[Change]) {
        let mut heard = self.heard.lock();
        for change in changes {
            if heard.changes.len() < CHANGES_MAX {
                heard.changes.push_back((door, change.clone()));
            } else {
                heard.missed += 1;
            }
        }
        self.rung.notify_all();
    }

    /// The next changes, or none where it is time for a look; `None` at the end.
    fn next(&self) -> Option<(VecDeque<(Door, Change)>, u64)> {
        let mut heard = self.heard.lock();
        let idle = |heard: &mut Heard| heard.changes.is_empty() && !heard.ended;
        self.rung.wait_while_for(&mut heard, idle, LOOK);
        let missed = std::mem::take(&mut heard.missed);
        (!heard.ended).then(|| (std::mem::take(&mut heard.changes), missed))
    }
}

/// Tells of what happens at `top` and below it, until `listener` is ended or `send` says that nobody reads.
pub fn tell(opened: &Opened, top: &DrivePath, listener: &Arc<Listener>, send: &mut dyn FnMut(Value) -> bool) {
    let hearing = listener.clone();
    let hear = move |event: &larder_drive::Event<'_>| hearing.hear(event.door, event.changes);
    let _subscription = opened.drive.subscribe(Box::new(hear), None);
    let mut going = Going::default();
    // From here on nothing is missed.
    if !send(json!({ "event": "ready" })) {
        return;
    }
    while let Some((changes, missed)) = listener.next() {
        let changes =
            changes.into_iter().filter_map(|(door, change)| changed(&opened.drive, top, door, &change));
        let left_out = (missed > 0).then(|| json!({ "event": "missed", "changes": missed }));
        let all = changes.chain(left_out).chain(going.look(opened, top));
        for event in all {
            if !send(event) {
                return;
            }
        }
    }
}

/// A change as it is told; nothing for what is elsewhere, or gone by now.
fn changed(drive: &Drive, top: &DrivePath, door: Door, change: &Change) -> Option<Value> {
    let below = |folder: NodeId, name: &Name| {
        let mut names = drive.path_of(folder).ok()?.names().to_vec();
        names.push(name.clone());
        Some(DrivePath::from(names))
    };
    let (kind, node, path) = match change {
        Change::Named { parent, name, node } => ("named", node, below(*parent, name)?),
        Change::Unnamed { parent, name, node } => ("unnamed", node, below(*parent, name)?),
        Change::Content(node) => ("content", node, drive.path_of(*node).ok()?),
        Change::Attrs(node) => ("attributes", node, drive.path_of(*node).ok()?),
    };
    let door = match door {
        Door::Mount => "mount",
        Door::Dav => "webdav",
        Door::Api => "server",
    };
    let told =
        json!({ "event": kind, "path": path.to_string(), "node": node.0.to_string(), "through": door });
    path.names().starts_with(top.names()).then_some(told)
}

/// What was told last of what goes on.
#[derive(Default)]
struct Going {
    fetches: HashMap<String, Value>,
    push: Value,
    link: Value,
}

impl Going {
    /// What is different now.
    fn look(&mut self, opened: &Opened, top: &DrivePath) -> Vec<Value> {
        let mut told = Vec::new();
        let Some(sync) = opened.sync() else { return told };
        if let Ok(files) = fetching::below(&opened.drive, top) {
            let before = std::mem::take(&mut self.fetches);
            for file in files.into_iter().take(FETCHES_MAX) {
                let path = file["path"].as_str().unwrap_or_default().to_owned();
                if before.get(&path) != Some(&file) {
                    told.push(event("fetch", &file));
                }
                self.fetches.insert(path, file);
            }
        }
        if let Ok(status) = sync.pusher.status() {
            let push = json!({
                "changes": status.entries,
                "sent_bytes": status.sent_bytes,
                "trouble": status.trouble,
            });
            if push != self.push {
                told.push(event("push", &push));
                self.push = push;
            }
        }
        let link = json!({ "link": sync.link() });
        if link != self.link {
            told.push(event("link", &link));
            self.link = link;
        }
        told
    }
}

fn event(name: &str, fields: &Value) -> Value {
    let mut event = fields.clone();
    event["event"] = json!(name);
    event
}

/// An event as people read it.
pub fn line(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| event[key].as_u64().unwrap_or_default();
    match event["event"].as_str().unwrap_or_default() {
        "fetch" => format!("fetch {} {} {} %", text("path"), text("state"), number("percent")),
        "push" => match number("changes") {
            0 => "push everything is sent".to_owned(),
            changes => format!("push {changes} changes are not sent {}", text("trouble")),
        },
        "link" => format!("link {}", text("link")),
        "missed" => format!("missed {} changes", number("changes")),
        name => format!("{name} {}", text("path")).trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_too_slow_is_told_how_many_were_left_out() {
        let listener = Listener::default();
        (0..CHANGES_MAX as u64 + 17).for_each(|id| listener.hear(Door::Dav, &[Change::Content(NodeId(id))]));
        let (changes, missed) = listener.next().expect("it goes on");
        assert_eq!((changes.len(), missed), (CHANGES_MAX, 17));
        listener.hear(Door::Dav, &[Change::Content(NodeId(1))]);
        let (changes, missed) = listener.next().expect("it goes on");
        assert_eq!((changes.len(), missed), (1, 0), "and hears again of what comes");
        listener.end();
        assert!(listener.next().is_none());
    }
}
