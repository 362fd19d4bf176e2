//! What the tests of the finished program share: processes with a time limit, a running server, a watchdog for
//! mounts, a mounted drive, a plain HTTP client, seeded random numbers.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod disk;
pub mod http;
pub mod mount;
pub mod namespace;
pub mod process;
pub mod proxy;
pub mod random;
pub mod rates;
pub mod remote;
pub mod server;
pub mod splitmix;
pub mod watchdog;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads a variable that tunes the tests.
#[expect(clippy::disallowed_methods, reason = "tests are tuned by the environment, in this one place")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads a number that tunes the tests.
pub fn number(name: &str, default: u64) -> u64 {
    setting(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Says that a test does not run here, and why; in CI, where nothing may be skipped, fails it. `tests/run` prints at its
/// end what was said in the file that `LARDER_TEST_SKIPS` names.
pub fn skip(why: &str) {
    assert!(setting("CI").is_none_or(|ci| ci == "false"), "may not be skipped in CI: {why}");
    let test = std::thread::current().name().unwrap_or("a test").to_string();
    println!("skipped: {why}");
    if let Some(file) = setting("LARDER_TEST_SKIPS") {
        let line = format!("{test}: {why}\n");
        let said = OpenOptions::new().create(true).append(true).open(file);
        said.and_then(|mut file| file.write_all(line.as_bytes())).expect("the list of what was skipped");
    }
}

/// Returns why `programs` or a mount cannot be had here, if so.
pub fn lacking(mount: bool, programs: &[&str]) -> Option<String> {
    if mount && !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse".into());
    }
    let missing = programs.iter().find(|program| found(program).is_none())?;
    Some(format!("{missing} is not installed"))
}

/// Returns where `program` is, looking where system programs are too.
pub fn found(program: &str) -> Option<PathBuf> {
    let path = format!("{}:/usr/sbin:/sbin", setting("PATH").unwrap_or_default());
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}

/// Says whether `done` becomes true within ten seconds, for what nobody is told of.
pub fn soon(done: impl Fn() -> bool) -> bool {
    within(Duration::from_secs(10), done)
}

/// Says whether `done` becomes true within `limit`.
pub fn within(limit: Duration, done: impl Fn() -> bool) -> bool {
    let (_sender, never) = std::sync::mpsc::channel::<()>();
    let started = std::time::Instant::now();
    loop {
        if done() {
            return true;
        }
        if started.elapsed() > limit {
            return false;
        }
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
}

/// Says whether the test runs as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid(2) always succeeds and touches no memory.
    unsafe { libc::geteuid() == 0 }
}
