//! Programs that sweep through a tree have nothing fetched, and everybody else is named who does.

#![cfg(target_os = "linux")]

mod support;

use rustix::fs::getxattr;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use support::process::{Finished, run};
use support::remote::{MIB, World};

/// `cat` under another name.
fn called(world: &World, name: &str) -> PathBuf {
    let path = world.device.path(name);
    let cat = fs::canonicalize("/usr/bin/cat").expect("a program");
    // A program's name is that of the link; a copy could still be open for writing in a process that another test starts.
    let _ = fs::remove_file(&path);
    std::os::unix::fs::symlink(cat, &path).expect("linked");
    path
}

fn cat(world: &World, program: &str, file: &str) -> Finished {
    let program = called(world, program);
    let out = world.device.path("out");
    run(
        Command::new("sh").args(["-c", r#""$1" "$2" > "$3""#, "sh"]).args([
            &program,
            &world.file(file),
            &out,
        ]),
        60,
    )
}

/// What `status --why-fetched` says of `name`.
fn causes(world: &World, name: &str) -> Vec<Value> {
    let path = world.file(name).display().to_string();
    let told = world.device.json(&["status", &path, "--why-fetched"], 30);
    told.as_array().expect("a list").clone()
}

#[test]
fn indexer_gets_what_is_here_and_a_quick_error_for_the_rest() {
    let Some(world) = World::new() else { return };
    let (far, near) = (world.noise(8 * MIB), world.noise(2 * MIB));
    world.put("far", &far);
    world.put("near", &near);
    let device = world.mount();
    assert!(world.read("near").expect("read") == near, "from now on it is here");
    for name in ["updatedb", "tracker-miner-fs-3"] {
        let (before, begun) = (world.proxy.moved(), Instant::now());
        let refused = cat(&world, name, "far");
        assert!(refused.code() == 1 && refused.stderr.contains("Permission denied"), "{name}: {refused}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let moved = world.proxy.moved() - before;
        assert!(moved < 64 << 10, "{moved} bytes for {name}");
        assert_eq!(fs::metadata(world.file("far")).expect("metadata").len(), 8 * MIB);
        cat(&world, name, "near").ok();
        assert!(fs::read(world.device.path("out")).expect("read") == near);
    }
    assert_eq!(causes(&world, "far").len(), 0);
    // Another program has it fetched, and then it is here for all.
    cat(&world, "reader", "far").ok();
    assert!(fs::read(world.device.path("out")).expect("read") == far);
    cat(&world, "updatedb", "far").ok();
    let told = causes(&world, "far");
    assert_eq!((told.len(), &told[0]["process"], &told[0]["why"]), (1, &"reader".into(), &"read".into()));
    let bytes = told[0]["bytes"].as_u64().expect("a number");
    assert!(
        (8 * MIB..8 * MIB + (64 << 10)).contains(&bytes),
        "{bytes} bytes, pages of the manifest among them"
    );
    assert!(told[0]["pid"].as_u64().is_some_and(|pid| pid > 1), "{told:?}");
    world.end(device);
}

#[test]
fn names_of_indexers_are_a_setting() {
    let Some(world) = World::with(&["--indexers", "sweeper,other"]) else { return };
    world.put("far", &world.noise(MIB));
    let device = world.mount();
    let refused = cat(&world, "sweeper", "far");
    assert_eq!(refused.code(), 1, "{refused}");
    cat(&world, "updatedb", "far").ok();
    assert_eq!(causes(&world, "")[0]["process"], "updatedb");
    world.end(device);
}

#[test]
fn files_say_whether_and_why_they_are_kept() {
    let Some(world) = World::new() else { return };
    world.send("MKCOL", "kept", &[]);
    world.put("kept/one", &world.noise(MIB));
    world.put("other", b"x");
    let device = world.mount();
    world.device.json(&["pin", &world.file("kept").display().to_string()], 30);
    let says = |file: &str, name: &str| {
        let mut value = vec![0; 256];
        let len = getxattr(world.file(file), name, &mut value[..]).expect(name);
        String::from_utf8_lossy(&value[..len]).into_owned()
    };
    let both = |file: &str| (says(file, "user.larder.pinned"), says(file, "user.larder.why"));
    assert_eq!(both("kept/one"), ("yes".into(), "rule 1: pin /kept".into()));
    assert_eq!(both("other"), ("no".into(), "no rule: fetched when it is opened".into()));
    let came = || causes(&world, "kept").first().is_some_and(|cause| cause["why"] == "pinned");
    assert!(support::soon(came), "{:?}", causes(&world, "kept"));
    world.end(device);
}
