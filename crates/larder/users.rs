//! Users: a name, a role on `home`, and the argon2 hash of a password, as records of the catalog.
//!
//! Hashing takes tens of milliseconds: callers on the asynchronous side move it to a blocking thread. A password is
//! in memory for as long as a call takes and is never logged.

use crate::args::RoleArg;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use larder_core::{Error, Result};
use larder_drive::Drive;
use larder_store::catalog::Table;
use larder_store::{Durability, Op};
use serde::{Deserialize, Serialize};

/// The user that the first start makes.
pub const ADMIN: &str = "admin";
/// The longest name, in bytes.
const NAME_MAX_BYTES: usize = 64;
/// The longest password, in bytes; bounds what a stranger makes the hash chew.
pub const PASSWORD_MAX_BYTES: usize = 1024;
/// The shortest password that a user may choose.
const PASSWORD_MIN_BYTES: usize = 8;
/// Letters of a made password: none that look alike.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Letters in a made password: 24 times 5 bits.
const MADE_LETTERS: usize = 24;

/// What a user may do in `home`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Owner,
    /// Read and write.
    Editor,
    /// Read.
    Viewer,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Role {
        match role {
            RoleArg::Owner => Role::Owner,
            RoleArg::Editor => Role::Editor,
            RoleArg::Viewer => Role::Viewer,
        }
    }
}

/// A user without the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The role.
    pub role: Role,
}

/// What the catalog keeps under the name.
#[derive(Serialize, Deserialize)]
struct Record {
    role: Role,
    hash: String,
}

/// Makes a password: 120 random bits in letters that are easy to type.
pub fn made_password() -> String {
    let mut bytes = [0; MADE_LETTERS];
    crate::random::fill(&mut bytes);
    let letters: Vec<char> = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect();
    letters.chunks(6).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-")
}

/// Makes the first user if there is none, and returns the password if it was made here.
///
/// # Errors
/// `Invalid` for a preset password that is too short; those of the catalog.
pub fn ensure_admin(drive: &Drive, preset: Option<String>) -> Result<Option<String>> {
    if !drive.catalog().records(Table::Users)?.is_empty() {
        return Ok(None);
    }
    let (password, made) = match preset {
        Some(password) => (password, false),
        None => (made_password(), true),
    };
    add(drive, ADMIN, Role::Owner, &password)?;
    Ok(made.then_some(password))
}

/// Lets `name` in.
///
/// # Errors
/// `Exists`; `Invalid` for the name or the password; those of the catalog.
pub fn add(drive: &Drive, name: &str, role: Role, password: &str) -> Result<()> {
    check_name(name)?;
    if record(drive, name)?.is_some() {
        return Err(Error::exists(format!("user {name} exists")));
    }
    save(drive, name, Some(Record { role, hash: hash(password)? }))
}

/// Gives `name` another password.
///
/// # Errors
/// `NotFound`; `Invalid` for the password; those of the catalog.
pub fn change_password(drive: &Drive, name: &str, password: &str) -> Result<()> {
    let known = record(drive, name)?.ok_or_else(|| unknown(name))?;
    save(drive, name, Some(Record { role: known.role, hash: hash(password)? }))
}

/// Lets `name` in no more.
///
/// # Errors
/// `NotFound`; `Denied` for the last owner; those of the catalog.
pub fn remove(drive: &Drive, name: &str) -> Result<()> {
    let users = list(drive)?;
    let user = users.iter().find(|user| user.name == name).ok_or_else(|| unknown(name))?;
    let owners = users.iter().filter(|user| user.role == Role::Owner).count();
    if user.role == Role::Owner && owners == 1 {
        return Err(Error::denied(format!("{name} is the last owner: add another one first")));
    }
    // Its devices go with it: a later user of that name must not have them.
    let mut ops = larder_api::devices::removal_of(drive, name)?;
    ops.push(change(name, None));
    commit(drive, ops)
}

/// Returns the user of that name.
///
/// # Errors
/// Those of the catalog.
pub fn find(drive: &Drive, name: &str) -> Result<Option<User>> {
    Ok(record(drive, name)?.map(|record| User { name: name.to_string(), role: record.role }))
}

/// Returns all users, by name.
///
/// # Errors
/// Those of the catalog.
pub fn list(drive: &Drive) -> Result<Vec<User>> {
    let records = drive.catalog().records(Table::Users)?;
    let user = |(key, value): (Vec<u8>, Vec<u8>)| {
        let name = String::from_utf8_lossy(&key).into_owned();
        Ok(User { role: parse(&name, &value)?.role, name })
    };
    records.into_iter().map(user).collect()
}

/// Returns the user if the password is theirs. Takes equally long where there is no such user.
///
/// # Errors
/// Those of the catalog.
pub fn verify(drive: &Drive, name: &str, password: &str) -> Result<Option<User>> {
    let known = record(drive, name)?;
    let hash = known.as_ref().map_or(NOBODY, |record| &record.hash);
    let parsed =
        PasswordHash::new(hash).map_err(|e| Error::corrupt(format!("user {name}")).because(e.to_string()))?;
    let right = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
    Ok(known.filter(|_| right).map(|record| User { name: name.to_string(), role: record.role }))
}

/// The hash of a password that nobody knows, with the default parameters.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlz$NxhC5Po2Np5DoK8MW8Y2pLFBVjbHAAAf5p6TKHJNWuE";

fn unknown(name: &str) -> Error {
    Error::not_found(format!("there is no user {name}"))
}

fn check_name(name: &str) -> Result<()> {
    let fine = |letter: char| letter.is_alphanumeric() || "._-@".contains(letter);
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.chars().all(fine) {
        let rule = "letters, digits and . _ - @, at most 64 bytes";
        return Err(Error::invalid(format!("user name {name:?}: {rule}")));
    }
    Ok(())
}

fn hash(password: &str) -> Result<String> {
    if !(PASSWORD_MIN_BYTES..=PASSWORD_MAX_BYTES).contains(&password.len()) {
        return Err(Error::invalid(format!(
            "a password has {PASSWORD_MIN_BYTES} to {PASSWORD_MAX_BYTES} bytes"
        )));
    }
    let mut salt = [0; 16];
    crate::random::fill(&mut salt);
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map_err(|e| Error::unavailable("hashing a password").because(e.to_string()))?;
    Ok(hash.to_string())
}

fn record(drive: &Drive, name: &str) -> Result<Option<Record>> {
    if name.is_empty() || name.len() > NAME_MAX_BYTES {
        return Ok(None);
    }
    let found = drive.catalog().record(Table::Users, name.as_bytes())?;
    found.map(|value| parse(name, &value)).transpose()
}

fn parse(name: &str, value: &[u8]) -> Result<Record> {
    serde_json::from_slice(value).map_err(|e| Error::corrupt(format!("record of user {name}")).because(e))
}

fn save(drive: &Drive, name: &str, record: Option<Record>) -> Result<()> {
    commit(drive, vec![change(name, record)])
}

fn change(name: &str, record: Option<Record>) -> Op {
    let value = record.map(|record| serde_json::to_vec(&record).expect("plain strings become JSON"));
    Op::SetRecord { table: Table::Users, key: name.as_bytes().to_vec(), value }
}

fn commit(drive: &Drive, ops: Vec<Op>) -> Result<()> {
    drive.commit(&crate::actor::server(), Vec::new(), ops, Durability::Power).map(|_| ())
}
