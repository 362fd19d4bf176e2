//! Rules of devices: kept here as text, told to the device at once, and written by it, by its user, or by an owner.

use crate::caller::{Caller, Role};
use crate::devices::{self, Device};
use crate::failure::Failure;
use crate::{Body, Incoming, Service, answer};
use http::{Method, Response, StatusCode, request};
use larder_core::{Error, Result as Outcome};
use larder_drive::{Actor, Door, Drive};
use larder_policy::rules::Rules;
use larder_store::catalog::{RECORD_MAX_BYTES, Table};
use larder_store::origin::Ruled;
use larder_store::{Durability, Expect, Op};
use serde::Deserialize;
use std::sync::Arc;

/// The longest body: a record in JSON, with room for what JSON escapes.
const BODY_MAX_BYTES: usize = 2 * RECORD_MAX_BYTES;
/// The word for the device that asks.
const CURRENT: &str = "current";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    text: String,
    version: u64,
}

/// Who writes rules.
pub struct Writer<'a> {
    /// The user.
    pub user: &'a str,
    /// The name of the device on which they do; empty for the server itself.
    pub on: &'a str,
}

/// The rules of a device.
///
/// # Errors
/// Those of the catalog.
pub fn of(drive: &Drive, device: &str) -> Outcome<Ruled> {
    Ruled::decode(drive.catalog().record(Table::Rules, device.as_bytes())?.as_deref())
}

/// Gives a device other rules than those of version `was`; it hears of that at once.
///
/// # Errors
/// `Invalid` for what are no rules, or too many; `Conflict` where somebody else was first; those of the catalog.
pub fn set(drive: &Drive, device: &Device, was: u64, text: String, by: &Writer<'_>) -> Outcome<Ruled> {
    text.parse::<Rules>()?;
    let before = drive.catalog().record(Table::Rules, device.id.as_bytes())?;
    let there = Ruled::decode(before.as_deref())?.version;
    if there != was {
        return Err(Error::conflict(format!(
            "the rules of {} are of version {there} and not {was}: somebody changed them",
            device.name
        )));
    }
    let ruled = Ruled {
        version: was + 1,
        text,
        by: by.user.to_owned(),
        on: by.on.to_owned(),
        changed: drive.now().0.to_string(),
    };
    let value = ruled.encode();
    if value.len() > RECORD_MAX_BYTES {
        return Err(Error::invalid(format!("rules: more than {RECORD_MAX_BYTES} bytes")));
    }
    let (table, key) = (Table::Rules, device.id.clone().into_bytes());
    let expect = vec![Expect::Record(table, key.clone(), before)];
    let ops = vec![Op::SetRecord { table, key, value: Some(value) }];
    drive.commit(&Actor::new(Door::Api, 0, 0, by.user), expect, ops, Durability::Power)?;
    drive.tell_of_records();
    Ok(ruled)
}

/// Tells the rules of a device, or takes others.
pub(crate) async fn call(
    service: Arc<Service>,
    caller: Caller,
    id: String,
    head: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Failure> {
    let wish: Option<Wish> = match head.method {
        Method::PUT => {
            let body = answer::whole(&head.headers, body, answer::JSON, BODY_MAX_BYTES).await?;
            Some(serde_json::from_slice(&body).map_err(|error| Failure::invalid("body", error))?)
        }
        _ => None,
    };
    let drive = service.drive.clone();
    let job = move || {
        let id = match caller.device() {
            Some(own) if id == CURRENT => own.id.as_str(),
            _ => id.as_str(),
        };
        let of_user = (caller.role != Role::Owner).then_some(caller.user.as_str());
        let device = devices::by_id(&drive, id, of_user)?;
        let on = caller.device().map_or("", |device| &device.name);
        match wish {
            None => of(&drive, &device.id),
            Some(Wish { text, version }) => {
                set(&drive, &device, version, text, &Writer { user: &caller.user, on })
            }
        }
    };
    let ruled = service.gate.call::<_, Error>(job).await?;
    Ok(answer::json(StatusCode::OK, &ruled))
}
