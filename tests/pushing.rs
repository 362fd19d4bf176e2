//! Changes made on a device arrive at the server, whatever happens between; two devices keep each other's.

#![cfg(target_os = "linux")]

mod support;
mod pushing {
    pub mod conflicts;
    pub mod names;
    pub mod restored;
    pub mod world;
}

use pushing::world::{Device, MIB, World};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{soon, within};

/// Every path below `top`, with what is there.
fn tree(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![top.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("an entry").path();
            let data = path.symlink_metadata().expect("there");
            let what = if data.is_dir() {
                folders.push(path.clone());
                String::new()
            } else if data.is_symlink() {
                fs::read_link(&path).expect("a target").display().to_string()
            } else {
                blake3::hash(&fs::read(&path).expect("read")).to_string()
            };
            let line = format!("{:o} {} {what}", data.mode(), data.mtime());
            found.insert(path.strip_prefix(top).expect("below").to_path_buf(), line);
        }
    }
    found
}

#[test]
fn what_is_written_on_one_device_is_read_on_another() {
    let Some(world) = World::new() else { return };
    let (one, two) = (world.device(), world.device());
    fs::create_dir_all(one.path("folder/below")).expect("made");
    let big = world.noise(20 * MIB);
    one.write("folder/big", &big);
    one.write("folder/below/small", b"small");
    fs::set_permissions(one.path("folder/below/small"), fs::Permissions::from_mode(0o600)).expect("set");
    symlink("below/small", one.path("folder/link")).expect("linked");
    fs::hard_link(one.path("folder/below/small"), one.path("second")).expect("linked");
    fs::rename(one.path("folder/big"), one.path("moved")).expect("renamed");
    one.push();
    assert!(world.get("moved") == big);
    assert_eq!(world.get("second"), b"small");
    assert!(soon(|| tree(&two.place.mount()) == tree(&one.place.mount())));
    assert_eq!(fs::metadata(two.path("second")).expect("there").nlink(), 2);
    assert!(two.read("moved") == big);
    world.end(vec![one, two]);
}

#[test]
fn one_byte_of_a_large_file_moves_little() {
    let Some(world) = World::new() else { return };
    let big = world.noise(256 * MIB);
    world.server().client().ok("PUT", "/dav/home/big", &[], &big);
    let device = world.device();
    assert_eq!(fs::metadata(device.path("big")).expect("there").len(), big.len() as u64);
    let before = (world.proxy.moved(), world.proxy.sent());
    let file = OpenOptions::new().write(true).open(device.path("big")).expect("opens");
    file.write_all_at(b"!", 100 * MIB as u64).expect("written");
    drop(file);
    device.push();
    let moved = (world.proxy.moved() - before.0, world.proxy.sent() - before.1);
    assert!(moved.0.max(moved.1) < 3 * MIB as u64, "{moved:?} bytes down and up for one");
    let mut expected = big;
    expected[100 * MIB] = b'!';
    assert!(world.get("big") == expected);
    world.end(vec![device]);
}

#[test]
fn without_the_server_everything_is_written_and_arrives_later() {
    let Some(world) = World::new() else { return };
    world.server().client().ok("PUT", "/dav/home/old", &[], b"old");
    let mut device = world.device();
    assert_eq!(device.read("old"), b"old");
    world.cut();
    device.write("new", b"new");
    device.write("old", b"changed");
    fs::create_dir(device.path("folder")).expect("made");
    fs::rename(device.path("new"), device.path("folder/new")).expect("renamed");
    device.write("gone", b"gone");
    fs::remove_file(device.path("gone")).expect("removed");
    let file = File::create(device.path("folder/durable")).expect("made");
    (&file).write_all(b"durable").expect("written");
    file.sync_all().expect("on this device");
    assert!(device.waiting() > 0);
    let expected = tree(&device.place.mount());
    // It is all still there, and still waits, after the device died without the server.
    device.dies();
    device.mount(&world);
    assert_eq!(tree(&device.place.mount()), expected);
    assert!(device.waiting() > 0);
    world.mend();
    device.push();
    assert_eq!(world.get("folder/new"), b"new");
    assert_eq!(world.get("folder/durable"), b"durable");
    assert_eq!(world.get("old"), b"changed");
    world.end(vec![device]);
}

#[test]
fn both_contents_survive_where_two_devices_write_the_same_file() {
    let Some(world) = World::new() else { return };
    world.server().client().ok("PUT", "/dav/home/letter.txt", &[], b"first");
    let (one, two) = (world.device(), world.device());
    assert_eq!((one.read("letter.txt"), two.read("letter.txt")), (b"first".to_vec(), b"first".to_vec()));
    world.cut();
    one.write("letter.txt", b"of the one");
    two.write("letter.txt", b"of the other");
    world.mend();
    one.push();
    two.push();
    let contents = |device: &Device| {
        let names = fs::read_dir(device.place.mount()).expect("listed");
        let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        let mut found: Vec<(String, Vec<u8>)> =
            names.map(|name| (name.clone(), device.read(&name))).collect();
        found.sort();
        found
    };
    assert!(soon(|| contents(&one).len() == 2 && contents(&one) == contents(&two)));
    let found = contents(&one);
    assert!(found[0].0.starts_with("letter (conflict from ") && found[0].0.ends_with(").txt"), "{found:?}");
    assert_eq!(found[1].0, "letter.txt");
    let mut bodies: Vec<&[u8]> = found.iter().map(|(_, body)| &body[..]).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, [&b"of the one"[..], b"of the other"]);
    world.end(vec![one, two]);
}

#[test]
fn a_push_finishes_by_itself_whoever_dies_meanwhile() {
    let Some(mut world) = World::new() else { return };
    let mut device = world.device();
    let mut files = Vec::new();
    for round in 0..10 {
        let name = format!("file{round}");
        let body = world.noise(24 * MIB);
        device.write(&name, &body);
        files.push((name, body));
        if round % 3 == 2 {
            device.dies();
            device.mount(&world);
        } else {
            world.server_dies();
        }
    }
    device.push();
    for (name, body) in &files {
        assert!(world.get(name) == *body, "{name}");
    }
    let sent = world.server().client().ok("PROPFIND", "/dav/home/", &[("Depth", "1")], b"").body;
    assert!(!String::from_utf8_lossy(&sent).contains("conflict"), "nobody else wrote");
    world.end(vec![device]);
}

#[test]
fn push_goes_on_by_itself_over_ten_deaths_of_the_server() {
    let Some(mut world) = World::new() else { return };
    let device = world.device();
    let bytes = 1024 * MIB;
    let big = world.noise(bytes);
    world.cut();
    device.write("big", &big);
    let before = world.proxy.sent();
    world.mend();
    for death in 1..=10 {
        let sent = || world.proxy.sent() - before;
        let is_under_way = within(Duration::from_secs(60), || sent() >= death * bytes as u64 / 11);
        assert!(is_under_way, "{} bytes sent before death {death}: {}", sent(), device.not_sent());
        assert_eq!(device.waiting(), 1, "not in the middle of it: death {death}");
        world.server_dies();
    }
    device.push();
    assert!(world.get("big") == big);
    world.end(vec![device]);
}

#[test]
fn a_device_that_may_only_read_says_so() {
    let Some(world) = World::new() else { return };
    world.server().client().ok("PUT", "/dav/home/file", &[], b"there");
    let device = world.device_of("viewer");
    assert_eq!(device.read("file"), b"there");
    let refused = fs::write(device.path("file"), b"mine").expect_err("read-only");
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    world.end(vec![device]);
}

#[test]
fn a_push_waits_no_longer_than_told_and_says_why() {
    let Some(world) = World::new() else { return };
    let device = world.device();
    world.cut();
    device.write("file", b"waits");
    let mount = device.place.mount().display().to_string();
    assert!(soon(|| {
        let told = device.place.run(&["push", &mount, "--wait", "--timeout", "1"], 30);
        told.code() == 75 && told.stderr.contains("cannot be reached")
    }));
    world.mend();
    device.push();
    assert_eq!(world.get("file"), b"waits");
    world.end(vec![device]);
}

#[test]
fn nothing_is_sent_while_that_is_paused() {
    let Some(world) = World::new() else { return };
    let device = world.device();
    device.place.run(&["pause", "--up"], 30).ok();
    let before = world.proxy.sent();
    let body = world.noise(8 * MIB);
    device.write("file", &body);
    assert!(soon(|| device.not_sent()["trouble"].as_str().is_some_and(|why| why.contains("--up"))));
    let sent = world.proxy.sent() - before;
    assert!(sent < 64 << 10, "{sent} bytes were sent");
    assert_eq!(device.waiting(), 1);
    device.place.run(&["resume", "--up"], 30).ok();
    device.push();
    assert!(world.get("file") == body);
    world.end(vec![device]);
}

#[test]
fn a_busy_folder_arrives_as_it_is() {
    let Some(world) = World::new() else { return };
    let (one, two) = (world.device(), world.device());
    fs::create_dir(one.path("busy")).expect("made");
    // As programs do that lock a file by making another, and replace it by renaming that.
    for round in 0..1500_u32 {
        let (lock, config) = (format!("busy/config{}.lock", round % 3), format!("busy/config{}", round % 3));
        let made = OpenOptions::new().write(true).create_new(true).open(one.path(&lock));
        let mut made = made.unwrap_or_else(|e| panic!("round {round}: {lock}: {e}"));
        if round % 5 != 0 {
            made.write_all(format!("{round}").as_bytes()).expect("written");
        }
        drop(made);
        match round % 4 {
            0 => fs::remove_file(one.path(&lock)).expect("removed"),
            _ => fs::rename(one.path(&lock), one.path(&config)).expect("renamed"),
        }
    }
    let expected = tree(&one.place.mount());
    assert_eq!(expected.len(), 4, "{expected:?}");
    one.push();
    assert_eq!(tree(&one.place.mount()).keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(soon(|| tree(&two.place.mount()) == tree(&one.place.mount())));
    let mount = one.place.mount().display().to_string();
    assert_eq!(one.place.json(&["push", &mount], 30)["conflicts"], 0, "nobody else wrote");
    world.end(vec![one, two]);
}

#[test]
fn what_is_written_into_an_open_file_survives_what_others_do_to_it() {
    let Some(world) = World::new() else { return };
    for name in ["removed", "replaced", "changed"] {
        world.server().client().ok("PUT", &format!("/dav/home/{name}"), &[], b"before");
    }
    let (one, two) = (world.device(), world.device());
    let open = |name: &str| OpenOptions::new().append(true).open(one.path(name)).expect("opens");
    let mut files = ["removed", "replaced", "changed"].map(open);
    files.iter_mut().for_each(|file| file.write_all(b", and mine").expect("written"));
    fs::remove_file(two.path("removed")).expect("removed");
    two.write("new", b"another");
    fs::rename(two.path("new"), two.path("replaced")).expect("renamed");
    two.write("changed", b"theirs");
    // Nothing is read through the mount, and no process started: closing any handle of a file publishes it.
    assert!(soon(|| world.get("replaced") == b"another" && world.get("changed") == b"theirs"));
    let is_replaced = || fs::metadata(one.path("replaced")).is_ok_and(|data| data.len() == 7);
    let is_heard = soon(|| !one.path("removed").exists() && is_replaced());
    assert!(is_heard, "{:?}\n{}", tree(&one.place.mount()), one.place.log());
    for file in files {
        file.sync_all().expect("safe on this device");
    }
    one.push();
    let contents = |device: &Device| {
        let names = fs::read_dir(device.place.mount()).expect("listed");
        let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        let mut found: Vec<String> =
            names.map(|name| String::from_utf8(device.read(&name)).expect("text")).collect();
        found.sort();
        found
    };
    let expected = ["another", "before, and mine", "before, and mine", "before, and mine", "theirs"];
    assert!(soon(|| contents(&one) == expected && contents(&two) == expected), "{:?}", contents(&one));
    world.end(vec![one, two]);
}
