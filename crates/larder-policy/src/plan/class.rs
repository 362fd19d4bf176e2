//! The classes of the queues: urgencies as small numbers, 0 is served first.

use super::words::{Priority, Urgency};

/// Reader, Opener, Readahead, ten priorities, Pin.
pub(super) const CLASSES: usize = 14;

/// An urgency as an index of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class(u8);

impl Class {
    /// Applications in a read.
    pub(super) const READER: Class = Class(0);
    const PIN: u8 = CLASSES as u8 - 1;

    pub(super) fn of(urgency: Urgency) -> Self {
        Class(match urgency {
            Urgency::Reader => 0,
            Urgency::Opener => 1,
            Urgency::Readahead => 2,
            Urgency::Requested(priority) => 13 - priority.number(),
            Urgency::Pin => Self::PIN,
        })
    }

    pub(super) fn from_index(index: usize) -> Self {
        debug_assert!(index < CLASSES, "an index of a queue");
        Class(index as u8)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn urgency(self) -> Urgency {
        match self.0 {
            0 => Urgency::Reader,
            1 => Urgency::Opener,
            2 => Urgency::Readahead,
            requested @ 3..=12 => {
                Urgency::Requested(Priority::new(13 - requested).expect("3 to 12 are priorities 10 to 1"))
            }
            _ => Urgency::Pin,
        }
    }

    /// Says whether an application waits: these may take the place that bulk work leaves free.
    pub(super) fn is_urgent(self) -> bool {
        self.0 <= 1
    }
}

#[test]
fn classes_are_in_the_order_of_urgency() {
    let requested = |number| Urgency::Requested(Priority::new(number).expect("a priority"));
    let order = [Urgency::Reader, Urgency::Opener, Urgency::Readahead]
        .into_iter()
        .chain((1..=10).rev().map(requested))
        .chain([Urgency::Pin]);
    for (index, urgency) in order.enumerate() {
        assert_eq!((Class::of(urgency).index(), Class::from_index(index).urgency()), (index, urgency));
    }
    assert!(Priority::new(0).is_err() && Priority::new(11).is_err());
}
