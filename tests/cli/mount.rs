//! `up`, `mount` and `umount`, and commands whose PATH is a file in a mount.

use crate::support::http::Client;
use crate::support::server::{LARDER, PASSWORD, Place, Speaking};
use crate::support::watchdog::Watchdog;
use crate::support::{is_root, lacking, process, skip};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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

    place.run(&["mount", &data, &shown, "--daemon", "-o", "noexec,nosuid,nodev,sync,user"], 60).ok();
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let line = mounts.lines().find(|line| line.contains(&shown)).expect("mounted");
    for word in ["noexec", "nosuid", "nodev", "sync"] {
        assert!(line.split([' ', ',']).any(|option| option == word), "{word}: {line}");
    }
    let script = point.join("script");
    std::fs::write(&script, "#!/bin/sh\n").expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let refused = Command::new(&script).status().expect_err("nothing is run from here");
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    super::background::end(&place);
}

/// Starts `larder up` through `wrapper`, and returns what it says about the mount once files can be put.
fn up_without_a_mount(place: &Place, wrapper: &[&str], program: &Path, point: &Path) -> String {
    let inner = place.command(&["up"]);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(program).args(inner.get_args()).arg(point);
    command.args(["--listen", "127.0.0.1:0"]).env("LARDER_ADMIN_PASSWORD", PASSWORD);
    command.env("HOME", place.path("home"));
    let server = Speaking::start(&mut command);
    let lines: Vec<String> =
        std::iter::repeat_with(|| server.line(60)).take_while(|line| !line.starts_with("Ready")).collect();
    let of = |start: &str| {
        lines.iter().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {lines:?}"))
    };
    let address = of("WebDAV").split('/').nth(2).expect("a URL").parse().expect("an address");
    Client::new(address, "admin", PASSWORD).ok("PUT", "/dav/home/x", &[], b"x");
    of("No mount: ").clone()
}

#[test]
fn up_serves_where_fuse_cannot_be_had_and_says_what_to_do() {
    if let Some(why) = lacking(true, &["fusermount3", "unshare", "setpriv", "env"]) {
        return skip(&why);
    }
    if !is_root() {
        return skip("only root can take /dev/fuse away");
    }
    let place = Place::new();
    let (point, roots) = (place.path("point"), place.path("roots"));
    std::fs::create_dir(&roots).expect("a folder");
    let no_device = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        "mount -t tmpfs none /dev && exec \"$@\"",
        "sh",
    ];
    let said = up_without_a_mount(&place, &no_device, Path::new(LARDER), &point);
    assert!(said.contains("/dev/fuse") && said.contains("modprobe fuse"), "{said}");

    // A user who may not mount by himself, in a place that he may enter.
    let place = Place::new();
    let program = place.path("larder");
    std::fs::copy(LARDER, &program).expect("a copy that everybody may run");
    for folder in [place.path(""), place.path("home")] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).expect("own folder");
    }
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let nowhere = [&nobody[..], &["env", "PATH=/nonexistent"]].concat();
    let said = up_without_a_mount(&place, &nowhere, &program, &place.path("point"));
    assert!(said.contains("run `"), "{said}");
    let said = up_without_a_mount(&place, &nobody, &program, &roots);
    assert!(said.contains('`'), "{said}");
}
