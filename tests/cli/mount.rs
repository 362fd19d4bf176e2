//! `up`, `mount` and `umount`, and commands whose PATH is a file in a mount.

use crate::support::server::Place;
use crate::support::watchdog::Watchdog;
use crate::support::{lacking, process, skip};
use std::process::Command;

#[test]
fn paths_in_a_mount_are_found_and_mounts_come_and_go() {
    if let Some(why) = lacking(true, &["fusermount3"]) {
        return skip(&why);
    }
    let place = Place::new().mounted(300);
    let server = place.start();
    let (mount, file) = (place.mount(), place.mount().join("note.txt"));
    for text in ["first", "second"] {
        std::fs::write(&file, text).expect("written through the mount");
    }
    let shown = file.display().to_string();
    let read = || std::fs::read_to_string(&file).expect("read through the mount");
    assert_eq!(place.json(&["versions", &shown], 60)[0]["size_bytes"], 5);
    place.run(&["restore", &shown, "--version", "1"], 60).ok();
    assert_eq!(read(), "first");

    // A relative path, in a mount, with no --data: the mount says which drive it is.
    std::fs::remove_file(&file).expect("removed");
    let mut command = Command::new(crate::support::server::LARDER);
    process::run(command.args(["restore", "note.txt"]).current_dir(&mount), 60).ok();
    assert_eq!(read(), "first");

    let (data, point) = (place.data().display().to_string(), mount.display().to_string());
    place.run(&["umount", &point], 60).ok();
    assert!(!file.exists());
    assert_eq!(place.run(&["umount", &point], 60).code(), 1);
    place.run(&["mount", &data, &point], 60).ok();
    assert_eq!(read(), "first");
    assert!(server.stop().success());
    assert!(!file.exists(), "the server takes its mounts along");
}

#[test]
fn data_directory_is_mounted_without_a_server() {
    if let Some(why) = lacking(true, &["fusermount3"]) {
        return skip(&why);
    }
    let place = Place::new();
    let point = place.path("point");
    std::fs::create_dir(&point).expect("a mount point");
    let _watchdog = Watchdog::start(&point, 300);
    let (data, shown) = (place.data().display().to_string(), point.display().to_string());
    place.run(&["mount", &data, &shown, "--daemon"], 60).ok();
    std::fs::write(point.join("kept"), "kept").expect("written");
    assert_eq!(place.json(&["status", "/kept"], 60)["size_bytes"], 4);
    super::background::end(&place);
    place.run(&["mount", &data, &shown, "--daemon", "-o", "ro"], 60).ok();
    assert_eq!(std::fs::read_to_string(point.join("kept")).expect("read"), "kept");
    assert!(std::fs::write(point.join("new"), "x").is_err());
    super::background::end(&place);
    let wrong = place.run(&["mount", &data, &shown, "-o", "sideways"], 60);
    assert_eq!(wrong.code(), 2, "{wrong}");
    assert!(wrong.stderr.contains("sideways"), "{wrong}");
}
