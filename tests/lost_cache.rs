//! What a device keeps may get lost, or have no room: no wrong byte is read, nobody hangs, what is acknowledged and not told yet
//! stays, and all goes on once it can.

#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use support::disk::{LARGER_MIB, SmallDisk};
use support::remote::{MIB, World, names};
use support::{soon, within};

/// No call takes longer than the deadline of readers, 5 s, and what a slow machine adds.
const ANSWERED: Duration = Duration::from_secs(20);

/// Contents by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Files at the server.
fn put_files(world: &World, prefix: &str, count: u64, bytes: u64) -> Files {
    let files = (0..count).map(|i| (format!("{prefix}{i:02}"), world.noise(bytes)));
    files.inspect(|(name, body)| world.put(name, body)).collect()
}

#[track_caller]
fn all_right(world: &World, files: &Files) {
    for (name, body) in files {
        let read = world.read(name).unwrap_or_else(|e| panic!("{name}: {e}\n{}", world.device.log()));
        assert!(read == *body, "{name} has other bytes");
    }
}

/// Reads everything: each is right, or an error that comes in time.
#[track_caller]
fn no_wrong_byte(world: &World, files: &Files) {
    for (name, body) in files {
        let begun = Instant::now();
        match world.read(name) {
            Ok(bytes) => assert!(bytes == *body, "{name} has other bytes"),
            Err(error) => println!("{name}: {error}"),
        }
        assert!(begun.elapsed() < ANSWERED, "{name} took {:?}", begun.elapsed());
    }
}

fn push(world: &World) {
    let mount = world.device.mount().display().to_string();
    let pushed = world.device.run(&["push", &mount, "--wait", "--timeout", "60"], 90);
    assert_eq!(pushed.code(), 0, "{pushed}\n{}", world.device.log());
}

fn at_server(world: &World, name: &str) -> Vec<u8> {
    world.server().client().ok("GET", &format!("/dav/home/{name}"), &[], b"").body
}

/// Writes and syncs.
fn write(world: &World, name: &str, body: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(world.file(name))?;
    file.write_all(body)?;
    file.sync_all()
}

/// Removes a part of a device's data, or all that is in it.
fn lose(data: &Path, part: &str) {
    let lost = |path: &Path| match path.is_dir() {
        true => fs::remove_dir_all(path).expect("removed"),
        false => fs::remove_file(path).expect("removed"),
    };
    match part {
        "" => fs::read_dir(data).expect("listed").for_each(|entry| lost(&entry.expect("an entry").path())),
        part => lost(&data.join(part)),
    }
}

/// The parts of a device's data; nothing says all.
const PARTS: [&str; 4] = ["index", "segments", "superblock", ""];

/// Something is written and arrives at the server.
fn goes_on(world: &World) {
    write(world, "after", b"after").expect("written");
    push(world);
    assert_eq!(at_server(world, "after"), b"after");
}

#[test]
fn a_cache_that_was_deleted_while_nobody_used_it_comes_again() {
    for part in PARTS {
        let Some(world) = World::new() else { return };
        let mut files = put_files(&world, "there", 3, 3 * MIB);
        let device = world.mount();
        write(&world, "made", b"here").expect("written");
        files.insert("made".into(), b"here".to_vec());
        all_right(&world, &files);
        push(&world);
        device.stop();
        lose(&world.device.data(), part);
        let device = world.mount();
        assert_eq!(
            names(&world.device.mount()),
            files.keys().cloned().collect::<Vec<_>>(),
            "without {part:?}"
        );
        all_right(&world, &files);
        goes_on(&world);
        world.end(device);
    }
}

#[test]
fn a_cache_that_is_deleted_under_a_device_gives_no_wrong_byte() {
    for part in PARTS {
        let Some(world) = World::new() else { return };
        let mut files = put_files(&world, "there", 4, 3 * MIB);
        let device = world.mount();
        all_right(&world, &files.iter().take(2).map(|(n, b)| (n.clone(), b.clone())).collect());
        write(&world, "made", b"here").expect("written");
        files.insert("made".into(), b"here".to_vec());
        push(&world);
        lose(&world.device.data(), part);
        no_wrong_byte(&world, &files);
        // What is called durable is there after a death, or nothing is called so.
        world.proxy.lead_to(None);
        let (begun, during) = (Instant::now(), world.noise(MIB));
        let written = write(&world, "during", &during);
        println!("without {part:?}: {written:?}");
        assert!(begun.elapsed() < ANSWERED, "a write took {:?}", begun.elapsed());
        device.kill();
        world.device.assert_no_panic();
        world.proxy.lead_to(Some(world.server().address()));
        let device = world.mount();
        all_right(&world, &files);
        if written.is_ok() {
            assert!(world.read("during").expect("durable") == during, "without {part:?}");
        }
        goes_on(&world);
        world.end(device);
    }
}

#[test]
fn a_full_disk_below_the_cache_loses_nothing_and_goes_on_by_itself() {
    if let Some(why) = support::lacking(true, &["mount", "umount"]) {
        return support::skip(&why);
    }
    if !support::is_root() {
        return support::skip("only root can mount a small disk");
    }
    // More than there is.
    let Some(world) = World::with(&["--cache-size", "1GiB", "--cache-mib", "8"]) else { return };
    let disk = SmallDisk::mount(world.device.data());
    let files = put_files(&world, "there", 30, 8 * MIB);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()).len(), files.len());
    // What there is no room for is read all the same.
    all_right(&world, &files);
    // What is written without the server stays until it was told.
    world.proxy.lead_to(None);
    let mut kept = Files::new();
    let full = (0..LARGER_MIB).find_map(|i| {
        let (name, body) = (format!("mine{i:03}"), world.noise(2 * MIB));
        let error = write(&world, &name, &body).err();
        if error.is_none() {
            kept.insert(name, body);
        }
        error
    });
    let full = full.expect("the disk never gets full");
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC), "{full}\n{}", world.device.log());
    println!("{} files of 2 MiB fit", kept.len());
    assert!(!kept.is_empty(), "what the server has takes all the room");
    all_right(&world, &kept);
    device.kill();
    let device = world.mount();
    all_right(&world, &kept);
    world.proxy.lead_to(Some(world.server().address()));
    no_wrong_byte(&world, &files);
    let arrived = |name: &String, body: &Vec<u8>| {
        let answer = world.server().client().send("GET", &format!("/dav/home/{name}"), &[], b"");
        answer.is_ok_and(|answer| answer.body == *body)
    };
    let all_arrived = || kept.iter().all(|(name, body)| arrived(name, body));
    assert!(within(Duration::from_secs(60), all_arrived), "{}", world.device.log());
    // What the server has may go, and there is room again.
    assert!(soon(|| write(&world, "after", &world.noise(2 * MIB)).is_ok()), "{}", world.device.log());
    disk.grow();
    let large = world.noise(16 * MIB);
    assert!(soon(|| write(&world, "large", &large).is_ok()), "{}", world.device.log());
    push(&world);
    assert!(at_server(&world, "large") == large);
    all_right(&world, &files);
    world.end(device);
}
