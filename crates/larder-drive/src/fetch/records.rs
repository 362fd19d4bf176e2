//! What was asked for, as the catalog keeps it over a restart: [`Table::Fetches`].
//!
//! The key of a file is its id, 8 bytes, most significant first; its value is a [`Wish`] in postcard. `paused` is the key
//! of what is paused as a whole.

use super::Shared;
use super::requested::{Requested, Switches};
use larder_core::{Error, NodeId, Result};
use larder_store::catalog::Table;
use larder_store::{Catalog, Commit, Durability, Op};
use serde::{Deserialize, Serialize};

const PAUSED: &[u8] = b"paused";

/// What somebody asked for of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wish {
    /// 1 to 10; 0 of what is to be kept here.
    pub(super) priority: u8,
    /// It ends when it moved nothing for so long.
    pub(super) ttl_ms: Option<u64>,
    /// Asked for before those with a greater number.
    pub(super) order: u64,
    pub(super) is_paused: bool,
    /// Bytes a second; older records end before it.
    #[serde(skip)]
    pub(super) limit_bytes_per_s: Option<u64>,
}

pub(super) fn of_file(id: NodeId, wish: Option<&Wish>) -> Op {
    let value = wish
        .map(|wish| postcard::to_stdvec(&(wish, wish.limit_bytes_per_s)).expect("numbers can be written"));
    Op::SetRecord { table: Table::Fetches, key: id.0.to_be_bytes().to_vec(), value }
}

pub(super) fn of_switches(switches: Switches) -> Op {
    let value = postcard::to_stdvec(&switches).expect("flags can be written");
    Op::SetRecord { table: Table::Fetches, key: PAUSED.to_vec(), value: Some(value) }
}

/// Reads what is kept.
///
/// # Errors
/// Those of the index; `Corrupt`.
pub(super) fn load(catalog: &dyn Catalog) -> Result<Requested> {
    let mut requested = Requested::default();
    let strange = |e| Error::corrupt("a record of what to fetch").because(e);
    for (key, value) in catalog.records(Table::Fetches)? {
        match <[u8; 8]>::try_from(key.as_slice()) {
            Ok(id) => {
                let (mut wish, rest): (Wish, _) = postcard::take_from_bytes(&value).map_err(strange)?;
                if !rest.is_empty() {
                    wish.limit_bytes_per_s = postcard::from_bytes(rest).map_err(strange)?;
                }
                requested.add(NodeId(u64::from_be_bytes(id)), wish, None, larder_policy::Tick(0));
            }
            Err(_) => requested.set_switches(postcard::from_bytes(&value).map_err(strange)?),
        }
    }
    Ok(requested)
}

impl Shared {
    pub(super) fn keep(&self, ops: Vec<Op>) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        let (expect, durability) = (Vec::new(), Durability::Process);
        let commit = Commit { at: self.clock.now(), op_id: None, expect, ops, durability };
        self.catalog.commit(commit).map(drop)
    }
}
