//! `--encryption-key`: who has the key has everything, with any command; who has not has nothing.

use crate::support::process::{self, Finished};
use crate::support::server::Place;
use crate::support::watchdog::Watchdog;
use crate::support::{lacking, skip};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const SECRET: &[u8] = b"written by nobody but this test, and in clear on no disk";

fn key_file(place: &Place, name: &str, text: &str, mode: u32) -> String {
    let path = place.path(name);
    std::fs::write(&path, text).expect("a key file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode");
    path.display().to_string()
}

#[track_caller]
fn assert_refused(done: &Finished, code: i32, word: &str) {
    assert_eq!(done.code(), code, "{done}");
    assert!(done.stderr.contains(word), "{word}: {done}");
}

fn is_in_clear(folder: &Path) -> bool {
    std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).any(|path| {
        if path.is_dir() {
            return is_in_clear(&path);
        }
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(SECRET.len()).any(|window| window == SECRET)
    })
}

#[test]
fn key_opens_the_drive_for_every_command_and_after_the_index_is_lost() {
    let place = Place::new();
    let key = key_file(&place, "key", &"0123456789abcdef".repeat(4), 0o600);
    let wrong = key_file(&place, "wrong", &"f".repeat(64), 0o600);
    let place = place.with(&["--encryption-key", &key]);
    let server = place.start();
    server.client().ok("PUT", "/dav/home/secret", &[], SECRET);
    // A running server has the key.
    assert_eq!(place.json(&["status", "/secret"], 60)["size_bytes"], SECRET.len());
    assert!(server.stop().success());
    assert!(!is_in_clear(&place.data()));

    assert!(place.json(&["stats", "--encryption-key", &key], 60)["chunks"].as_u64() > Some(0));
    let mut command = place.command(&["stats"]);
    process::run(command.env("LARDER_ENCRYPTION_KEY", &key), 60).ok();
    for arguments in [&["stats"][..], &["stats", "--encryption-key", &wrong]] {
        assert_refused(&place.run(arguments, 60), 1, "encryption key");
    }

    std::fs::remove_dir_all(place.data().join("index")).expect("the index");
    std::fs::remove_file(place.data().join("superblock")).expect("the superblock");
    assert_ne!(place.run(&["stats", "--encryption-key", &wrong], 60).code(), 0);
    assert!(place.json(&["stats", "--encryption-key", &key], 60)["chunks"].as_u64() > Some(0));
    let server = place.start();
    assert_eq!(server.client().ok("GET", "/dav/home/secret", &[], b"").body, SECRET);
    assert!(server.stop().success());
    assert!(!is_in_clear(&place.data()));
}

#[test]
fn a_drive_made_without_a_key_takes_none() {
    let place = Place::new();
    let key = key_file(&place, "key", &"0123456789abcdef".repeat(4), 0o600);
    assert!(place.start().stop().success());
    assert_refused(&place.run(&["stats", "--encryption-key", &key], 60), 1, "without an encryption key");
}

#[test]
fn key_files_that_others_read_or_that_hold_no_key_are_refused() {
    let place = Place::new();
    let digits = "0123456789abcdef".repeat(4);
    for (text, mode, word) in [
        (&*digits, 0o644, "chmod 600"),
        (&digits[1..], 0o600, "64 hexadecimal digits"),
        (&digits.replace('0', "x"), 0o600, "64 hexadecimal digits"),
        ("", 0o600, "64 hexadecimal digits"),
    ] {
        let key = key_file(&place, "key", text, mode);
        let done = place.run(&["serve", "--listen", "127.0.0.1:0", "--encryption-key", &key], 60);
        assert_refused(&done, 2, word);
    }
    assert!(!place.data().join("superblock").exists(), "a refused start leaves no drive");
}

#[test]
fn mount_takes_the_key() {
    if let Some(why) = lacking(true, &["fusermount3"]) {
        return skip(&why);
    }
    let place = Place::new();
    let key = key_file(&place, "key", &"0123456789abcdef".repeat(4), 0o600);
    let point = place.path("point");
    std::fs::create_dir(&point).expect("a mount point");
    let _watchdog = Watchdog::start(&point, 300);
    let (data, shown) = (place.data().display().to_string(), point.display().to_string());
    for _ in 0..2 {
        place.run(&["mount", &data, &shown, "--daemon", "--encryption-key", &key], 60).ok();
        std::fs::write(point.join("secret"), SECRET).expect("written");
        assert_eq!(std::fs::read(point.join("secret")).expect("read"), SECRET);
        super::background::end(&place);
    }
    assert!(!is_in_clear(&place.data()));
}
