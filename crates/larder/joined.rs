//! `larder mount` under systemd where a server has the drive: the server makes the mount, and this process stands for it,
//! so that the service lasts as long as the mount does.

use crate::client;
use crate::config::StoreSettings;
use crate::request::Request;
use crate::{mounts, notify};
use larder_core::{Error, Kind, Result};
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often it looks whether the mount is still there.
const CHECK: Duration = Duration::from_millis(200);

/// How long a server that is about to end has to take the mount away.
const END_WAIT: Duration = Duration::from_secs(60);

/// Stays until the mount at `dir` is gone; a signal takes it away.
///
/// # Errors
/// Those of reading the mounts, and of taking the mount away.
pub fn stay(settings: &StoreSettings, dir: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Error::io("starting a thread", e))?.block_on(last(settings, dir))
}

async fn last(settings: &StoreSettings, dir: &Path) -> Result<()> {
    let listen = |kind| signal(kind).map_err(|e| Error::io("signal handler", e));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    notify::ready(&format!("mounted at {} by the server that has the drive open", dir.display()));
    // The table of mounts has it without links.
    let point = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let mut watchdog = tokio::time::interval(notify::watchdog_period().unwrap_or(CHECK));
    let told = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = watchdog.tick() => notify::notify("WATCHDOG=1"),
            }
        }
    };
    tokio::select! {
        ended = gone(&point) => return ended,
        () = told => {}
    }
    notify::notify("STOPPING=1");
    match client::ask_running(settings, &Request::Umount { dir: dir.to_path_buf() }) {
        // A server that ends as well takes its mounts along.
        Ok(None) => tokio::time::timeout(END_WAIT, gone(&point))
            .await
            .unwrap_or_else(|_| Err(Error::unavailable(format!("{} stays mounted", dir.display())))),
        // Somebody else was faster.
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        done => done.map(drop),
    }
}

/// Returns once nothing of ours is mounted at `point`.
async fn gone(point: &Path) -> Result<()> {
    let mut checks = tokio::time::interval(CHECK);
    loop {
        checks.tick().await;
        if mounts::list()?.iter().all(|mount| mount.dir != point) {
            return Ok(());
        }
    }
}
