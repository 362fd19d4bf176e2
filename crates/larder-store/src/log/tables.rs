//! What was committed and is not yet in the index: the memtable that takes writes, and the frozen one that a
//! checkpoint is moving to the index. Reads ask them first.

use super::position::Position;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// What an entry takes besides its key and slot: two vectors, its place in the tree, the allocator's share.
const ENTRY_BYTES: usize = 96;

/// Edits by key; `None` removes.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    known_bytes: usize,
}

impl Table {
    /// Sets the slot of `key`, or with `None` removes it.
    pub fn set(&mut self, key: Vec<u8>, slot: Option<Vec<u8>>) {
        self.bytes += ENTRY_BYTES + key.len() + slot.as_ref().map_or(0, Vec::len);
        let key_len = key.len();
        if let Some(old) = self.entries.insert(key, slot) {
            self.bytes -= ENTRY_BYTES + key_len + old.map_or(0, |old| old.len());
        }
    }

    /// Memory that the table takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts an edit that was appended to the log again and that the index has already, so that it is not held here.
    pub fn count_known(&mut self, key: &[u8], value: &[u8]) {
        self.known_bytes += ENTRY_BYTES + key.len() + value.len();
    }

    /// Memory that a replay of what was appended since the table was begun takes at most, about.
    pub fn replay_bytes(&self) -> usize {
        self.bytes + self.known_bytes
    }

    /// Says whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The edits in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Option<Vec<u8>>)> {
        self.entries.iter()
    }

    fn behind<'a>(&'a self, start: Bound<&[u8]>) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.entries
            .range::<[u8], _>((start, Bound::Unbounded))
            .map(|(key, slot)| (key.as_slice(), slot.as_deref()))
    }
}

/// The memtable, and the frozen one if there is one.
#[derive(Debug, Default)]
pub struct Tables {
    /// Takes the writes.
    pub active: Table,
    /// Being moved to the index.
    pub frozen: Option<Arc<Table>>,
    /// Where the log ended when it was frozen.
    pub frozen_end: Position,
}

impl Tables {
    /// What the tables say of `key`: nothing, or its slot, or that it is gone.
    pub fn find(&self, key: &[u8]) -> Option<Option<&Vec<u8>>> {
        let found = self.active.entries.get(key);
        let found = found.or_else(|| self.frozen.as_ref().and_then(|frozen| frozen.entries.get(key)));
        found.map(Option::as_ref)
    }

    /// Merges the tables over `index`, the pairs of the index from `start` on in key order, and hands each pair that
    /// is there to `visit` until that says stop.
    ///
    /// # Errors
    /// Those of `index`.
    pub fn merge<E>(
        &self,
        start: Bound<&[u8]>,
        index: impl Iterator<Item = Result<(sled::IVec, sled::IVec), E>>,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), E> {
        let mut active = self.active.behind(start).peekable();
        let mut frozen = self.frozen.iter().flat_map(|frozen| frozen.behind(start)).peekable();
        let mut index = index.peekable();
        loop {
            if let Some(Err(_)) = index.peek() {
                return index.next().map_or(Ok(()), |pair| pair.map(drop));
            }
            let below = index.peek().and_then(|pair| pair.as_ref().ok()).map(|(key, _)| key.clone());
            let keys = [active.peek().map(|e| e.0), frozen.peek().map(|e| e.0), below.as_deref()];
            let Some(least) = keys.into_iter().flatten().min() else { return Ok(()) };
            let first = active.next_if(|e| e.0 == least).map(|e| e.1);
            let second = frozen.next_if(|e| e.0 == least).map(|e| e.1);
            let third =
                index.next_if(|pair| pair.as_ref().is_ok_and(|(key, _)| *key == least)).transpose()?;
            let third = third.as_ref().map(|(_, slot)| Some(&slot[..]));
            // The newest layer that knows the key decides.
            if let Some(Some(slot)) = first.or(second).or(third)
                && !visit(least, slot)
            {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_layer_decides() {
        let mut tables = Tables::default();
        tables.active.set(b"b".to_vec(), None);
        tables.active.set(b"d".to_vec(), Some(b"active".to_vec()));
        let mut frozen = Table::default();
        frozen.set(b"a".to_vec(), Some(b"frozen".to_vec()));
        frozen.set(b"b".to_vec(), Some(b"frozen".to_vec()));
        frozen.set(b"d".to_vec(), None);
        tables.frozen = Some(Arc::new(frozen));
        let below =
            ["a", "b", "c", "d", "e"].map(|key| Ok::<_, ()>((key.as_bytes().into(), b"index".into())));
        let mut seen = Vec::new();
        let take = |key: &[u8], slot: &[u8]| {
            seen.push(format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(slot)));
            key != b"d"
        };
        tables.merge(Bound::Included(b"a"), below.into_iter(), take).expect("no errors below");
        assert_eq!(seen, ["a=frozen", "c=index", "d=active"]);
    }

    #[test]
    fn bytes_follow_replacement() {
        let mut table = Table::default();
        table.set(b"k".to_vec(), Some(vec![0; 100]));
        table.set(b"k".to_vec(), Some(vec![0; 10]));
        assert_eq!(table.bytes(), ENTRY_BYTES + 11);
        table.set(b"k".to_vec(), None);
        assert_eq!(table.bytes(), ENTRY_BYTES + 1);
    }
}
