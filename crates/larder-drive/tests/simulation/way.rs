//! The way to a server, and the bodies there: requests get lost, answers do, some arrive twice, and bytes change.

use crate::content::Dice;
use crate::server::Server;
use bytes::Bytes;
use larder_core::{ChunkId, Error, Head, Name, NodeId, Result};
use larder_store::Catalog;
use larder_store::catalog::{Cursor, Entry, Step};
use larder_store::origin::{Cancel, Feed, Heard, Origin, Page, Project, Pushed, Refused, Ruled};
use larder_store::wire::Described;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One in so many requests is lost, one's answer is, and one arrives twice.
const FAULT_IN: u64 = 12;

/// Chunks at the server.
#[derive(Default)]
pub struct Bodies(Mutex<BTreeMap<ChunkId, Bytes>>);

impl Bodies {
    /// A body.
    pub fn get(&self, id: &ChunkId) -> Option<Bytes> {
        self.0.lock().get(id).cloned()
    }

    /// The server starts again: what no content refers to was held for devices that sent it, and is gone.
    pub fn sweep(&self, server: &Server) {
        let used: BTreeSet<ChunkId> = heads(&server.catalog, &server.made.lock())
            .iter()
            .flat_map(|head| head.extents.iter().map(|extent| extent.id))
            .collect();
        self.0.lock().retain(|id, _| used.contains(id));
    }
}

/// Every content that a catalog has of these nodes, now and before.
pub fn heads(catalog: &dyn Catalog, nodes: &[NodeId]) -> Vec<Head> {
    let mut found = Vec::new();
    for id in nodes {
        let now = catalog.node(*id).ok();
        let before = catalog.versions(*id).unwrap_or_default().into_iter().map(|old| old.node);
        found.extend(now.into_iter().chain(before).filter_map(|node| node.head().cloned()));
    }
    found
}

/// A device's way to the server.
pub struct Way {
    server: Arc<Server>,
    bodies: Arc<Bodies>,
    dice: Mutex<Dice>,
    /// Nothing goes wrong.
    pub is_calm: AtomicBool,
}

impl Way {
    /// One that is calm at first.
    pub fn new(server: Arc<Server>, bodies: Arc<Bodies>, seed: u64) -> Arc<Self> {
        Arc::new(Self { server, bodies, dice: Mutex::new(Dice::new(seed)), is_calm: AtomicBool::new(true) })
    }

    fn fault(&self) -> u64 {
        if self.is_calm.load(Ordering::Relaxed) { FAULT_IN } else { self.dice.lock().below(FAULT_IN) }
    }

    fn call<T>(&self, call: impl Fn() -> Result<T>) -> Result<T> {
        match self.fault() {
            0 => Err(Error::unavailable("the request is lost")),
            1 => call().and(Err(Error::unavailable("the answer is lost"))),
            2 => call().and_then(|_| call()),
            _ => call(),
        }
    }

    /// Those chunks of an entry that are not here.
    fn lacks(&self, entry: &Entry) -> Vec<ChunkId> {
        let extents = entry.steps.iter().filter_map(Step::head).flat_map(|head| &head.extents);
        extents.map(|extent| extent.id).filter(|id| self.bodies.get(id).is_none()).collect()
    }

    fn carry_out(&self, entries: &[Entry]) -> Result<Pushed> {
        let whole = entries.iter().take_while(|entry| self.lacks(entry).is_empty()).count();
        let mut pushed = self.server.push(&entries[..whole])?;
        if pushed.refused.is_none() && whole < entries.len() {
            pushed.refused = Some(Refused::Lacks(self.lacks(&entries[whole])));
        }
        Ok(pushed)
    }
}

impl Origin for Way {
    fn project(&self) -> Result<Project> {
        self.call(|| self.server.project())
    }

    fn entries(&self, folder: NodeId, after: Option<&Name>, limit: usize) -> Result<Page> {
        self.call(|| self.server.entries(folder, after, limit))
    }

    fn find(&self, folder: NodeId, name: &Name) -> Result<Option<Described>> {
        self.call(|| self.server.find(folder, name))
    }

    fn chunks(
        &self,
        _: NodeId,
        ids: &[ChunkId],
        _: &Cancel,
        arrived: &mut dyn FnMut(usize, Option<Bytes>) -> Result<()>,
    ) -> Result<()> {
        let fault = self.fault();
        for (place, id) in ids.iter().enumerate() {
            let body = self.bodies.get(id);
            let body = match fault {
                0 => return Err(Error::unavailable("the answer ends early")),
                1 => body.map(|body| {
                    let mut bytes = body.to_vec();
                    bytes[0] ^= 1;
                    bytes.into()
                }),
                _ => body,
            };
            arrived(place, body)?;
        }
        Ok(())
    }

    fn changes(&self, after: &Cursor, limit: usize) -> Result<Feed> {
        self.call(|| self.server.changes(after, limit))
    }

    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        self.call(|| Ok(ids.iter().filter(|id| self.bodies.get(id).is_none()).copied().collect()))
    }

    fn send(&self, bodies: &[Bytes]) -> Result<()> {
        self.call(|| {
            self.bodies.0.lock().extend(bodies.iter().map(|body| (ChunkId::of(body), body.clone())));
            Ok(())
        })
    }

    fn push(&self, entries: &[Entry]) -> Result<Pushed> {
        self.call(|| self.carry_out(entries))
    }

    fn range(&self) -> Result<u32> {
        self.call(|| self.server.range())
    }

    fn end(&self) {}

    fn wait(&self, after: &Cursor, rules: u64, limit: Duration) -> Result<Heard> {
        self.server.wait(after, rules, limit)
    }

    fn rules(&self, device: Option<&str>) -> Result<Ruled> {
        self.server.rules(device)
    }

    fn set_rules(&self, device: Option<&str>, was: u64, text: &str) -> Result<Ruled> {
        self.server.set_rules(device, was, text)
    }
}
