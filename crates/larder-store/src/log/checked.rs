//! Which records were found to hold what their chunks' names say, since the store was opened.
//!
//! BLAKE3 takes a third of the time of sending what the kernel has in memory, CRC32C a tenth. Whoever reads a record again
//! may be content with its checksum: it tells what the disk did to it since.

use super::position::Position;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places that are remembered, each until another takes its slot: 512 KiB, for 4 GiB of chunks nearly all and for 16 GiB
/// two thirds of them.
const SLOTS: usize = 1 << 16;

/// Positions of records, as many as fit.
pub struct Checked(Box<[AtomicU64]>);

impl Checked {
    /// None yet.
    pub fn new() -> Self {
        // No record lies at position 0: there a segment begins.
        Self((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Remembers the record at `position`.
    pub fn insert(&self, position: Position) {
        self.slot(position).store(position.0, Ordering::Relaxed);
    }

    /// Says whether the record at `position` is remembered.
    pub fn contains(&self, position: Position) -> bool {
        self.slot(position).load(Ordering::Relaxed) == position.0
    }

    /// Fibonacci hashing, with the number of the segment mixed in: records of one length lie in step. Source: Knuth, The Art
    /// of Computer Programming 3, § 6.4.
    fn slot(&self, position: Position) -> &AtomicU64 {
        let hash = (position.0 ^ position.0 >> 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.0[(hash >> (u64::BITS - SLOTS.trailing_zeros())) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_never_another_place() {
        let checked = Checked::new();
        // 255 records of 1 MiB in each segment.
        let places =
            |step: u32| (0..SLOTS as u32).map(move |n| Position::new(1 + n / 255, 64 + n % 255 * step));
        places((1 << 20) + 64).for_each(|place| checked.insert(place));
        assert!(places(1 << 20).filter(|place| place.offset() != 64).all(|place| !checked.contains(place)));
        let kept = places((1 << 20) + 64).filter(|place| checked.contains(*place)).count();
        assert!(kept > SLOTS / 2, "{kept}");
    }
}
