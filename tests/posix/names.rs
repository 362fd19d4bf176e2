//! Names: renaming in all its forms, links, long and strange names, special files.

use crate::support::mount::TestMount;
use crate::{as_nobody, errno, raw};
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};

#[test]
fn rename_replaces_what_posix_lets_it_replace() {
    let Some(mount) = TestMount::new() else { return };
    let path = |name| mount.path(name);
    for name in ["a", "b"] {
        fs::write(path(name), name).expect("written");
    }
    for name in ["d", "d/sub", "empty", "full"] {
        fs::create_dir(path(name)).expect("made");
    }
    fs::write(path("full/x"), "x").expect("written");
    fs::rename(path("a"), path("b")).expect("a file replaces a file");
    assert_eq!(fs::read_to_string(path("b")).expect("read"), "a");
    assert_eq!(errno(fs::rename(path("d"), path("full"))), raw(Errno::NOTEMPTY));
    assert_eq!(errno(fs::rename(path("b"), path("d"))), raw(Errno::ISDIR));
    assert_eq!(errno(fs::rename(path("d"), path("b"))), raw(Errno::NOTDIR));
    assert_eq!(errno(fs::rename(path("d"), path("d/sub/d"))), raw(Errno::INVAL));
    assert_eq!(errno(fs::rename(path("none"), path("b"))), raw(Errno::NOENT));
    fs::rename(path("d"), path("empty")).expect("a folder replaces an empty one");
    assert!(path("empty/sub").is_dir() && !path("d").exists());
    fs::hard_link(path("b"), path("b2")).expect("linked");
    fs::rename(path("b"), path("b2")).expect("two names of one file");
    assert!(path("b").exists() && path("b2").exists());
}

#[test]
fn rename_flags_do_what_renameat2_says() {
    let Some(mount) = TestMount::new() else { return };
    let rename =
        |from, to, flags| rustix::fs::renameat_with(CWD, mount.path(from), CWD, mount.path(to), flags);
    fs::write(mount.path("f"), "f").expect("written");
    fs::create_dir(mount.path("d")).expect("made");
    fs::write(mount.path("d/x"), "x").expect("written");
    assert_eq!(rename("f", "d", RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename("f", "g", RenameFlags::NOREPLACE).expect("the name is free");
    rename("g", "d", RenameFlags::EXCHANGE).expect("swapped");
    assert_eq!(fs::read_to_string(mount.path("d")).expect("read"), "f");
    assert_eq!(fs::read_to_string(mount.path("g/x")).expect("read"), "x");
    assert_eq!(rename("g", "none", RenameFlags::EXCHANGE), Err(Errno::NOENT));
    for _ in 0..2 {
        assert_eq!(rename("d", "h", RenameFlags::WHITEOUT), Err(Errno::INVAL));
    }
    rename("d", "h", RenameFlags::NOREPLACE).expect("flags go on working");
}

#[test]
fn link_counts_are_those_of_inode_7() {
    let Some(mount) = TestMount::new() else { return };
    let links = |name: &str| fs::metadata(mount.path(name)).expect("stat").nlink();
    let root = links("");
    for name in ["d", "d/a", "d/b"] {
        fs::create_dir(mount.path(name)).expect("made");
    }
    assert_eq!((links(""), links("d"), links("d/a")), (root + 1, 4, 2));
    fs::rename(mount.path("d/b"), mount.path("b")).expect("moved");
    assert_eq!((links(""), links("d")), (root + 2, 3));
    fs::remove_dir(mount.path("b")).expect("removed");
    assert_eq!(links(""), root + 1);
    fs::write(mount.path("f"), "x").expect("written");
    fs::hard_link(mount.path("f"), mount.path("d/g")).expect("linked");
    assert_eq!((links("f"), links("d/g")), (2, 2));
    fs::write(mount.path("d/g"), "both").expect("written");
    assert_eq!(fs::read_to_string(mount.path("f")).expect("read"), "both");
    fs::remove_file(mount.path("f")).expect("removed");
    assert_eq!(links("d/g"), 1);
    let folder = errno(fs::hard_link(mount.path("d"), mount.path("e")));
    assert_eq!(folder, raw(Errno::PERM));
}

#[test]
fn a_file_has_at_most_as_many_names_as_on_ext4() {
    let Some(mount) = TestMount::new() else { return };
    let file = mount.path("f");
    fs::write(&file, "x").expect("written");
    for i in 1..65_000 {
        fs::hard_link(&file, mount.path(&i.to_string())).expect("linked");
    }
    assert_eq!(errno(fs::hard_link(&file, mount.path("more"))), raw(Errno::MLINK));
    assert_eq!(fs::metadata(&file).expect("stat").nlink(), 65_000);
}

#[test]
fn names_are_bytes_up_to_255() {
    let Some(mount) = TestMount::new() else { return };
    let strange = mount.path("").join(OsStr::from_bytes(b"\xff\xfe\x01 \n*?\\\""));
    fs::write(&strange, "x").expect("any bytes");
    let mut listed = fs::read_dir(mount.path("")).expect("listed").map(|e| e.expect("an entry").path());
    assert_eq!(listed.next(), Some(strange));
    fs::write(mount.path(&"x".repeat(255)), "x").expect("255 bytes");
    for name in ["x".repeat(256), format!("{}/y", "x".repeat(256))] {
        assert_eq!(errno(fs::metadata(mount.path(&name))), raw(Errno::NAMETOOLONG));
        assert_eq!(errno(fs::write(mount.path(&name), "x")), raw(Errno::NAMETOOLONG));
    }
    let target = "t".repeat(4095);
    symlink(&target, mount.path("long")).expect("made");
    assert_eq!(fs::read_link(mount.path("long")).expect("read").as_os_str().len(), 4095);
}

#[test]
fn links_that_lead_nowhere_and_elsewhere() {
    let Some(mount) = TestMount::new() else { return };
    symlink("b", mount.path("a")).expect("made");
    symlink("a", mount.path("b")).expect("made");
    assert_eq!(errno(fs::metadata(mount.path("a"))), raw(Errno::LOOP));
    symlink("none", mount.path("dangling")).expect("made");
    assert_eq!(errno(fs::metadata(mount.path("dangling"))), raw(Errno::NOENT));
    assert_eq!(fs::symlink_metadata(mount.path("dangling")).expect("stat").len(), 4);
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(mount.path("f"), "x").expect("written");
    assert_eq!(errno(fs::rename(mount.path("f"), outside.path().join("f"))), raw(Errno::XDEV));
    assert_eq!(errno(fs::hard_link(mount.path("f"), outside.path().join("f"))), raw(Errno::XDEV));
    assert_eq!(errno(fs::read_dir(mount.path("f"))), raw(Errno::NOTDIR));
    assert_eq!(errno(fs::metadata(mount.path("f/x"))), raw(Errno::NOTDIR));
    assert_eq!(errno(fs::remove_dir(mount.path("f"))), raw(Errno::NOTDIR));
}

#[test]
fn special_files_work() {
    let Some(mount) = TestMount::new() else { return };
    let (fifo, null) = (mount.path("fifo"), mount.path("null"));
    rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).expect("made");
    let reader = {
        let fifo = fifo.clone();
        std::thread::spawn(move || fs::read_to_string(fifo).expect("read"))
    };
    fs::write(&fifo, "through a pipe").expect("written");
    assert_eq!(reader.join().expect("ends"), "through a pipe");
    let socket = mount.path("socket");
    let listener = UnixListener::bind(&socket).expect("bound");
    let mut client = UnixStream::connect(&socket).expect("connected");
    client.write_all(b"hi").expect("sent");
    let mut bytes = [0; 2];
    listener.accept().expect("accepted").0.read_exact(&mut bytes).expect("received");
    assert!(fs::metadata(&socket).expect("stat").file_type().is_socket());
    if rustix::process::geteuid().is_root() {
        let device = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(CWD, &null, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)
            .expect("made");
        let stat = fs::metadata(&null).expect("stat");
        assert!(stat.file_type().is_char_device() && stat.rdev() == device);
        fs::write(&null, "swallowed").expect("the device works");
        let disk = rustix::fs::makedev(259, 300_000);
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, mount.path("disk"), FileType::BlockDevice, mode, disk).expect("made");
        assert_eq!(fs::metadata(mount.path("disk")).expect("stat").rdev(), disk);
    }
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, mount.path("plain"), FileType::RegularFile, mode, 0).expect("made");
    assert_eq!(fs::read(mount.path("plain")).expect("read"), b"");
}

#[test]
fn a_removed_working_folder_can_still_be_asked() {
    let Some(mount) = TestMount::new() else { return };
    fs::create_dir(mount.path("d")).expect("made");
    let folder = File::open(mount.path("d")).expect("opens");
    fs::remove_dir(mount.path("d")).expect("removed");
    assert_eq!(folder.metadata().expect("stat").nlink(), 0);
    let made = rustix::fs::openat(&folder, "f", rustix::fs::OFlags::CREATE, Mode::from_raw_mode(0o644));
    assert_eq!(made.err(), Some(Errno::NOENT));
    assert_eq!(rustix::fs::statat(&folder, "..", AtFlags::empty()).map(|s| s.st_ino).ok(), Some(1));
    fs::write(mount.path("f"), "x").expect("written");
    let path_only =
        rustix::fs::open(mount.path("f"), rustix::fs::OFlags::PATH, Mode::empty()).expect("opens");
    fs::remove_file(mount.path("f")).expect("removed");
    assert_eq!(rustix::fs::fstat(&path_only).expect("stat").st_nlink, 0);
}

#[test]
fn a_sticky_folder_keeps_others_from_removing() {
    let Some(mount) = TestMount::new() else { return };
    if !crate::support::is_root() {
        return crate::support::skip("only root can act as several users");
    }
    let made = "mkdir sticky && chmod 1777 sticky && mkdir open && chmod 777 open";
    let output = std::process::Command::new("sh").args(["-c", made]).current_dir(mount.path("")).status();
    assert!(output.expect("sh runs").success());
    for folder in ["sticky", "open"] {
        fs::write(mount.path(&format!("{folder}/roots")), "x").expect("written");
    }
    assert!(!as_nobody(&mount, "rm -f sticky/roots"));
    assert!(!as_nobody(&mount, "mv sticky/roots sticky/x"));
    assert!(as_nobody(&mount, "touch sticky/own && mv sticky/own sticky/own2 && rm sticky/own2"));
    assert!(as_nobody(&mount, "rm -f open/roots"));
}
