//! Devices: which of them may act for which user, as records of the catalog.
//!
//! A token is 256 random bits, shown once; the record lies under its BLAKE3 hash. To look a hash up tells nothing by the time
//! it takes, as nobody can choose the hash of a guess. What a device may do is what its user may do now, so whoever
//! calls this asks for the user's role each time.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use larder_core::{Error, Result, Timestamp};
use larder_drive::{Actor, Door, Drive};
use larder_store::catalog::Table;
use larder_store::{Durability, Op};
use serde::{Deserialize, Serialize};

/// The longest name, in bytes; it becomes part of the names of files in conflict.
const NAME_MAX_BYTES: usize = 64;
/// Devices of one user.
const DEVICES_MAX: usize = 256;
/// Letters of a token: 32 bytes in base64.
const TOKEN_LETTERS: usize = 43;

/// A device without its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// What it is called in commands: 16 hexadecimal digits.
    pub id: String,
    /// What its user calls it.
    pub name: String,
    /// Whom it acts for.
    pub user: String,
    /// When it was made.
    pub made: Timestamp,
}

/// Makes a device of `user`; returns its token too, which is stored nowhere.
///
/// # Errors
/// `Invalid` for the name, `Denied` for one device too many; those of the catalog.
pub fn make(drive: &Drive, random: fn(&mut [u8]), user: &str, name: &str) -> Result<(Device, String)> {
    check_name(name)?;
    if list(drive)?.iter().filter(|device| device.user == user).count() >= DEVICES_MAX {
        return Err(Error::denied(format!("{user} has {DEVICES_MAX} devices: remove one first")));
    }
    let (mut id, mut token) = ([0; 8], [0; 32]);
    random(&mut id);
    random(&mut token);
    let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let device = Device { id, name: name.to_owned(), user: user.to_owned(), made: drive.now() };
    let value = serde_json::to_vec(&device).expect("plain strings become JSON");
    let op = Op::SetRecord { table: Table::Devices, key: key(&token).to_vec(), value: Some(value) };
    commit(drive, vec![op])?;
    Ok((device, URL_SAFE_NO_PAD.encode(token)))
}

/// Says whether `text` may be a token: 32 bytes in base64url.
pub fn is_token(text: &str) -> bool {
    text.len() == TOKEN_LETTERS && URL_SAFE_NO_PAD.decode(text).is_ok_and(|token| token.len() == 32)
}

/// Returns the device that has `token`.
///
/// # Errors
/// Those of the catalog.
pub fn find(drive: &Drive, token: &str) -> Result<Option<Device>> {
    if token.len() != TOKEN_LETTERS {
        return Ok(None);
    }
    let Ok(token) = URL_SAFE_NO_PAD.decode(token) else { return Ok(None) };
    drive.catalog().record(Table::Devices, &key(&token))?.map(|value| parse(&value)).transpose()
}

/// Returns all devices, oldest first.
///
/// # Errors
/// Those of the catalog.
pub fn list(drive: &Drive) -> Result<Vec<Device>> {
    Ok(entries(drive)?.into_iter().map(|(_, device)| device).collect())
}

/// Returns a device. With `of` only one of that user.
///
/// # Errors
/// `NotFound`; those of the catalog.
pub fn by_id(drive: &Drive, id: &str, of: Option<&str>) -> Result<Device> {
    entry(drive, id, of).map(|(_, device)| device)
}

/// Removes a device; its token is worth nothing from now on. With `of` only a device of that user.
///
/// # Errors
/// `NotFound`; those of the catalog.
pub fn remove(drive: &Drive, id: &str, of: Option<&str>) -> Result<()> {
    let (key, device) = entry(drive, id, of)?;
    commit(drive, removal(key, &device))
}

/// What removes all devices of `user`, to be committed with whatever removes the user: a later user of that name must
/// not inherit them.
///
/// # Errors
/// Those of the catalog.
pub fn removal_of(drive: &Drive, user: &str) -> Result<Vec<Op>> {
    let entries = entries(drive)?.into_iter();
    let own = entries.filter(|(_, device)| device.user == user);
    Ok(own.flat_map(|(key, device)| removal(key, &device)).collect())
}

/// A device goes with its rules.
fn removal(key: Vec<u8>, device: &Device) -> Vec<Op> {
    let rules = device.id.clone().into_bytes();
    [(Table::Devices, key), (Table::Rules, rules)]
        .map(|(table, key)| Op::SetRecord { table, key, value: None })
        .into()
}

fn entry(drive: &Drive, id: &str, of: Option<&str>) -> Result<(Vec<u8>, Device)> {
    let mine = |device: &Device| device.id == id && of.is_none_or(|user| device.user == user);
    let found = entries(drive)?.into_iter().find(|(_, device)| mine(device));
    found.ok_or_else(|| Error::not_found(format!("there is no device {id}")))
}

fn entries(drive: &Drive) -> Result<Vec<(Vec<u8>, Device)>> {
    let records = drive.catalog().records(Table::Devices)?.into_iter();
    let mut entries: Vec<_> = records.map(|(key, value)| Ok((key, parse(&value)?))).collect::<Result<_>>()?;
    entries.sort_by(|(_, a), (_, b)| (a.made, &a.id).cmp(&(b.made, &b.id)));
    Ok(entries)
}

fn key(token: &[u8]) -> [u8; 32] {
    *blake3::hash(token).as_bytes()
}

fn check_name(name: &str) -> Result<()> {
    let fine = |letter: char| !letter.is_control() && letter != '/';
    if name.trim().is_empty() || name.len() > NAME_MAX_BYTES || !name.chars().all(fine) {
        let rule = "1 to 64 bytes of text without slashes and control characters";
        return Err(Error::invalid(format!("name: {rule}")));
    }
    Ok(())
}

fn parse(value: &[u8]) -> Result<Device> {
    serde_json::from_slice(value).map_err(|e| Error::corrupt("record of a device").because(e))
}

fn commit(drive: &Drive, ops: Vec<Op>) -> Result<()> {
    let actor = Actor::new(Door::Api, 0, 0, "larder");
    drive.commit(&actor, Vec::new(), ops, Durability::Power).map(|_| ())
}
