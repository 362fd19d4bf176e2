//! What becomes of changes that the server does not take as they are.

use super::world::{Device, MIB, World};
use crate::support::soon;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

/// Two devices write one file while there is no server; the second one is told last.
fn both_write(world: &World, one: &Device, two: &mut Device) {
    world.server().client().ok("PUT", "/dav/home/letter.txt", &[], b"first");
    let is_first = |device: &Device| fs::read(device.path("letter.txt")).is_ok_and(|body| body == b"first");
    assert!(soon(|| is_first(one) && is_first(two)));
    world.cut();
    one.write("letter.txt", b"of the one");
    two.write("letter.txt", b"of the other");
    two.dies();
    world.mend();
    one.push();
    two.mount(world);
    two.push();
}

fn conflicts(device: &Device) -> Vec<Value> {
    let mount = device.place.mount().display().to_string();
    device.place.json(&["conflicts", &mount], 30).as_array().expect("a list").clone()
}

fn keep(device: &Device, name: &str, which: &str) {
    let path = device.path(name).display().to_string();
    let kept = device.place.json(&["conflicts", &path, "--keep", which], 30);
    assert_eq!(kept["kept"], which);
}

#[test]
fn conflicts_are_listed_and_end_as_somebody_says() {
    let Some(world) = World::new() else { return };
    let (one, mut two) = (world.device(), world.device());
    for (which, content) in [("local", &b"of the other"[..]), ("server", b"of the one")] {
        both_write(&world, &one, &mut two);
        assert_eq!(conflicts(&one), Vec::<Value>::new());
        let listed = conflicts(&two);
        let [conflict] = &listed[..] else { panic!("one conflict: {listed:?}") };
        assert_eq!((&conflict["path"], &conflict["over"]), (&"/letter.txt".into(), &"content".into()));
        let copy = conflict["copy"].as_str().expect("a path").trim_start_matches('/').to_owned();
        assert_eq!(
            (two.read("letter.txt"), two.read(&copy)),
            (b"of the one".to_vec(), b"of the other".to_vec())
        );
        // Either file tells which conflict is meant.
        keep(&two, if which == "local" { &copy } else { "letter.txt" }, which);
        assert_eq!(two.names(), ["letter.txt"]);
        assert_eq!(two.read("letter.txt"), content);
        two.push();
        assert_eq!(world.get("letter.txt"), content);
        assert!(soon(|| one.names() == ["letter.txt"] && one.read("letter.txt") == content));
        assert_eq!(conflicts(&two), Vec::<Value>::new());
    }
    both_write(&world, &one, &mut two);
    keep(&two, "letter.txt", "both");
    assert_eq!((two.names().len(), conflicts(&two).len()), (2, 0));
    let path = two.path("letter.txt").display().to_string();
    let none = two.place.run(&["conflicts", &path, "--keep", "server"], 30);
    assert!(none.code() == 1 && none.stderr.contains("no conflict is noted of /letter.txt"), "{none}");
    world.end(vec![one, two]);
}

#[test]
fn a_policy_keeps_one_file_and_the_other_content_as_a_version() {
    let Some(world) = World::new() else { return };
    for (policy, expected) in [("keep-local", &b"of the other"[..]), ("keep_server", b"of the one")] {
        let (one, mut two) = (world.device(), world.device_with(&["--conflicts", policy]));
        both_write(&world, &one, &mut two);
        assert_eq!(world.get("letter.txt"), expected);
        assert!(soon(|| one.read("letter.txt") == expected && two.read("letter.txt") == expected));
        assert_eq!((two.names(), conflicts(&two).len()), (vec!["letter.txt".to_owned()], 0));
        // The other one can be had back at the server.
        let versions = world.home.json(&["versions", "letter.txt"], 30);
        let sizes: Vec<_> =
            versions.as_array().expect("versions").iter().map(|v| v["size_bytes"].clone()).collect();
        assert!(sizes.contains(&10.into()) && sizes.contains(&12.into()), "{versions}");
        [one, two].into_iter().for_each(Device::stop);
        world.server().client().ok("DELETE", "/dav/home/letter.txt", &[], b"");
    }
    world.end(vec![]);
}

#[test]
fn a_policy_is_heard_by_a_mount_that_runs() {
    let Some(world) = World::new() else { return };
    let (one, two) = (world.device(), world.device());
    world.server().client().ok("PUT", "/dav/home/letter.txt", &[], b"first");
    let is_first = |device: &Device| fs::read(device.path("letter.txt")).is_ok_and(|body| body == b"first");
    assert!(soon(|| is_first(&one) && is_first(&two)));
    let (project, second) = (format!("http://{}/home", world.proxy.address()), two.place.path("second"));
    fs::create_dir(&second).expect("a folder");
    let second = second.display().to_string();
    two.place.run(&["mount", &project, &second, "--conflicts", "keep-local"], 30).ok();
    two.place.run(&["umount", &second], 30).ok();
    two.place.run(&["pause", "--up"], 30).ok();
    world.cut();
    one.write("letter.txt", b"of the one");
    two.write("letter.txt", b"of the other");
    world.mend();
    one.push();
    two.place.run(&["resume", "--up"], 30).ok();
    two.push();
    assert_eq!(world.get("letter.txt"), b"of the other");
    assert_eq!(two.names(), ["letter.txt"]);
    world.end(vec![one, two]);
}

#[test]
fn a_file_that_somebody_has_locked_holds_up_no_other() {
    let Some(world) = World::new() else { return };
    for name in ["locked", "free"] {
        world.server().client().ok("PUT", &format!("/dav/home/{name}"), &[], b"first");
    }
    let device = world.device();
    let body = b"<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>";
    let locked = world.server().client().ok("LOCK", "/dav/home/locked", &[("Timeout", "Second-600")], body);
    let token = locked.header("lock-token").expect("a token").to_owned();
    device.write("locked", b"while it is locked");
    device.write("free", b"changed");
    fs::rename(device.path("locked"), device.path("renamed")).expect("renamed");
    device.write("new", b"new");
    assert!(soon(|| world.get("free") == b"changed"), "{}", device.not_sent());
    assert!(soon(|| device.waiting() == 2), "{}", device.not_sent());
    assert_eq!((world.get("new"), world.get("locked")), (b"new".to_vec(), b"first".to_vec()));
    assert!(soon(|| device.not_sent()["trouble"]
        .as_str()
        .is_some_and(|why| why.contains("/locked") || why.contains("/renamed"))));
    world.server().client().ok("UNLOCK", "/dav/home/locked", &[("Lock-Token", &token)], b"");
    device.push();
    assert_eq!(world.get("renamed"), b"while it is locked");
    assert_eq!(device.not_sent()["trouble"], Value::Null);
    world.end(vec![device]);
}

#[test]
fn what_is_open_at_the_end_is_saved_with_what_it_needs_of_the_server() {
    let Some(world) = World::new() else { return };
    let big = world.noise(16 * MIB);
    world.server().client().ok("PUT", "/dav/home/big", &[], &big);
    let mut device = world.device();
    let file = OpenOptions::new().write(true).open(device.path("big")).expect("opens");
    // In the middle of chunks that are not here: the new ones are cut of those and this.
    file.write_all_at(b"changed", 5 * MIB as u64 + 12_345).expect("written");
    file.write_all_at(b"changed", 11 * MIB as u64 + 54_321).expect("written");
    device.running.take().expect("runs").stop();
    drop(file);
    device.mount(&world);
    device.push();
    let mut expected = big;
    for at in [5 * MIB + 12_345, 11 * MIB + 54_321] {
        expected[at..at + 7].copy_from_slice(b"changed");
    }
    assert!(world.get("big") == expected);
    world.end(vec![device]);
}
