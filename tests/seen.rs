//! What other tools see of a mount of a server's project: attributes of files, events as they happen, a line for bars.

#![cfg(target_os = "linux")]

mod support;

use rustix::fs::getxattr;
use rustix::io::Errno;
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use support::process::signal;
use support::remote::{MIB, World, names};
use support::server::Speaking;
use support::soon;

/// An attribute of `user.larder.`.
fn attribute(world: &World, name: &str, which: &str) -> Result<String, Errno> {
    let mut bytes = [0; 100];
    let len = getxattr(world.file(name), format!("user.larder.{which}"), &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

#[track_caller]
fn assert_is(world: &World, name: &str, state: &str, percent: &str) {
    let told = ["state", "percent"].map(|which| attribute(world, name, which).expect("told"));
    assert_eq!(told, [state, percent], "{name}");
}

/// `larder events --json PATH`, once it listens.
fn listen(world: &World, name: &str) -> Speaking {
    let path = world.file(name).display().to_string();
    let listening = Speaking::start(&mut world.device.command(&["events", "--json", &path]));
    assert_eq!(event(&listening)["event"], "ready");
    listening
}

fn event(listening: &Speaking) -> Value {
    let line = listening.line(30);
    serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

/// Events up to one that is meant, with that.
#[track_caller]
fn until(listening: &Speaking, is_meant: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut heard = Vec::new();
    loop {
        heard.push(event(listening));
        if is_meant(&heard[heard.len() - 1]) {
            return heard;
        }
    }
}

#[test]
fn attributes_tell_what_is_here_without_the_network() {
    let Some(world) = World::new() else { return };
    world.put("big", &world.noise(24 * MIB));
    world.put("same", b"content");
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big", "same"]);
    world.settled();
    let requests = world.proxy.requests();
    assert_is(&world, "big", "online-only", "0");
    let hash = attribute(&world, "big", "hash").expect("told");
    assert!(attribute(&world, "", "state").is_ok());
    assert_eq!(attribute(&world, "", "percent"), Err(Errno::NODATA), "of a folder");
    assert_eq!(world.proxy.requests(), requests, "nothing was asked");

    let file = File::open(world.file("big")).expect("opens");
    file.read_exact_at(&mut [0; 1 << 20], 12 * MIB).expect("read");
    assert_eq!(attribute(&world, "big", "state").as_deref(), Ok("partial"));
    let percent: u32 = attribute(&world, "big", "percent").expect("told").parse().expect("a number");
    assert!((4..50).contains(&percent), "{percent}");
    world.read("big").expect("read");
    assert_is(&world, "big", "available", "100");
    assert_eq!(attribute(&world, "big", "hash"), Ok(hash.clone()), "of the content, not of what is here");

    world.proxy.lead_to(None);
    fs::write(world.file("new"), b"content").expect("written");
    assert_is(&world, "new", "pending", "100");
    assert_eq!(attribute(&world, "new", "hash"), attribute(&world, "same", "hash"));
    assert_ne!(attribute(&world, "new", "hash"), Ok(hash));
    world.proxy.lead_to(Some(world.server().address()));
    assert!(soon(|| attribute(&world, "new", "state").as_deref() == Ok("available")));
    world.end(device);
}

#[test]
fn events_tell_of_changes_and_of_what_moves() {
    let Some(world) = World::new() else { return };
    world.send("MKCOL", "folder", &[]);
    world.put("folder/big", &world.noise(24 * MIB));
    let device = world.mount();
    assert_eq!(names(&world.file("folder")), ["big"]);
    let (all, folder) = (listen(&world, ""), listen(&world, "folder"));

    fs::write(world.file("made"), b"here").expect("written");
    let named = until(&all, |event| event["path"] == "/made").pop().expect("an event");
    assert_eq!((&named["event"], &named["through"]), (&"named".into(), &"mount".into()), "{named}");
    world.put("folder/told", b"there");
    let is_told = |event: &Value| event["path"] == "/folder/told" && event["through"] == "server";
    until(&all, is_told);
    let heard = until(&folder, is_told);
    assert!(heard.iter().all(|event| event["path"] != "/made"), "{heard:?}");
    fs::rename(world.file("made"), world.file("moved")).expect("renamed");
    let heard = until(&all, |event| event["path"] == "/moved");
    assert!(heard.iter().any(|event| event["event"] == "unnamed" && event["path"] == "/made"), "{heard:?}");
    until(&all, |event| event["event"] == "push" && event["changes"] == 0);

    world.device.run(&["fetch", &world.file("folder").display().to_string(), "--limit", "8MiB/s"], 30).ok();
    let heard = until(&folder, |event| event["path"] == "/folder/big" && event["state"] == "done");
    let of_big = heard.iter().filter(|event| event["path"] == "/folder/big");
    let percents: Vec<u64> = of_big.filter_map(|event| event["percent"].as_u64()).collect();
    assert!(percents.is_sorted() && percents.len() > 2, "{percents:?}");
    world.device.run(&["limit", "--metered"], 30).ok();
    until(&all, |event| event["event"] == "link" && event["link"] == "metered");

    // A listener that is killed, and one that is still there, hold up nothing.
    signal(folder.id(), libc::SIGKILL);
    device.stop();
    assert!(all.ended().success(), "the end of the mount is its end");
    let device = world.mount();
    world.end(device);
}

#[test]
fn a_line_tells_bars_and_prompts_what_moves() {
    let Some(world) = World::new() else { return };
    world.put("big", &world.noise(24 * MIB));
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big"]);
    let line = || world.device.run(&["status", "--line"], 30).ok().stdout;
    assert_eq!(line(), "✓\n");
    world.device.run(&["fetch", &world.file("big").display().to_string(), "--limit", "2MiB/s"], 30).ok();
    assert!(
        soon(|| line().starts_with("↓ ") && line().contains("MiB/s ") && line().ends_with(" %\n")),
        "{}",
        line()
    );
    world.device.run(&["limit", "--offline"], 30).ok();
    fs::write(world.file("new"), b"waits").expect("written");
    assert!(
        soon(|| line().starts_with("offline · ↓ paused ") && line().ends_with(" % · ↑ 1 waiting\n")),
        "{}",
        line()
    );
    let json = world.device.json(&["status", "--line"], 30);
    assert_eq!(format!("{}\n", json["text"].as_str().expect("text")), line());
    world.end(device);
}
