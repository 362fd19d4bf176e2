//! A full disk: 507 and ENOSPC, nothing lost, and it works again once there is space.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use support::disk::{DISK_MIB, LARGER_MIB, SmallDisk, text};
use support::http::Client;
use support::process::ok;
use support::random::Random;
use support::server::{Place, Server};

/// One file.
const FILE_BYTES: usize = 4 << 20;

/// Files that were acknowledged, by name.
type Kept = BTreeMap<String, Vec<u8>>;

/// Puts files until the server says that it is full.
fn fill(client: &mut Client, random: &mut Random, prefix: &str, kept: &mut Kept) {
    for number in 0..LARGER_MIB {
        let (name, content) = (format!("{prefix}{number:03}"), random.bytes(FILE_BYTES));
        let answer = client.send("PUT", &format!("/dav/home/{name}"), &[], &content);
        // A server may refuse before it has read the body, and close.
        let Ok(answer) = answer else { return };
        if !answer.is_success() {
            assert_eq!(answer.status, 507, "{}", answer.text());
            assert!(number > 0, "the disk is full before anything was put there");
            return;
        }
        kept.insert(name, content);
    }
    panic!("a disk of {DISK_MIB} MiB never gets full");
}

#[track_caller]
fn assert_kept(server: &Server, mount: &Path, kept: &Kept) {
    let mut client = server.client();
    for (name, content) in kept {
        let answer = client.ok("GET", &format!("/dav/home/{name}"), &[], b"");
        assert!(answer.body == *content, "{name} over WebDAV");
        assert!(std::fs::read(mount.join(name)).expect("a kept file") == *content, "{name} in the mount");
    }
    let listed = std::fs::read_dir(mount).expect("the mount").count();
    assert_eq!(listed, kept.len(), "what was refused is visible");
}

/// Writes a file in the mount; the error comes at write, fsync or close.
fn write_in_mount(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    std::io::Write::write_all(&mut file, content)?;
    file.sync_all()
}

fn is_full(outcome: std::io::Result<()>) -> bool {
    outcome.is_err_and(|error| error.raw_os_error() == Some(libc::ENOSPC))
}

#[test]
fn full_disk_loses_nothing_and_recovers() {
    if let Some(why) = support::lacking(true, &["mount", "umount"]) {
        return support::skip(&why);
    }
    if !support::is_root() {
        return support::skip("only root can mount a small disk");
    }
    let place = Place::new().configured("history-days = 0\n").mounted(400);
    let disk = SmallDisk::mount(place.data());
    let mut random = Random::seeded();
    let mut kept = Kept::new();

    let server = place.start();
    let mount = place.mount();
    fill(&mut server.client(), &mut random, "a", &mut kept);
    let outcome = write_in_mount(&mount.join("refused"), &random.bytes(2 * FILE_BYTES));
    assert!(is_full(outcome), "the mount took more");
    let _ = std::fs::remove_file(mount.join("refused"));
    assert_kept(&server, &mount, &kept);
    ok("df", &[text(&mount)], 20);
    ok("ls", &["-l", text(&mount), text(place.data().parent().expect("a folder"))], 20);

    // The death of the server on a full disk, and a start there.
    server.kill();
    let server = place.start();
    assert_kept(&server, &mount, &kept);

    // Deleting works on a full disk, and a collection makes space of it.
    let gone: Vec<String> = kept.keys().take(kept.len() / 2).cloned().collect();
    for name in &gone {
        server.client().ok("DELETE", &format!("/dav/home/{name}"), &[], b"");
        kept.remove(name);
    }
    place.run(&["gc"], 120).ok();
    let before = kept.len();
    fill(&mut server.client(), &mut random, "b", &mut kept);
    assert!(kept.len() >= before + gone.len() / 2, "{} files gone, {} fit", gone.len(), kept.len() - before);

    disk.grow();
    let content = random.bytes(FILE_BYTES);
    write_in_mount(&mount.join("fits"), &content).expect("there is space again");
    kept.insert("fits".into(), content);
    fill(&mut server.client(), &mut random, "c", &mut kept);
    assert_kept(&server, &mount, &kept);
    place.run(&["scrub"], 120).ok();
    server.stop();
    let server = place.start();
    assert_kept(&server, &mount, &kept);
    ok("umount", &["-l", text(&mount)], 20);
    server.stop();
    place.assert_no_panic();
}
