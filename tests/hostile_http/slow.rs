//! Peers that hold a connection by sending or taking next to nothing.

use super::raw::{drain, fields, talk};
use super::target::{KEPT, Target};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A peer that sends nothing more is given up within this.
const STALLED_S: u64 = 240;
/// A peer that takes a byte a second has been given up after this.
const DRIP_S: u64 = 90;
/// More than all buffers between a server and a peer hold.
const LONG_BYTES: usize = 48 << 20;
/// A file of that length.
const LONG: &str = "/dav/home/long";

#[test]
fn slow_peers_are_given_up() {
    let target = Target::new();
    let ok = &fields(target.address());
    let silent: Vec<String> = vec![
        String::new(),
        "GET /dav/home/kept HT".into(),
        format!("GET {KEPT} HTTP/1.1\r\n{ok}"),
        format!("PUT {KEPT} HTTP/1.1\r\n{ok}Content-Length: 100\r\n\r\n"),
        format!("PUT {KEPT} HTTP/1.1\r\n{ok}Content-Length: 100\r\n\r\nhalf"),
        format!("PUT {KEPT} HTTP/1.1\r\n{ok}Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"),
        format!("PROPFIND /dav/home/ HTTP/1.1\r\n{ok}Content-Length: 100\r\n\r\n<propfind"),
        format!("PUT {KEPT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"),
    ];
    let address = target.address();
    let mut client = target.server.client();
    client.ok("PUT", LONG, &[], &vec![7; LONG_BYTES]);
    std::thread::scope(|scope| {
        for start in &silent {
            scope.spawn(move || {
                let reply = talk(address, start.as_bytes(), true, STALLED_S);
                assert!(reply.closed, "{start:?} holds its connection: {reply:?}");
                assert!(!(200..300).contains(&reply.status()), "{start:?}: {reply:?}");
            });
        }
        let slowly = "a".repeat(1000);
        let head = format!("GET {KEPT} HTTP/1.1\r\n{ok}X: {slowly}\r\n\r\n");
        scope.spawn(move || dripping_peer_is_given_up(address, "", &head));
        let start = format!("PUT {KEPT} HTTP/1.1\r\n{ok}Content-Length: 1000\r\n\r\n");
        scope.spawn(move || dripping_peer_is_given_up(address, &start, &slowly));
        scope.spawn(move || dripping_reader_is_given_up(address, ok));
        // Meanwhile others are served.
        assert_eq!(client.ok("GET", KEPT, &[], b"").text(), "kept as it was");
    });
    // The other connection was idle for too long.
    target.server.client().ok("DELETE", LONG, &[], b"");
    target.expect_unharmed();
}

/// What comes a byte a second never counts as silent, and is given up all the same.
fn dripping_peer_is_given_up(address: SocketAddr, start: &str, rest: &str) {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.write_all(start.as_bytes()).expect("sent");
    let second = Duration::from_secs(1);
    stream.set_read_timeout(Some(second)).expect("a limit");
    for byte in rest.as_bytes() {
        assert!(started.elapsed() < Duration::from_secs(STALLED_S), "a dripping peer holds its connection");
        // The read waits a second where the server still waits too.
        let open = matches!(stream.peek(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        if !open || stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
    let reply = drain(stream, started);
    assert!(reply.closed && !(200..300).contains(&reply.status()), "{reply:?}");
}

/// A byte a second frees no space for more: the answer ends before its end.
fn dripping_reader_is_given_up(address: SocketAddr, ok: &str) {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(STALLED_S))).expect("a limit");
    let head = format!("GET {LONG} HTTP/1.1\r\n{ok}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    let (_never, seconds) = mpsc::channel::<()>();
    for _ in 0..DRIP_S {
        stream.read_exact(&mut [0]).expect("something is there already");
        let _ = seconds.recv_timeout(Duration::from_secs(1));
    }
    let mut rest = Vec::new();
    // A reset comes behind what the kernel had already.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < LONG_BYTES, "the answer waited for its reader");
}
