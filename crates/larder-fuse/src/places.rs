//! Open folders and the places in their listings: a million names while others come and go.
//!
//! The kernel names a place in a listing by a number of 63 bits, the drive by the last name before it. Each open
//! folder keeps the names of its last reply and one name per reply before that, so its memory is bounded. A number
//! is position · 2²⁴ + a hash of the name: going back to an old place starts at the nearest kept name and walks to the
//! entry with that hash, so that entries which came or went in between are neither skipped nor told twice. So does going on
//! where the kernel had the listing from another handle, and has it no more.

use crate::errno::Answer;
use fuser::{FileAttr, FileType};
use larder_core::{Name, NodeId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names kept of the replies before the last; beyond that every second one goes.
const MARKS_MAX: usize = 4096;
pub(crate) const HASH_BITS: u32 = 24;
/// Positions of `.` and `..`; names start behind.
pub(crate) const DOTS: u64 = 2;

/// The open folders of a mount, by file handle.
#[derive(Default)]
pub(crate) struct Folders {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Folder>>>,
}

pub(crate) struct Folder {
    pub(crate) id: NodeId,
    pub(crate) place: Mutex<Place>,
}

impl Folders {
    pub(crate) fn open(&self, id: u64) -> u64 {
        let fh = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(fh, Arc::new(Folder { id: NodeId(id), place: Mutex::default() }));
        fh
    }

    pub(crate) fn close(&self, fh: u64) {
        self.open.lock().remove(&fh);
    }

    pub(crate) fn find(&self, fh: u64) -> Answer<Arc<Folder>> {
        self.open.lock().get(&fh).cloned().ok_or(fuser::Errno::EBADF)
    }
}

/// What an open folder remembers of the numbers it gave out.
#[derive(Default)]
pub(crate) struct Place {
    /// The names of the last reply.
    pub(crate) last: Vec<Name>,
    /// The position of the first of them.
    last_start: u64,
    /// The last names of replies before, by position, ascending.
    marks: Vec<(u64, Name)>,
}

/// A place to list from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// Behind this name; `None` for the start.
    Behind(Option<Name>),
    /// Somewhere behind `start`: where the entry is whose hash fits, about `steps` entries on.
    Search { start: (u64, Option<Name>), steps: u64, hash: u64 },
}

pub(crate) fn hash_of(name: &Name) -> u64 {
    // FNV-1a, folded: it only has to tell apart the few hundred names between two marks
    let hash = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) & ((1 << HASH_BITS) - 1)
}

pub(crate) fn number(position: u64, name: &Name) -> u64 {
    position << HASH_BITS | hash_of(name)
}

impl Place {
    /// Translates the number of an entry into the place behind it.
    pub(crate) fn behind(&self, number: u64) -> From {
        let position = number >> HASH_BITS;
        if position <= DOTS {
            return From::Behind(None);
        }
        if let Some(name) = position.checked_sub(self.last_start).and_then(|i| self.last.get(i as usize)) {
            return From::Behind(Some(name.clone()));
        }
        let before = self.marks.partition_point(|(at, _)| *at <= position);
        match before.checked_sub(1).map(|i| &self.marks[i]) {
            Some((at, name)) if *at == position => From::Behind(Some(name.clone())),
            nearest => {
                let start = nearest.map_or((DOTS, None), |(at, name)| (*at, Some(name.clone())));
                let hash = number & ((1 << HASH_BITS) - 1);
                From::Search { steps: position - start.0, start, hash }
            }
        }
    }

    /// Notes a reply: `names`, the first of them at `start`.
    pub(crate) fn replied(&mut self, start: u64, names: Vec<Name>) {
        if let Some(name) = self.last.last() {
            let at = self.last_start + self.last.len() as u64 - 1;
            if self.marks.last().is_none_or(|(mark, _)| *mark < at) {
                self.marks.push((at, name.clone()));
            }
        }
        if self.marks.len() > MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        if !names.is_empty() {
            (self.last, self.last_start) = (names, start);
        }
    }
}

/// Where entries go; both kinds of reply.
pub(crate) trait Sink {
    /// Adds an entry; `true` says that it did not fit.
    fn add(&mut self, number: u64, name: &OsStr, kind: FileType, stat: &FileAttr) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(i: u64) -> Name {
        Name::new(format!("entry-{i:07}")).expect("a name")
    }

    fn told(place: &mut Place, replies: u64, each: u64) {
        for reply in 0..replies {
            let start = DOTS + 1 + reply * each;
            place.replied(start, (start..start + each).map(name).collect());
        }
    }

    #[test]
    fn places_of_the_last_reply_are_exact() {
        let mut place = Place::default();
        told(&mut place, 3, 10);
        for position in 23..33 {
            let number = number(position, &name(position));
            assert_eq!(place.behind(number), From::Behind(Some(name(position))));
        }
    }

    #[test]
    fn older_places_are_searched_from_the_nearest_kept_name() {
        let mut place = Place::default();
        told(&mut place, 5, 10);
        let number = number(17, &name(17));
        let expected = From::Search { start: (12, Some(name(12))), steps: 5, hash: hash_of(&name(17)) };
        assert_eq!(place.behind(number), expected);
    }

    #[test]
    fn memory_stays_bounded_over_a_million_names() {
        let mut place = Place::default();
        told(&mut place, 20_000, 50);
        assert!(place.marks.len() <= MARKS_MAX + 1, "{}", place.marks.len());
        assert!(place.marks.is_sorted());
    }

    #[test]
    fn the_start_is_the_start() {
        assert_eq!(Place::default().behind(0), From::Behind(None));
        assert_eq!(Place::default().behind(DOTS << HASH_BITS), From::Behind(None));
    }
}
