//! Basic authentication (RFC 7617): who sends a request.
//!
//! argon2 runs once per credentials, on a blocking thread, a few at a time; what it said is remembered under a keyed
//! hash. Tries are counted before it runs, so that guessing costs the guesser and not the server.

use crate::attempts::Attempts;
use crate::clock::tick;
use crate::users::{self, PASSWORD_MAX_BYTES, User};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode, header};
use larder_drive::Drive;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Hashes computed at a time: each takes 19 MiB and a core.
const HASHES_AT_A_TIME: usize = 2;
/// The longest wait for one of them before the client is told to come back.
const HASH_WAIT: Duration = Duration::from_secs(20);
/// Credentials remembered; beyond it all are forgotten, which costs one hash each.
const KNOWN_MAX: usize = 4096;

/// Why a request is not let in.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No credentials, or wrong ones.
    Unknown,
    /// Too many tries; seconds to wait.
    TooMany(u64),
    /// Too busy, or the catalog failed.
    Busy,
}

impl Refusal {
    /// The status, and the Retry-After in seconds.
    pub fn status(&self) -> (StatusCode, Option<u64>) {
        match self {
            Refusal::Unknown => (StatusCode::UNAUTHORIZED, None),
            Refusal::TooMany(wait_s) => (StatusCode::TOO_MANY_REQUESTS, Some(*wait_s)),
            Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, Some(1)),
        }
    }
}

/// Knows who is who.
pub struct Auth {
    drive: Arc<Drive>,
    key: [u8; 32],
    known: Mutex<HashMap<Fingerprint, User>>,
    /// Grows when users change, so that a check begun before does not put back what was dropped.
    generation: AtomicU64,
    attempts: Mutex<Attempts>,
    checks: Checks,
    hashing: Semaphore,
}

/// A keyed hash of an Authorization header.
type Fingerprint = [u8; 32];

/// Credentials that are being checked: who comes with the same waits for the one check, which may tell everything.
#[derive(Default)]
struct Checks(Mutex<HashMap<Fingerprint, Arc<Queue>>>);

type Queue = tokio::sync::Mutex<()>;

/// A place in the queue of the same credentials.
struct Place<'a> {
    checks: &'a Checks,
    fingerprint: Fingerprint,
    queue: Arc<Queue>,
}

impl Checks {
    fn place(&self, fingerprint: Fingerprint) -> Place<'_> {
        let queue = self.0.lock().entry(fingerprint).or_default().clone();
        Place { checks: self, fingerprint, queue }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.checks.0.lock();
        // Ours and the one in the map: nobody else waits.
        if Arc::strong_count(&self.queue) <= 2 {
            queues.remove(&self.fingerprint);
        }
    }
}

impl Auth {
    /// Knows nobody yet.
    pub fn new(drive: Arc<Drive>) -> Self {
        Self {
            drive,
            key: crate::random::array(),
            known: Mutex::default(),
            generation: AtomicU64::new(0),
            attempts: Mutex::default(),
            checks: Checks::default(),
            hashing: Semaphore::new(HASHES_AT_A_TIME),
        }
    }

    /// The drive whose users these are.
    pub fn drive(&self) -> &Arc<Drive> {
        &self.drive
    }

    /// Forgets what was verified; to be called after any change of users.
    pub fn forget(&self) {
        let mut known = self.known.lock();
        self.generation.fetch_add(1, Ordering::Release);
        known.clear();
    }

    /// Returns the user whom the Authorization header proves.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub async fn identify(&self, headers: &HeaderMap, address: IpAddr) -> Result<User, Refusal> {
        let value = headers.get(header::AUTHORIZATION).ok_or(Refusal::Unknown)?;
        let fingerprint = *blake3::keyed_hash(&self.key, value.as_bytes()).as_bytes();
        if let Some(user) = self.remembered(&fingerprint) {
            return Ok(user);
        }
        let (name, password) = credentials(value.as_bytes()).ok_or(Refusal::Unknown)?;
        // A client that opens many connections at once sends the same on each: that is one try.
        let place = self.checks.place(fingerprint);
        let turn = tokio::time::timeout(HASH_WAIT, place.queue.lock()).await;
        let _turn = turn.map_err(|_| Refusal::Busy)?;
        if let Some(user) = self.remembered(&fingerprint) {
            return Ok(user);
        }
        self.attempts
            .lock()
            .take(address, &name, tick())
            .map_err(|wait| Refusal::TooMany(wait.as_secs() + 1))?;
        let generation = self.generation.load(Ordering::Acquire);
        let verified = self.verify(name.clone(), password).await;
        // Only a wrong password costs a try.
        if verified != Err(Refusal::Unknown) {
            self.attempts.lock().give_back(address, &name, tick());
        }
        let user = verified?;
        let mut known = self.known.lock();
        if self.generation.load(Ordering::Acquire) == generation {
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(fingerprint, user.clone());
        }
        Ok(user)
    }

    fn remembered(&self, fingerprint: &Fingerprint) -> Option<User> {
        self.known.lock().get(fingerprint).cloned()
    }

    async fn verify(&self, name: String, password: String) -> Result<User, Refusal> {
        let turn = tokio::time::timeout(HASH_WAIT, self.hashing.acquire()).await;
        let _turn = turn.map_err(|_| Refusal::Busy)?.map_err(|_| Refusal::Busy)?;
        let drive = self.drive.clone();
        let task = tokio::task::spawn_blocking(move || users::verify(&drive, &name, &password));
        match task.await {
            Ok(Ok(Some(user))) => Ok(user),
            Ok(Ok(None)) => Err(Refusal::Unknown),
            Ok(Err(error)) => {
                tracing::error!(%error, "checking a password");
                Err(Refusal::Busy)
            }
            Err(_) => Err(Refusal::Busy),
        }
    }
}

/// User and password of `Basic BASE64`; nothing where it is not that.
pub fn credentials(value: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") || encoded.len() > 2 * PASSWORD_MAX_BYTES {
        return None;
    }
    let plain = String::from_utf8(STANDARD.decode(encoded.trim_ascii()).ok()?).ok()?;
    let (name, password) = plain.split_once(':')?;
    (password.len() <= PASSWORD_MAX_BYTES).then(|| (name.to_string(), password.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_keep_colons_of_the_password() {
        let header = format!("bAsIc {}", STANDARD.encode("me:a:b"));
        assert_eq!(credentials(header.as_bytes()), Some(("me".into(), "a:b".into())));
        for bad in ["", "Basic", "Basic !", "Bearer abc", "Basic bWU="] {
            assert_eq!(credentials(bad.as_bytes()), None, "{bad}");
        }
    }
}
