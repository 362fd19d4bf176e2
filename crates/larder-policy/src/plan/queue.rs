//! The queues of one direction: a list per class, linked through an array.
//!
//! A chunk stands in one list at most. Taking the first of the highest class, leaving a list in the middle and moving to
//! another one each touch three entries, however many stand in line: nothing stale is left behind, nothing is skipped.

use super::class::{CLASSES, Class};

/// No neighbour.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    before: u32,
    behind: u32,
}

#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

/// Slots of chunks in line, by class. Bounded by the table of chunks ([`super::CHUNKS_MAX`]).
pub(super) struct Queues {
    links: Vec<Link>,
    ends: [Ends; CLASSES],
    /// One bit for each class in which somebody stands.
    occupied: u16,
}

impl Queues {
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), ends: [Ends { first: NONE, last: NONE }; CLASSES], occupied: 0 }
    }

    /// The first of the highest class in which somebody stands.
    pub(super) fn first(&self) -> Option<(Class, u32)> {
        let class = self.highest()?;
        Some((class, self.ends[class.index()].first))
    }

    /// The highest class in which somebody stands.
    pub(super) fn highest(&self) -> Option<Class> {
        (self.occupied != 0).then(|| Class::from_index(self.occupied.trailing_zeros() as usize))
    }

    /// Puts `slot`, which stands nowhere, at the end.
    pub(super) fn push_back(&mut self, class: Class, slot: u32) {
        let last = self.ends[class.index()].last;
        self.place(class, slot, last, NONE);
    }

    /// Puts `slot`, which stands nowhere, before all others.
    pub(super) fn push_front(&mut self, class: Class, slot: u32) {
        let first = self.ends[class.index()].first;
        self.place(class, slot, NONE, first);
    }

    /// Takes `slot` out of the list of `class`, in which it stands.
    pub(super) fn unlink(&mut self, class: Class, slot: u32) {
        let Link { before, behind } = self.links[slot as usize];
        let ends = &mut self.ends[class.index()];
        match before {
            NONE => ends.first = behind,
            before => self.links[before as usize].behind = behind,
        }
        match behind {
            NONE => ends.last = before,
            behind => self.links[behind as usize].before = before,
        }
        if ends.first == NONE {
            self.occupied &= !(1 << class.index());
        }
    }

    fn place(&mut self, class: Class, slot: u32, before: u32, behind: u32) {
        if self.links.len() <= slot as usize {
            self.links.resize(slot as usize + 1, Link { before: NONE, behind: NONE });
        }
        self.links[slot as usize] = Link { before, behind };
        let ends = &mut self.ends[class.index()];
        match before {
            NONE => ends.first = slot,
            before => self.links[before as usize].behind = slot,
        }
        match behind {
            NONE => ends.last = slot,
            behind => self.links[behind as usize].before = slot,
        }
        self.occupied |= 1 << class.index();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queues: &mut Queues) -> Vec<(usize, u32)> {
        std::iter::from_fn(|| {
            let (class, slot) = queues.first()?;
            queues.unlink(class, slot);
            Some((class.index(), slot))
        })
        .collect()
    }

    #[test]
    fn first_come_first_served_within_a_class() {
        let mut queues = Queues::new();
        let (high, low) = (Class::from_index(3), Class::from_index(13));
        for slot in 0..4 {
            queues.push_back(low, slot);
        }
        for slot in 4..6 {
            queues.push_back(high, slot);
        }
        queues.push_front(low, 9);
        assert_eq!(drain(&mut queues), [(3, 4), (3, 5), (13, 9), (13, 0), (13, 1), (13, 2), (13, 3)]);
        assert_eq!(queues.highest(), None);
    }

    #[test]
    fn leaving_from_any_place_keeps_the_others_in_order() {
        for gone in 0..3 {
            let mut queues = Queues::new();
            let class = Class::from_index(5);
            (0..3).for_each(|slot| queues.push_back(class, slot));
            queues.unlink(class, gone);
            queues.push_back(Class::READER, gone);
            let rest = (0..3).filter(|slot| *slot != gone).map(|slot| (5, slot));
            let expected: Vec<_> = [(0, gone)].into_iter().chain(rest).collect();
            assert_eq!(drain(&mut queues), expected);
        }
    }
}
