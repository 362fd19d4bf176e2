//! The end of a server that is told to: nothing is cut, nothing is lost, and nothing is left to do.

use crate::support::http;
use crate::support::process::signal;
use crate::support::server::{Place, Server};
use crate::support::{lacking, skip};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longer than a server takes to see a signal.
const PATIENCE: Duration = Duration::from_secs(30);

/// Begins an upload, tells the server to end, and sends the rest once it takes no more connections.
fn upload_across_the_end(server: &Server, told: i32, path: &str, body: &[u8]) {
    let mut stream = http::connect(server.address()).expect("a connection");
    let (host, length) = (server.address(), body.len());
    let authorization = server.client().authorization().to_string();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\nContent-Length: {length}\r\n\r\n"
    );
    let (first, rest) = body.split_at(length / 2);
    stream.get_mut().write_all(&[head.as_bytes(), first].concat()).expect("sent");
    signal(server.id(), told);
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(server.address()).is_ok() {
        assert!(Instant::now() < deadline, "it goes on listening");
    }
    stream.get_mut().write_all(rest).expect("sent");
    let answer = http::read_answer(&mut stream, false).expect("an answer");
    assert!(answer.is_success(), "{} {}", answer.status, answer.text());
}

#[test]
fn who_is_connected_already_is_answered() {
    let place = Place::new();
    let server = place.start();
    // One that the server took before it was told to end, and maybe one that the kernel still holds for it.
    let mut streams = [(); 2].map(|()| http::connect(server.address()).expect("a connection"));
    signal(server.id(), libc::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(server.address()).is_ok() {
        assert!(Instant::now() < deadline, "it goes on listening");
    }
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", server.address());
    for stream in &mut streams {
        stream.get_mut().write_all(head.as_bytes()).expect("sent");
    }
    for stream in &mut streams {
        let answer = http::read_answer(stream, false).expect("an answer");
        assert!(answer.is_success(), "{} {}", answer.status, answer.text());
    }
    let answered = Instant::now();
    assert!(server.ended().success());
    assert!(answered.elapsed() < PATIENCE / 2, "it waits for more from those who were answered");
}

#[test]
fn uploads_under_way_and_unsynced_writes_outlive_the_end() {
    if let Some(why) = lacking(true, &["fusermount3"]) {
        return skip(&why);
    }
    let place = Place::new().mounted(300).with(&["--log", "larder_store=info"]);
    let body: Vec<u8> = (0..2_000_000u32).flat_map(u32::to_le_bytes).collect();
    for (round, told) in [libc::SIGTERM, libc::SIGINT].into_iter().enumerate() {
        let server = place.start();
        let started = place.log().len();
        let (uploaded, written) = (format!("/dav/home/uploaded{round}"), format!("written{round}"));
        let mut open = std::fs::File::create(place.mount().join(&written)).expect("created in the mount");
        open.write_all(&body[..300_000]).expect("written and not synced");
        upload_across_the_end(&server, told, &uploaded, &body);
        assert!(server.ended().success());
        drop(open);

        let server = place.start();
        let log = place.log();
        let replayed: Vec<&str> =
            log[started..].lines().filter(|line| line.contains("log replayed")).collect();
        assert!(replayed.len() == 1 && replayed[0].contains("batches=0"), "{replayed:?}");
        let mut client = server.client();
        assert!(client.ok("GET", &uploaded, &[], b"").body == body, "{uploaded}");
        assert!(client.ok("GET", &format!("/dav/home/{written}"), &[], b"").body == body[..300_000]);
        assert!(server.stop().success());
    }
    place.assert_no_panic();
}
