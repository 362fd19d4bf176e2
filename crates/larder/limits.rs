//! Limits that were set while running: kept in the catalog until they are set again.

use crate::actor;
use crate::stream::Shapers;
use larder_core::Result;
use larder_drive::Drive;
use larder_policy::Rate;
use larder_store::catalog::Table;
use larder_store::{Durability, Op};
use serde_json::{Value, json};

const DOWN: &[u8] = b"limit-down";
const UP: &[u8] = b"limit-up";

/// Limits to set; outer `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// What the server sends.
    pub down: Option<Option<Rate>>,
    /// What it receives.
    pub up: Option<Option<Rate>>,
}

/// Reads rates.
///
/// # Errors
/// `Invalid`.
pub fn parse(down: Option<&str>, up: Option<&str>) -> Result<Limits> {
    let parse = |text: Option<&str>| text.map(Rate::parse_limit).transpose();
    Ok(Limits { down: parse(down)?, up: parse(up)? })
}

/// Returns what was set last.
///
/// # Errors
/// Those of the catalog.
pub fn saved(drive: &Drive) -> Result<Limits> {
    let read = |key| {
        let found = drive.catalog().record(Table::Settings, key)?;
        found.map(|text| Rate::parse_limit(&String::from_utf8_lossy(&text))).transpose()
    };
    Ok(Limits { down: read(DOWN)?, up: read(UP)? })
}

/// Keeps `change` for the next start.
///
/// # Errors
/// Those of the catalog.
pub fn save(drive: &Drive, change: &Limits) -> Result<()> {
    let ops: Vec<Op> = [(DOWN, change.down), (UP, change.up)]
        .into_iter()
        .filter_map(|(key, limit)| {
            let value = Some(written(limit?).into_bytes());
            Some(Op::SetRecord { table: Table::Settings, key: key.to_vec(), value })
        })
        .collect();
    if ops.is_empty() {
        return Ok(());
    }
    drive.commit(&actor::server(), Vec::new(), ops, Durability::Power).map(|_| ())
}

/// Applies `change` at once.
pub fn apply(shapers: &Shapers, change: &Limits) {
    for (shaper, limit) in [(&shapers.down, change.down), (&shapers.up, change.up)] {
        if let Some(limit) = limit {
            shaper.set_limit(limit);
        }
    }
}

/// Limits as JSON.
pub fn shown(down: Option<Rate>, up: Option<Rate>) -> Value {
    json!({ "down": written(down), "up": written(up) })
}

fn written(limit: Option<Rate>) -> String {
    limit.map_or_else(|| "off".to_string(), |rate| rate.to_string())
}
