//! What is installed beside the program: units for systemd, and the helper through which mount(8) and fstab mount.

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::process::{Finished, run, signal, start};
use support::server::{LARDER, Place, Speaking};

/// The longest that a mount, a few files and an unmount take.
const LIMIT_S: u64 = 120;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

/// Copies a unit, with the program under test in the place of the installed one.
fn copy_unit(name: &str, to: &Path) {
    let text = std::fs::read_to_string(shipped(name)).expect("a unit");
    std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
    std::fs::write(to, text.replace("/usr/local/bin/larder", LARDER)).expect("a copy");
}

fn verify(arguments: &[&str], unit: &Path) -> Finished {
    let runtime = unit.parent().expect("a folder");
    let mut command = Command::new("systemd-analyze");
    // A user's unit is looked at as its service manager would, which has a directory of its own.
    command.env("XDG_RUNTIME_DIR", runtime).env("SYSTEMD_LOG_LEVEL", "warning");
    run(command.args(arguments).arg("verify").arg(unit), LIMIT_S)
}

#[test]
fn units_are_sound() {
    if let Some(why) = support::lacking(false, &["systemd-analyze"]) {
        return support::skip(&why);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let system = folder.path().join("larder.service");
    copy_unit("larder.service", &system);
    let user = folder.path().join("larder-mount@.service");
    copy_unit("larder-mount@.service", &user);
    let project = folder.path().join("larder@.service");
    copy_unit("larder@.service", &project);
    for (arguments, unit) in [(&[][..], &system), (&["--user"], &user), (&["--user"], &project)] {
        let done = verify(arguments, unit);
        assert!(done.code() == 0 && !done.stderr.contains("larder"), "{done}");
    }
    copy_unit("no-mount.conf", &folder.path().join("larder.service.d/no-mount.conf"));
    let done = verify(&[], &system);
    assert!(done.code() == 0 && !done.stderr.contains("larder"), "{done}");
}

#[test]
fn units_leave_the_name_of_the_boot_readable() {
    for unit in ["larder.service", "larder-mount@.service", "larder@.service", "no-mount.conf"] {
        let text = std::fs::read_to_string(shipped(unit)).expect("a unit");
        // It hides /proc/sys; without the boot's name each start after a kill is as slow as after a power cut.
        assert!(!text.contains("ProcSubset="), "{unit}");
    }
}

/// Runs a script as root in a mount namespace where `mount.larder` and `larder` are installed and nothing else of
/// this machine changed. mount(8) looks for helpers in /sbin alone.
fn with_helper_installed(script: &str) {
    if let Some(why) = support::lacking(true, &["unshare", "mount", "umount", "findmnt"]) {
        return support::skip(&why);
    }
    if !support::is_root() {
        return support::skip("only root has a mount namespace of its own");
    }
    let folder = tempfile::Builder::new().prefix("larder-test-").tempdir().expect("a folder");
    let installed = folder.path().join("sbin");
    std::fs::create_dir(&installed).expect("a folder");
    std::fs::copy(shipped("mount.larder"), installed.join("mount.larder")).expect("the helper");
    std::os::unix::fs::symlink(LARDER, installed.join("larder")).expect("the program");
    // The watchdog is in there too: from outside the mount cannot be seen. umount -f cuts the connection.
    let prelude = "set -eux; cd $PLACE; mount --bind sbin /usr/sbin; mkdir data mnt home
        watch() { s=0; while [ $s -lt 100 ]; do kill -0 $$ || exit 0; sleep 1; s=$((s + 1)); done
            umount -f mnt; umount -l mnt; }
        watch >/dev/null 2>&1 &
        end() { code=$?; umount -l mnt 2>/dev/null || true; [ ! -e pid ] || kill $(cat pid) || true; exit $code; }
        trap end EXIT\n";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]).arg(format!("{prelude}{script}"));
    command.env("PLACE", folder.path()).env("HOME", folder.path().join("home"));
    command.env_remove("LARDER_DATA").env_remove("LARDER_CONFIG");
    run(&mut command, LIMIT_S).ok();
}

#[test]
fn fstab_line_mounts_and_unmounts() {
    with_helper_installed(
        r#"
        echo "$PLACE/data $PLACE/mnt larder allow_other,nofail,_netdev,x-systemd.automount 0 0" > fstab
        mount -T fstab mnt
        [ "$(findmnt -n -o SOURCE mnt)" = "$PLACE/data" ]
        findmnt -n -o OPTIONS mnt | grep -q allow_other
        findmnt -n -o FSTYPE mnt | grep -q larder
        echo kept > mnt/file
        su nobody -s /bin/sh -c "cat $PLACE/mnt/file" | grep -q kept
        umount mnt
        ! findmnt mnt
        # umount(8) does not wait for the process of the mount, which has the data directory a moment longer; mount(8) does.
        mount -T fstab mnt
        grep -q kept mnt/file
        umount mnt
        "#,
    );
}

#[test]
fn helper_mounts_read_only_and_refuses_nonsense() {
    with_helper_installed(
        r#"
        mount -t larder "$PLACE/data" mnt -o ro
        findmnt -n -o OPTIONS mnt | grep -q ro
        ! touch mnt/file
        umount mnt
        code=0; mount -t larder "$PLACE/data" mnt -o nonsense || code=$?
        [ "$code" = 32 ]
        code=0; mount.larder "$PLACE/data" || code=$?
        [ "$code" = 1 ]
        ! findmnt mnt
        "#,
    );
}

/// What a service tells systemd: a socket in the place of systemd's.
struct Told(UnixDatagram);

impl Told {
    fn listen(place: &Place) -> Told {
        let socket = UnixDatagram::bind(place.path("notify")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(LIMIT_S))).expect("a limit");
        Told(socket)
    }

    /// The next that is told.
    #[track_caller]
    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("told in time");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Says whether something was told, which is forgotten.
    fn is_told(&self) -> bool {
        self.0.set_nonblocking(true).expect("a socket");
        let told = self.0.recv(&mut [0; 4096]).is_ok();
        self.0.set_nonblocking(false).expect("a socket");
        told
    }

    /// Waits until `word` is told; panics where it is something else than a sign of life.
    #[track_caller]
    fn until(&self, word: &str) {
        loop {
            match self.next() {
                told if told == word => return,
                told => assert_eq!(told, "WATCHDOG=1"),
            }
        }
    }
}

/// `larder …` as systemd starts it.
fn service(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    command.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "200000");
    command.env_remove("WATCHDOG_PID").env_remove("LARDER_ADMIN_PASSWORD");
    command
}

#[test]
fn systemd_is_told_how_the_service_is_and_no_password() {
    let place = Place::new();
    let told = Told::listen(&place);
    let server = Speaking::start(&mut service(&place, &["serve", "--listen", "127.0.0.1:0"]));
    let user = server.line(LIMIT_S);
    let password = user.split("password ").nth(1).and_then(|rest| rest.split(' ').next()).expect("shown");
    let ready = told.next();
    let status = ready.strip_prefix("READY=1\nSTATUS=").expect("ready");
    assert!(status.starts_with("WebDAV http://") && !status.contains(password), "{ready}");
    for _ in 0..3 {
        assert_eq!(told.next(), "WATCHDOG=1");
    }
    signal(server.id(), libc::SIGTERM);
    told.until("STOPPING=1");
}

#[test]
fn mount_service_lasts_as_long_as_the_mount_that_a_server_makes_for_it() {
    if let Some(why) = support::lacking(true, &["fusermount3"]) {
        return support::skip(&why);
    }
    let place = Place::new();
    let server = place.start();
    let point = place.path("point");
    std::fs::create_dir(&point).expect("a mount point");
    let _watchdog = support::watchdog::Watchdog::start(&point, LIMIT_S);
    let told = Told::listen(&place);
    let (data, dir) = (place.data().display().to_string(), point.display().to_string());
    let is_mounted = || std::fs::read_to_string("/proc/self/mounts").expect("mounts").contains(&dir);
    for by_signal in [true, false] {
        let service = start(&mut service(&place, &["mount", &data, &dir]));
        let ready = told.next();
        assert!(ready.starts_with("READY=1\nSTATUS=mounted at "), "{ready}");
        assert_eq!(told.next(), "WATCHDOG=1");
        assert!(is_mounted());
        if by_signal {
            service.signal(libc::SIGTERM);
            told.until("STOPPING=1");
        } else {
            place.run(&["umount", &dir], LIMIT_S).ok();
        }
        service.finish(LIMIT_S).ok();
        assert!(!is_mounted());
        while told.is_told() {}
    }
    assert!(server.stop().success());
}

#[test]
fn mount_joins_the_server_that_has_the_drive() {
    with_helper_installed(
        r#"
        LARDER_ADMIN_PASSWORD=long-secret larder serve --daemon --data "$PLACE/data" --listen 127.0.0.1:0 > said
        larder status --data "$PLACE/data" --json > status
        sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' status > pid
        url=$(sed -n 's/^WebDAV *//p' said)
        mount -t larder "$PLACE/data" mnt -o allow_other
        [ "$(findmnt -n -o SOURCE mnt)" = "$PLACE/data" ]
        echo kept > mnt/file
        curl -fsS -m 20 -u admin:long-secret "${url}file" | grep -q kept
        umount mnt
        curl -fsS -m 20 -u admin:long-secret "${url}file" | grep -q kept
        "#,
    );
}
