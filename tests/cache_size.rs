//! What a mount of a server's project keeps stays below its limit: what was used least recently goes, what the server was not
//! told of stays, and nobody who reads meanwhile is disturbed.

#![cfg(target_os = "linux")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use support::remote::{MIB, World, names};
use support::soon;

/// What these devices keep.
const LIMIT: u64 = 64 * MIB;
/// What is fetched while room is made: an eighth of the limit, and what the eight requests bring that are under way.
const MEANWHILE: u64 = LIMIT / 8 + 8 * MIB;
/// What is kept besides: the reserve of the log, 32 MiB, and the index.
const BESIDES: u64 = 32 * MIB + 8 * MIB;
const ARGUMENTS: [&str; 4] = ["--cache-size", "64MiB", "--cache-mib", "8"];

/// Bytes of the disk that a folder takes.
fn taken(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
    let one = |path: &Path| match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => taken(path),
        // What goes while it is looked at takes nothing.
        found => found.map_or(0, |found| found.blocks() * 512),
    };
    entries.map(|entry| one(&entry.path())).sum()
}

fn state(world: &World, name: &str) -> String {
    let shown = world.device.json(&["status", &world.file(name).display().to_string()], 30);
    shown["state"].as_str().expect("a state").to_owned()
}

/// Files of 20 MiB at the server.
fn put_files(world: &World, count: u64) -> Vec<(String, Vec<u8>)> {
    let files = (0..count).map(|i| (format!("{i:02}"), world.noise(20 * MIB)));
    files.inspect(|(name, body)| world.put(name, body)).collect()
}

#[test]
fn what_was_used_least_recently_goes_and_the_rest_is_not_fetched_again() {
    let Some(world) = World::with(&ARGUMENTS) else { return };
    let files = put_files(&world, 15);
    let device = world.mount();
    let (mut most, mut most_log) = (0, 0);
    for (name, body) in &files {
        let file = File::open(world.file(name)).expect("opens");
        let mut piece = vec![0; 2 * MIB as usize];
        for (i, expected) in body.chunks(piece.len()).enumerate() {
            file.read_exact_at(&mut piece, i as u64 * 2 * MIB).expect("read");
            assert!(piece == expected, "{name}");
            most = most.max(taken(&world.device.data()));
            most_log = most_log.max(taken(&world.device.data().join("segments")));
        }
    }
    println!("at most {most} bytes, {most_log} of them in the log");
    assert!(most_log < LIMIT + MEANWHILE, "{most_log} bytes in the log");
    assert!(most < LIMIT + MEANWHILE + BESIDES, "{most} bytes");
    assert!(soon(|| taken(&world.device.data().join("segments")) <= LIMIT));
    for (name, expected) in [("00", "Online-only"), ("14", "Available on this device")] {
        assert_eq!(state(&world, name), expected, "{name}");
    }
    let before = world.proxy.moved();
    let last = File::open(world.file("14")).expect("opens");
    rustix::fs::fadvise(&last, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
    assert!(world.read("14").expect("read") == files[14].1);
    let again = world.proxy.moved() - before;
    assert!(again < MIB / 16, "{again} bytes for what was here");
    assert!(world.read("00").expect("read") == files[0].1, "what went is fetched again");
    world.end(device);
}

#[test]
fn what_the_server_was_not_told_of_never_goes() {
    let Some(world) = World::with(&ARGUMENTS) else { return };
    let files = put_files(&world, 3);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()).len(), 3);
    for (name, body) in &files[..2] {
        assert!(world.read(name).expect("read") == *body);
    }
    world.proxy.lead_to(None);
    let written: Vec<_> = (0..5).map(|i| (format!("new {i}"), world.noise(20 * MIB))).collect();
    for (name, body) in &written {
        fs::write(world.file(name), body).expect("written");
    }
    assert!(soon(|| state(&world, "00") == "Online-only"), "there is no room for both");
    let _ = world.read("02");
    for (name, _) in &written {
        assert_eq!(state(&world, name), "Available on this device", "{name}");
    }
    world.proxy.lead_to(Some(world.server().address()));
    let mount = world.device.mount().display().to_string();
    world.device.run(&["push", &mount, "--wait"], 60).ok();
    let mut client = world.server().client();
    for (name, body) in &written {
        let path = format!("/dav/home/{}", name.replace(' ', "%20"));
        assert!(client.ok("GET", &path, &[], b"").body == *body, "{name}");
    }
    assert!(soon(|| taken(&world.device.data().join("segments")) <= LIMIT), "what was told may go");
    world.end(device);
}

#[test]
fn an_open_file_is_read_on_while_others_take_its_place() {
    let Some(world) = World::with(&ARGUMENTS) else { return };
    let big = world.noise(100 * MIB);
    world.put("big", &big);
    let files = put_files(&world, 5);
    let device = world.mount();
    let open = File::open(world.file("big")).expect("opens");
    let others: Vec<_> = files.iter().map(|(name, body)| (world.file(name), body)).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (file, body) in others.iter().chain(&others) {
                assert!(fs::read(file).expect("read") == **body, "{}", file.display());
            }
        });
        // Back and forth, so that what went is needed again.
        let mut piece = vec![0; MIB as usize];
        for step in 0..200 {
            let at = if step % 2 == 0 { step / 2 } else { 99 - step / 2 } * MIB;
            rustix::fs::fadvise(&open, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
            open.read_exact_at(&mut piece, at).expect("read");
            assert!(piece == big[at as usize..(at + MIB) as usize], "{at}");
        }
    });
    assert!(soon(|| taken(&world.device.data().join("segments")) <= LIMIT));
    world.end(device);
}
