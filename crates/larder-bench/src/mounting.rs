//! The mounts side by side, each guarded: a file system that stops answering is cut off, not waited for.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::contender::{Kind, Process, Server, find};
use crate::machine::{detach_mounts, fuse_control, mounts, wait_until};
use crate::options::Options;

/// A mount that has not appeared within this time has failed.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);
/// A clean unmount may take so long (davfs2 uploads what it still holds).
const UNMOUNT_LIMIT: Duration = Duration::from_secs(120);
/// What davfs2 needs to work here and to upload without waiting.
const DAVFS_SETTINGS: &str = "buf_size 64\ndelay_upload 0\nask_auth 0\ncache_size 20000\n";

/// Every mount, ours first.
pub const ALL: [&str; 4] = ["larder", "ext4", "rclone mount", "davfs2"];

/// A folder to work in, behind one of the contenders.
pub struct Mounted {
    /// The contender.
    pub name: &'static str,
    /// The folder.
    pub folder: PathBuf,
    guard: Option<Guard>,
    process: Option<Process>,
    /// The server behind a davfs2 mount: it must stop after the mount.
    _server: Option<Server>,
}

impl Mounted {
    /// Mounts `name` below the scratch folder; none if a program for it is missing.
    ///
    /// # Errors
    /// The mount did not appear in time.
    pub fn start(options: &Options, name: &'static str) -> io::Result<Option<Mounted>> {
        let place = options.scratch.join(name.replace(' ', "-"));
        let folder = place.join("mount");
        fs::create_dir_all(&folder)?;
        fs::create_dir_all(place.join("files"))?;
        let mut mounted = Mounted { name, folder, guard: None, process: None, _server: None };
        match name {
            "larder" => {
                let mut command = Command::new(&options.larder);
                command.arg("mount").arg(place.join("data")).arg(&mounted.folder);
                command.env("LARDER_ADMIN_PASSWORD", "larder-bench");
                mounted.process = Some(Process::start(command, &place.join("log"))?);
            }
            "rclone mount" => {
                let Some(rclone) = find("rclone", &options.tools) else { return Ok(None) };
                let mut command = Command::new(rclone);
                command.arg("mount").arg(place.join("files")).arg(&mounted.folder);
                command.args([
                    "--config",
                    "/dev/null",
                    "--vfs-cache-mode",
                    "full",
                    "--vfs-cache-max-size",
                    "20G",
                ]);
                command.arg("--cache-dir").arg(place.join("cache"));
                mounted.process = Some(Process::start(command, &place.join("log"))?);
            }
            "davfs2" => match davfs(options, &place, &mounted.folder)? {
                Some(server) => mounted._server = Some(server),
                None => return Ok(None),
            },
            _ => return Ok(Some(mounted)),
        }
        mounted.guarded(options, &place).map(Some)
    }

    /// What `process` mounts at `folder`, once it is there; its log is in `place`.
    ///
    /// # Errors
    /// The mount did not appear in time.
    pub fn of(
        options: &Options,
        name: &'static str,
        folder: PathBuf,
        process: Process,
        place: &Path,
    ) -> io::Result<Mounted> {
        Mounted { name, folder, guard: None, process: Some(process), _server: None }.guarded(options, place)
    }

    fn guarded(mut self, options: &Options, place: &Path) -> io::Result<Mounted> {
        let point = self.folder.canonicalize()?;
        let minor =
            || mounts().into_iter().rev().find(|(at, _)| Path::new(at) == point).map(|(_, minor)| minor);
        if !wait_until(MOUNT_LIMIT, || minor().is_some()) {
            let said = fs::read_to_string(place.join("log")).unwrap_or_default();
            return Err(io::Error::other(format!(
                "{} did not mount: {}",
                self.name,
                said.lines().last().unwrap_or("no word")
            )));
        }
        self.guard = Some(Guard::start(
            fuse_control(&options.scratch)?.join(minor().unwrap_or(0).to_string()).join("abort"),
        ));
        Ok(self)
    }

    /// The process behind it, if it is one.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::id)
    }

    /// Allows the next work this much time, after which the mount is cut off.
    pub fn allow(&self, limit: Duration) {
        if let Some(guard) = &self.guard {
            guard.until(Some(Instant::now() + limit));
        }
    }

    /// Ends the time of the last work: while others work, nobody waits for this mount.
    pub fn rest(&self) {
        if let Some(guard) = &self.guard {
            guard.until(None);
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.guard.is_some() {
            self.allow(UNMOUNT_LIMIT);
            let unmount = Command::new("umount").arg(&self.folder).stderr(Stdio::null()).status();
            if !unmount.is_ok_and(|status| status.success()) {
                detach_mounts(&self.folder);
            }
        }
        self.process = None;
        self.guard = None;
    }
}

fn davfs(options: &Options, place: &Path, folder: &Path) -> io::Result<Option<Server>> {
    let (Some(davfs), Some(apache)) = (find("mount.davfs", &options.tools), find("apache2", &options.tools))
    else {
        return Ok(None);
    };
    let server = Server::start(Kind::Apache, &apache, place, &[])?;
    let settings = place.join("davfs2.conf");
    let cache = place.join("cache");
    fs::create_dir(&cache)?;
    // Its daemon runs as a user and group that are settings of their own.
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o777))?;
    fs::write(&settings, format!("{DAVFS_SETTINGS}cache_dir {}\n", cache.display()))?;
    let mut command = Command::new(davfs);
    command.arg(format!("http://127.0.0.1:{}/", server.port)).arg(folder);
    command.arg("-o").arg(format!("conf={}", settings.display()));
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(Some(server)),
        false => {
            Err(io::Error::other(format!("mount.davfs: {}", String::from_utf8_lossy(&output.stderr).trim())))
        }
    }
}

/// Aborts a FUSE connection whose work has not ended in time.
struct Guard {
    limits: Option<Sender<Option<Instant>>>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    fn start(abort: PathBuf) -> Guard {
        let (limits, received) = channel::<Option<Instant>>();
        let thread = std::thread::spawn(move || {
            let mut until = None;
            loop {
                let left =
                    until.map_or(Duration::MAX, |at: Instant| at.saturating_duration_since(Instant::now()));
                match received.recv_timeout(left) {
                    Ok(limit) => until = limit,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        eprintln!("  cutting off a mount that took too long: {}", abort.display());
                        let _ = fs::write(&abort, "1");
                        return;
                    }
                }
            }
        });
        Guard { limits: Some(limits), thread: Some(thread) }
    }

    fn until(&self, limit: Option<Instant>) {
        if let Some(limits) = &self.limits {
            // A guard that has cut the mount off listens no more.
            let _ = limits.send(limit);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.limits = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
