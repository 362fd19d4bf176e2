//! Mounts that this process serves.

use crate::mounts;
use larder_core::{Error, Result};
use larder_drive::Drive;
use larder_fuse::Mounted;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a mount that was taken away has to end.
const END_WAIT: Duration = Duration::from_secs(10);

/// Options that are for mount(8) itself, or about times of access, which the drive decides on.
const PASSED_OVER: [&str; 25] = [
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "silent",
    "loud",
    "user",
    "users",
    "nouser",
    "owner",
    "noowner",
    "group",
    "nogroup",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "default_permissions",
];
/// Others of them have a value.
const PASSED_OVER_STARTS: [&str; 6] = ["x-", "X-", "comment=", "user=", "uhelper=", "helper="];

/// The mounts of a process; dropping it unmounts them.
#[derive(Default)]
pub struct Mounts {
    held: Mutex<Held>,
    /// One of those that were leaving is gone.
    gone: Condvar,
}

#[derive(Default)]
struct Held {
    mounts: Vec<(PathBuf, Mounted)>,
    /// Where those are that are being taken away: their users have a few seconds, and what they wrote is committed then.
    leaving: Vec<PathBuf>,
    /// The process is about to end and takes no more.
    ending: bool,
}

impl Held {
    /// Forgets those that somebody unmounted.
    fn drop_ended(&mut self) {
        self.mounts.retain(|(_, mounted)| !mounted.wait(Some(Duration::ZERO)));
    }

    /// The one at `dir`, which may be given without links.
    fn position(&self, dir: &Path) -> Option<usize> {
        self.mounts.iter().position(|(given, mounted)| given == dir || mounted.mountpoint() == dir)
    }

    /// Says whether one at `dir` is leaving.
    fn leaves(&self, dir: &Path) -> bool {
        self.leaving.iter().any(|leaving| leaving == dir)
    }
}

/// A mount that is being taken away; the process lasts as long as this.
struct Leaving<'a> {
    mounts: &'a Mounts,
    dir: PathBuf,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut held = self.mounts.held.lock();
        if let Some(index) = held.leaving.iter().position(|dir| *dir == self.dir) {
            held.leaving.remove(index);
        }
        drop(held);
        self.mounts.gone.notify_all();
    }
}

impl Mounts {
    /// Mounts `drive` at `dir`, shown as coming from `source`.
    ///
    /// # Errors
    /// `Invalid` for an unknown option; `Unsupported` where FUSE cannot be had; `Conflict` where the process is about
    /// to end; those of mount(2).
    pub fn add(&self, drive: &Arc<Drive>, source: &Path, dir: &Path, options: &[String]) -> Result<()> {
        let options = parsed(source, options)?;
        let mut held = self.held.lock();
        self.make_way(&mut held, dir)?;
        if held.ending {
            return Err(Error::conflict("the process that has the drive open is about to end"));
        }
        let mounted = larder_fuse::spawn(drive, dir, &options)?;
        held.mounts.push((dir.to_path_buf(), mounted));
        Ok(())
    }

    /// Waits for the end of a mount that somebody took from `dir` just now. It must be over before the next one is
    /// there: ending it unmounts what is at its place.
    fn make_way(&self, held: &mut MutexGuard<'_, Held>, dir: &Path) -> Result<()> {
        let listed = mounts::list()?;
        let gone = |old: &Mounted| listed.iter().all(|mount| mount.dir != old.mountpoint());
        if let Some(index) = held.position(dir).filter(|index| gone(&held.mounts[*index].1)) {
            let (leaving, old) = self.take(held, index);
            MutexGuard::unlocked(held, || {
                old.wait(Some(END_WAIT));
                drop(old);
                drop(leaving);
            });
        }
        self.gone.wait_while(held, |held| held.leaves(dir));
        Ok(())
    }

    /// Takes one out, to be unmounted without the lock: it may take a while, and `status` should answer meanwhile.
    fn take(&self, held: &mut Held, index: usize) -> (Leaving<'_>, Mounted) {
        let (dir, mounted) = held.mounts.remove(index);
        held.leaving.push(dir.clone());
        (Leaving { mounts: self, dir }, mounted)
    }

    /// Where they are.
    pub fn list(&self) -> Vec<PathBuf> {
        let mut held = self.held.lock();
        held.drop_ended();
        held.mounts.iter().map(|(dir, _)| dir.clone()).collect()
    }

    /// Says whether none is left, and none is leaving; then none is added any more.
    pub fn end_if_none(&self) -> bool {
        let mut held = self.held.lock();
        held.drop_ended();
        held.ending |= held.mounts.is_empty() && held.leaving.is_empty();
        held.ending
    }

    /// Unmounts the one at `dir`; says whether there was one.
    ///
    /// # Errors
    /// Those of committing what was written.
    pub fn remove(&self, dir: &Path) -> Result<bool> {
        let mut held = self.held.lock();
        let Some(index) = held.position(dir) else {
            // Whoever takes it away hears how that went.
            let left = held.leaves(dir);
            self.gone.wait_while(&mut held, |held| held.leaves(dir));
            return Ok(left);
        };
        let (_leaving, mounted) = self.take(&mut held, index);
        drop(held);
        mounted.unmount().map(|()| true)
    }

    /// Commits what was written through any of them so far.
    ///
    /// # Errors
    /// The first of committing.
    pub fn save(&self) -> Result<()> {
        let held = self.held.lock();
        held.mounts.iter().map(|(_, mounted)| mounted.save()).fold(Ok(()), Result::and)
    }

    /// Unmounts all of them, and takes no more; returns when what was written through any of them is committed.
    ///
    /// # Errors
    /// The first of committing; the other mounts end all the same.
    pub fn end(&self) -> Result<()> {
        let mut held = self.held.lock();
        held.ending = true;
        let mut outcome = Ok(());
        while !held.mounts.is_empty() {
            let (leaving, mounted) = self.take(&mut held, 0);
            let ended = MutexGuard::unlocked(&mut held, || {
                let ended = mounted.unmount();
                drop(leaving);
                ended
            });
            outcome = outcome.and(ended);
        }
        // A command may have begun to take one away.
        self.gone.wait_while(&mut held, |held| !held.leaving.is_empty());
        outcome
    }
}

/// Takes away dead mounts of the drive in `data`, whose lock this process has: nobody else could serve them, and whoever
/// looks at one is told that the transport endpoint is not connected.
pub fn clear_dead(data: &Path) {
    let left = mounts::list().unwrap_or_default();
    for dead in left.into_iter().filter(|mount| mount.source == data) {
        match larder_fuse::clean_stale(&dead.dir) {
            Ok(()) => tracing::info!(dir = %dead.dir.display(), "took a mount away that had died"),
            Err(error) => tracing::warn!(%error, "an earlier mount"),
        }
    }
}

/// Reads options as mount(8) passes them on; what concerns mount(8) itself is skipped.
///
/// # Errors
/// `Invalid` for an unknown one.
pub fn parsed(source: &Path, options: &[String]) -> Result<larder_fuse::Options> {
    let mut parsed =
        larder_fuse::Options { source: source.display().to_string(), stand_in: true, ..Default::default() };
    for option in options.iter().map(|option| option.trim()).filter(|option| !option.is_empty()) {
        match option {
            "allow_other" => parsed.allow_other = true,
            "ro" | "rw" => parsed.read_only = option == "ro",
            "suid" | "nosuid" => parsed.suid = option == "suid",
            "dev" | "nodev" => parsed.dev = option == "dev",
            "exec" | "noexec" => parsed.exec = option == "exec",
            "sync" | "async" => parsed.sync = option == "sync",
            other if PASSED_OVER.contains(&other) => {}
            other if PASSED_OVER_STARTS.iter().any(|start| other.starts_with(start)) => {}
            other => return Err(Error::invalid(format!("unknown mount option {other}"))),
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &str) -> Result<larder_fuse::Options> {
        let options: Vec<String> = options.split(',').map(str::to_owned).collect();
        parsed(Path::new("/data"), &options)
    }

    #[test]
    fn later_options_win() {
        assert!(!read("ro,rw").expect("known").read_only);
        let options = read("defaults,nosuid,dev,noexec,sync,ro").expect("known");
        assert!(options.read_only && options.sync && options.dev && !options.suid && !options.exec);
    }

    #[test]
    fn what_fstab_may_say_is_understood() {
        let all = [&PASSED_OVER[..], &["x-systemd.automount", "comment=x", "user=anna"]].concat();
        assert_eq!(read(&all.join(",")).expect("passed over"), read("").expect("nothing"));
        for unknown in ["sideways", "allow_root", "remount", "dirsync"] {
            assert!(read(unknown).expect_err(unknown).to_string().contains(unknown));
        }
    }
}
