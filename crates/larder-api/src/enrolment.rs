//! Making, listing and removing devices.

use crate::caller::{Caller, Role};
use crate::devices::{self, Device};
use crate::failure::Failure;
use crate::{BODY_BYTES, Body, Incoming, Service, answer};
use http::{Response, StatusCode, request};
use larder_core::Error;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    name: String,
}

/// Makes a device of the user who asks.
pub(crate) async fn make(
    service: Arc<Service>,
    caller: Caller,
    head: &request::Parts,
    body: Incoming,
) -> Result<Response<Body>, Failure> {
    let body = answer::whole(&head.headers, body, answer::JSON, BODY_BYTES).await?;
    let wish: Wish = serde_json::from_slice(&body).map_err(|error| Failure::invalid("body", error))?;
    let (drive, random) = (service.drive.clone(), service.settings.random);
    let made = service.gate.call(move || devices::make(&drive, random, &caller.user, &wish.name)).await;
    let (device, token) = made?;
    let shown = json!({ "id": device.id, "name": device.name, "user": device.user, "token": token });
    Ok(answer::json(StatusCode::CREATED, &shown))
}

/// Lists the devices that the caller may remove.
pub(crate) async fn list(service: Arc<Service>, caller: Caller) -> Result<Response<Body>, Failure> {
    let drive = service.drive.clone();
    let all = service.gate.call::<_, Error>(move || devices::list(&drive)).await?;
    let current = caller.device().map(|device| device.id.as_str());
    let visible = all.iter().filter(|device| caller.role == Role::Owner || device.user == caller.user);
    let shown: Vec<Value> = visible.map(|device| described(device, current)).collect();
    Ok(answer::json(StatusCode::OK, &json!({ "devices": shown })))
}

fn described(device: &Device, current: Option<&str>) -> Value {
    json!({
        "id": device.id,
        "name": device.name,
        "user": device.user,
        "made": device.made.0.to_string(),
        "current": current == Some(&device.id),
    })
}

/// Removes one of them.
pub(crate) async fn remove(
    service: Arc<Service>,
    caller: Caller,
    id: String,
) -> Result<Response<Body>, Failure> {
    let drive = service.drive.clone();
    let remove = move || {
        let of = (caller.role != Role::Owner).then_some(caller.user.as_str());
        devices::remove(&drive, &id, of)
    };
    service.gate.call(remove).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
