//! The pjdfstest suite on the mount of `larder up`, as root and with other users let in: what passes on ext4 passes here.

#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use support::server::Place;
use support::{found, is_root, lacking, process, skip};

/// Two users to act as; timestamps here differ after a nanosecond, on ext4 after a tick of 4 ms.
const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// Thirteen cases need a file system that may be remounted read-only, two a second file system; ext4 in /tmp skips
/// those, but for one: glibc's pathconf(3) knows LINK_MAX of no FUSE file system, so the suite does not ask. That a
/// file has 65,000 names and no more is in tests/posix/names.rs.
const SKIPPED: [&str; 16] = [
    "chmod::erofs_named",
    "chown::erofs_named",
    "chown::lchown::erofs_named",
    "link::erofs_named",
    "link::exdev_target",
    "link::link_count_max",
    "mkdir::erofs_new_file",
    "mkfifo::erofs_new_file",
    "open::erofs_named",
    "open::erofs_new_file",
    "rename::erofs_named",
    "rename::exdev_target",
    "rmdir::erofs_named",
    "symlink::erofs_new_file",
    "truncate::erofs_named",
    "unlink::erofs_named",
];
/// Cases that the suite has.
const CASES: usize = 398;
/// How long it may take: 12 s on an idle machine.
const LIMIT_S: u64 = 280;

#[test]
fn pjdfstest_passes_as_on_ext4() {
    let Some(program) = found("pjdfstest") else { return skip("pjdfstest is not installed") };
    if !is_root() {
        return skip("pjdfstest acts as several users, which only root can");
    }
    if let Some(why) = lacking(true, &[]) {
        return skip(&why);
    }
    let place = Place::new().mounted(LIMIT_S + 60);
    let server = place.start();
    let configuration = place.path("pjdfstest.toml");
    std::fs::write(&configuration, CONFIGURATION).expect("written");
    // The other users must get there.
    for folder in [place.path(""), place.mount()] {
        std::fs::set_permissions(folder, Permissions::from_mode(0o777)).expect("our own");
    }
    let mut command = Command::new(program);
    command.arg("-c").arg(configuration).arg("-p").arg(place.mount()).current_dir(place.mount());
    let done = process::run(&mut command, LIMIT_S);
    let lines = || done.stdout.lines().filter_map(|line| line.rsplit_once(char::is_whitespace));
    let ended = |how: &str| lines().filter(|line| line.1 == how).map(|line| line.0.trim()).collect();
    let (passed, skipped): (BTreeSet<&str>, BTreeSet<&str>) = (ended("ok"), ended("skipped"));
    assert_eq!(done.code(), 0, "{}\n{}", done.stdout, done.stderr);
    assert_eq!(skipped, BTreeSet::from(SKIPPED));
    assert_eq!(passed.len(), CASES - SKIPPED.len());
    server.stop();
    place.assert_no_panic();
}
