//! All that POSIX has, in the mount of a server that dies and starts again, with its index and without.

use crate::support::server::Place;
use crate::support::{is_root, lacking, skip};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Where a sparse file has its second piece of data.
const FAR: u64 = 300 << 20;

/// Makes one of everything.
fn make(top: &Path) {
    let path = |name: &str| top.join(name);
    let set_mode = |name, bits| fs::set_permissions(path(name), Permissions::from_mode(bits)).expect("set");
    fs::write(path("program"), "#!/bin/sh\n").expect("written");
    fs::hard_link(path("program"), path("program, too")).expect("linked");
    fs::create_dir_all(path("team/deep")).expect("made");
    fs::write(top.join(OsStr::from_bytes(b"team/no \xff\xfe text\n")), "bytes").expect("written");
    symlink(OsStr::from_bytes(b"nowhere \xff"), path("link")).expect("linked");
    let sparse = File::create(path("sparse")).expect("made");
    sparse.write_all_at(b"near", 0).and_then(|()| sparse.write_all_at(b"far", FAR)).expect("written");
    drop(sparse);
    drop(UnixListener::bind(path("socket")).expect("bound"));
    rustix::fs::mknodat(CWD, path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).expect("made");
    if is_root() {
        let null = rustix::fs::makedev(1, 3);
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(CWD, path("null"), FileType::CharacterDevice, mode, null).expect("made");
        chown(path("program"), Some(65_534), Some(1)).expect("given away");
        rustix::fs::setxattr(path("program"), "trusted.t", &[0, 255], XattrFlags::empty()).expect("set");
    }
    for (name, value) in [("user.empty", Vec::new()), ("user.long", vec![7; 60_000])] {
        rustix::fs::setxattr(path("program"), name, &value, XattrFlags::empty()).expect("set");
    }
    set_mode("program", 0o6751);
    set_mode("team", 0o3775);
    let old = Timespec { tv_sec: -86_400, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(CWD, path("team/deep"), &times, rustix::fs::AtFlags::empty()).expect("set");
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("listed");
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 70_000];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("told");
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// All that can be asked about what is at `path`, but for its last access.
fn facts(path: &Path) -> String {
    let stat = fs::symlink_metadata(path).expect("stat");
    let numbers = [stat.ino(), stat.nlink(), stat.rdev(), stat.size(), stat.blocks()];
    let (mode, owner) = (stat.mode(), [stat.uid(), stat.gid()]);
    let times = [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()];
    let target = fs::read_link(path).ok();
    let content = stat.is_file().then(|| {
        let file = File::open(path).expect("opens");
        let end = stat.size().min(100);
        [0, stat.size() - end].map(|at| {
            let mut bytes = vec![0; end as usize];
            file.read_exact_at(&mut bytes, at).expect("read");
            bytes
        })
    });
    format!("{numbers:?} {mode:o} {owner:?} {times:?} {target:?} {content:?} {:?}", xattrs(path))
}

/// The facts of all below `top`, by path.
fn all(top: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![top.to_path_buf()];
    while let Some(path) = pending.pop() {
        found.insert(path.as_os_str().as_bytes().to_vec(), facts(&path));
        if fs::symlink_metadata(&path).expect("stat").is_dir() {
            pending.extend(fs::read_dir(&path).expect("listed").map(|entry| entry.expect("an entry").path()));
        }
    }
    found
}

#[test]
fn everything_outlives_the_death_of_the_server_and_of_its_index() {
    if let Some(why) = lacking(true, &["fusermount3"]) {
        return skip(&why);
    }
    let place = Place::new().mounted(300);
    let server = place.start();
    make(&place.mount());
    let made = all(&place.mount());
    assert!(made.len() >= 10, "{:?}", made.keys());
    server.kill();
    for index in ["kept", "deleted"] {
        if index == "deleted" {
            fs::remove_dir_all(place.data().join("index")).expect("the index");
        }
        let server = place.start();
        let found = all(&place.mount());
        for (path, facts) in &made {
            let shown = String::from_utf8_lossy(path);
            assert_eq!(found.get(path), Some(facts), "{shown}, index {index}");
        }
        assert_eq!(found.len(), made.len(), "index {index}");
        server.kill();
    }
    place.assert_no_panic();
}
