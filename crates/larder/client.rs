//! A command's way to the drive: through the socket of the process that has it open, else by opening it here.

use crate::config::StoreSettings;
use crate::control::socket_path;
use crate::data::Opened;
use crate::operator::Operator;
use crate::request::{Progress, Reply, Request};
use larder_core::{Error, Kind, Result};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;

/// Has `request` carried out.
///
/// # Errors
/// Those of the request; `NotFound` where there is no drive.
pub fn ask(settings: &StoreSettings, request: Request, progress: &dyn Fn(Progress)) -> Result<Value> {
    if let Some(stream) = connect(settings)? {
        return talk(stream, &request, progress);
    }
    Operator::alone(Opened::existing(settings)?).execute(request, progress)
}

/// Has `request` carried out by a running process; `None` where there is none.
///
/// # Errors
/// Those of the request.
pub fn ask_running(settings: &StoreSettings, request: &Request) -> Result<Option<Value>> {
    connect(settings)?.map(|stream| talk(stream, request, &|_| {})).transpose()
}

/// Does what [`ask_running`] does; a process that is about to end is waited for, and then there is none.
///
/// # Errors
/// Those of the request.
pub fn ask_lasting(settings: &StoreSettings, request: &Request) -> Result<Option<Value>> {
    match ask_running(settings, request) {
        Err(error) if error.kind() == Kind::Conflict => {
            let path = settings.data.join("lock");
            let failed = |e| Error::io(path.display().to_string(), e);
            // It holds the lock of the data directory until its last byte is safe.
            File::open(&path).and_then(|lock| lock.lock()).map_err(failed)?;
            Ok(None)
        }
        done => done,
    }
}

fn connect(settings: &StoreSettings) -> Result<Option<UnixStream>> {
    let path = socket_path(&settings.data);
    match UnixStream::connect(&path) {
        Ok(stream) => Ok(Some(stream)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(e) => Err(Error::io(format!("socket {}", path.display()), e)),
    }
}

fn talk(mut stream: UnixStream, request: &Request, progress: &dyn Fn(Progress)) -> Result<Value> {
    let broken = |e| Error::unavailable("the server went away").because(e);
    let mut line = serde_json::to_vec(request).expect("strings and numbers become JSON");
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    for line in BufReader::new(stream).lines() {
        let reply: Reply = serde_json::from_str(&line.map_err(broken)?)
            .map_err(|e| Error::unavailable("the server gave an answer of another version").because(e))?;
        match reply {
            Reply::Progress(step) => progress(step),
            last => return last.outcome().unwrap_or_else(|| unreachable!("progress is matched above")),
        }
    }
    Err(Error::unavailable("the server went away"))
}
