//! Rules of a device: what is excluded is seen by nobody who asks as that device, at once and wherever they were written.

#![cfg(target_os = "linux")]

mod support;

use rustix::io::Errno;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use support::http::Client;
use support::remote::{MIB, World, errno, names};

/// How long a change of rules may take to be seen.
const SEEN: Duration = Duration::from_secs(1);

/// `larder ARGUMENTS` about the mount, which must succeed; what it says.
#[track_caller]
fn rules(world: &World, arguments: &[&str]) -> Value {
    let mount = world.device.mount().display().to_string();
    world.device.json(&[&["rules", "--in", &mount], arguments].concat(), 30)
}

/// What the device's token sees over WebDAV.
fn webdav(world: &World) -> Client {
    Client::bearer(world.server().address(), &token(world))
}

fn token(world: &World) -> String {
    let servers = fs::read_dir(world.device.path("home/.config/larder/servers")).expect("logged in");
    let file = servers.map(|entry| entry.expect("an entry").path()).next().expect("a server");
    let server: Value = serde_json::from_slice(&fs::read(file).expect("read")).expect("JSON");
    server["token"].as_str().expect("a token").to_owned()
}

fn status(client: &mut Client, method: &str, path: &str, body: &[u8]) -> u16 {
    let answer = client.send(method, path, &[], body);
    // A connection on which a body was refused is closed.
    answer.or_else(|_| client.send(method, path, &[], body)).expect("an answer").status
}

/// The names in a folder, as `client` sees them.
fn listed(client: &mut Client, folder: &str) -> Vec<String> {
    let path = format!("/dav/home/{folder}");
    let answer = client.ok("PROPFIND", &path, &[("Depth", "1")], b"");
    let text = answer.text();
    let hrefs = text.split("<D:href>").skip(1).filter_map(|rest| rest.split("</D:href>").next());
    let mut names: Vec<String> = hrefs
        .filter_map(|href| href.trim_end_matches('/').strip_prefix(&path))
        .map(|name| name.trim_start_matches('/').to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names
}

/// How long it takes until `seen` says so.
#[track_caller]
fn until(world: &World, seen: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    assert!(support::soon(seen), "{}", world.device.log());
    begun.elapsed()
}

fn is_missing(path: &Path) -> bool {
    errno(fs::metadata(path)) == Some(Errno::NOENT.raw_os_error())
}

#[test]
fn excluded_folder_vanishes_from_mount_and_webdav_within_a_second() {
    let Some(world) = World::new() else { return };
    for folder in ["Videos", "Photos"] {
        world.send("MKCOL", folder, &[]);
        world.put(&format!("{folder}/one.bin"), &world.noise(MIB));
    }
    let device = world.mount();
    let mut client = webdav(&world);
    let film = world.file("Videos/one.bin");
    assert_eq!(names(&world.device.mount()), ["Photos", "Videos"]);
    assert!(fs::metadata(&film).is_ok(), "the kernel knows it");
    assert_eq!(listed(&mut client, ""), ["Photos", "Videos"]);

    // By the device itself: there when the command returns.
    let told = rules(&world, &["add", "exclude", "Videos"]);
    assert_eq!((&told["version"], &told["rules"][0]), (&1.into(), &"exclude Videos".into()), "{told}");
    assert_eq!((told["by"].as_str(), told["on"].is_string()), (Some("admin"), true), "{told}");
    let took = until(&world, || names(&world.device.mount()) == ["Photos"] && is_missing(&film));
    assert!(took < SEEN, "{took:?}");
    assert_eq!(listed(&mut client, ""), ["Photos"]);
    // Many clients have a field for a password and none for a token.
    let mut basic = Client::new(world.server().address(), "anybody", &token(&world));
    assert_eq!(listed(&mut basic, ""), ["Photos"]);
    assert_eq!(status(&mut client, "GET", "/dav/home/Videos/one.bin", b""), 404);
    assert_eq!(status(&mut client, "PUT", "/dav/home/Videos/one.bin", b"x"), 409, "no folder for it");
    assert_eq!(status(&mut client, "MKCOL", "/dav/home/Videos", b""), 403, "nor can one be made");
    assert_eq!(errno(fs::create_dir(world.file("Videos"))), Some(Errno::ACCESS.raw_os_error()));
    assert_eq!(
        errno(fs::rename(world.file("Photos"), world.file("Videos"))),
        Some(Errno::ACCESS.raw_os_error())
    );
    let mut all = world.server().client();
    assert_eq!(listed(&mut all, ""), ["Photos", "Videos"], "others see everything");

    // By the operator of the server, while the device hears of it.
    let id = world.home.json(&["device", "list"], 30)[0]["id"].as_str().expect("an id").to_owned();
    let at_home = |arguments: &[&str]| {
        let data = world.home.data().display().to_string();
        world.home.json(&[&["rules", "--data", &data, "--device", &id], arguments].concat(), 30)
    };
    assert_eq!(at_home(&["list"])["rules"][0], "exclude Videos");
    at_home(&["add", "exclude", "*.bin"]);
    let begun = Instant::now();
    let photo = world.file("Photos/one.bin");
    until(&world, || is_missing(&photo) && names(&world.file("Photos")).is_empty());
    println!("{took:?} after the device's own command, {:?} after the operator's", begun.elapsed());
    assert!(begun.elapsed() < SEEN, "{:?}", begun.elapsed());
    assert_eq!(listed(&mut client, "Photos"), Vec::<String>::new());
    assert_eq!(errno(fs::remove_dir(world.file("Photos"))), Some(Errno::NOTEMPTY.raw_os_error()));
    assert_eq!(status(&mut client, "DELETE", "/dav/home/Photos", b""), 409, "it holds something");
    assert_eq!(errno(fs::write(world.file("a.bin"), b"x")), Some(Errno::ACCESS.raw_os_error()));

    // It comes back as it was; without the server nothing is changed.
    at_home(&["set", "/dev/null"]);
    until(&world, || names(&world.device.mount()) == ["Photos", "Videos"] && fs::metadata(&film).is_ok());
    world.end(device);
}

#[test]
fn rules_hold_without_the_server_and_after_a_restart() {
    let Some(world) = World::new() else { return };
    world.send("MKCOL", "Videos", &[]);
    world.put("note", b"x");
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["Videos", "note"]);
    rules(&world, &["add", "exclude Videos"]);
    world.proxy.lead_to(None);
    assert_eq!(names(&world.device.mount()), ["note"]);
    assert_eq!(rules(&world, &[])["rules"][0], "exclude Videos");
    let mount = world.device.mount().display().to_string();
    let refused = world.device.run(&["rules", "--in", &mount, "remove", "1"], 60);
    assert_eq!(refused.code(), 75, "{}", refused.stderr);
    assert!(refused.stderr.contains("kept by the server"), "{}", refused.stderr);
    device.kill();
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["note"]);
    world.proxy.lead_to(Some(world.server().address()));
    rules(&world, &["remove", "1"]);
    assert_eq!(names(&world.device.mount()), ["Videos", "note"]);
    world.end(device);
}

#[test]
fn rules_with_mistakes_are_refused_with_the_place_marked() {
    let Some(world) = World::new() else { return };
    let device = world.mount();
    let mount = world.device.mount().display().to_string();
    let refused = world.device.run(&["rules", "--in", &mount, "add", "exclude", "a/[b"], 30);
    assert_eq!(refused.code(), 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("\n  exclude a/[b\n            ^\n"), "{}", refused.stderr);
    assert!(refused.stderr.contains("at character 11 opens a class"), "{}", refused.stderr);
    let file = world.device.path("rules.txt");
    fs::write(&file, "pin Photos\nexlude Videos\n").expect("written");
    let refused = world.device.run(&["rules", "--in", &mount, "set", &file.display().to_string()], 30);
    assert_eq!(refused.code(), 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("line 2:"), "{}", refused.stderr);
    assert!(refused.stderr.contains("\n  exlude Videos\n  ^^^^^^\n"), "{}", refused.stderr);
    assert_eq!(rules(&world, &["list"])["version"], 0, "nothing was changed");
    world.end(device);
}

#[test]
fn device_edits_the_rules_of_another_one_by_its_id() {
    let Some(world) = World::new() else { return };
    world.send("MKCOL", "Videos", &[]);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["Videos"]);
    // Its own by id, as those of any other: it hears of the change as the other one would.
    let id = world.home.json(&["device", "list"], 30)[0]["id"].as_str().expect("an id").to_owned();
    let told = rules(&world, &["--device", &id, "add", "exclude", "Videos"]);
    assert_eq!(told["rules"][0], "exclude Videos", "{told}");
    let took = until(&world, || names(&world.device.mount()).is_empty());
    assert!(took < SEEN, "{took:?}");
    let mount = world.device.mount().display().to_string();
    let refused = world.device.run(&["rules", "--in", &mount, "--device", "0123456789abcdef"], 30);
    assert!(refused.code() == 1 && refused.stderr.contains("no device"), "{refused}");
    world.end(device);
}

#[test]
fn fetch_of_what_gets_excluded_ends() {
    let Some(world) = World::new() else { return };
    world.send("MKCOL", "Videos", &[]);
    world.put("Videos/film", &world.noise(64 * MIB));
    let device = world.mount();
    let film = world.file("Videos/film").display().to_string();
    assert!(fs::metadata(&film).is_ok());
    world.proxy.hold_at(Some(world.proxy.moved() + 8 * MIB));
    world.device.json(&["fetch", &film], 30);
    assert!(support::soon(|| world.proxy.is_holding()), "{}", world.device.log());
    world.device.json(&["pause", &film], 30);
    world.proxy.hold_at(None);
    rules(&world, &["add", "exclude", "Videos"]);
    let mount = world.device.mount().display().to_string();
    let fetches = || world.device.json(&["status", &mount], 30)["fetches"].clone();
    assert!(support::soon(|| fetches()[0]["state"] == "cancelled"), "{}", fetches());
    world.end(device);
}
