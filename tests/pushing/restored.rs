//! Sides that are brought back from a backup: what the other side knows of the time since is not mixed with what comes.

use super::world::{Device, World};
use crate::support::process::ok;
use crate::support::server::Place;
use crate::support::within;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// After a while without the server a device asks for it each 15 s.
const HEARD: Duration = Duration::from_secs(60);

/// Copies a place's data directory while nobody has it open.
fn back_up(place: &Place) -> PathBuf {
    let backup = place.path("backup");
    ok("cp", &["-a", &text(place.data()), &text(backup.clone())], 60);
    backup
}

fn bring_back(place: &Place, backup: &Path) {
    ok("rm", &["-rf", &text(place.data())], 60);
    ok("cp", &["-a", &text(backup.to_path_buf()), &text(place.data())], 60);
}

fn text(path: PathBuf) -> String {
    path.to_str().expect("test paths are UTF-8").to_owned()
}

/// Backs the server up while neither it nor `device` runs, and starts it again.
fn backed_up_without(world: &mut World, device: &mut Device) -> PathBuf {
    device.running.take().expect("runs").stop();
    world.cut();
    world.server.take().expect("runs").stop();
    let backup = back_up(&world.home);
    world.server = Some(world.home.start());
    world.mend();
    backup
}

#[test]
fn a_server_brought_back_is_shown_as_it_is() {
    let Some(mut world) = World::new() else { return };
    let put = |world: &World, name: &str, body: &[u8]| {
        world.server().client().ok("PUT", &format!("/dav/home/{name}"), &[], body);
    };
    put(&world, "changes", b"first");
    put(&world, "goes", b"comes back");
    let mut device = world.device();
    assert_eq!(device.read("changes"), b"first");
    let backup = backed_up_without(&mut world, &mut device);
    // What it is given from here on, the server does not remember either.
    device.mount(&world);
    // All of this is lost.
    for round in 0..20 {
        put(&world, "changes", format!("lost {round}").as_bytes());
    }
    put(&world, "lost", b"lost");
    world.server().client().ok("DELETE", "/dav/home/goes", &[], b"");
    assert!(within(HEARD, || device.names() == ["changes", "lost"] && device.read("changes") == b"lost 19"));
    world.cut();
    world.server.take().expect("runs").stop();
    bring_back(&world.home, &backup);
    world.server = Some(world.home.start());
    // The feed passes the place where the device heard of it last.
    for round in 0..40 {
        put(&world, "new", format!("new {round}").as_bytes());
    }
    world.mend();
    assert!(
        within(HEARD, || device.names() == ["changes", "goes", "new"]),
        "{:?}\n{}",
        device.names(),
        device.place.log()
    );
    assert!(within(HEARD, || device.read("changes") == b"first" && device.read("new") == b"new 39"));
    assert_eq!(device.read("goes"), b"comes back");
    device.write("changes", b"on the device");
    device.write("made", b"on the device");
    device.push();
    assert_eq!(
        (world.get("changes"), world.get("made")),
        (b"on the device".to_vec(), b"on the device".to_vec())
    );
    assert_eq!(device.names(), ["changes", "goes", "made", "new"]);
    world.end(vec![device]);
}

#[test]
fn a_device_brought_back_tells_of_what_it_does_then() {
    let Some(world) = World::new() else { return };
    let mut device = world.device();
    device.write("before", b"before");
    device.push();
    device.running.take().expect("runs").stop();
    let backup = back_up(&device.place);
    device.mount(&world);
    for name in ["a", "b", "c"] {
        device.write(name, b"since the backup");
    }
    device.push();
    device.running.take().expect("runs").stop();
    bring_back(&device.place, &backup);
    world.cut();
    device.mount(&world);
    device.write("offline", b"without the server");
    world.mend();
    device.push();
    device.write("new", b"with it");
    device.push();
    assert_eq!(
        (world.get("offline"), world.get("new")),
        (b"without the server".to_vec(), b"with it".to_vec())
    );
    assert!(
        within(HEARD, || device.names() == ["a", "b", "before", "c", "new", "offline"]),
        "{:?}",
        device.names()
    );
    world.end(vec![device]);
}

#[test]
fn rules_of_a_server_brought_back_hold_under_a_version_that_was_heard_of() {
    let Some(mut world) = World::new() else { return };
    for name in ["a", "b"] {
        world.server().client().ok("PUT", &format!("/dav/home/{name}"), &[], b"x");
    }
    let mut device = world.device();
    let id = world.home.json(&["device", "list"], 30)[0]["id"].as_str().expect("an id").to_owned();
    let exclude = |world: &World, name: &str| {
        let data = text(world.home.data());
        let add = ["rules", "--data", &data, "--device", &id, "add", "exclude", name];
        assert_eq!(world.home.json(&add, 30)["version"], 1);
    };
    let backup = backed_up_without(&mut world, &mut device);
    device.mount(&world);
    exclude(&world, "a");
    assert!(within(HEARD, || device.names() == ["b"]), "{:?}", device.names());
    world.cut();
    world.server.take().expect("runs").stop();
    bring_back(&world.home, &backup);
    world.server = Some(world.home.start());
    exclude(&world, "b");
    world.mend();
    assert!(within(HEARD, || device.names() == ["a"]), "{:?}\n{}", device.names(), device.place.log());
    world.end(vec![device]);
}
