//! Commands that stay: `up`, `serve` and `mount`.

use crate::args::{Mounting, PausedReads, Serving, Ways};
use crate::commands::Here;
use crate::config::{ServerSettings, StoreSettings};
use crate::origin::Place;
use crate::request::Request;
use crate::run::{MountPlan, Plan};
use crate::{client, daemon, joined, notify, run};
use larder_core::{Error, Kind, Result};
use larder_store::origin::Policy;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// How often `mount` tries to be the process that opens the drive; mounts of one drive are often made at once, at boot.
const MOUNT_TRIES: u32 = 3;

impl Here {
    /// Serves, and mounts at `dir`.
    ///
    /// # Errors
    /// Those of opening the drive, of the socket and of the mount point.
    pub fn up(&self, dir: Option<PathBuf>, serving: &Serving, mounting: Mounting) -> Result<ExitCode> {
        let home = || Error::invalid("which DIR? this user has no home directory");
        let dir = match dir {
            Some(dir) => dir,
            None => crate::config::home().ok_or_else(home)?.join("Larder"),
        };
        let dir = std::path::absolute(&dir).map_err(|e| Error::io(dir.display().to_string(), e))?;
        // What a mount that died has left cannot be read, and is cleared by the next mount.
        if let Err(e) = std::fs::create_dir_all(&dir)
            && e.kind() != std::io::ErrorKind::AlreadyExists
            && e.raw_os_error() != Some(rustix::io::Errno::NOTCONN.raw_os_error())
        {
            return Err(Error::io(format!("mount point {}", dir.display()), e));
        }
        let source = self.store()?.data;
        self.serve(serving, Some(MountPlan { source, dir, options: mounting.options, optional: true }))
    }

    /// Serves.
    ///
    /// # Errors
    /// Those of opening the drive and of the socket.
    pub fn serve(&self, serving: &Serving, mount: Option<MountPlan>) -> Result<ExitCode> {
        let http = Some(self.config.server(serving)?);
        let store = self.store()?;
        if Place::of(&store.data)?.is_some() {
            return Err(Error::invalid(format!(
                "{} is what this device has of a server's project: `larder mount` shows it, --data DIR names a drive to \
                 serve",
                store.data.display()
            )));
        }
        self.stay(Plan { admin_password: admin_password(), ..self.plan(store, http, mount) }, serving.daemon)
    }

    /// Mounts a data directory or a server's project, by the process that has it open or by this one.
    ///
    /// # Errors
    /// Those of opening the drive, of the server and of the mount.
    pub fn mount(
        &self,
        source: PathBuf,
        dir: PathBuf,
        mounting: Mounting,
        ways: Ways,
        background: bool,
    ) -> Result<ExitCode> {
        let data = match Place::parse(&source)? {
            // Its device's own directory is what is mounted, here and in /proc/mounts.
            Some(place) => place.prepare(self.common.data.clone())?,
            None => std::path::absolute(&source).map_err(|e| Error::io(source.display().to_string(), e))?,
        };
        let options = match Place::of(&data)? {
            Some(_) => of_a_server(mounting.options),
            None => mounting.options,
        };
        let (source, mut store) = (data.clone(), self.store_in(Some(data))?);
        store.fetching.pause_holds_readers = ways.paused_reads == Some(PausedReads::Wait);
        store.conflicts = ways.conflicts.map(Policy::from).unwrap_or_default();
        let dir = std::path::absolute(&dir).map_err(|e| Error::io(dir.display().to_string(), e))?;
        let request =
            Request::Mount { source: source.clone(), dir: dir.clone(), options: options.clone(), ways };
        let mut tries = MOUNT_TRIES;
        loop {
            if client::ask_lasting(&store, &request)?.is_some() {
                let line =
                    format!("Mounted  {} (by the server that has {} open)", dir.display(), source.display());
                self.say(&line, &json!({ "ready": true, "mount": dir, "by_server": true }));
                let stays = notify::is_listening() && !background;
                return if stays { joined::stay(&store, &dir) } else { Ok(()) }.map(|()| ExitCode::SUCCESS);
            }
            let (source, dir, options) = (source.clone(), dir.clone(), options.clone());
            let mount = Some(MountPlan { source, dir, options, optional: false });
            tries -= 1;
            match self.stay(self.plan(store.clone(), None, mount), background) {
                // Another process opened it in between, and makes the mount as well.
                Err(error) if error.kind() == Kind::Conflict && tries > 0 => {}
                done => return done,
            }
        }
    }

    fn plan(&self, store: StoreSettings, http: Option<ServerSettings>, mount: Option<MountPlan>) -> Plan {
        let usual = self.store_in(None).is_ok_and(|usual| usual.data == store.data);
        let command = if usual { "larder".into() } else { format!("larder --data {}", store.data.display()) };
        Plan { store, http, mount, admin_password: None, command, json: self.common.json }
    }

    fn stay(&self, plan: Plan, background: bool) -> Result<ExitCode> {
        if background && !daemon::is_child() {
            return daemon::start();
        }
        if daemon::is_child() {
            daemon::detach();
        }
        run::run(plan).map(|()| ExitCode::SUCCESS)
    }
}

/// Options of a mount whose files a server names: no programs and devices that give it this machine's rights, unless the user
/// says so.
fn of_a_server(options: Vec<String>) -> Vec<String> {
    ["nosuid", "nodev"].map(String::from).into_iter().chain(options).collect()
}

#[expect(clippy::disallowed_methods, reason = "the binary is where the environment is read")]
fn admin_password() -> Option<String> {
    std::env::var("LARDER_ADMIN_PASSWORD").ok().filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_server_gives_no_rights_here() {
        let read = |options: &[&str]| {
            let options = of_a_server(options.iter().map(|option| String::from(*option)).collect());
            crate::mounting::parsed(Path::new("/data"), &options).expect("known")
        };
        let usual = read(&["allow_other"]);
        assert!(!usual.suid && !usual.dev && !usual.read_only && usual.allow_other);
        assert!(read(&["suid"]).suid && read(&["dev"]).dev, "whoever mounts may trust the server");
    }
}
