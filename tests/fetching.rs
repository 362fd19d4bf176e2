//! Files that a user asks a device to fetch: in which order, paused, resumed, cancelled, over restarts of either side. Bytes
//! are counted, and held up, on the way between them.

#![cfg(target_os = "linux")]

mod support;

use rustix::io::Errno;
use serde_json::Value;
use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::remote::{MIB, World, errno, names};
use support::server::Server;
use support::soon;

/// More than one call's chunks and those under way beside it.
const SLACK: u64 = 16 * MIB;

/// `larder ARGUMENTS PATH`, which must succeed; what it says.
#[track_caller]
fn tell(world: &World, arguments: &[&str], name: &str) -> Value {
    let path = world.file(name).display().to_string();
    world.device.json(&[&arguments[..1], &[&path], &arguments[1..]].concat(), 60)
}

/// What `status` says of files below a name.
fn fetches(world: &World, name: &str) -> Vec<Value> {
    let status = tell(world, &["status"], name);
    status["fetches"].as_array().expect("a list").clone()
}

fn fetch(world: &World, name: &str) -> Value {
    fetches(world, name).first().cloned().unwrap_or_default()
}

fn state(world: &World, name: &str) -> String {
    fetch(world, name)["state"].as_str().unwrap_or("none").to_owned()
}

#[track_caller]
fn await_state(world: &World, name: &str, wanted: &str) {
    assert!(soon(|| state(world, name) == wanted), "{}\n{}", fetch(world, name), world.device.log());
}

/// A device that fetches `big`, of so many bytes, and is held up in the middle of it.
fn half_way(world: &World, bytes: u64) -> (Vec<u8>, Server) {
    let big = world.noise(bytes);
    world.put("big", &big);
    let device = world.mount();
    assert!(names(&world.device.mount()).contains(&"big".to_owned()), "told of before it is held up");
    world.proxy.hold_at(Some(world.proxy.moved() + bytes / 2));
    let asked = tell(world, &["fetch"], "big");
    assert_eq!((&asked["files"], &asked["missing_bytes"]), (&1.into(), &bytes.into()), "{asked}");
    assert!(soon(|| world.proxy.is_holding()), "{}", fetch(world, "big"));
    (big, device)
}

/// Reads `name`, which is all here: nothing of it moves.
#[track_caller]
fn is_here(world: &World, name: &str, bytes: &[u8]) {
    let before = world.proxy.moved();
    assert!(world.read(name).expect("read") == bytes, "{name} has other bytes");
    let moved = world.proxy.moved() - before;
    assert!(moved < 64 << 10, "{moved} bytes for what was here");
}

#[test]
fn nothing_moves_while_a_fetch_is_paused() {
    let Some(world) = World::new() else { return };
    let (big, device) = half_way(&world, 64 * MIB);
    let closed = world.proxy.closed();
    assert_eq!(tell(&world, &["pause"], "big")["files"], 1);
    assert!(soon(|| world.proxy.closed() > closed), "what is under way is cut off");
    world.proxy.hold_at(None);
    let before = world.settled();
    let (_sender, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(Duration::from_secs(3));
    let moved = world.proxy.moved() - before;
    assert!(moved < 8 << 10, "{moved} bytes while paused");
    let paused = fetch(&world, "big");
    let percent = paused["percent"].as_u64().expect("a number");
    assert!(paused["state"] == "paused" && (10..60).contains(&percent), "{paused}");
    // Who reads it is served all the same.
    let mut last = vec![0; 1000];
    let file = fs::File::open(world.file("big")).expect("opens");
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut last, 64 * MIB - 1000).expect("read");
    assert!(last == big[big.len() - 1000..]);
    assert_eq!(state(&world, "big"), "paused");

    assert_eq!(tell(&world, &["resume"], "big")["files"], 1);
    await_state(&world, "big", "done");
    is_here(&world, "big", &big);
    let moved = world.proxy.moved();
    assert!(moved < 64 * MIB + SLACK, "{moved} bytes for 64 MiB");
    world.end(device);
}

#[test]
fn cancelled_fetch_keeps_what_came_and_the_next_moves_the_rest() {
    let Some(world) = World::new() else { return };
    let (big, device) = half_way(&world, 64 * MIB);
    assert_eq!(tell(&world, &["cancel"], "big")["files"], 1);
    world.proxy.hold_at(None);
    let before = world.settled();
    assert_eq!(state(&world, "big"), "cancelled");
    let again = tell(&world, &["fetch"], "big");
    let rest = again["missing_bytes"].as_u64().expect("a number");
    assert!((16 * MIB..56 * MIB).contains(&rest), "{again}");
    await_state(&world, "big", "done");
    let moved = world.proxy.moved() - before;
    assert!((rest..rest + MIB).contains(&moved), "{moved} bytes for the {rest} that were missing");
    is_here(&world, "big", &big);
    let nothing = tell(&world, &["fetch"], "big");
    assert_eq!((&nothing["files"], &nothing["here_files"]), (&0.into(), &1.into()));
    world.end(device);
}

#[test]
fn what_was_asked_for_survives_the_death_of_the_device() {
    let Some(world) = World::new() else { return };
    world.put("later", &world.noise(4 * MIB));
    let (big, device) = half_way(&world, 64 * MIB);
    tell(&world, &["fetch", "--priority", "2", "--ttl", "3h"], "later");
    tell(&world, &["pause"], "later");
    world.device.run(&["pause", "--up"], 30).ok();
    device.kill();
    world.proxy.hold_at(None);
    let before = world.settled();
    let device = world.mount();
    await_state(&world, "big", "done");
    let moved = world.proxy.moved() - before;
    assert!(moved < 56 * MIB, "{moved} bytes for half of 64 MiB");
    is_here(&world, "big", &big);
    let later = fetch(&world, "later");
    let told = (&later["state"], &later["priority"], &later["ttl_s"], &later["done_bytes"]);
    assert_eq!(told, (&"paused".into(), &2.into(), &10_800.0.into(), &0.into()), "{later}");
    let paused = &tell(&world, &["status"], "")["paused"];
    assert_eq!(
        (&paused["up"], &paused["down"], &paused["all"]),
        (&true.into(), &false.into(), &false.into())
    );
    tell(&world, &["resume"], "later");
    await_state(&world, "later", "done");
    world.end(device);
}

#[test]
fn the_more_urgent_comes_first() {
    let Some(world) = World::new() else { return };
    let folders = ["low", "middle", "high"];
    for folder in folders {
        world.send("MKCOL", folder, &[]);
        (0..40).for_each(|i| world.put(&format!("{folder}/{i}"), &world.noise(MIB / 4)));
    }
    let device = world.mount();
    world.device.run(&["pause", "--down"], 30).ok();
    for (folder, priority) in folders.iter().zip(["1", "5", "10"]) {
        assert_eq!(tell(&world, &["fetch", "--priority", priority], folder)["files"], 40);
        assert_eq!(state(&world, folder), "paused", "as all fetches are");
    }
    let order = fetches(&world, "");
    let first = |place: usize| order[place]["path"].as_str().expect("a path").split('/').nth(1);
    assert_eq!((first(0), first(40), first(80)), (Some("high"), Some("middle"), Some("low")));
    let done = |folder: &str| fetches(&world, folder).iter().filter(|file| file["state"] == "done").count();
    // A file is a call, and eight may be under way: those begun last may come first.
    for (mib, high, middle) in [(5, 9..=20, 0..=0), (15, 33..=40, 9..=20)] {
        world.proxy.hold_at(Some(mib * MIB));
        world.device.run(&["resume", "--down"], 30).ok();
        let is_so = || high.contains(&done("high")) && middle.contains(&done("middle")) && done("low") == 0;
        assert!(soon(|| world.proxy.is_holding() && is_so()), "{:?}", fetches(&world, ""));
    }
    world.proxy.hold_at(None);
    assert!(soon(|| folders.iter().all(|folder| done(folder) == 40)));
    world.end(device);
}

#[test]
fn who_reads_is_served_before_what_is_being_fetched() {
    let Some(world) = World::new() else { return };
    world.send("MKCOL", "folder", &[]);
    (0..32).for_each(|i| world.put(&format!("folder/{i:02}"), &world.noise(4 * MIB)));
    let wanted = world.noise(MIB);
    world.put("wanted", &wanted);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["folder", "wanted"]);
    world.proxy.hold_at(Some(8 * MIB));
    assert_eq!(tell(&world, &["fetch", "--priority", "10"], "folder")["files"], 32);
    assert!(soon(|| world.proxy.is_holding()));
    let path = world.file("wanted");
    let reader = std::thread::spawn(move || fs::read(path));
    // What is under way may come first, and no more.
    world.proxy.hold_at(Some(48 * MIB));
    assert!(reader.join().expect("no panic").expect("read in time") == wanted);
    let left = fetches(&world, "folder").iter().filter(|file| file["state"] != "done").count();
    assert!(left >= 16, "{left} of 32 files are left");
    world.proxy.hold_at(None);
    assert!(soon(|| fetches(&world, "folder").iter().all(|file| file["state"] == "done")));
    world.end(device);
}

#[test]
fn status_tells_of_each_file_in_these_fields() {
    let Some(world) = World::new() else { return };
    let (_, device) = half_way(&world, 16 * MIB);
    let status = tell(&world, &["status"], "big");
    assert!(
        status["here_ranges"].as_u64().is_some() && status["here_percent"].as_u64().is_some(),
        "{status}"
    );
    let file = &status["fetches"][0];
    let fields: Vec<&str> = file.as_object().expect("fields").keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "done_bytes",
            "done_chunks",
            "left_s",
            "limit_bytes_per_s",
            "path",
            "percent",
            "pinned",
            "priority",
            "speed_bytes_per_s",
            "state",
            "total_bytes",
            "total_chunks",
            "ttl_s",
            "why"
        ]
    );
    assert_eq!(
        (&file["path"], &file["total_bytes"], &file["priority"]),
        (&"/big".into(), &(16 * MIB).into(), &5.into())
    );
    assert!(
        file["state"] == "active" && file["total_chunks"].as_u64().is_some_and(|chunks| chunks > 16),
        "{file}"
    );
    let path = world.file("big").display().to_string();
    let shown = world.device.run(&["status", &path], 30).ok().stdout;
    assert!(shown.contains(" %, ") && shown.contains("/big") && shown.contains("active"), "{shown}");
    world.proxy.hold_at(None);
    await_state(&world, "big", "done");
    let file = fetch(&world, "big");
    assert_eq!((&file["percent"], &file["done_bytes"]), (&100.into(), &(16 * MIB).into()));
    assert_eq!(file["done_chunks"], file["total_chunks"]);
    let shown = world.device.run(&["status", &path], 30).ok().stdout;
    assert!(shown.contains("100 %, 1 range\n"), "{shown}");
    world.end(device);
}

#[test]
fn wrong_bytes_are_asked_for_again_and_counted() {
    let Some(world) = World::new() else { return };
    let file = world.noise(3 * MIB);
    world.put("file", &file);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["file"]);
    world.proxy.spoil(true);
    tell(&world, &["fetch"], "file");
    assert!(soon(|| tell(&world, &["status"], "")["wrong_chunks"].as_u64() > Some(0)));
    world.proxy.spoil(false);
    await_state(&world, "file", "done");
    is_here(&world, "file", &file);
    world.end(device);
}

#[test]
fn fetch_that_moves_nothing_ends_after_its_ttl() {
    let Some(world) = World::new() else { return };
    world.put("file", &world.noise(MIB));
    world.put("paused", &world.noise(MIB));
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["file", "paused"]);
    world.proxy.lead_to(None);
    tell(&world, &["fetch", "--ttl", "1s"], "file");
    tell(&world, &["fetch", "--ttl", "1500ms"], "paused");
    tell(&world, &["pause"], "paused");
    for (name, why) in [("file", "it moved nothing for 1 s"), ("paused", "it moved nothing for 1.5 s")] {
        await_state(&world, name, "failed");
        assert_eq!(fetch(&world, name)["why"], why);
    }
    world.proxy.lead_to(Some(world.server().address()));
    world.end(device);
}

#[test]
fn reads_of_what_is_paused_wait_where_told_so() {
    let Some(world) = World::with(&["--paused-reads", "wait"]) else { return };
    let (file, other) = (world.noise(MIB), world.noise(MIB));
    world.put("file", &file);
    world.put("other", &other);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["file", "other"]);
    world.device.run(&["pause", "--all"], 30).ok();
    let begun = Instant::now();
    assert_eq!(errno(world.read("file")), Some(Errno::TIMEDOUT.raw_os_error()));
    assert!(begun.elapsed() > Duration::from_secs(4), "{:?}", begun.elapsed());
    tell(&world, &["fetch"], "file");
    tell(&world, &["pause"], "file");
    world.device.run(&["resume", "--all"], 30).ok();
    assert!(world.read("other").expect("not paused") == other);
    assert_eq!(state(&world, "file"), "paused");
    let path = world.file("file");
    let reader = std::thread::spawn(move || fs::read(path));
    tell(&world, &["resume"], "file");
    assert!(reader.join().expect("no panic").expect("it waited") == file);
    world.end(device);
}

#[test]
fn fetch_goes_on_by_itself_over_ten_deaths_of_the_server() {
    let Some(mut world) = World::new() else { return };
    let bytes = 1024 * MIB;
    let big = world.noise(bytes);
    world.put("big", &big);
    let device = world.mount();
    for death in 1..=10 {
        world.proxy.hold_at(Some(death * bytes / 11));
        if death == 1 {
            tell(&world, &["fetch"], "big");
        }
        assert!(soon(|| world.proxy.is_holding()), "{}\n{}", fetch(&world, "big"), world.device.log());
        world.server_dies();
    }
    world.proxy.hold_at(None);
    await_state(&world, "big", "done");
    is_here(&world, "big", &big);
    world.end(device);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    let Some(world) = World::new() else { return };
    world.put("file", b"x");
    let device = world.mount();
    let path = world.file("file").display().to_string();
    for (arguments, said) in [
        (&["fetch", &path, "--ttl", "1h3x"][..], "\"x\" at character 4 is no unit of time"),
        (&["fetch", &path, "--priority", "11"], "11 is not in 1..=10"),
        (&["fetch", "/tmp"], "/tmp is in no mount of a server's project"),
        (&["pause"], "<PATH|--all|--down|--up>"),
        (&["pause", &path, "--all"], "cannot be used with"),
    ] {
        let done = world.device.run(arguments, 30);
        assert!(done.code() == 2 && done.stderr.contains(said), "{done}");
    }
    let missing = world.file("missing").display().to_string();
    assert_eq!(world.device.run(&["fetch", &missing], 30).code(), 1);
    let done = world.device.run(&["cancel", &path], 30);
    assert!(done.code() == 1 && done.stderr.contains("nothing is being fetched there"), "{done}");
    world.end(device);
}
