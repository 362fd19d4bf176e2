//! One drive, two doors: what WebDAV and the mount see of each other.

use crate::support::mount::{TestMount, dav, drive_path, unheard};
use crate::{errno, raw};
use larder_core::{Kind, Name, NodeId};
use larder_drive::LockRequest;
use larder_store::catalog::{Replace, Unlink};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

#[test]
fn what_is_closed_in_the_mount_is_there_for_others() {
    let Some(mount) = TestMount::new() else { return };
    let mut file = File::create(mount.path("f")).expect("made");
    file.write_all(b"half").expect("written");
    let draft = mount.download("f").expect_err("not before the close");
    assert_eq!(draft.kind(), Kind::NotFound);
    file.write_all(b" and whole").expect("written");
    drop(file);
    assert_eq!(mount.download("f").expect("closed"), b"half and whole");
    let mut file = File::options().write(true).open(mount.path("f")).expect("opens");
    file.write_all(b"HALF").expect("written");
    assert_eq!(mount.download("f").expect("the old version"), b"half and whole");
    file.sync_all().expect("synced");
    assert_eq!(mount.download("f").expect("synced"), b"HALF and whole");
    fs::remove_file(mount.path("f")).expect("removed");
    assert_eq!(mount.download("f").expect_err("removed").kind(), Kind::NotFound);
}

#[test]
fn an_upload_is_in_the_mount_at_once() {
    let Some(mount) = TestMount::new() else { return };
    assert_eq!(errno(fs::metadata(mount.path("new"))), raw(Errno::NOENT));
    assert_eq!(fs::read_dir(mount.path("")).expect("listed").count(), 0);
    mount.upload("new", b"first");
    assert_eq!(fs::read(mount.path("new")).expect("read"), b"first");
    assert_eq!(fs::read_dir(mount.path("")).expect("listed").count(), 1);
    for round in 0..50_usize {
        let bytes = vec![round as u8; 1 + round * 5000];
        mount.upload("new", &bytes);
        assert_eq!(fs::metadata(mount.path("new")).expect("stat").len(), bytes.len() as u64);
        assert!(fs::read(mount.path("new")).expect("read") == bytes, "round {round}");
    }
}

#[test]
fn an_upload_is_whole_in_the_mount_while_others_read_it() {
    let Some(mount) = TestMount::new() else { return };
    mount.upload("f", b"first");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            // They keep the kernel's pages and size warm, and files open from one version to the next.
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    assert!(!fs::read(mount.path("f")).expect("read").is_empty());
                }
            });
        }
        let uploads = scope.spawn(|| {
            for round in 0..2000_usize {
                let bytes = vec![round as u8; [1, 30, 5000, 70_000][round % 4]];
                mount.upload("f", &bytes);
                assert!(fs::read(mount.path("f")).expect("read") == bytes, "round {round}");
            }
        });
        let ended = uploads.join();
        done.store(true, Ordering::Release);
        ended.expect("all whole");
    });
}

#[test]
fn an_open_reader_gets_new_content_and_not_a_mixture() {
    let Some(mount) = TestMount::new() else { return };
    mount.upload("f", &vec![1; 300_000]);
    let mut file = File::open(mount.path("f")).expect("opens");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    mount.upload("f", &vec![2; 300_000]);
    bytes.clear();
    file.rewind().expect("seeks");
    file.read_to_end(&mut bytes).expect("read");
    assert!(bytes.iter().all(|b| *b == bytes[0]), "a mixture");
    assert!(fs::read(mount.path("f")).expect("read").iter().all(|b| *b == 2));
}

#[test]
fn changes_of_names_by_others_are_seen() {
    let Some(mount) = TestMount::new() else { return };
    let drive = mount.drive();
    let made = drive.make_folder(&dav(), NodeId::ROOT, name("d"), 0o755).expect("made");
    mount.upload("d/f", b"x");
    assert_eq!(fs::read(mount.path("d/f")).expect("read"), b"x");
    let inode = fs::metadata(mount.path("d/f")).expect("stat").ino();
    drive
        .rename(&dav(), (made.id, name("f")), (NodeId::ROOT, name("g")), Replace::Nothing, Vec::new())
        .expect("renamed");
    assert_eq!(errno(fs::metadata(mount.path("d/f"))), raw(Errno::NOENT));
    assert_eq!(fs::metadata(mount.path("g")).expect("stat").ino(), inode);
    drive
        .rename(&dav(), (NodeId::ROOT, name("d")), (NodeId::ROOT, name("e")), Replace::Nothing, Vec::new())
        .expect("renamed");
    assert!(mount.path("e").is_dir() && !mount.path("d").exists());
    fs::write(mount.path("e/again"), "a folder that was moved goes on").expect("written");
    mount.until_closed("e/again");
    drive.remove(&dav(), NodeId::ROOT, &name("e"), Unlink::Tree).expect("removed");
    assert_eq!(errno(fs::metadata(mount.path("e/again"))), raw(Errno::NOENT));
    let names: Vec<_> =
        fs::read_dir(mount.path("")).expect("listed").map(|e| e.expect("told").file_name()).collect();
    assert_eq!(names, ["g"]);
}

#[test]
fn a_listing_that_the_kernel_keeps_has_what_others_did() {
    let Some(mount) = TestMount::new() else { return };
    let drive = mount.drive();
    let folder = drive.make_folder(&dav(), NodeId::ROOT, name("d"), 0o755).expect("made").id;
    let mut listing =
        rustix::fs::Dir::read_from(File::open(mount.path("d")).expect("opens")).expect("a listing");
    let mut held = || -> Vec<String> {
        listing.rewind();
        let told =
            listing.by_ref().map(|entry| entry.expect("told").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = told.filter(|name| !name.starts_with('.')).collect();
        names.sort_unstable();
        names
    };
    let listed = || {
        let entries = fs::read_dir(mount.path("d")).expect("listed");
        let told = entries.map(|entry| entry.expect("told").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = told.collect();
        names.sort_unstable();
        names
    };
    let mut expected: Vec<String> = Vec::new();
    for round in 0..20 {
        // Twice: the second one is the kernel's.
        assert_eq!((listed(), listed(), held()), (expected.clone(), expected.clone(), expected.clone()));
        let text = format!("f{round:02}");
        match round % 4 {
            0 => _ = mount.upload(&format!("d/{text}"), b"x"),
            1 => fs::write(mount.path("d").join(&text), "y").expect("written"),
            2 => {
                let gone = name(&expected.remove(0));
                drive.remove(&dav(), folder, &gone, Unlink::File).expect("removed");
                continue;
            }
            _ => {
                let old = name(&expected.remove(0));
                let to = (folder, name(&text));
                drive.rename(&dav(), (folder, old), to, Replace::Nothing, Vec::new()).expect("renamed");
            }
        }
        expected.push(text);
    }
}

#[test]
fn what_the_kernel_has_not_heard_of_yet_is_looked_up_again() {
    let Some(mount) = TestMount::new() else { return };
    for name in ["made", "taken"] {
        assert_eq!(errno(fs::metadata(mount.path(name))), raw(Errno::NOENT));
        mount.upload_as(&unheard(), name, b"content");
    }
    let mut file =
        File::options().append(true).read(true).create(true).open(mount.path("made")).expect("opens");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, "content", "it was made already");
    let exclusive = File::options().write(true).create_new(true).open(mount.path("taken"));
    assert_eq!(errno(exclusive), raw(Errno::EXIST));
    mount.upload_as(&unheard(), "removed", b"content");
    assert_eq!(fs::metadata(mount.path("removed")).expect("stat").len(), 7);
    mount.drive().remove(&unheard(), NodeId::ROOT, &name("removed"), Unlink::File).expect("removed");
    assert_eq!(errno(File::options().write(true).open(mount.path("removed"))), raw(Errno::NOENT));
}

#[test]
fn a_file_made_without_writing_is_there_for_others() {
    let Some(mount) = TestMount::new() else { return };
    let made = rustix::fs::open(mount.path("lock"), OFlags::CREATE | OFlags::RDONLY, Mode::RUSR);
    let made = made.expect("made");
    assert_eq!(mount.download("lock").expect("published"), b"");
    drop(made);
    fs::write(mount.path("log"), "lines").expect("written");
    mount.until_closed("log");
    let truncating = rustix::fs::open(mount.path("log"), OFlags::TRUNC | OFlags::RDONLY, Mode::empty());
    drop(truncating.expect("opens"));
    assert_eq!(mount.download("log").expect("closed"), b"");
}

#[test]
fn a_webdav_lock_holds_against_the_mount() {
    let Some(mount) = TestMount::new() else { return };
    fs::write(mount.path("f"), "x").expect("written");
    let root = mount.node("f");
    let request = LockRequest { root, deep: false, shared: false, owner_xml: String::new(), timeout_s: 60 };
    let locks = mount.drive().locks();
    // the server hears of the last close after close(2) returned
    let lock = (0..100).find_map(|_| {
        let _ = fs::read(mount.path("f"));
        locks.acquire(mount.drive(), &dav(), request.clone()).ok()
    });
    let lock = lock.expect("nobody has it open");
    assert_eq!(errno(File::options().write(true).open(mount.path("f"))), raw(Errno::BUSY));
    assert_eq!(errno(fs::remove_file(mount.path("f"))), raw(Errno::BUSY));
    assert_eq!(errno(fs::rename(mount.path("f"), mount.path("g"))), raw(Errno::BUSY));
    assert_eq!(fs::read(mount.path("f")).expect("read"), b"x");
    locks.release(mount.drive(), &dav(), &lock.token).expect("released");
    fs::write(mount.path("f"), "y").expect("written");
    assert_eq!(mount.download("f").expect("closed"), b"y");
    assert_eq!(mount.drive().path_of(root).expect("has one"), drive_path("f"));
}
