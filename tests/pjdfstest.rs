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

/// Tells the suite how many names a file may have: glibc's pathconf(3) knows that of no FUSE file system and says 127, which
/// the suite takes for an unknown number. Source: posix/fpathconf.c and sysdeps/unix/sysv/linux/pathconf.c of glibc.
const LINK_MAX: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

long pathconf(const char *path, int name) {
    long (*next)(const char *, int) = (long (*)(const char *, int))dlsym(RTLD_NEXT, "pathconf");
    return name == _PC_LINK_MAX ? 65000 : next(path, name);
}
"#;

/// Thirteen cases need a file system that may be remounted read-only, two a second file system; ext4 in /tmp skips those.
const SKIPPED: [&str; 15] = [
    "chmod::erofs_named",
    "chown::erofs_named",
    "chown::lchown::erofs_named",
    "link::erofs_named",
    "link::exdev_target",
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
    if let Some(why) = lacking(true, &["cc"]) {
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
    let (source, library) = (place.path("link_max.c"), place.path("link_max.so"));
    std::fs::write(&source, LINK_MAX).expect("written");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(compiled.expect("a compiler").success());
    let mut command = Command::new(program);
    command
        .env("LD_PRELOAD", library)
        .arg("-c")
        .arg(configuration)
        .arg("-p")
        .arg(place.mount())
        .current_dir(place.mount());
    let done = process::run(&mut command, LIMIT_S);
    let lines = || done.stdout.lines().filter_map(|line| line.rsplit_once(char::is_whitespace));
    let ended = |how: &str| lines().filter(|line| line.1 == how).map(|line| line.0.trim()).collect();
    let (passed, skipped): (BTreeSet<&str>, BTreeSet<&str>) = (ended("ok"), ended("skipped"));
    // Each failure and why; what passed is hundreds of lines.
    let told: Vec<&str> = done.stdout.lines().filter(|line| !line.ends_with(" ok")).collect();
    assert_eq!(done.code(), 0, "{}\n{}", told.join("\n"), done.stderr);
    assert_eq!(skipped, BTreeSet::from(SKIPPED));
    assert_eq!(passed.len(), CASES - SKIPPED.len());
    server.stop();
    place.assert_no_panic();
}
