//! Conflicts: what becomes of a file that was changed here and at the server, and a note of each for who is to look at it.

use super::mirror::Mirror;
use crate::catalog::{Op, Table};
use larder_core::{Error, Kind, NodeId, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Conflicts that are noted; of more, only the files tell.
const NOTED_MAX: usize = 10_000;
/// Where there are so many, all are looked through for each so many that come.
const LOOKED_EACH: usize = 1000;

/// Which content a file has after both sides changed it. The other one is beside it, or a version in its history: none is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The server's; the device's stays beside it under a name that says so.
    #[default]
    KeepBoth,
    /// The one whose mtime is later; the server's where they are equal.
    KeepNewest,
    /// The device's.
    KeepLocal,
    /// The server's.
    KeepServer,
}

impl Policy {
    /// Says which content a file gets; `None` for both.
    pub(super) fn choose(self, here: Timestamp, there: Timestamp) -> Option<Side> {
        match self {
            Policy::KeepBoth => None,
            Policy::KeepLocal => Some(Side::Here),
            Policy::KeepNewest if here > there => Some(Side::Here),
            Policy::KeepNewest | Policy::KeepServer => Some(Side::There),
        }
    }
}

/// Who wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Here,
    There,
}

/// What was in conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// Both changed the content of one file.
    Content,
    /// Both gave one name.
    Name,
}

/// A conflict of which both sides are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// What is the server's.
    pub theirs: NodeId,
    /// What was made here, beside it.
    pub ours: NodeId,
    /// What was in conflict.
    pub over: Over,
    /// When that was found.
    pub at: Timestamp,
}

impl Conflict {
    /// Notes it.
    pub(super) fn noted(&self) -> Op {
        let value = Some(serde_json::to_vec(self).expect("numbers become JSON"));
        Op::SetRecord { table: Table::Conflicts, key: self.ours.0.to_be_bytes().to_vec(), value }
    }

    /// Forgets it.
    pub fn forgotten(&self) -> Op {
        Op::SetRecord { table: Table::Conflicts, key: self.ours.0.to_be_bytes().to_vec(), value: None }
    }
}

impl Mirror {
    /// The conflicts that are noted and of which both sides are still there, in the order of their nodes' ids.
    ///
    /// # Errors
    /// Those of the index.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        let records = self.kept.records(Table::Conflicts)?;
        let read = |(_, value): &(Vec<u8>, Vec<u8>)| {
            serde_json::from_slice(value).map_err(|e| Error::corrupt("the note of a conflict").because(e))
        };
        let all: Vec<Conflict> = records.iter().map(read).collect::<Result<_>>()?;
        let mut there = Vec::with_capacity(all.len());
        for conflict in all {
            if self.is_there(conflict.theirs)? && self.is_there(conflict.ours)? {
                there.push(conflict);
            }
        }
        Ok(there)
    }

    fn is_there(&self, id: NodeId) -> Result<bool> {
        match self.kept.node(id) {
            Ok(node) => Ok(node.nlink > 0),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What notes `conflict`, and forgets notes of which a side is gone where there are too many; nothing where there still are.
    pub(super) fn note(&self, conflict: &Conflict) -> Result<Vec<Op>> {
        // A copy that has to give way once more is still what it was.
        let key = conflict.ours.0.to_be_bytes();
        if self.kept.record(Table::Conflicts, &key)?.is_some() {
            return Ok(Vec::new());
        }
        let mut noted = self.noted.lock();
        // They are looked through seldom: each of many files may be in conflict.
        let count = noted.map_or_else(|| Ok(self.kept.records(Table::Conflicts)?.len()), Ok)?;
        let mut ops = Vec::new();
        if count >= NOTED_MAX && count.is_multiple_of(LOOKED_EACH) {
            let there: HashSet<NodeId> = self.conflicts()?.iter().map(|conflict| conflict.ours).collect();
            let all = self.kept.records(Table::Conflicts)?.into_iter().map(|(key, _)| key);
            let is_there =
                |key: &[u8]| key.try_into().is_ok_and(|id| there.contains(&NodeId(u64::from_be_bytes(id))));
            let gone = all.filter(|key| !is_there(key));
            ops.extend(gone.map(|key| Op::SetRecord { table: Table::Conflicts, key, value: None }));
            *noted = Some(there.len());
        } else {
            *noted = Some(count);
        }
        let count = noted.unwrap_or_default();
        if count < NOTED_MAX {
            ops.push(conflict.noted());
        }
        *noted = Some(count + 1);
        Ok(ops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_chooses_by_what_it_says() {
        let (old, new) = (Timestamp(1), Timestamp(2));
        let all = [Policy::KeepBoth, Policy::KeepNewest, Policy::KeepLocal, Policy::KeepServer];
        let chosen = |here, there| all.map(|policy| policy.choose(here, there));
        let (here, there) = (Some(Side::Here), Some(Side::There));
        assert_eq!(chosen(new, old), [None, here, here, there]);
        assert_eq!(chosen(old, new), [None, there, here, there]);
        assert_eq!(chosen(old, old), [None, there, here, there]);
    }
}
