//! Devices that mount a server's project side by side: ours, and `rclone mount` of the same server's WebDAV.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::contender::{PASSWORD, Process, find};
use crate::machine::wait_until;
use crate::mounting::Mounted;
use crate::options::Options;

/// A mount that is there takes commands within this time.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// What a device knows and where it mounts.
pub struct Device {
    place: PathBuf,
    larder: PathBuf,
    /// The mount.
    pub mounted: Mounted,
}

impl Device {
    /// Logs in at `http://127.0.0.1:PORT` and mounts it, all of which is new to this device; `name` is its folder.
    ///
    /// # Errors
    /// Those of the program; the mount did not appear in time.
    pub fn start(options: &Options, name: &str, port: u16) -> io::Result<Device> {
        Prepared::start(options, name, port)?.mount(options, port)
    }

    /// Runs a command of `larder` on the device and returns what it printed.
    ///
    /// # Errors
    /// It failed.
    pub fn run(&self, arguments: &[&str]) -> io::Result<String> {
        let done = command(&self.larder, &self.place).args(arguments).output()?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            false => Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned())),
        }
    }

    /// The folder where it mounts, as text.
    pub fn folder(&self) -> String {
        self.mounted.folder.display().to_string()
    }
}

/// A device that is logged in.
pub struct Prepared {
    place: PathBuf,
}

impl Prepared {
    /// Logs in.
    ///
    /// # Errors
    /// Those of the program.
    pub fn start(options: &Options, name: &str, port: u16) -> io::Result<Prepared> {
        let place = options.scratch.join(name);
        fs::create_dir_all(place.join("mount"))?;
        let mut login = command(&options.larder, &place);
        login.args(["login", &format!("http://127.0.0.1:{port}"), "--password-stdin"]);
        let mut child = login.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(PASSWORD.as_bytes()))?;
        match child.wait()?.success() {
            true => Ok(Prepared { place }),
            false => Err(io::Error::other("larder login failed")),
        }
    }

    /// Mounts.
    ///
    /// # Errors
    /// The mount did not appear in time.
    pub fn mount(self, options: &Options, port: u16) -> io::Result<Device> {
        let folder = self.place.join("mount");
        let mut mount = command(&options.larder, &self.place);
        mount.arg("mount").arg(format!("http://127.0.0.1:{port}/home")).arg(&folder);
        mount.arg("--data").arg(self.place.join("data"));
        let process = Process::start(mount, &self.place.join("log"))?;
        let mounted = Mounted::of(options, "larder", folder, process, &self.place)?;
        let log = self.place.join("log");
        // Commands are taken a moment later.
        if !wait_until(READY_LIMIT, || fs::read_to_string(&log).is_ok_and(|said| said.contains("Ready"))) {
            return Err(io::Error::other("the device's mount is not ready"));
        }
        Ok(Device { place: self.place, larder: options.larder.clone(), mounted })
    }
}

fn command(larder: &Path, place: &Path) -> Command {
    let mut command = Command::new(larder);
    command.env("HOME", place);
    for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    command
}

/// Mounts the server's WebDAV with rclone, which keeps what was read as ours does; nothing where there is no rclone.
///
/// # Errors
/// The mount did not appear in time.
pub fn rclone(options: &Options, name: &str, port: u16) -> io::Result<Option<Mounted>> {
    let Some(rclone) = find("rclone", &options.tools) else { return Ok(None) };
    let place = options.scratch.join(name);
    let folder = place.join("mount");
    fs::create_dir_all(&folder)?;
    let obscured = Command::new(&rclone).args(["obscure", PASSWORD]).output()?.stdout;
    let obscured = String::from_utf8_lossy(&obscured).trim().to_owned();
    let mut command = Command::new(rclone);
    command.args(["mount", ":webdav:"]).arg(&folder).args(["--config", "/dev/null"]);
    command.args(["--webdav-url", &format!("http://127.0.0.1:{port}/dav/home"), "--webdav-user", "admin"]);
    command.args(["--webdav-pass", &obscured, "--webdav-vendor", "other"]);
    command.args(["--vfs-cache-mode", "full", "--vfs-cache-max-size", "20G"]);
    command.arg("--cache-dir").arg(place.join("cache"));
    let process = Process::start(command, &place.join("log"))?;
    Mounted::of(options, "rclone mount", folder, process, &place).map(Some)
}
