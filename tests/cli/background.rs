//! `--daemon`: the command returns once the server is ready, or failed.

use crate::support::http::Client;
use crate::support::process::signal;
use crate::support::server::{PASSWORD, Place};

/// How long a server has to end, in milliseconds.
const END_WITHIN_MS: i32 = 60_000;

/// Ends the background server of `place` and returns once its process is gone.
pub fn end(place: &Place) {
    let pid = place.json(&["status"], 60)["pid"].as_i64().expect("it runs");
    let pid = i32::try_from(pid).expect("a pid");
    // SAFETY: pidfd_open(2) takes two numbers and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let mut waited = libc::pollfd { fd: fd as i32, events: libc::POLLIN, revents: 0 };
    signal(pid, libc::SIGTERM);
    // SAFETY: one pollfd, which lives until poll(2) returns.
    let ready = unsafe { libc::poll(&mut waited, 1, END_WITHIN_MS) };
    assert_eq!(ready, 1, "the server does not end");
    // SAFETY: the descriptor is ours and not used any more.
    unsafe { libc::close(fd as i32) };
}

#[test]
fn server_in_the_background_is_ready_when_the_command_returns() {
    let place = Place::new();
    let started = place.run(&["serve", "--listen", "127.0.0.1:0", "--daemon"], 60).ok();
    assert!(started.stdout.lines().any(|line| line.starts_with("Ready")), "{started}");
    let status = place.json(&["status"], 60);
    let url = status["url"].as_str().expect("a URL").to_string();
    let address = url.trim_start_matches("http://").trim_end_matches("/dav/home/");
    let mut client = Client::new(address.parse().expect("an address"), "admin", PASSWORD);
    client.ok("PUT", "/dav/home/x", &[], b"x");

    let second = place.run(&["serve", "--listen", "127.0.0.1:0", "--daemon"], 60);
    assert_eq!(second.code(), 1, "{second}");
    assert!(second.stderr.contains("in use"), "{second}");
    end(&place);
    assert_eq!(place.json(&["status", "/x"], 60)["size_bytes"], 1);
}
