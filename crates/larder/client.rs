//! A command's way to the drive: through the socket of the process that has it open, else by opening it here.

use crate::clock::tick;
use crate::config::StoreSettings;
use crate::control::socket_path;
use crate::data::Opened;
use crate::operator::Operator;
use crate::request::{Progress, Reply, Request};
use larder_core::{Error, Kind, Result};
use serde_json::Value;
use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A process that has the drive open and takes no commands starts or ends; commands wait for it so long.
const CHANGE_WAIT: Duration = Duration::from_secs(10);
/// A mount waits so long: users of those that end have a few seconds each, and what they wrote is committed.
const MOUNT_WAIT: Duration = Duration::from_secs(60);
/// How often one that waits looks.
const CHANGE_CHECK: Duration = Duration::from_millis(50);

/// Has `request` carried out.
///
/// # Errors
/// Those of the request; `NotFound` where there is no drive.
pub fn ask(settings: &StoreSettings, request: Request, progress: &dyn Fn(Progress)) -> Result<Value> {
    let started = tick();
    loop {
        if let Some(stream) = connect(settings)? {
            return talk(stream, &request, progress);
        }
        match Opened::existing(settings) {
            Err(error) if error.kind() == Kind::Conflict && tick().since(started) < CHANGE_WAIT => pause(),
            opened => return Operator::alone(opened?).execute(request, progress),
        }
    }
}

/// Has `request` carried out by a running process; `None` where there is none.
///
/// # Errors
/// Those of the request.
pub fn ask_running(settings: &StoreSettings, request: &Request) -> Result<Option<Value>> {
    connect(settings)?.map(|stream| talk(stream, request, &|_| {})).transpose()
}

/// Hands events of a running process to `on_event`, until that says that it was enough; `None` where there is none.
///
/// # Errors
/// Those of the request.
pub fn listen(
    settings: &StoreSettings,
    request: &Request,
    on_event: &mut dyn FnMut(&Value) -> bool,
) -> Result<Option<()>> {
    let Some(stream) = connect(settings)? else { return Ok(None) };
    converse(stream, request, &|_| {}, on_event).map(|_| Some(()))
}

/// Does what [`ask_running`] does; a process that is about to take commands, or about to end, is waited for.
///
/// # Errors
/// Those of the request.
pub fn ask_lasting(settings: &StoreSettings, request: &Request) -> Result<Option<Value>> {
    let started = tick();
    loop {
        let answer = ask_running(settings, request);
        let changes = match &answer {
            Ok(None) => is_open(settings)?,
            // It takes none any more.
            Err(error) => error.kind() == Kind::Conflict,
            Ok(Some(_)) => false,
        };
        if !changes || tick().since(started) >= MOUNT_WAIT {
            return answer;
        }
        pause();
    }
}

/// Waits for the end of a process that has the drive open and takes no commands; its last byte is safe then.
///
/// # Errors
/// Those of opening the lock.
pub fn await_end(settings: &StoreSettings) -> Result<()> {
    let started = tick();
    while connect(settings)?.is_none() && is_open(settings)? && tick().since(started) < CHANGE_WAIT {
        pause();
    }
    Ok(())
}

/// Says whether a process has the drive open: it holds the lock of the data directory until its last byte is safe.
fn is_open(settings: &StoreSettings) -> Result<bool> {
    let path = settings.data.join("lock");
    let failed = |e| Error::io(path.display().to_string(), e);
    match File::open(&path).map(|lock| lock.try_lock()) {
        Ok(Ok(())) => Ok(false),
        Ok(Err(TryLockError::WouldBlock)) => Ok(true),
        Ok(Err(TryLockError::Error(e))) => Err(failed(e)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed(e)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the kernel tells nobody that a lock or a socket came or went")]
fn pause() {
    std::thread::sleep(CHANGE_CHECK);
}

fn connect(settings: &StoreSettings) -> Result<Option<UnixStream>> {
    let path = socket_path(&settings.data);
    match UnixStream::connect(&path) {
        Ok(stream) => Ok(Some(stream)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(e) => Err(Error::io(format!("socket {}", path.display()), e)),
    }
}

fn talk(stream: UnixStream, request: &Request, progress: &dyn Fn(Progress)) -> Result<Value> {
    converse(stream, request, progress, &mut |_| true)
}

fn converse(
    mut stream: UnixStream,
    request: &Request,
    progress: &dyn Fn(Progress),
    on_event: &mut dyn FnMut(&Value) -> bool,
) -> Result<Value> {
    let broken = |e| Error::unavailable("the server went away").because(e);
    let mut line = serde_json::to_vec(request).expect("strings and numbers become JSON");
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    for line in BufReader::new(stream).lines() {
        let reply: Reply = serde_json::from_str(&line.map_err(broken)?)
            .map_err(|e| Error::unavailable("the server gave an answer of another version").because(e))?;
        match reply {
            Reply::Progress(step) => progress(step),
            Reply::Event(event) if on_event(&event) => {}
            Reply::Event(_) => return Ok(Value::Null),
            last => return last.outcome().unwrap_or_else(|| unreachable!("progress is matched above")),
        }
    }
    Err(Error::unavailable("the server went away"))
}
