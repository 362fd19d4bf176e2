//! Tells systemd how the service is. Source: sd_notify(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends `state`, such as `READY=1`; does nothing where nobody listens.
pub fn notify(state: &str) {
    if let Err(error) = try_notify(state) {
        tracing::warn!(%error, state, "sd_notify");
    }
}

/// Says that the service is ready, and in a line what it does.
pub fn ready(status: &str) {
    // A name may hold a line end, which would begin another assignment.
    notify(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
}

/// Says whether somebody listens.
#[expect(clippy::disallowed_methods, reason = "the binary is where the environment is read")]
pub fn is_listening() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

#[expect(clippy::disallowed_methods, reason = "the binary is where the environment is read")]
fn try_notify(state: &str) -> std::io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}

/// How often WATCHDOG=1 is due: half of what systemd allows. Source: sd_watchdog_enabled(3).
#[expect(clippy::disallowed_methods, reason = "the binary is where the environment is read")]
pub fn watchdog_period() -> Option<Duration> {
    let own = std::env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == std::process::id().to_string());
    let limit_us: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (own && limit_us > 0).then(|| Duration::from_micros(limit_us / 2))
}
