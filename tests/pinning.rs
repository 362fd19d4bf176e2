//! Files that rules keep on a device: they come, follow what others change, stay, and are let go when told so.

#![cfg(target_os = "linux")]

mod support;

use rustix::io::Errno;
use serde_json::Value;
use std::fs;
use std::time::Duration;
use support::remote::{MIB, World, errno};
use support::server::Server;
use support::within;

/// What is pinned comes within this.
const COMES: Duration = Duration::from_secs(60);

/// `larder COMMAND PATH`, which must succeed; what it says.
#[track_caller]
fn tell(world: &World, command: &str, name: &str) -> Value {
    world.device.json(&[command, &world.file(name).display().to_string()], 60)
}

/// How many bytes of `name` are missing here.
fn missing(world: &World, name: &str) -> u64 {
    tell(world, "why", name)["pin_would_fetch_bytes"].as_u64().expect("a number")
}

#[track_caller]
fn comes(world: &World, name: &str) {
    assert!(within(COMES, || missing(world, name) == 0), "{}", tell(world, "status", name));
}

/// A device on whose server lies `kept`, a folder with so many bytes in files of several sizes, pinned.
fn pinned(world: &World) -> (Vec<(String, Vec<u8>)>, Server) {
    world.send("MKCOL", "kept", &[]);
    world.send("MKCOL", "kept/below", &[]);
    let sizes = [("kept/small", 10), ("kept/empty", 0), ("kept/big", 20 * MIB), ("kept/below/one", MIB)];
    let files: Vec<(String, Vec<u8>)> =
        sizes.into_iter().map(|(name, size)| (name.to_owned(), world.noise(size))).collect();
    files.iter().for_each(|(name, bytes)| world.put(name, bytes));
    world.put("other", &world.noise(MIB));
    let device = world.mount();
    let told = tell(world, "pin", "kept");
    assert_eq!(told["rules"][0], "pin /kept", "{told}");
    comes(world, "kept");
    (files, device)
}

#[test]
fn pinned_folder_is_read_and_written_without_the_server() {
    let Some(mut world) = World::new() else { return };
    let (files, device) = pinned(&world);
    assert_eq!(missing(&world, "other"), MIB, "nothing else came");
    world.proxy.lead_to(None);
    for (name, bytes) in &files {
        assert!(world.read(name).expect("all of it is here") == *bytes, "{name}");
    }
    fs::write(world.file("kept/note"), b"written without a server").expect("written");
    world.server_dies();
    let arrived = || {
        let answer = world.server().client().send("GET", "/dav/home/kept/note", &[], b"");
        answer.is_ok_and(|answer| answer.body == b"written without a server")
    };
    assert!(within(COMES, arrived), "{}", world.device.log());
    world.end(device);
}

#[test]
fn pinned_folder_follows_what_others_do_and_over_a_restart() {
    let Some(world) = World::new() else { return };
    let (_, device) = pinned(&world);
    let (new, changed) = (world.noise(2 * MIB), world.noise(3 * MIB));
    world.put("kept/new", &new);
    world.put("kept/big", &changed);
    world.send("MOVE", "other", &[("Destination", "/dav/home/kept/other")]);
    comes(&world, "kept");
    let read_without_server = |name: &str, bytes: &[u8]| {
        assert!(world.read(name).expect("it is here") == bytes, "{name}");
    };
    let seen = || fs::metadata(world.file("kept/other")).is_ok() && missing(&world, "kept") == 0;
    assert!(within(COMES, seen), "{}", tell(&world, "status", "kept"));
    device.kill();
    let later = world.noise(MIB);
    world.put("kept/later", &later);
    let device = world.mount();
    assert!(within(COMES, || fs::metadata(world.file("kept/later")).is_ok()));
    comes(&world, "kept");
    world.proxy.lead_to(None);
    read_without_server("kept/new", &new);
    read_without_server("kept/big", &changed);
    read_without_server("kept/later", &later);
    world.proxy.lead_to(Some(world.server().address()));
    world.end(device);
}

#[test]
fn pinned_files_stay_while_others_go_for_want_of_space() {
    let Some(world) = World::with(&["--cache-size", "64MiB"]) else { return };
    let (files, device) = pinned(&world);
    for round in 0..4 {
        let name = format!("passing-{round}");
        world.put(&name, &world.noise(48 * MIB));
        assert!(within(COMES, || fs::metadata(world.file(&name)).is_ok()));
        assert_eq!(world.read(&name).expect("read").len() as u64, 48 * MIB);
    }
    let gone: u64 = (0..4).map(|round| missing(&world, &format!("passing-{round}"))).sum();
    assert!(gone > 48 * MIB, "nothing had to go: {gone}");
    assert_eq!(missing(&world, "kept"), 0);
    world.proxy.lead_to(None);
    for (name, bytes) in &files {
        assert!(world.read(name).expect("all of it is here") == *bytes, "{name}");
    }
    world.proxy.lead_to(Some(world.server().address()));
    world.end(device);
}

#[test]
fn space_is_freed_of_what_is_not_pinned_and_was_sent() {
    let Some(world) = World::new() else { return };
    let (_, device) = pinned(&world);
    let free = |name: &str| world.device.run(&["free", &world.file(name).display().to_string()], 60);
    for name in ["kept", "kept/big"] {
        let refused = free(name);
        assert!(refused.code() == 1 && refused.stderr.contains("rule \"pin /kept\""), "{refused}");
    }
    assert_eq!(missing(&world, "kept"), 0);
    world.read("other").expect("read");
    let why = tell(&world, "why", "other");
    assert_eq!((&why["rule"], &why["free_would_give_bytes"]), (&Value::Null, &MIB.into()), "{why}");
    world.proxy.lead_to(None);
    fs::write(world.file("mine"), world.noise(MIB)).expect("written");
    let freed = tell(&world, "free", "");
    assert_eq!((&freed["freed_bytes"], &freed["not_sent_files"]), (&MIB.into(), &1.into()), "{freed}");
    assert_eq!(freed["pinned_files"], 4, "{freed}");
    assert_eq!((missing(&world, "other"), missing(&world, "mine"), missing(&world, "kept")), (MIB, 0, 0));
    world.proxy.lead_to(Some(world.server().address()));

    let why = tell(&world, "why", "kept/below/one");
    assert_eq!((&why["rule"], &why["rule_number"]), (&"pin /kept".into(), &1.into()), "{why}");
    assert_eq!((&why["by"], &why["pin_would_fetch_bytes"]), (&"admin".into(), &0.into()), "{why}");
    let unpinned = tell(&world, "unpin", "kept");
    assert_eq!(unpinned["rules"], serde_json::json!([]), "{unpinned}");
    assert_eq!(tell(&world, "free", "kept")["freed_bytes"], 21 * MIB + 10);
    assert_eq!(missing(&world, "kept"), 21 * MIB + 10);
    world.end(device);
}

#[test]
fn excluded_path_says_why_it_is_not_there() {
    let Some(world) = World::new() else { return };
    world.send("MKCOL", "Videos", &[]);
    world.put("Videos/film", &world.noise(MIB));
    let device = world.mount();
    assert!(fs::metadata(world.file("Videos/film")).is_ok());
    let mount = world.device.mount().display().to_string();
    world.device.json(&["rules", "--in", &mount, "add", "exclude", "Videos"], 30);
    let why = tell(&world, "why", "Videos/film");
    assert_eq!(
        (&why["rule"], &why["pin_would_fetch_bytes"]),
        (&"exclude Videos".into(), &MIB.into()),
        "{why}"
    );
    assert_eq!(why["placement"], "Not shown on this device");
    assert_eq!(errno(fs::metadata(world.file("Videos/film"))), Some(Errno::NOENT.raw_os_error()));
    world.end(device);
}
