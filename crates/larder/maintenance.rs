//! Work on the store beside its use: collection, scrub, rebuild, numbers.
//!
//! One at a time; each goes on while files are read and written.

use crate::clock::tick;
use crate::data::Opened;
use crate::pace::Maintenance;
use crate::request::Progress;
use larder_core::{ChunkId, Kind, NodeId, Result};
use larder_policy::{Rate, Tick};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

/// How fast a scrub reads on a server that nobody told otherwise: it should not be noticed.
const SCRUB_RATE: Rate = Rate::mib_per_s(256);
/// Progress is told after so many bytes.
const PROGRESS_STEP_BYTES: u64 = 16 << 20;

/// Counts bytes, keeps a rate, and tells how far the work is.
struct Pacer<'a> {
    maintenance: &'a Maintenance,
    rate: Option<Rate>,
    started: Tick,
    progress: &'a dyn Fn(Progress),
    what: &'static str,
    done_bytes: u64,
    told_bytes: u64,
    total_bytes: u64,
}

impl Pacer<'_> {
    fn step(&mut self, bytes: u64) {
        self.done_bytes += bytes;
        if self.done_bytes - self.told_bytes >= PROGRESS_STEP_BYTES {
            self.told_bytes = self.done_bytes;
            let (done, total) = (self.done_bytes, self.total_bytes.max(self.done_bytes));
            (self.progress)(Progress { what: self.what.into(), done, total, bytes: true });
        }
        if let Some(rate) = self.rate {
            let seconds = self.done_bytes as f64 / rate.bytes_per_s() as f64;
            self.maintenance.wait_until(self.started.after(Duration::from_secs_f64(seconds)));
        }
    }
}

impl Opened {
    fn pacer<'a>(
        &'a self,
        what: &'static str,
        rate: Option<Rate>,
        progress: &'a dyn Fn(Progress),
    ) -> Result<Pacer<'a>> {
        progress(Progress { what: what.into(), ..Progress::default() });
        Ok(Pacer {
            maintenance: &self.maintenance,
            rate,
            started: tick(),
            progress,
            what,
            done_bytes: 0,
            told_bytes: 0,
            total_bytes: self.store.stats()?.log_bytes,
        })
    }

    /// Drops history that is too old, then chunks that nothing refers to.
    ///
    /// # Errors
    /// Those of the store.
    pub fn collect(&self, progress: &dyn Fn(Progress)) -> Result<Value> {
        let _turn = self.maintenance.turn();
        // Before the purge too: what seems deleted may have come back in a record that could not be read.
        self.store.check_complete()?;
        let before = self.store.stats()?;
        let purged = match self.drive.purge_history() {
            Err(error) if error.kind() == Kind::NoSpace => {
                tracing::warn!(%error, "history is not purged; chunks that nothing refers to are dropped all the same");
                0
            }
            purged => purged?,
        };
        let mut pacer = self.pacer("Collecting", None, progress)?;
        let mark = |live: larder_store::log::Mark<'_>| self.catalog.mark(&*self.store, |id| live(id));
        let gone = self.store.collect(mark, &mut |bytes| pacer.step(bytes))?;
        let after = self.store.stats()?;
        if gone.unread_pages > 0 {
            let pages = gone.unread_pages;
            tracing::warn!(
                pages,
                "no chunk was dropped: pages that list chunks cannot be read; `larder scrub` names the files"
            );
        }
        Ok(json!({
            "purged_versions": purged,
            "chunks": gone.chunks,
            "chunk_bytes": gone.chunk_bytes,
            "segments": gone.segments,
            "moved_bytes": gone.moved_bytes,
            "unread_pages": gone.unread_pages,
            "freed_bytes": before.log_bytes.saturating_sub(after.log_bytes),
        }))
    }

    /// Checks every stored byte against its hash.
    ///
    /// # Errors
    /// `Invalid` for a bad rate; those of the index. Damage is an answer, not an error.
    pub fn scrub(&self, rate: Option<&str>, progress: &dyn Fn(Progress)) -> Result<Value> {
        let rate = rate.map_or(Ok(Some(SCRUB_RATE)), Rate::parse_limit)?;
        let _turn = self.maintenance.turn();
        let mut pacer = self.pacer("Scrubbing", rate, progress)?;
        let found = self.store.scrub(&mut |bytes| pacer.step(bytes))?;
        let damaged: HashSet<ChunkId> = found.damaged.iter().copied().collect();
        let nodes = match damaged.is_empty() {
            true => Vec::new(),
            false => self.catalog.referring(&*self.store, |id| damaged.contains(id))?,
        };
        let paths: Vec<String> = nodes.into_iter().map(|id| self.shown_path(id)).collect();
        Ok(json!({
            "chunks": found.chunks,
            "checked_bytes": found.bytes,
            "damaged_chunks": damaged.len(),
            "unreadable_chunks": found.unreadable,
            "damaged_records": found.damaged_records,
            "restated": found.restated,
            "lost": found.lost,
            "damaged": paths,
        }))
    }

    /// The path of a node, which may be deleted.
    fn shown_path(&self, id: NodeId) -> String {
        match self.drive.path_of(id) {
            Ok(path) => path.to_string(),
            Err(_) => match self.drive.catalog().node(id).ok().and_then(|node| node.name) {
                Some(name) => format!("{name} (deleted)"),
                None => format!("node {id}"),
            },
        }
    }

    /// Makes the index again from the log; with `accept_loss` also where that has less than the index.
    ///
    /// # Errors
    /// Those of the store.
    pub fn rebuild(&self, accept_loss: bool, progress: &dyn Fn(Progress)) -> Result<Value> {
        let _turn = self.maintenance.turn();
        progress(Progress { what: "Rebuilding the index".into(), ..Progress::default() });
        let started = tick();
        if accept_loss { self.store.rebuild_accepting_loss() } else { self.store.rebuild() }?;
        let took_ms = u64::try_from(tick().since(started).as_millis()).unwrap_or(u64::MAX);
        Ok(json!({ "chunks": self.store.stats()?.chunks, "took_ms": took_ms }))
    }

    /// How much is stored.
    ///
    /// # Errors
    /// Those of the index and the disk.
    pub fn stats(&self) -> Result<Value> {
        let usage = self.drive.usage()?;
        let stats = self.store.stats()?;
        Ok(json!({
            "nodes": usage.nodes,
            "used_bytes": usage.used_bytes,
            "available_bytes": usage.available_bytes,
            "chunks": stats.chunks,
            "plain_bytes": stats.plain_bytes,
            "stored_bytes": stats.stored_bytes,
            "log_bytes": stats.log_bytes,
            "segments": stats.segments.len(),
            "quarantined": stats.quarantined,
            "memtable_bytes": stats.memtable_bytes,
            "checkpoints": stats.checkpoints,
        }))
    }
}
