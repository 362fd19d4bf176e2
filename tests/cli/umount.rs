//! The end of a process that only mounts: what programs wrote is kept, and the commands around it are answered well.

use crate::support::process::{self, Running};
use crate::support::server::{LARDER, Place, Speaking};
use crate::support::watchdog::{Watchdog, is_mounted};
use crate::support::{is_root, lacking, skip};
use std::fs::File;
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a command may take.
const LIMIT_S: u64 = 60;
/// A mount that is asked to go is gone from its place after this long.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// A process that did not wait for users of its mount would have closed the store after this long.
const MEANWHILE: Duration = Duration::from_secs(1);
/// Runs a command where the switches of FUSE connections are, as on any machine with systemd: without them users of a
/// mount that is to go are cut off at once.
const WITH_SWITCHES: &str = "mount -t fusectl none /sys/fs/fuse/connections; exec \"$@\"";

/// What is done while a mount goes.
type Change = dyn Fn(&Alone<'_>);

/// A process that mounts and does nothing else, in a namespace of mounts of its own.
struct Alone<'a> {
    place: &'a Place,
    process: Speaking,
}

impl<'a> Alone<'a> {
    fn start(place: &'a Place, point: &Path) -> Alone<'a> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", WITH_SWITCHES, "sh"]);
        let process =
            Speaking::start(wrapped(&mut command, place.command(&["mount"])).arg(place.data()).arg(point));
        while !process.line(LIMIT_S).starts_with("Ready") {}
        Alone { place, process }
    }

    /// A path as a process in the namespace sees it.
    fn path(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.process.id());
        Path::new(&root).join(path.strip_prefix("/").expect("absolute"))
    }

    fn begin_umount(&self, point: &Path) -> Running {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.process.id().to_string()]);
        process::start(wrapped(&mut command, self.place.command(&["umount"])).arg(point))
    }

    /// Takes the mount away, and closes a file of it only when it is gone from its place for a while, which `change` may
    /// disturb. The process ends then.
    fn end_while_writing(self, point: &Path, name: &str, unmounted_at: &Path, change: &Change) {
        let mut file = File::create(self.path(point).join(name)).expect("created");
        file.write_all(b"first ").expect("written and not committed");
        let umount = self.begin_umount(unmounted_at);
        let table = format!("/proc/{}/mountinfo", self.process.id());
        let shown = format!(" {} ", point.display());
        while std::fs::read_to_string(&table).is_ok_and(|table| table.contains(&shown)) {
            assert!(!umount.ended_within(Duration::from_millis(10)), "it left the mount there");
        }
        change(&self);
        assert!(!umount.ended_within(MEANWHILE), "it returned before the file was closed");
        file.write_all(b"last").expect("written");
        // SAFETY: the descriptor is ours and not used any more.
        assert_eq!(unsafe { libc::close(file.into_raw_fd()) }, 0, "{}", std::io::Error::last_os_error());
        umount.finish(LIMIT_S).ok();
        assert!(self.process.ended().success());
    }
}

/// Has `outer` run `larder …`.
fn wrapped(outer: &mut Command, larder: Command) -> &mut Command {
    for (name, value) in larder.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.arg(LARDER).args(larder.get_args())
}

/// Why a process cannot have a namespace of mounts of its own.
fn no_namespace() -> Option<String> {
    let privilege = (!is_root()).then(|| "only root has a mount namespace of its own".to_string());
    lacking(true, &["fusermount3", "unshare", "nsenter", "mount"]).or(privilege)
}

#[test]
fn unmounting_waits_for_those_who_still_write() {
    if let Some(why) = no_namespace() {
        return skip(&why);
    }
    let place = Place::new();
    let (point, link) = (place.path("point"), place.path("link"));
    std::fs::create_dir(&point).expect("a mount point");
    std::os::unix::fs::symlink(&point, &link).expect("a link");
    let terminate = |alone: &Alone<'_>| {
        // It is busy with the command, and answers others.
        alone.place.json(&["status"], LIMIT_S);
        process::signal(alone.process.id(), libc::SIGTERM);
    };
    let untold = |_: &Alone<'_>| ();
    let cases: [(_, _, &Change); 4] = [
        (&point, &point, &untold),
        (&point, &point, &terminate),
        (&point, &link, &untold),
        (&link, &point, &untold),
    ];
    for (round, (mounted_at, unmounted_at, change)) in cases.into_iter().enumerate() {
        let name = format!("written{round}");
        Alone::start(&place, mounted_at).end_while_writing(&point, &name, unmounted_at, change);
        let again = Alone::start(&place, &point);
        let text = std::fs::read_to_string(again.path(&point).join(name)).expect("read");
        assert_eq!(text, "first last", "round {round}");
        again.begin_umount(&point).finish(LIMIT_S).ok();
        assert!(again.process.ended().success());
    }
}

/// A place with a watched folder for mounts.
fn watched(name: &str) -> (Place, PathBuf, Watchdog) {
    let place = Place::new();
    let point = place.path(name);
    std::fs::create_dir(&point).expect("a folder");
    let watchdog = Watchdog::start(&point, 300);
    (place, point, watchdog)
}

fn mount_command(place: &Place, point: &Path) -> Command {
    let mut command = place.command(&["mount", "--daemon"]);
    command.arg(place.data()).arg(point);
    command
}

#[test]
fn commands_at_the_end_of_a_process_are_answered() {
    if let Some(why) = lacking(true, &["fusermount3"]) {
        return skip(&why);
    }
    let (place, point, _watchdog) = watched("point");
    for round in 0..5 {
        process::run(&mut mount_command(&place, &point), LIMIT_S).ok();
        std::fs::write(point.join("file"), format!("{round}")).expect("written");
        place.run(&["umount", &point.display().to_string()], LIMIT_S).ok();
        // The process is there for a moment more: commands reach it, or the drive after it, and nothing in between.
        let deadline = Instant::now() + GONE_WITHIN;
        while place.json(&["status"], LIMIT_S)["running"] == true {
            assert!(Instant::now() < deadline, "it goes on running");
        }
    }
}

#[test]
fn mounts_of_one_drive_can_be_made_at_once() {
    if let Some(why) = lacking(true, &["fusermount3"]) {
        return skip(&why);
    }
    let (place, folder, _watchdog) = watched("points");
    let points: Vec<PathBuf> = (0..3).map(|n| folder.join(n.to_string())).collect();
    points.iter().for_each(|point| std::fs::create_dir(point).expect("a mount point"));
    for round in 0..3 {
        let started: Vec<_> =
            points.iter().map(|point| process::start(&mut mount_command(&place, point))).collect();
        started.into_iter().for_each(|mount| drop(mount.finish(LIMIT_S).ok()));
        points.iter().for_each(|point| assert!(is_mounted(point), "round {round}: {}", point.display()));
        super::background::end(&place);
    }
}
