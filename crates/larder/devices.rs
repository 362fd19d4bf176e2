//! Who a device is: the token of a request, the device that has it, and what its user may do now.

use crate::auth::{Refusal, credentials};
use crate::users::{self, Role};
use http::{HeaderMap, header};
use larder_api::{Caller, Proof};
use larder_core::Result;
use larder_drive::Drive;
use serde_json::{Value, json};

/// The token of `Authorization: Bearer TOKEN`; nothing where the header is absent or of another scheme. Source: RFC 6750 § 2.1.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token of a device that comes over WebDAV: many clients have a field for a password and none for a token. Whose device it
/// is, the token says; the name that comes with it does not count. False with one that may be a password all the same.
pub fn token_of_device(headers: &HeaderMap) -> Option<(String, bool)> {
    if let Some(token) = token(headers) {
        return Some((token.to_owned(), true));
    }
    let (_, password) = credentials(headers.get(header::AUTHORIZATION)?.as_bytes())?;
    larder_api::devices::is_token(&password).then_some((password, false))
}

/// Returns who has `token`. That is two looks into the index, without a thread, as WebDAV looks up its paths; tries are not
/// counted, as nobody guesses 256 bits.
///
/// # Errors
/// A [`Refusal`].
pub fn caller(drive: &Drive, token: &str) -> Result<Caller, Refusal> {
    let known = || -> Result<Option<Caller>> {
        let Some(device) = larder_api::devices::find(drive, token)? else { return Ok(None) };
        let user = users::find(drive, &device.user)?;
        Ok(user.map(|user| Caller { role: role(user.role), user: user.name, proof: Proof::Token(device) }))
    };
    match known() {
        Ok(Some(caller)) => Ok(caller),
        Ok(None) => Err(Refusal::Unknown),
        Err(error) => {
            tracing::error!(%error, "checking a token");
            Err(Refusal::Busy)
        }
    }
}

/// The role as the protocol has it.
pub fn role(role: Role) -> larder_api::Role {
    match role {
        Role::Owner => larder_api::Role::Owner,
        Role::Editor => larder_api::Role::Editor,
        Role::Viewer => larder_api::Role::Viewer,
    }
}

/// The refusal as the protocol has it.
pub fn refusal(refusal: &Refusal) -> larder_api::Refusal {
    let wait_s = refusal.status().1.unwrap_or(1);
    match refusal {
        Refusal::Unknown => larder_api::Refusal::Unknown,
        Refusal::TooMany(_) => larder_api::Refusal::TooMany(wait_s),
        Refusal::Busy => larder_api::Refusal::Busy(wait_s),
    }
}

/// All devices, for commands.
///
/// # Errors
/// Those of the catalog.
pub fn shown(drive: &Drive) -> Result<Value> {
    let devices = larder_api::devices::list(drive)?.into_iter();
    let shown = devices.map(|device| {
        let made = crate::time::rfc3339(device.made);
        json!({ "id": device.id, "name": device.name, "user": device.user, "made": made })
    });
    Ok(shown.collect())
}
