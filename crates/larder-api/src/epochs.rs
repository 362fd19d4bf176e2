//! Which feed a cursor is of: a server that is brought back from a backup goes on from a place where its feed had been before,
//! with other changes behind it. What a device heard of the changes that are lost would be mixed with those.
//!
//! Each start of a server begins an *epoch*, a random number that is noted with the place of the feed where it began. A cursor has
//! the number of the epoch in which it was told; it is worth something as long as that number is known, and the cursor lies
//! before the place where the next epoch began.
//!
//! | offset | bytes | what of a cursor |
//! |---|---|---|
//! | 0 | 8 | the epoch |
//! | 8 | | the store's cursor |

use larder_core::{Error, Kind, Result as Outcome};
use larder_drive::{Actor, Door, Drive};
use larder_store::catalog::{Cursor, Table};
use larder_store::{Durability, Op};
use serde::{Deserialize, Serialize};

/// The record of the epochs, in JSON.
const EPOCHS: &[u8] = b"epochs";
/// Epochs that are remembered: devices that heard of nothing since compare everything once.
const EPOCHS_MAX: usize = 400;
/// Bytes of an epoch's number.
const NUMBER_BYTES: usize = 8;

/// An epoch, and where the feed was when it began.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Epoch {
    number: [u8; NUMBER_BYTES],
    began: Vec<u8>,
}

/// The epochs of a drive, the last of which is now.
pub(crate) struct Epochs(Vec<Epoch>);

impl Epochs {
    /// Begins an epoch.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn begin(drive: &Drive, random: fn(&mut [u8])) -> Outcome<Self> {
        let catalog = drive.catalog();
        let record = catalog.record(Table::Settings, EPOCHS)?;
        let known = record.map(|json| serde_json::from_slice::<Vec<Epoch>>(&json)).transpose();
        let mut epochs =
            known.map_err(|e| Error::corrupt("record of the epochs").because(e))?.unwrap_or_default();
        epochs.drain(..epochs.len().saturating_sub(EPOCHS_MAX - 1));
        let mut number = [0; NUMBER_BYTES];
        random(&mut number);
        epochs.push(Epoch { number, began: catalog.now().0 });
        let value = Some(serde_json::to_vec(&epochs).expect("numbers become JSON"));
        let ops = vec![Op::SetRecord { table: Table::Settings, key: EPOCHS.to_vec(), value }];
        // It must be known after a power cut: devices are told of it.
        drive.commit(&Actor::new(Door::Api, 0, 0, ""), Vec::new(), ops, Durability::Power)?;
        Ok(Self(epochs))
    }

    /// A cursor of the store as devices are told it.
    pub(crate) fn told(&self, cursor: &Cursor) -> Cursor {
        let now = self.0.last().map_or([0; NUMBER_BYTES], |epoch| epoch.number);
        Cursor([&now[..], &cursor.0].concat())
    }

    /// The store's cursor in one that a device was told; nothing is the beginning of the feed.
    ///
    /// # Errors
    /// `Conflict` for one of changes that are lost; `Invalid` for what is none.
    pub(crate) fn read(&self, told: &Cursor) -> Outcome<Cursor> {
        if told.0.is_empty() {
            return Ok(Cursor::default());
        }
        let Some((number, cursor)) = told.0.split_first_chunk::<NUMBER_BYTES>() else {
            return Err(Error::invalid("cursor"));
        };
        let lost = || Error::new(Kind::Conflict, "the feed does not reach back so far");
        let at = self.0.iter().position(|epoch| epoch.number == *number).ok_or_else(lost)?;
        match self.0.get(at + 1) {
            Some(next) if cursor > &next.began[..] => Err(lost()),
            _ => Ok(Cursor(cursor.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(list: &[(u8, u8)]) -> Epochs {
        let epoch =
            |(number, began): &(u8, u8)| Epoch { number: [*number; NUMBER_BYTES], began: vec![*began] };
        Epochs(list.iter().map(epoch).collect())
    }

    #[test]
    fn a_cursor_counts_as_long_as_its_changes_are_there() {
        let before = epochs(&[(1, 0), (2, 5)]);
        let told = before.told(&Cursor(vec![9]));
        assert_eq!(before.read(&told).expect("of this epoch"), Cursor(vec![9]));
        // Started again, and brought back from a backup of place 7.
        assert_eq!(epochs(&[(1, 0), (2, 5), (3, 9)]).read(&told).expect("still there"), Cursor(vec![9]));
        for lost in [epochs(&[(1, 0), (2, 5), (4, 7)]), epochs(&[(1, 0), (4, 4)])] {
            assert_eq!(lost.read(&told).expect_err("lost").kind(), Kind::Conflict);
        }
        assert_eq!(before.read(&Cursor(vec![1])).expect_err("no cursor").kind(), Kind::Invalid);
    }
}
