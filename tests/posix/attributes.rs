//! Permissions, owners, set-id bits and times.

use crate::support::mount::{LIMIT_S, TestMount};
use crate::support::{is_root, skip};
use crate::{as_nobody, errno, raw};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use rustix::io::Errno;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

const OMIT: i64 = rustix::fs::UTIME_OMIT;
const NOW: i64 = rustix::fs::UTIME_NOW;

fn set_mode(mount: &TestMount, name: &str, mode: u32) {
    fs::set_permissions(mount.path(name), Permissions::from_mode(mode)).expect("changed");
}

fn mode(mount: &TestMount, name: &str) -> u32 {
    fs::metadata(mount.path(name)).expect("stat").mode() & 0o7777
}

fn time(tv_sec: i64, tv_nsec: i64) -> Timespec {
    Timespec { tv_sec, tv_nsec }
}

#[test]
fn permissions_bind_users() {
    let Some(mount) = TestMount::new() else { return };
    if !is_root() {
        return skip("only root can act as several users");
    }
    fs::write(mount.path("secret"), "x").expect("written");
    fs::create_dir(mount.path("closed")).expect("made");
    fs::create_dir(mount.path("listed")).expect("made");
    fs::write(mount.path("listed/f"), "x").expect("written");
    for (name, bits) in [("secret", 0o600), ("closed", 0o700), ("listed", 0o744)] {
        set_mode(&mount, name, bits);
    }
    assert!(!as_nobody(&mount, "cat secret"));
    assert!(!as_nobody(&mount, "ls closed"));
    assert!(!as_nobody(&mount, "touch closed/f"));
    assert!(as_nobody(&mount, "ls listed"));
    assert!(!as_nobody(&mount, "cat listed/f"));
    assert!(!as_nobody(&mount, "chmod 777 secret"));
    assert!(!as_nobody(&mount, "touch listed/g"));
    assert!(as_nobody(&mount, "echo own > own && chmod 600 own && cat own"));
    assert!(!as_nobody(&mount, "chown 0 own"));
    let stat = fs::metadata(mount.path("own")).expect("stat");
    assert_eq!((stat.uid(), stat.gid()), (65_534, 65_534));
    chown(mount.path("secret"), Some(65_534), None).expect("given away");
    assert!(as_nobody(&mount, "cat secret"));
}

#[test]
fn set_id_bits_end_with_a_write_or_a_new_owner() {
    let Some(mount) = TestMount::new() else { return };
    if !is_root() {
        return skip("only root can act as several users");
    }
    for (name, bits, after) in [("x", 0o6777, 0o777), ("locking", 0o2666, 0o2666)] {
        fs::write(mount.path(name), "x").expect("written");
        set_mode(&mount, name, bits);
        fs::write(mount.path(name), "by root").expect("written");
        assert_eq!(mode(&mount, name), bits, "root may");
        assert!(as_nobody(&mount, &format!("echo more >> {name}")));
        assert_eq!(mode(&mount, name), after, "{name} written");
        set_mode(&mount, name, bits);
        assert!(as_nobody(&mount, &format!("truncate -s 1 {name}")));
        assert_eq!(mode(&mount, name), after, "{name} truncated");
        set_mode(&mount, name, bits);
        chown(mount.path(name), Some(1), Some(1)).expect("changed");
        assert_eq!(mode(&mount, name), after, "{name} has a new owner");
    }
    set_mode(&mount, "x", 0o6755);
    fs::create_dir(mount.path("d")).expect("made");
    set_mode(&mount, "d", 0o6777);
    chown(mount.path("d"), Some(1), Some(1)).expect("changed");
    assert_eq!(mode(&mount, "d"), 0o6777, "folders keep them");
}

#[test]
fn set_gid_folders_hand_down_their_group() {
    let Some(mount) = TestMount::new() else { return };
    if !is_root() {
        return skip("only root can act as several users");
    }
    fs::create_dir(mount.path("team")).expect("made");
    chown(mount.path("team"), None, Some(1)).expect("changed");
    set_mode(&mount, "team", 0o2777);
    assert!(as_nobody(&mount, "touch team/f && mkdir team/d && mkfifo team/p && ln -s x team/l"));
    for name in ["team/f", "team/d", "team/p", "team/l"] {
        assert_eq!(fs::symlink_metadata(mount.path(name)).expect("stat").gid(), 1, "{name}");
    }
    assert_eq!(mode(&mount, "team/d") & 0o2000, 0o2000);
    assert!(as_nobody(&mount, "chmod 2755 team/f"));
    assert_eq!(mode(&mount, "team/f"), 0o755, "a group one is not in");
}

#[test]
fn times_are_kept_to_the_nanosecond() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("f");
    fs::write(&path, "x").expect("written");
    let set = |last_access, last_modification| {
        let times = Timestamps { last_access, last_modification };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).expect("set");
        let stat = fs::metadata(&path).expect("stat");
        ((stat.atime(), stat.atime_nsec()), (stat.mtime(), stat.mtime_nsec()))
    };
    for moment in
        [(1_000_000_000, 123_456_789), (-1, 999_999_999), (-1_000_000, 1), (0, 0), (4_294_967_296, 7)]
    {
        assert_eq!(set(time(moment.0, moment.1), time(moment.0, moment.1)), (moment, moment));
    }
    assert_eq!(set(time(5, 6), time(0, OMIT)), ((5, 6), (4_294_967_296, 7)));
    let (access, modification) = set(time(0, OMIT), time(0, NOW));
    assert!(access == (5, 6) && modification.0 > 1_600_000_000);
}

#[test]
fn times_move_with_what_happens() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("f");
    let stat = |name: &str| fs::metadata(mount.path(name)).expect("stat");
    fs::write(&path, "x").expect("written");
    let old = Timestamps { last_access: time(100, 0), last_modification: time(100, 0) };
    let age = |name: &str| rustix::fs::utimensat(CWD, mount.path(name), &old, AtFlags::empty()).expect("set");
    age("f");
    let before = stat("f");
    set_mode(&mount, "f", 0o600);
    assert_eq!(stat("f").mtime(), 100);
    assert!((stat("f").ctime(), stat("f").ctime_nsec()) > (before.ctime(), before.ctime_nsec()));
    let file = File::options().write(true).open(&path).expect("opens");
    std::os::unix::fs::FileExt::write_all_at(&file, b"y", 0).expect("written");
    assert!(file.metadata().expect("stat").mtime() > 100);
    drop(file);
    age("");
    fs::write(mount.path("g"), "x").expect("written");
    assert!(stat("").mtime() > 100, "a new name");
    age("");
    fs::remove_file(mount.path("g")).expect("removed");
    assert!(stat("").mtime() > 100, "a name less");
    age("");
    fs::write(&path, "z").expect("written");
    assert_eq!(stat("").mtime(), 100, "content is not the folder's");
    age("f");
    drop(File::create(&path).expect("emptied"));
    assert!(stat("f").mtime() > 100, "emptied");
}

#[test]
fn written_times_survive_the_last_close() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("f");
    let file = File::create(&path).expect("made");
    std::os::unix::fs::FileExt::write_all_at(&file, b"content", 0).expect("written");
    let times = Timestamps { last_access: time(1000, 5), last_modification: time(2000, 6) };
    rustix::fs::futimens(&file, &times).expect("set");
    file.set_permissions(Permissions::from_mode(0o751)).expect("changed");
    drop(file);
    let stat = fs::metadata(&path).expect("stat");
    assert_eq!((stat.mtime(), stat.mtime_nsec(), stat.mode() & 0o7777), (2000, 6, 0o751));
    assert_eq!(mount.drive().node(mount.node("f")).expect("committed").mtime.secs(), 2000);
}

#[test]
fn a_read_only_mount_refuses_changes() {
    let Some(mount) = TestMount::with(LIMIT_S, |options| options.read_only = true) else { return };
    mount.upload("f", b"x");
    assert_eq!(fs::read(mount.path("f")).expect("read"), b"x");
    assert_eq!(errno(fs::write(mount.path("g"), "x")), raw(Errno::ROFS));
    assert_eq!(errno(fs::remove_file(mount.path("f"))), raw(Errno::ROFS));
}
