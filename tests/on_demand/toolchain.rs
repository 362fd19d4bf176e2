//! The main job on real input: a server holds the toolchain and a file of 2 GiB, a device in another network shows all of it
//! at once, and moves what is read, asked for, or changed.

use crate::support::process::ok;
use crate::support::remote::{MIB, World, names};
use crate::support::server::Server;
use crate::support::{lacking, skip, within};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the large file.
const BIG: u64 = 2048 * MIB;
/// Bytes of another one.
const OTHER: u64 = 512 * MIB;
/// The longest that a program may take.
const LIMIT_S: u64 = 300;
/// A mount takes no longer, the best of three: the machine does other things too.
const MOUNTED_WITHIN: Duration = Duration::from_secs(1);
/// Fetching something takes no longer.
const MOVED_WITHIN: Duration = Duration::from_secs(120);
/// More than one call's chunks and those under way beside it.
const SLACK: u64 = 24 * MIB;

#[test]
fn toolchain_and_a_large_file_are_shown_at_once_and_move_as_told() {
    if let Some(why) = lacking(true, &["cp", "find", "rustc"]) {
        return skip(&why);
    }
    let Some(world) = World::apart() else { return };
    let source = ok("rustc", &["--print", "sysroot"], 60).stdout.trim().to_owned();
    let there = world.home.mount();
    ok("cp", &["-a", &source, &text(&there.join("toolchain"))], LIMIT_S);
    let big = filled(&world, &there.join("big"), BIG);
    let other = filled(&world, &there.join("other"), OTHER);

    let (device, took) = mounted(&world);
    assert!(took < MOUNTED_WITHIN, "{took:?} until it is mounted");
    assert_eq!(listing(&world.file("toolchain")), listing(Path::new(&source)));
    let stored = world.device.json(&["stats"], 60);
    assert_eq!(chunks(&stored), 0, "names and attributes only: {stored}");

    let before = world.settled();
    let mut part = vec![0; MIB as usize];
    let file = File::open(world.file("big")).expect("opens");
    file.read_exact_at(&mut part, BIG / 2).expect("read");
    let moved = world.proxy.moved() - before;
    assert!(moved < 4 * MIB, "{moved} bytes for one MiB");

    paused_and_resumed(&world, &big);
    cancelled_and_fetched_again(&world, &other);
    one_byte_goes_up(&world);
    drop(file);
    world.end(device);
}

fn text(path: &Path) -> String {
    path.to_str().expect("test paths are UTF-8").to_owned()
}

/// Writes bytes that occur nowhere else; returns their hash.
fn filled(world: &World, path: &Path, len: u64) -> blake3::Hash {
    let (mut file, mut hasher) = (File::create(path).expect("made"), blake3::Hasher::new());
    for _ in 0..len / (64 * MIB) {
        let piece = world.noise(64 * MIB);
        hasher.update(&piece);
        file.write_all(&piece).expect("written");
    }
    file.sync_all().expect("stored");
    hasher.finalize()
}

fn hash_of(path: &Path) -> blake3::Hash {
    let (mut file, mut hasher) = (File::open(path).expect("opens"), blake3::Hasher::new());
    let mut buffer = vec![0; MIB as usize];
    loop {
        match file.read(&mut buffer).expect("read") {
            0 => return hasher.finalize(),
            len => hasher.update(&buffer[..len]),
        };
    }
}

/// Mounts on a device that knows nothing yet, up to three times; the last mount, and how long it took until its top folder was
/// listed.
fn mounted(world: &World) -> (Server, Duration) {
    for _ in 0..2 {
        let (device, took) = mounted_once(world);
        if took < MOUNTED_WITHIN {
            return (device, took);
        }
        device.stop();
        fs::remove_dir_all(world.device.data()).expect("removed");
    }
    mounted_once(world)
}

fn mounted_once(world: &World) -> (Server, Duration) {
    let started = Instant::now();
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big", "other", "toolchain"]);
    let took = started.elapsed();
    println!("{took:?} until it is mounted and listed");
    (device, took)
}

/// What `ls -lR` shows of everything below, but for the sums of blocks and the times of folders' last reads.
fn listing(top: &Path) -> Vec<String> {
    let format = "%P %M %U %G %s %T@ %l\n";
    let found = ok("find", &[&text(top), "-printf", format], LIMIT_S).stdout;
    // The size of a folder is its file system's own matter.
    let line = |line: &str| {
        let mut fields: Vec<&str> = line.split(' ').collect();
        if fields.get(1).is_some_and(|mode| mode.starts_with('d')) {
            fields.remove(4);
        }
        fields.join(" ")
    };
    let mut lines: Vec<String> = found.lines().map(line).collect();
    lines.sort_unstable();
    assert!(lines.len() > 1000, "a toolchain");
    lines
}

fn chunks(stats: &Value) -> u64 {
    stats["chunks"].as_u64().unwrap_or_else(|| panic!("no count of chunks: {stats}"))
}

fn order(world: &World, what: &str, name: &str) -> Value {
    world.device.json(&[what, &text(&world.file(name))], 60)
}

fn state(world: &World, name: &str) -> String {
    order(world, "status", name)["state"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn await_bytes(world: &World, bytes: u64) {
    assert!(
        within(MOVED_WITHIN, || world.proxy.moved() >= bytes),
        "{} of {bytes}\n{}",
        world.proxy.moved(),
        world.device.log()
    );
}

fn paused_and_resumed(world: &World, hash: &blake3::Hash) {
    let before = world.settled();
    order(world, "fetch", "big");
    await_bytes(world, before + BIG / 2);
    order(world, "pause", "big");
    let at = world.settled();
    assert!(at < before + BIG / 2 + BIG / 4, "it was paused in the middle");
    assert!(!within(Duration::from_secs(3), || world.proxy.moved() > at), "it moves while it is paused");
    order(world, "resume", "big");
    assert!(
        within(MOVED_WITHIN, || state(world, "big") == "Available on this device"),
        "{}",
        order(world, "status", "big")
    );
    let moved = world.settled() - before;
    assert!(moved < BIG + SLACK, "{moved} bytes for {BIG}");
    assert!(hash_of(&world.file("big")) == *hash);
}

fn cancelled_and_fetched_again(world: &World, hash: &blake3::Hash) {
    let before = world.settled();
    order(world, "fetch", "other");
    await_bytes(world, before + OTHER / 2);
    order(world, "cancel", "other");
    let came = world.settled() - before;
    assert!(came < OTHER, "it was cancelled before its end");
    order(world, "fetch", "other");
    assert!(
        within(MOVED_WITHIN, || state(world, "other") == "Available on this device"),
        "{}",
        order(world, "status", "other")
    );
    let moved = world.settled() - before;
    assert!(moved < OTHER + SLACK, "{moved} bytes for {OTHER}, of which {came} had come");
    assert!(hash_of(&world.file("other")) == *hash);
}

fn one_byte_goes_up(world: &World) {
    let (down, up) = (world.settled(), world.proxy.sent());
    let file = OpenOptions::new().read(true).write(true).open(world.file("big")).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, BIG / 3).expect("read");
    file.write_all_at(&[!byte[0]], BIG / 3).expect("written");
    drop(file);
    world.device.json(&["push", &text(&world.device.mount()), "--wait", "--timeout", "100"], LIMIT_S);
    let moved = (world.settled() - down, world.proxy.sent() - up);
    assert!(moved.0.max(moved.1) < 3 * MIB, "{moved:?} bytes down and up for one");
    let there = File::open(world.home.mount().join("big")).expect("opens");
    let mut changed = [0];
    there.read_exact_at(&mut changed, BIG / 3).expect("read");
    assert_eq!(changed[0], !byte[0]);
}
