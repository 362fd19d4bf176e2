//! A remote project on a device: whole at once, and bytes only when somebody reads them. Server and device are two processes,
//! with a way between them that can be counted on, cut and spoiled.

#![cfg(target_os = "linux")]

mod support;
mod on_demand {
    pub mod toolchain;
}

use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use support::process::signal;
use support::remote::{MIB, World, errno, names};
use support::{soon, within};

/// A device that lost its server asks for it again each 15 s at the latest, and once more where it was known by another token.
const KNOWN_AGAIN: Duration = Duration::from_secs(40);

#[test]
fn the_whole_project_is_there_and_moves_only_what_is_read() {
    let Some(world) = World::new() else { return };
    let big = world.noise(64 * MIB);
    world.put("big", &big);
    world.send("MKCOL", "folder", &[]);
    (0..50).for_each(|i| world.put(&format!("folder/{i:02}"), format!("file {i}").as_bytes()));
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big", "folder"]);
    assert_eq!(names(&world.file("folder")).len(), 50);
    assert_eq!(fs::metadata(world.file("big")).expect("there").len(), 64 * MIB);
    let listed = world.proxy.moved();
    assert!(listed < MIB, "{listed} bytes for a listing");

    let mut part = vec![0; MIB as usize];
    let file = File::open(world.file("big")).expect("opens");
    file.read_exact_at(&mut part, 32 * MIB).expect("read");
    assert!(part == big[32 * MIB as usize..33 * MIB as usize]);
    let moved = world.proxy.moved() - listed;
    assert!(moved < 4 * MIB, "{moved} bytes for one MiB");

    let state = || world.device.json(&["status", &world.file("big").display().to_string()], 30);
    let here = state()["here_bytes"].as_u64().expect("a number");
    assert!((MIB..4 * MIB).contains(&here) && state()["state"] == "Online-only", "{}", state());

    assert!(world.read("big").expect("read") == big);
    assert_eq!(state()["state"], "Available on this device");
    let before = world.proxy.moved();
    assert!(before < 72 * MIB, "{before} bytes for 64 MiB");
    // The kernel's pages go with the file's, and what is here is read again from here.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
    assert!(world.read("big").expect("read") == big);
    assert_eq!(world.read("folder/07").expect("read"), b"file 7");
    let again = world.proxy.moved() - before;
    assert!(again < 64 << 10, "{again} bytes for what was here");
    world.end(device);
}

#[test]
fn the_head_of_a_file_of_100_gb_moves_about_a_mebibyte() {
    let Some(world) = World::apart() else { return };
    // Made of the same 25 MiB over and over, whose chunks begin each page of the manifest with another one.
    let begin = world.noise(25 * MIB);
    let path = world.home.mount().join("huge");
    fs::write(&path, &begin).expect("written");
    let huge = File::options().read(true).write(true).open(&path).expect("opens");
    let mut size = begin.len() as u64;
    while size < 100_000_000_000 {
        let (mut from, mut to) = (0, size);
        while from < size {
            let left = (size - from) as usize;
            let copied = rustix::fs::copy_file_range(&huge, Some(&mut from), &huge, Some(&mut to), left);
            assert!(copied.expect("copied") > 0);
        }
        size *= 2;
    }
    huge.sync_all().expect("published");
    drop(huge);

    let device = world.mount();
    assert_eq!(fs::metadata(world.file("huge")).expect("there").len(), size);
    let before = world.settled();
    let head = |path| -> Vec<u8> {
        let mut head = vec![0; MIB as usize];
        File::open(path).expect("opens").read_exact(&mut head).expect("read");
        head
    };
    assert!(head(world.file("huge")) == begin[..MIB as usize]);
    let moved = world.settled() - before;
    // Its pages alone have as many.
    assert!(moved < 4 * MIB, "{moved} bytes for one MiB of {size}");
    let mut last = vec![0; 1000];
    File::open(world.file("huge")).expect("opens").read_exact_at(&mut last, size - 1000).expect("read");
    assert!(last == begin[begin.len() - 1000..]);
    let moved = world.settled() - before;
    assert!(moved < 6 * MIB, "{moved} bytes for that and the end");
    let state = world.device.json(&["status", &world.file("huge").display().to_string()], 30);
    let here = state["here_bytes"].as_u64().expect("a number");
    assert!((MIB..size / 2).contains(&here), "{state}");
    world.end(device);
}

#[test]
fn what_changes_at_the_server_shows_on_the_device() {
    let Some(world) = World::new() else { return };
    world.put("changes", b"old content");
    world.put("goes", b"x");
    world.put("moves", b"moved");
    let device = world.mount();
    assert_eq!(world.read("changes").expect("read"), b"old content");
    assert_eq!(errno(fs::metadata(world.file("comes"))), Some(Errno::NOENT.raw_os_error()));
    world.put("comes", b"new");
    world.put("changes", b"new content, longer");
    world.send("DELETE", "goes", &[]);
    let to = format!("http://{}/dav/home/there", world.server().address());
    world.send("MOVE", "moves", &[("Destination", &to)]);
    assert!(soon(|| names(&world.device.mount()) == ["changes", "comes", "there"]));
    assert!(soon(|| world.read("changes").is_ok_and(|bytes| bytes == b"new content, longer")));
    assert_eq!(world.read("comes").expect("read"), b"new");
    assert_eq!(world.read("there").expect("read"), b"moved");
    world.end(device);
}

#[test]
fn a_read_goes_on_when_the_server_comes_back() {
    let Some(mut world) = World::new() else { return };
    let big = world.noise(96 * MIB);
    world.put("big", &big);
    let device = world.mount();
    let mut file = File::open(world.file("big")).expect("opens");
    let mut bytes = vec![0; 16 * MIB as usize];
    file.read_exact(&mut bytes).expect("read");
    for _ in 0..3 {
        world.server_dies();
        let mut more = vec![0; 16 * MIB as usize];
        file.read_exact(&mut more).expect("read");
        bytes.append(&mut more);
    }
    file.read_to_end(&mut bytes).expect("read");
    assert!(bytes == big);
    assert!(world.proxy.moved() < 110 * MIB, "{} bytes for 96 MiB", world.proxy.moved());
    world.end(device);
}

#[test]
fn without_the_server_what_is_here_is_read_and_the_rest_fails_in_time() {
    let Some(world) = World::new() else { return };
    let (here, elsewhere) = (world.noise(3 * MIB), world.noise(3 * MIB));
    world.put("here", &here);
    world.put("elsewhere", &elsewhere);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()).len(), 2);
    assert!(world.read("here").expect("read") == here);
    world.proxy.lead_to(None);
    device.stop();
    // It starts without the server too.
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["elsewhere", "here"]);
    assert!(world.read("here").expect("read") == here);
    let started = Instant::now();
    assert_eq!(errno(world.read("elsewhere")), Some(Errno::TIMEDOUT.raw_os_error()));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    world.proxy.lead_to(Some(world.server().address()));
    assert!(world.read("elsewhere").expect("read") == elsewhere);
    world.put("new", b"news");
    assert!(soon(|| world.read("new").is_ok_and(|bytes| bytes == b"news")), "it is in touch again");
    world.end(device);
}

#[test]
fn what_is_known_answers_while_many_wait_for_the_server() {
    let Some(world) = World::new() else { return };
    (0..100).for_each(|i| world.put(&format!("{i:02}"), &world.noise(MIB / 4)));
    let device = world.mount();
    assert_eq!(names(&world.device.mount()).len(), 100);
    world.proxy.lead_to(None);
    let readers: Vec<_> = (0..48)
        .map(|i| {
            let file = world.file(&format!("{i:02}"));
            std::thread::spawn(move || errno(fs::read(file)))
        })
        .collect();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        assert_eq!(names(&world.device.mount()).len(), 100);
        assert_eq!(fs::metadata(world.file("99")).expect("known").len(), MIB / 4);
        rustix::fs::statvfs(world.device.mount()).expect("answered");
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    for reader in readers {
        assert_eq!(reader.join().expect("no panic"), Some(Errno::TIMEDOUT.raw_os_error()));
    }
    world.proxy.lead_to(Some(world.server().address()));
    world.end(device);
}

#[test]
fn a_server_that_says_nothing_holds_nobody_longer_than_told() {
    let Some(world) = World::new() else { return };
    world.put("file", &world.noise(4 * MIB));
    world.put("other", &world.noise(4 * MIB));
    world.put("third", &world.noise(4 * MIB));
    let device = world.mount();
    assert_eq!(names(&world.device.mount()).len(), 3);
    signal(world.server().id(), libc::SIGSTOP);
    let started = Instant::now();
    assert_eq!(errno(world.read("file")), Some(Errno::TIMEDOUT.raw_os_error()));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    // Who waits does not hold up the end.
    let waiting = ["other", "third"].map(|name| {
        let file = world.file(name);
        std::thread::spawn(move || fs::read(file).is_err())
    });
    assert!(world.device.json(&["status"], 30)["mounts"].is_array());
    let started = Instant::now();
    device.stop();
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    for reader in waiting {
        assert!(reader.join().expect("no panic"), "it is told that there is nothing to read");
    }
    signal(world.server().id(), libc::SIGCONT);
    let device = world.mount();
    assert_eq!(world.read("file").expect("read").len(), 4 << 20);
    world.end(device);
}

#[test]
fn wrong_bytes_are_never_read() {
    let Some(world) = World::new() else { return };
    let big = world.noise(8 * MIB);
    world.put("big", &big);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big"]);
    world.proxy.spoil(true);
    assert_eq!(errno(world.read("big")), Some(Errno::IO.raw_os_error()));
    world.proxy.spoil(false);
    assert!(world.read("big").expect("read") == big);
    assert!(world.device.log().contains("sent other bytes"), "{}", world.device.log());
    world.end(device);
}

#[test]
fn a_device_that_was_killed_is_mounted_again_with_what_it_had() {
    let Some(world) = World::new() else { return };
    let big = world.noise(24 * MIB);
    world.put("big", &big);
    for round in 0..3 {
        let device = world.mount();
        let mut file = File::open(world.file("big")).expect("opens");
        let mut bytes = vec![0; (8 * (round + 1) * MIB) as usize];
        file.read_exact(&mut bytes).expect("read");
        assert!(bytes == big[..bytes.len()]);
        device.kill();
    }
    let device = world.mount();
    assert!(world.read("big").expect("read") == big);
    let moved = world.proxy.moved();
    assert!(moved < 40 * MIB, "{moved} bytes for 24 MiB");
    world.end(device);
}

#[test]
fn a_device_that_was_removed_is_told_so() {
    let Some(world) = World::new() else { return };
    world.put("file", &world.noise(MIB));
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["file"]);
    let devices = world.home.json(&["device", "list"], 30);
    let id = devices[0]["id"].as_str().expect("an id").to_owned();
    world.home.run(&["device", "remove", &id], 30).ok();
    assert_eq!(errno(world.read("file")), Some(Errno::ACCESS.raw_os_error()));
    world.put("other", b"news");
    assert!(soon(|| world.device.log().contains("larder login")), "{}", world.device.log());
    // What somebody logs in for again, a mount that is there takes at once.
    world.device.log_in(world.proxy.address());
    assert!(within(KNOWN_AGAIN, || world.read("file").is_ok()), "{}", world.device.log());
    assert!(within(KNOWN_AGAIN, || world.read("other").is_ok_and(|bytes| bytes == b"news")));
    world.end(device);
}
