//! How far files are that a user asked for.

use super::orders::is_below;
use super::requested::{File, Phase, Switches};
use super::{Fetch, Shared};
use larder_core::{NodeId, Result};
use larder_policy::plan::{self, Amount};
use larder_store::origin::Link;
use std::time::Duration;

/// Where a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Chunks of it are being fetched.
    Active,
    /// It waits for its turn or its next try.
    Queued,
    /// It, all fetches or everything is paused.
    Paused,
    /// It ended without all of it being here.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// All of it is here.
    Done,
}

/// How far a file is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The file.
    pub node: NodeId,
    /// 1 to 10, the most urgent; 0 of what rules keep here.
    pub priority: u8,
    /// Where it stands.
    pub state: State,
    /// What of it is here.
    pub done: Amount,
    /// All of it; no chunks while nobody has told how many there are.
    pub total: Amount,
    /// Bytes a second over the last ten.
    pub speed_bytes_per_s: f64,
    /// How long the rest takes at that speed.
    pub left: Option<Duration>,
    /// It ends when it moved nothing for so long.
    pub ttl: Option<Duration>,
    /// Bytes a second that it may move.
    pub limit_bytes_per_s: Option<u64>,
    /// Why it failed.
    pub why: Option<String>,
    order: u64,
}

/// What is fetched.
#[derive(Clone, Debug)]
pub struct Report {
    /// Those on their way first, by state and then as they are served.
    pub files: Vec<Progress>,
    /// What is paused as a whole.
    pub paused: Switches,
    /// Chunks that came with wrong bytes since the start.
    pub wrong_chunks: u64,
}

impl Fetch {
    /// Tells of the files that were asked for: all, or those that are `top` or in it.
    ///
    /// # Errors
    /// Those of the index.
    pub fn report(&self, top: Option<NodeId>) -> Result<Report> {
        let shared = &*self.shared;
        let (mut files, paused, wrong_chunks) = shared.told();
        if let Some(top) = top {
            files.retain(|file| is_below(&*shared.catalog, file.node, top));
        }
        for file in files.iter_mut().filter(|file| file.total == Amount::default()) {
            // One that was paused at the start was not looked over since.
            if let Ok(found) = shared.look(file.node, 0) {
                (file.total, file.done) = (found.total, found.here);
            }
        }
        files.sort_by_key(|file| (file.state, std::cmp::Reverse(file.priority), file.order));
        Ok(Report { files, paused, wrong_chunks })
    }
}

impl Shared {
    fn told(&self) -> (Vec<Progress>, Switches, u64) {
        let driver = self.driver.lock();
        let (now, switches) = (self.now(), driver.requested.switches());
        let is_held = switches.all || switches.down || driver.link != Link::Online;
        let files = driver.requested.files.iter().map(|(id, file)| {
            let moving = match file.phase {
                Phase::Moving { job, .. } => driver.planner.progress(job, now),
                _ => None,
            };
            told(*id, file, moving, is_held)
        });
        (files.collect(), switches, driver.planner.census().wrong_bodies)
    }
}

fn told(node: NodeId, file: &File, moving: Option<plan::Progress>, is_held: bool) -> Progress {
    let (total, here) = file.known.unwrap_or_default();
    let state = match (&file.phase, &moving) {
        (Phase::Done, _) => State::Done,
        (Phase::Cancelled, _) => State::Cancelled,
        (Phase::Failed(_), _) => State::Failed,
        (Phase::Paused, _) => State::Paused,
        _ if is_held => State::Paused,
        (_, Some(progress)) if progress.state == plan::State::Active => State::Active,
        _ => State::Queued,
    };
    let are_pages = matches!(file.phase, Phase::Moving { are_pages: true, .. });
    let at = moving.filter(|_| !are_pages);
    let done = at.map_or(here, |progress| progress.done);
    let done = Amount { bytes: done.bytes.min(total.bytes), chunks: done.chunks.min(total.chunks) };
    let speed_bytes_per_s = at.map_or(0.0, |progress| progress.speed_bytes_per_s);
    let left_bytes = total.bytes - done.bytes;
    let left = Duration::try_from_secs_f64(left_bytes as f64 / speed_bytes_per_s).ok();
    let why = match &file.phase {
        Phase::Failed(why) => Some(why.clone()),
        _ => None,
    };
    Progress {
        node,
        priority: file.wish.priority,
        state,
        done,
        total,
        speed_bytes_per_s,
        left,
        ttl: file.wish.ttl_ms.map(Duration::from_millis),
        limit_bytes_per_s: file.wish.limit_bytes_per_s,
        why,
        order: file.wish.order,
    }
}
