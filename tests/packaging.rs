//! What is installed beside the program: units for systemd, and the helper through which mount(8) and fstab mount.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::process::{Finished, run};
use support::server::LARDER;

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
    for (arguments, unit) in [(&[][..], &system), (&["--user"], &user)] {
        let done = verify(arguments, unit);
        assert!(done.code() == 0 && !done.stderr.contains("larder"), "{done}");
    }
    copy_unit("no-mount.conf", &folder.path().join("larder.service.d/no-mount.conf"));
    let done = verify(&[], &system);
    assert!(done.code() == 0 && !done.stderr.contains("larder"), "{done}");
}

/// Runs a script as root in a mount namespace where `mount.larder` and `larder` are installed and nothing else of
/// this machine changed. mount(8) looks for helpers in /sbin alone.
fn with_helper_installed(script: &str) {
    if let Some(why) = support::lacking(true, &["unshare", "mount", "umount", "findmnt", "flock"]) {
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
    let prelude = "set -eux; cd $PLACE; mount --bind sbin /usr/sbin; mkdir data mnt home
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
        # umount(8) does not wait for the process of the mount, which has the data directory a moment longer.
        flock -w 60 data/lock true
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
