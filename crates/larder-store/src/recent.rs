//! Which chunks were used lately, so that those go first that were not.

use larder_core::ChunkId;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Chunks whose last use is known: 64 GiB of them at their mean size, in 8 MB of memory. What is not known counts as older.
const KNOWN_MAX: usize = 1 << 18;

/// When chunks were last used, by the first eight bytes of their names; times are counted uses.
#[derive(Default)]
pub struct Recent(Mutex<Uses>);

#[derive(Default)]
struct Uses {
    now: u64,
    /// The newer half.
    young: HashMap<u64, u64>,
    /// The half before, forgotten when the newer one is full.
    old: HashMap<u64, u64>,
}

impl Recent {
    /// Notes that `id` is used now; whoever reads it does so before looking whether it is there.
    pub fn used(&self, id: &ChunkId) {
        let uses = &mut *self.0.lock();
        uses.now += 1;
        uses.young.insert(id.prefix(), uses.now);
        if uses.young.len() >= KNOWN_MAX / 2 {
            uses.old = std::mem::take(&mut uses.young);
        }
    }

    /// The time of its last use; 0 where that is not known.
    pub fn last_use(&self, id: &ChunkId) -> u64 {
        let uses = self.0.lock();
        let prefix = id.prefix();
        uses.young.get(&prefix).or_else(|| uses.old.get(&prefix)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_uses_are_known_and_memory_is_bounded() {
        let recent = Recent::default();
        let id = |i: u64| ChunkId::of(&i.to_le_bytes());
        (0..KNOWN_MAX as u64).for_each(|i| recent.used(&id(i)));
        let last = recent.last_use(&id(KNOWN_MAX as u64 - 1));
        recent.used(&id(KNOWN_MAX as u64 - 2));
        assert!(recent.last_use(&id(KNOWN_MAX as u64 - 2)) > last);
        assert_eq!(recent.last_use(&id(1)), 0, "long ago");
        let uses = recent.0.lock();
        assert!(uses.young.len() + uses.old.len() <= KNOWN_MAX);
    }
}
