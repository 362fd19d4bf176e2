//! Ranges of ids for nodes that devices make: each is given away once.

use crate::caller::Caller;
use crate::failure::Failure;
use crate::{BODY_BYTES, Body, Incoming, Service, answer};
use http::{Response, StatusCode, request};
use larder_core::{Error, Kind, NodeId, Result as Outcome, Timestamp};
use larder_drive::{Actor, Door, Drive};
use larder_store::catalog::Table;
use larder_store::origin::RANGE_BITS;
use larder_store::{Durability, Expect, Op};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The record of the last range that was given away, decimal.
const LAST: &[u8] = b"ranges";
/// Ids have room for so many; range 0 is the server's own.
const RANGES: u32 = 1 << (u64::BITS - RANGE_BITS);
/// A range is not given before so many seconds for each before it are over since [`SINCE_S`]: a server that was brought back from
/// a backup gives hardly a range twice that it does not remember (those who ask in the same minute get some ahead of their time).
/// There are 34 years of them.
const RANGE_S: i64 = 64;
/// 2026-01-01T00:00:00Z, in seconds of Unix time.
const SINCE_S: i64 = 1_767_225_600;
/// How often somebody else may be quicker.
const TRIES: usize = 256;

/// Nothing to say, so far.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {}

#[derive(Serialize)]
struct Granted {
    range: u32,
}

/// Gives a range away.
pub(crate) async fn grant(
    service: Arc<Service>,
    caller: Caller,
    head: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Failure> {
    let body = answer::whole(&head.headers, body, answer::JSON, BODY_BYTES).await?;
    let Wish {} = serde_json::from_slice(&body).map_err(|error| Failure::invalid("body", error))?;
    let drive = service.drive.clone();
    let range = service.gate.call::<_, Error>(move || next(&drive, &caller)).await?;
    Ok(answer::json(StatusCode::OK, &Granted { range }))
}

fn next(drive: &Drive, caller: &Caller) -> Outcome<u32> {
    let actor = Actor::new(Door::Api, 0, 0, caller.user.as_str());
    for _ in 0..TRIES {
        let before = drive.catalog().record(Table::Settings, LAST)?;
        let range = (last(before.as_deref())? + 1).max(due(drive.now()));
        if range >= RANGES {
            return Err(Error::new(Kind::NoSpace, "every range of ids is given away"));
        }
        let (key, value) = (LAST.to_vec(), Some(range.to_string().into_bytes()));
        let expect = vec![Expect::Record(Table::Settings, key.clone(), before)];
        let ops = vec![Op::SetRecord { table: Table::Settings, key, value }];
        match drive.commit(&actor, expect, ops, Durability::Power) {
            Ok(_) => return Ok(range),
            Err(error) if error.kind() == Kind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::unavailable("others are given ranges of ids all the time"))
}

/// The first range that is not too old at `now`; 0 where the time says nothing.
fn due(now: Timestamp) -> u32 {
    let range = (now.0 / 1_000_000_000 - SINCE_S) / RANGE_S;
    u32::try_from(range).ok().filter(|range| *range < RANGES).unwrap_or(0)
}

fn last(record: Option<&[u8]>) -> Outcome<u32> {
    let Some(record) = record else { return Ok(0) };
    let number = std::str::from_utf8(record).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::corrupt("record of the ranges of ids"))
}

/// The ids that were given away.
pub(crate) struct Ranges(u32);

impl Ranges {
    /// All up to now.
    ///
    /// # Errors
    /// Those of the catalog.
    pub(crate) fn given(drive: &Drive) -> Outcome<Self> {
        // A server that was brought back from a backup does not remember those that it gave since.
        let last = last(drive.catalog().record(Table::Settings, LAST)?.as_deref())?;
        Ok(Ranges(last.max(due(drive.now()))))
    }

    /// Says whether somebody may have made a node of this id: of the server's own, those it gave to nodes, which it may
    /// have forgotten where a device has not.
    pub(crate) fn contain(&self, drive: &Drive, id: NodeId) -> bool {
        match id.0 >> RANGE_BITS {
            0 => id != NodeId::ROOT && id < drive.catalog().new_id(),
            range => range <= u64::from(self.0),
        }
    }
}
