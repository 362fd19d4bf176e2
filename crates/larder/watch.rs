//! `status --watch`: what a running server says of itself or of a file, again each second.

use crate::client;
use crate::config::StoreSettings;
use crate::request::Request;
use crate::show::{self, Look};
use larder_core::{Error, Result};
use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Clears a terminal and goes to its first line. Source: ECMA-48, ED and CUP.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows the answer to `request` until nobody reads it any more; with `json` a line each time.
///
/// # Errors
/// `Unavailable` where no server runs, or it ends; those of the request.
pub fn run(settings: &StoreSettings, request: &Request, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let clear = if out.is_terminal() && !json { CLEAR } else { "" };
    loop {
        // Never by opening the drive itself: that would keep a server from starting.
        let answer = client::ask_running(settings, request)?.ok_or_else(|| {
            Error::unavailable(format!("no server runs on {}: start one", settings.data.display()))
        })?;
        let text = if json { format!("{answer}\n") } else { show::text(&answer, &Look::Status) };
        match out.write_all(format!("{clear}{text}").as_bytes()).and_then(|()| out.flush()) {
            Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|e| Error::io("standard output", e))?,
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "the period of a display, on a thread that does nothing else")]
fn pause() {
    std::thread::sleep(PERIOD);
}
