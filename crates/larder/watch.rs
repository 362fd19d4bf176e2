//! What goes on: `status --watch`, what a running server says of itself or of a file, again each second; `status --line`;
//! `events`.

use crate::config::StoreSettings;
use crate::request::Request;
use crate::show::{self, Look};
use crate::{client, events, status_line};
use larder_core::{Error, Result};
use serde_json::Value;
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
        let answer = asked(settings, request)?;
        let text = if json { format!("{answer}\n") } else { show::text(&answer, &Look::Status) };
        if !written(&mut out, &format!("{clear}{text}"))? {
            return Ok(());
        }
        pause();
    }
}

/// Says in one line what moves on these drives.
///
/// # Errors
/// `Unavailable` where nothing has one of them mounted.
pub fn line(all: &[StoreSettings], json: bool) -> Result<()> {
    let status = Request::Status { path: None };
    let statuses: Vec<Value> = all.iter().map(|settings| asked(settings, &status)).collect::<Result<_>>()?;
    let shown = if json { status_line::value(&statuses).to_string() } else { status_line::of(&statuses) };
    show::print(&format!("{shown}\n"));
    Ok(())
}

/// Tells of events until nobody reads them any more, or their source ends.
///
/// # Errors
/// `Unavailable` where no server runs; those of the request.
pub fn events(settings: &StoreSettings, request: &Request, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut outcome = Ok(());
    let mut tell = |event: &Value| {
        let text = if json { event.to_string() } else { events::line(event) };
        let told = written(&mut out, &format!("{text}\n"));
        let goes_on = matches!(told, Ok(true));
        outcome = told.map(drop);
        goes_on
    };
    let listened = client::listen(settings, request, &mut tell)?;
    listened.ok_or_else(|| none(settings))?;
    outcome
}

/// Never by opening the drive itself: that would keep a server from starting.
fn asked(settings: &StoreSettings, request: &Request) -> Result<Value> {
    client::ask_running(settings, request)?.ok_or_else(|| none(settings))
}

fn none(settings: &StoreSettings) -> Error {
    Error::unavailable(format!("no server runs on {}: start one", settings.data.display()))
}

/// Writes and says whether anybody reads.
fn written(out: &mut impl Write, text: &str) -> Result<bool> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).map_err(|e| Error::io("standard output", e)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the period of a display, on a thread that does nothing else")]
fn pause() {
    std::thread::sleep(PERIOD);
}
