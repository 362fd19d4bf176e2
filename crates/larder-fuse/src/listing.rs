//! Listing folders.

use crate::errno::{self, Answer};
use crate::places::{DOTS, Folder, From, HASH_BITS, Place, Sink, hash_of, number};
use crate::stat::{file_type, stat_of};
use crate::view::View;
use fuser::FileType;
use larder_core::{Name, Node, NodeId};
use larder_store::Listed;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Entries asked of the drive at first; later as many as the last reply held.
const BATCH_FIRST: usize = 64;
/// How many more than the last reply held: shorter names let a few more in.
const BATCH_SLACK: usize = 8;
/// The most entries asked of the drive at once: about what a reply of 1 MiB holds.
const BATCH_MAX: usize = 8192;

impl View {
    /// Fills `sink` with the entries behind `number`.
    pub(crate) fn list(&self, fh: u64, number: u64, sink: &mut dyn Sink) -> Answer<()> {
        let folder = self.folders.find(fh)?;
        let mut place = folder.place.lock();
        if number == 0 {
            *place = Place::default();
        }
        if self.dots(&folder, number, sink)? {
            return Ok(());
        }
        let mut after = self.start(&folder, &place, number)?;
        let first = (number >> HASH_BITS).max(DOTS) + 1;
        let steady = !place.last.is_empty();
        let mut batch = (place.last.len() + BATCH_SLACK).clamp(BATCH_FIRST, BATCH_MAX);
        let mut names = Vec::with_capacity(batch);
        'reply: loop {
            let entries = self.entries(folder.id, after.as_ref(), batch)?;
            let ended = entries.len() < batch;
            for Listed { name, node } in entries {
                let at = first + names.len() as u64;
                if self.add(sink, at, &name, &node) {
                    break 'reply;
                }
                names.push(name);
            }
            if ended {
                break;
            }
            after = names.last().cloned();
            batch = if steady { BATCH_FIRST } else { (batch * 2).min(BATCH_MAX) };
        }
        place.replied(first, names);
        Ok(())
    }

    fn add(&self, sink: &mut dyn Sink, position: u64, name: &Name, node: &Node) -> bool {
        let stat = self.seen(node);
        let os_name = OsStr::from_bytes(name.as_bytes());
        sink.add(number(position, name), os_name, file_type(node.kind), &stat)
    }

    /// Adds `.` and `..` where the listing starts before them; `true` says that the reply is full.
    fn dots(&self, folder: &Folder, number: u64, sink: &mut dyn Sink) -> Answer<bool> {
        let position = number >> HASH_BITS;
        if position >= DOTS {
            return Ok(false);
        }
        let own = match self.mount.node(folder.id) {
            Ok(node) => node,
            // a removed folder lists nothing, not even these
            Err(_) if self.orphans.stat(folder.id.0).is_some() => return Ok(true),
            Err(error) => return Err(errno::of(&error)),
        };
        let mut stat = stat_of(&own);
        if position == 0 && sink.add(1 << HASH_BITS, OsStr::new("."), FileType::Directory, &stat) {
            return Ok(true);
        }
        stat.ino = fuser::INodeNo(own.parent.0);
        Ok(sink.add(DOTS << HASH_BITS, OsStr::new(".."), FileType::Directory, &stat))
    }

    fn start(&self, folder: &Folder, place: &Place, number: u64) -> Answer<Option<Name>> {
        match place.behind(number) {
            From::Behind(name) => Ok(name),
            From::Search { start: (_, from), steps, hash } => self.search(folder.id, from, steps, hash),
        }
    }

    /// The name with `hash` behind `from`, of several the one nearest to `steps` entries on. Where there is none, it went since it
    /// was told: then `from`, as to tell entries twice loses none.
    fn search(&self, folder: NodeId, from: Option<Name>, steps: u64, hash: u64) -> Answer<Option<Name>> {
        let (mut at, mut after, mut nearest) = (0, from.clone(), None::<(u64, Name)>);
        loop {
            let entries = self.entries(folder, after.as_ref(), BATCH_MAX)?;
            for Listed { name, .. } in &entries {
                at += 1;
                let off = steps.abs_diff(at);
                if hash_of(name) == hash && nearest.as_ref().is_none_or(|(least, _)| off < *least) {
                    nearest = Some((off, name.clone()));
                }
            }
            let is_over = |(least, _): &(u64, Name)| at >= steps.saturating_add(*least);
            if entries.len() < BATCH_MAX || nearest.as_ref().is_some_and(is_over) {
                return Ok(nearest.map(|(_, name)| name).or(from));
            }
            after = entries.into_iter().next_back().map(|entry| entry.name);
        }
    }

    fn entries(&self, folder: NodeId, after: Option<&Name>, limit: usize) -> Answer<Vec<Listed>> {
        match self.mount.list(folder, after, limit) {
            Ok(entries) => Ok(entries),
            Err(_) if self.orphans.stat(folder.0).is_some() => Ok(Vec::new()),
            Err(error) => Err(errno::of(&error)),
        }
    }
}
