//! How fast a device moves bytes, and whether it does at all: limits of the mount, of a fetch, of the device at its server;
//! a metered way, and none.

#![cfg(target_os = "linux")]

mod support;

use rustix::io::Errno;
use serde_json::Value;
use std::cell::Cell;
use std::fs;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use support::rates::{MIB, assert_keeps};
use support::remote::{World, errno, names};
use support::soon;

const MIB_BYTES: u64 = 1 << 20;

/// `larder limit MOUNT …`.
#[track_caller]
fn limit(world: &World, arguments: &[&str]) -> Value {
    let mount = world.device.mount().display().to_string();
    world.device.json(&[&["limit", &mount], arguments].concat(), 60)
}

/// `larder COMMAND PATH …`.
#[track_caller]
fn tell(world: &World, command: &str, name: &str, arguments: &[&str]) -> Value {
    let path = world.file(name).display().to_string();
    world.device.json(&[&[command, &path], arguments].concat(), 60)
}

/// Puts files that nobody has seen before, and returns their names.
fn new_files(world: &World, round: &Cell<u32>, count: usize, bytes: u64) -> Vec<String> {
    round.set(round.get() + 1);
    let name = |i| format!("{}-{i}", round.get());
    let made: Vec<String> = (0..count).map(name).collect();
    made.iter().for_each(|name| world.put(name, &world.noise(bytes)));
    assert!(soon(|| made.iter().all(|name| fs::metadata(world.file(name)).is_ok())));
    made
}

/// Bytes a second of each of these files, read at a time.
fn read_at_once(world: &World, names: &[String]) -> Vec<f64> {
    let files: Vec<_> = names.iter().map(|name| world.file(name)).collect();
    let all = &Barrier::new(files.len());
    std::thread::scope(|scope| {
        let read = move |file: &std::path::Path| {
            all.wait();
            let started = Instant::now();
            let bytes = fs::read(file).expect("read").len();
            bytes as f64 / started.elapsed().as_secs_f64()
        };
        let threads: Vec<_> = files.iter().map(|file| scope.spawn(move || read(file))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

#[test]
fn a_device_keeps_its_limit_and_readers_share_it() {
    let Some(world) = World::new() else { return };
    let (device, round) = (world.mount(), Cell::new(0));
    limit(&world, &["--down", "5MiB/s"]);
    assert_keeps(5.0 * MIB, || {
        let files = new_files(&world, &round, 2, 25 * MIB_BYTES);
        read_at_once(&world, &files)
    });
    // At the device's server it holds for this device, whatever the device itself says.
    limit(&world, &["--down", "off"]);
    let id = world.home.json(&["device", "list"], 30)[0]["id"].as_str().expect("an id").to_owned();
    world.home.run(&["limit", "--device", &id, "--down", "4MiB/s"], 60).ok();
    assert_keeps(4.0 * MIB, || read_at_once(&world, &new_files(&world, &round, 1, 12 * MIB_BYTES)));
    world.home.run(&["limit", "--device", &id, "--down", "off"], 60).ok();
    assert!(read_at_once(&world, &new_files(&world, &round, 1, 12 * MIB_BYTES))[0] > 20.0 * MIB);
    world.end(device);
}

#[test]
fn what_is_sent_keeps_its_limit() {
    let Some(world) = World::new() else { return };
    let (device, round) = (world.mount(), Cell::new(0));
    limit(&world, &["--up", "3MiB/s"]);
    assert_keeps(3.0 * MIB, || {
        round.set(round.get() + 1);
        let bytes = world.noise(12 * MIB_BYTES);
        let started = Instant::now();
        fs::write(world.file(&format!("new-{}", round.get())), &bytes).expect("written");
        tell(&world, "push", "", &["--wait"]);
        vec![bytes.len() as f64 / started.elapsed().as_secs_f64()]
    });
    world.end(device);
}

#[test]
fn a_fetch_keeps_its_own_limit_and_what_is_read_goes_before() {
    let Some(world) = World::new() else { return };
    let (big, other) = (world.noise(24 * MIB_BYTES), world.noise(8 * MIB_BYTES));
    world.put("big", &big);
    world.put("other", &other);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big", "other"]);
    let state = || tell(&world, "status", "big", &[])["fetches"][0].clone();
    let done = || state()["done_bytes"].as_f64().expect("a number");
    tell(&world, "fetch", "big", &["--limit", "2MiB/s"]);
    assert_eq!(state()["limit_bytes_per_s"], 2 * MIB_BYTES);
    assert!(soon(|| done() > 0.0));
    let (asked, before, told) = (Instant::now(), done(), Instant::now());
    assert!(world.read("other").expect("read") == other);
    assert!(told.elapsed() < Duration::from_secs(3), "another file: {:?}", told.elapsed());
    assert!(soon(|| done() - before > 6.0 * MIB), "{}", state());
    // Asking takes a while: the rate is no less than the one, and no more than the other.
    let (least, moved) = (told.elapsed(), (done() - before) / MIB);
    let rates = [asked.elapsed(), least].map(|time| moved / time.as_secs_f64());
    assert!(rates[0] < 2.5 && rates[1] > 1.5, "{rates:.2?} MiB/s");
    // Asked for again without a limit it comes as fast as it can, at once.
    let started = Instant::now();
    tell(&world, "fetch", "big", &[]);
    assert!(soon(|| state()["state"] == "done"), "{}", state());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(world.read("big").expect("read") == big);
    world.end(device);
}

#[test]
fn a_change_of_a_limit_holds_within_a_tenth_of_a_second() {
    let Some(world) = World::new() else { return };
    let (device, round) = (world.mount(), Cell::new(0));
    let mut took = Vec::new();
    for _ in 0..4 {
        limit(&world, &["--down", "64KiB/s"]);
        // One that nothing of is here.
        let big = &new_files(&world, &round, 1, 32 * MIB_BYTES)[0];
        tell(&world, "fetch", big, &[]);
        let slow = world.proxy.moved();
        assert!(soon(|| world.proxy.moved() > slow));
        limit(&world, &["--down", "off"]);
        let (told, before) = (Instant::now(), world.proxy.moved());
        assert!(soon(|| world.proxy.moved() - before > 4 * MIB_BYTES));
        took.push(told.elapsed());
        tell(&world, "cancel", big, &[]);
    }
    assert!(took.iter().any(|took| *took < Duration::from_millis(100)), "{took:?}");
    assert_eq!(limit(&world, &[])["down"], "off");
    let refused =
        world.device.run(&["limit", &world.device.mount().display().to_string(), "--up", "2 MiBs"], 30);
    assert_eq!(refused.code(), 2, "{refused}");
    assert!(refused.stderr.contains("at character 3"), "{refused}");
    // Windows, and what rclone writes, are kept over a restart.
    limit(&world, &["--down", "2MiB/s", "--window", "mon-fri 08:00-18:00"]);
    let set = limit(&world, &["--up", "08:00,512k 19:00,10M:1M 23:00,off"]);
    assert!(set["down"].as_str().is_some_and(|told| told.contains("Mon-08:00,2MiB/s")), "{set}");
    assert!(set["up"].as_str().is_some_and(|told| told.contains("19:00,10MiB/s")), "{set}");
    device.stop();
    let device = world.mount();
    assert_eq!(limit(&world, &[]), set);
    world.end(device);
}

#[test]
fn offline_nothing_is_asked_and_everything_waits() {
    let Some(world) = World::new() else { return };
    let (here, elsewhere) = (world.noise(3 * MIB_BYTES), world.noise(30 * MIB_BYTES));
    world.put("here", &here);
    world.put("elsewhere", &elsewhere);
    let device = world.mount();
    assert!(world.read("here").expect("read") == here);
    // A read that waits for the server, and a fetch, are cut off.
    world.proxy.hold_at(Some(world.proxy.moved()));
    std::thread::scope(|scope| {
        let file = world.file("elsewhere");
        let reader = scope.spawn(move || (errno(fs::read(file)), Instant::now()));
        assert!(soon(|| world.proxy.is_holding()));
        assert_eq!(limit(&world, &["--offline"])["link"], "offline");
        let told = Instant::now();
        let (error, ended) = reader.join().expect("no panic");
        assert_eq!(error, Some(Errno::TIMEDOUT.raw_os_error()));
        let took = ended.saturating_duration_since(told);
        assert!(took < Duration::from_millis(100), "{took:?}");
    });
    world.proxy.hold_at(None);
    let requests = world.proxy.requests();
    let started = Instant::now();
    assert_eq!(errno(world.read("elsewhere")), Some(Errno::TIMEDOUT.raw_os_error()));
    assert!(started.elapsed() < Duration::from_millis(500), "at once: {:?}", started.elapsed());
    tell(&world, "fetch", "elsewhere", &[]);
    fs::write(world.file("written"), b"later").expect("written");
    assert!(world.read("here").expect("read") == here);
    let refused = world
        .device
        .run(&["push", &world.file("written").display().to_string(), "--wait", "--timeout", "1"], 30);
    assert!(refused.stderr.contains("larder limit --online"), "{refused}");
    device.stop();
    let device = world.mount();
    assert_eq!(limit(&world, &[])["link"], "offline", "a start keeps it");
    assert_eq!(world.read("written").expect("read"), b"later");
    assert!(errno(world.read("elsewhere")).is_some());
    assert_eq!(world.proxy.requests(), requests, "nothing was asked");
    // All mounts of the device are meant where none is named.
    world.device.run(&["limit", "--online"], 30).ok();
    assert!(soon(|| world
        .server()
        .client()
        .send("GET", "/dav/home/written", &[], b"")
        .is_ok_and(|it| it.body == b"later")));
    assert!(world.read("elsewhere").expect("read") == elsewhere);
    world.end(device);
}

#[test]
fn on_a_metered_way_only_what_is_read_moves() {
    let Some(world) = World::with(&["--paused-reads", "wait"]) else { return };
    let (big, read) = (world.noise(30 * MIB_BYTES), world.noise(2 * MIB_BYTES));
    world.put("big", &big);
    world.put("read", &read);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big", "read"]);
    limit(&world, &["--metered"]);
    let before = world.proxy.moved();
    tell(&world, "fetch", "big", &[]);
    fs::write(world.file("written"), vec![7; 1 << 20]).expect("written");
    assert!(world.read("read").expect("read") == read);
    world.put("news", b"are heard");
    assert!(soon(|| world.read("news").is_ok_and(|bytes| bytes == b"are heard")));
    let waits = || tell(&world, "push", "", &[]);
    assert!(soon(|| waits()["trouble"].as_str().is_some_and(|why| why.contains("metered"))), "{}", waits());
    let moved = world.proxy.moved() - before;
    assert!(moved < 4 * MIB_BYTES, "{moved} bytes");
    assert_eq!(tell(&world, "status", "big", &[])["fetches"][0]["state"], "paused");
    limit(&world, &["--online"]);
    tell(&world, "push", "", &["--wait"]);
    assert!(soon(|| tell(&world, "status", "big", &[])["fetches"][0]["state"] == "done"));
    assert!(world.read("big").expect("read") == big);
    world.end(device);
}
