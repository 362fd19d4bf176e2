//! The socket in the data directory through which commands reach the process that has it open.
//!
//! Who may open the data directory may use the socket: it has mode 0600 in a directory of mode 0700.

use crate::events::{self, Listener};
use crate::operator::Operator;
use crate::request::{Progress, Reply, Request};
use larder_core::{DrivePath, Error, Result};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// The longest request.
const REQUEST_MAX_BYTES: u64 = 256 << 10;
/// A client sends it at once.
const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// Commands at a time.
const COMMANDS_MAX: usize = 32;
/// Wait after accept(2) failed, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Those of them who listen to events, which lasts.
const LISTENERS_MAX: usize = 16;
/// Events that wait to be written; then their source waits.
const EVENTS_QUEUE: usize = 64;
/// A listener that does not read has so long to hear of the end.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// Progress lines that wait for a slow reader; more are left out.
const PROGRESS_QUEUE: usize = 16;

/// Where the socket of a data directory is.
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Listens on the socket; the caller has the lock of the data directory, so what is there is left over.
///
/// # Errors
/// Those of bind(2).
pub fn listen(data: &Path) -> Result<UnixListener> {
    let path = socket_path(data);
    let failed = |e| Error::io(format!("socket {}", path.display()), e);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Answers commands until `stop` says so, then those that came before; jobs may take their time, so the caller sets a
/// limit.
pub async fn run(listener: UnixListener, operator: Arc<Operator>, mut stop: watch::Receiver<bool>) {
    let mut commands = JoinSet::new();
    let door = Door {
        operator: operator.clone(),
        listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
        stop: stop.clone(),
    };
    let mut stopped = std::pin::pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
    loop {
        tokio::select! {
            accepted = listener.accept(), if commands.len() < COMMANDS_MAX => match accepted {
                Ok((stream, _)) => drop(commands.spawn(answered(stream, door.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = commands.join_next() => {}
            () = stopped.as_mut() => break,
        }
    }
    // While the lock of the data directory is held: afterwards the socket there may be a successor's. Whoever comes
    // now waits for the lock; whoever is connected already waits for an answer.
    let _ = std::fs::remove_file(socket_path(operator.opened().data()));
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, _)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
            if let Ok(stream) = stream {
                commands.spawn(answered(stream, door.clone()));
            }
        }
    }
    while commands.join_next().await.is_some() {}
}

/// What answers need.
#[derive(Clone)]
struct Door {
    operator: Arc<Operator>,
    listeners: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

async fn answered(stream: UnixStream, door: Door) {
    if let Err(error) = answer(stream, door).await {
        tracing::debug!(%error, "control connection");
    }
}

async fn answer(stream: UnixStream, door: Door) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(REQUEST_MAX_BYTES));
    tokio::time::timeout(REQUEST_WAIT, reader.read_line(&mut line)).await??;
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(e) => {
            let error = Error::invalid("this server does not know that command").because(e);
            return write.write_all(&encoded(&Reply::of(Err(error)))).await;
        }
    };
    if let Request::Events { path } = request {
        let outcome = tell(reader, &mut write, door, path).await;
        let last = encoded(&Reply::of(outcome.map(|()| Value::Null)));
        return tokio::time::timeout(LAST_WAIT, write.write_all(&last)).await?;
    }
    let operator = door.operator;
    let (sender, mut progress) = mpsc::channel(PROGRESS_QUEUE);
    let job = tokio::task::spawn_blocking(move || {
        // A full queue means that nobody reads: progress may be lost, the job goes on.
        operator.execute(request, &|step: Progress| drop(sender.try_send(step)))
    });
    while let Some(step) = progress.recv().await {
        if write.write_all(&encoded(&Reply::Progress(step))).await.is_err() {
            progress.close();
        }
    }
    let outcome = job.await.unwrap_or_else(|_| Err(Error::corrupt("the command failed inside the server")));
    write.write_all(&encoded(&Reply::of(outcome))).await
}

/// Tells of events until either side ends.
async fn tell(
    mut reader: impl AsyncRead + Unpin,
    write: &mut OwnedWriteHalf,
    mut door: Door,
    path: Vec<u8>,
) -> Result<()> {
    let top = DrivePath::parse(path)?;
    let full = |_| Error::unavailable(format!("{LISTENERS_MAX} others listen to events already"));
    let _place = door.listeners.clone().try_acquire_owned().map_err(full)?;
    let listener = Arc::new(Listener::default());
    let (sender, mut events) = mpsc::channel(EVENTS_QUEUE);
    let (listening, operator) = (listener.clone(), door.operator.clone());
    let job = tokio::task::spawn_blocking(move || {
        let mut send = |event: Value| sender.blocking_send(event).is_ok();
        events::tell(operator.opened(), &top, &listening, &mut send);
    });
    let telling = async {
        while let Some(event) = events.recv().await {
            if write.write_all(&encoded(&Reply::Event(event))).await.is_err() {
                break;
            }
        }
    };
    let mut nothing = [0];
    tokio::select! {
        () = telling => {}
        // Clients say nothing more: what can be read is their end.
        _ = reader.read(&mut nothing) => {}
        () = async { drop(door.stop.wait_for(|stop| *stop).await) } => {}
    }
    listener.end();
    drop(events);
    job.await.map_err(|_| Error::corrupt("telling of events failed inside the server"))
}

fn encoded(reply: &Reply) -> Vec<u8> {
    let mut line = serde_json::to_vec(reply).expect("strings and numbers become JSON");
    line.push(b'\n');
    line
}
