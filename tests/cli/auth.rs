//! Who is let in, and how often somebody may try.

use crate::support::http::{self, Client};
use crate::support::server::{PASSWORD, Place};
use std::io::Write;

#[test]
fn first_start_shows_a_password_once() {
    let place = Place::new();
    let mut command = place.command(&["serve", "--listen", "127.0.0.1:0", "--daemon"]);
    command.env_remove("LARDER_ADMIN_PASSWORD");
    let first = crate::support::process::run(&mut command, 60).ok();
    let password =
        first.stdout.split("password ").nth(1).and_then(|rest| rest.split(' ').next()).expect("shown");
    let address =
        first.stdout.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("shown");
    let mut client = Client::new(address.parse().expect("an address"), "admin", password);
    client.ok("PUT", "/dav/home/x", &[], b"x");
    super::background::end(&place);
    let mut command = place.command(&["serve", "--listen", "127.0.0.1:0", "--daemon"]);
    let second = crate::support::process::run(command.env_remove("LARDER_ADMIN_PASSWORD"), 60).ok();
    assert!(second.stdout.contains("WebDAV"), "{second}");
    assert!(!second.stdout.contains("password") && !second.stdout.contains(password), "{second}");
    super::background::end(&place);
}

#[test]
fn many_first_requests_at_once_are_let_in() {
    let place = Place::new();
    let server = place.start();
    let address = server.address();
    let one =
        || Client::new(address, "admin", PASSWORD).send("PROPFIND", "/dav/home/", &[("depth", "0")], b"");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|t| t.join().expect("a request").expect("an answer").status).collect()
    });
    assert_eq!(statuses, [207; 16]);
    assert!(server.stop().success());
}

#[test]
fn wrong_passwords_are_counted_and_known_ones_are_not_held_up() {
    let place = Place::new();
    let server = place.start();
    let mut admin = server.client();
    admin.ok("PUT", "/dav/home/x", &[], b"x");

    let none = Client::new(server.address(), "admin", "wrong")
        .send("GET", "/dav/home/x", &[], b"")
        .expect("an answer");
    assert_eq!(none.status, 401);
    assert!(none.header("www-authenticate").is_some_and(|value| value.starts_with("Basic realm=")));

    let mut guesser = Client::new(server.address(), "admin", "guess");
    let answers: Vec<_> = (0..14)
        .map(|_| guesser.send("PROPFIND", "/dav/home/", &[("depth", "0")], b"").expect("an answer"))
        .collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("too many");
    let wait_s: u64 =
        refused.header("retry-after").and_then(|value| value.parse().ok()).expect("a Retry-After");
    assert!((1..=60).contains(&wait_s), "{wait_s}");

    assert_eq!(admin.ok("GET", "/dav/home/x", &[], b"").text(), "x");
    assert!(server.stop().success());
}

#[test]
fn pages_need_no_password_and_files_do() {
    let place = Place::new();
    let server = place.start();
    for (path, word) in [("/", "/dav/home/"), ("/healthz", "ok"), ("/metrics", "larder_requests_total")] {
        let mut stream = http::connect(server.address()).expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes()).expect("sent");
        let answer = http::read_answer(&mut stream, false).expect("an answer");
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text().contains(word), "{path}: {}", answer.text());
    }
    for header in
        ["", "Authorization: Basic\r\n", "Authorization: Basic %%%\r\n", "Authorization: Bearer x\r\n"]
    {
        let mut stream = http::connect(server.address()).expect("a connection");
        let request = format!("GET /dav/home/ HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes()).expect("sent");
        assert_eq!(http::read_answer(&mut stream, false).expect("an answer").status, 401, "{header}");
    }
    assert!(server.stop().success());
}
