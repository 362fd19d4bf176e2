//! A server that is stopped holds nobody up: not `df`, not a listing elsewhere, not `umount -l`.

#![cfg(target_os = "linux")]

mod support;

use std::path::Path;
use std::process::Command;
use support::process::{self, signal};
use support::server::Place;
use support::{lacking, skip};

/// How long a mount may live in these tests.
const LIMIT_S: u64 = 280;
/// What ends at all ends within this; what hangs does not. The stand-in takes 2 to 3 s to be sure.
const RETURNS_S: u64 = 60;

/// Runs a command that has to return, whatever it says.
#[track_caller]
fn returns(program: &str, arguments: &[&str]) -> i32 {
    let done = process::run(Command::new(program).args(arguments).current_dir("/"), RETURNS_S);
    assert!(done.status.is_some(), "{program} hangs: {done}");
    done.code()
}

/// Stops a server; returns once each of its threads has stopped: until then one may still take a request, which then
/// waits for it.
fn stop(server: i32) {
    signal(server, libc::SIGSTOP);
    let threads = || std::fs::read_dir(format!("/proc/{server}/task")).expect("it lives");
    let runs = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.expect("listed").path().join("stat")).unwrap_or_default();
        !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    let mut looks = 0;
    while threads().any(runs) {
        assert!(looks < RETURNS_S * 10, "does not stop");
        looks += 1;
        assert_eq!(returns("sleep", &["0.1"]), 0);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

#[test]
fn a_stopped_server_holds_nobody_up_and_goes_on_later() {
    if let Some(why) = lacking(true, &["df", "umount"]) {
        return skip(&why);
    }
    let place = Place::new().mounted(LIMIT_S);
    let server = place.start();
    let file = place.mount().join("f");
    std::fs::write(&file, "before").expect("written");
    stop(server.id());
    assert_eq!(returns("df", &[text(&place.mount())]), 0, "df gets the last known numbers");
    returns("df", &[]);
    assert_eq!(returns("ls", &[text(&place.data())]), 0);
    returns("cat", &[text(&place.mount().join("none"))]);
    signal(server.id(), libc::SIGCONT);
    assert_eq!(std::fs::read_to_string(&file).expect("it goes on"), "before");
    std::fs::write(&file, "after").expect("written");
    assert_eq!(std::fs::read_to_string(&file).expect("read"), "after");
}

#[test]
fn a_stopped_server_can_be_unmounted() {
    if let Some(why) = lacking(true, &["umount"]) {
        return skip(&why);
    }
    if !support::is_root() {
        return skip("umount(8) needs root");
    }
    let place = Place::new().mounted(LIMIT_S);
    let server = place.start();
    std::fs::write(place.mount().join("f"), "before").expect("written");
    stop(server.id());
    assert_eq!(returns("umount", &["-l", text(&place.mount())]), 0);
    assert!(!support::watchdog::is_mounted(&place.mount()));
    returns("df", &[]);
    signal(server.id(), libc::SIGCONT);
}

#[test]
fn the_mount_of_a_killed_server_goes_with_it() {
    if let Some(why) = lacking(true, &[]) {
        return skip(&why);
    }
    let place = Place::new().mounted(LIMIT_S);
    let server = place.start();
    std::fs::write(place.mount().join("f"), "x").expect("written");
    signal(server.id(), libc::SIGKILL);
    let mut looks = 0;
    while support::watchdog::is_mounted(&place.mount()) {
        assert!(looks < RETURNS_S * 10, "still mounted");
        looks += 1;
        assert_eq!(returns("sleep", &["0.1"]), 0);
    }
    let again = place.start();
    assert_eq!(std::fs::read_to_string(place.mount().join("f")).expect("kept"), "x");
    drop(again);
}
