//! What answers where a server should be, word for word: only what a Larder would say is believed.

use larder_core::{ChunkId, Kind, Name, NodeId, Result};
use larder_store::catalog::Cursor;
use larder_store::origin::{
    Cancel, Connection, Credentials, Flow, Free, Heard, HttpOrigin, Meter, Origin, Pace,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Has one call answered with `status`, `media` and `pieces`, each of which arrives alone.
fn answered<T>(
    status: &str,
    media: &str,
    pieces: &[&str],
    call: impl FnOnce(&HttpOrigin) -> Result<T>,
) -> Result<T> {
    answered_at((status, media, pieces), Arc::new(Free), call)
}

/// The same, as fast as `pace` says.
fn answered_at<T>(
    (status, media, pieces): (&str, &str, &[&str]),
    pace: Arc<dyn Pace>,
    call: impl FnOnce(&HttpOrigin) -> Result<T>,
) -> Result<T> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("http://{}", listener.local_addr().expect("bound"));
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunks: String = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len())).collect();
    let connection =
        Connection::new(&server, &Credentials::Token("t"), Vec::new()).expect("a connection").paced(pace);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut peer, _) = listener.accept().expect("a call");
            request(&mut peer);
            peer.write_all(format!("{head}{chunks}0\r\n\r\n").as_bytes()).expect("an answer");
        });
        call(&HttpOrigin::new(connection, "home"))
    })
}

/// Reads the head of a request; its text, in lower case.
fn request(peer: &mut TcpStream) -> String {
    let (mut request, mut more) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let read = peer.read(&mut more).expect("a request");
        request.extend_from_slice(&more[..read]);
    }
    String::from_utf8_lossy(&request).to_lowercase()
}

fn look(origin: &HttpOrigin) -> Result<bool> {
    let name = Name::new("a").expect("a name");
    origin.find(NodeId::ROOT, &name).map(|found| found.is_some())
}

#[test]
fn a_refusal_counts_where_larder_says_it() {
    let said = r#"{"kind":"not-found","what":"there is no node 7"}"#;
    let kind =
        |status, media, body: &str| answered(status, media, &[body], look).expect_err("a refusal").kind();
    assert_eq!(kind("404 Not Found", PROBLEM, said), Kind::NotFound);
    assert_eq!(kind("401 Unauthorized", PROBLEM, said), Kind::Denied);
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found", "409 Conflict", "302 Found"] {
        assert_eq!(kind(status, "text/html", "<h1>Log in</h1>"), Kind::Unavailable, "{status}");
        assert_eq!(kind(status, "text/html", said), Kind::Unavailable, "{status}");
        assert_eq!(kind(status, PROBLEM, r#"{"title":"another program's"}"#), Kind::Unavailable, "{status}");
    }
}

#[test]
fn an_answer_of_another_type_is_nobodys() {
    let nothing = r#"{"entries":[],"complete":false}"#;
    assert!(!answered("200 OK", JSON, &[nothing], look).expect("an answer"));
    assert!(!answered("200 OK", "Application/JSON; charset=utf-8", &[nothing], look).expect("an answer"));
    let error = answered("200 OK", "text/html", &[nothing], look).expect_err("a page");
    assert!(error.kind() == Kind::Unavailable && error.to_string().contains("not Larder"), "{error}");
    let wait = |origin: &HttpOrigin| origin.wait(&Cursor(Vec::new()), 0, Duration::from_secs(60));
    let error = answered("200 OK", "text/html", &["data: x"], wait).expect_err("a page");
    assert_eq!(error.kind(), Kind::Unavailable);
}

#[test]
fn a_listing_that_goes_back_is_refused() {
    let node = |id: u32| {
        let times = r#""version":"1","atime":"0","mtime":"0","ctime":"0","btime":"0""#;
        let numbers = r#""kind":"folder","mode":493,"uid":0,"gid":0,"nlink":2"#;
        format!(r#"{{"id":"{id}",{numbers},{times},"parent":"1"}}"#)
    };
    let page = format!(r#"{{"entries":[{{"name":"b","node":{}}}],"more":true}}"#, node(2));
    let list = |after: &str| {
        let after = Name::new(after).expect("a name");
        answered("200 OK", JSON, &[&page], |origin| origin.entries(NodeId::ROOT, Some(&after), 9))
    };
    assert_eq!(list("a").expect("behind it").next, Some(Name::new("b").expect("a name")));
    for after in ["b", "c"] {
        assert_eq!(list(after).expect_err("not behind it").kind(), Kind::Corrupt, "{after}");
    }
}

#[test]
fn names_that_would_leave_the_folder_are_refused() {
    let times = r#""version":"1","atime":"0","mtime":"0","ctime":"0","btime":"0""#;
    let numbers = r#""kind":"folder","mode":493,"uid":0,"gid":0,"nlink":2"#;
    let node = format!(r#"{{"id":"7",{numbers},{times},"parent":"1"}}"#);
    let long = "x".repeat(300);
    for hostile in
        ["", ".", "..", "a/b", "/etc/passwd", "../../etc/passwd", "a%00b", "%2E%2E", "a%2Fb", &long]
    {
        let page = format!(r#"{{"entries":[{{"name":"{hostile}","node":{node}}}],"more":false}}"#);
        let error = answered("200 OK", JSON, &[&page], |origin| origin.entries(NodeId::ROOT, None, 9));
        assert_eq!(error.expect_err("no name").kind(), Kind::Corrupt, "{hostile}");
        let name = format!(r#"{{"parent":"1","name":"{hostile}","node":{node}}}"#);
        let feed = format!(r#"{{"changes":[{{"name":{name}}}],"cursor":"AQ","more":false}}"#);
        let error = answered("200 OK", JSON, &[&feed], |origin| origin.changes(&Cursor(vec![0]), 9));
        assert_eq!(error.expect_err("no name").kind(), Kind::Corrupt, "{hostile}");
    }
    let feed = format!(
        r#"{{"changes":[{{"name":{{"parent":"1","name":"a","node":{node}}}}}],"cursor":"AQ","more":false}}"#
    );
    let told = answered("200 OK", JSON, &[&feed], |origin| origin.changes(&Cursor(vec![0]), 9));
    assert_eq!(told.expect("a name").news.len(), 1);
}

#[test]
fn changes_that_do_not_go_on_are_refused() {
    let feed = |cursor: &str, more: bool| {
        let body = format!(r#"{{"changes":[],"cursor":"{cursor}","more":{more}}}"#);
        answered("200 OK", JSON, &[&body], |origin| origin.changes(&Cursor(vec![0]), 9))
    };
    assert!(!feed("AA", false).expect("the end").more);
    assert!(feed("AQ", true).expect("a step").more);
    assert_eq!(feed("AA", true).expect_err("no step").kind(), Kind::Corrupt);
}

#[test]
fn news_in_two_pieces_are_heard() {
    let wait = |origin: &HttpOrigin| origin.wait(&Cursor(Vec::new()), 0, Duration::from_secs(60));
    let (changes, rules) = (Heard { changes: true, rules: false }, Heard { changes: false, rules: true });
    for (pieces, heard) in [
        (&["data: x\n\n"][..], changes),
        (&[": beat\n\n", "event: news\nda", "ta: x\n", "\n"], changes),
        (&["d", "a", "t", "a", ":", "\r", "\n", "\r\n"], changes),
        (&["event: rules\ndata: 7\n\n"], rules),
        (&[": beat\n\nevent: rul", "es\nd", "ata: 7\n\n"], rules),
    ] {
        let told = answered("200 OK", "text/event-stream", pieces, wait);
        assert_eq!(told.expect("news"), heard, "{pieces:?}");
    }
    for pieces in [&[": da", "t", "a"][..], &["data: x\n"]] {
        let error = answered("200 OK", "text/event-stream", pieces, wait).expect_err("no news");
        assert_eq!(error.kind(), Kind::Unavailable);
    }
    let endless = "data: x".repeat(2000);
    let error = answered("200 OK", "text/event-stream", &[&endless], wait).expect_err("no end");
    assert_eq!(error.kind(), Kind::Corrupt);
}

#[test]
fn one_stream_tells_all_news() {
    let wait = |origin: &HttpOrigin| {
        let wait = |rules| origin.wait(&Cursor(Vec::new()), rules, Duration::from_secs(60));
        Ok([wait(3)?, wait(3)?, wait(3)?, wait(7)?])
    };
    let events = ["data: a\n\ndata: b\n\nevent: ru", "les\ndata: 7\n\ndata: c\n\n"];
    let heard = answered("200 OK", "text/event-stream", &events, wait).expect("news, over one connection");
    assert_eq!(heard.map(|heard| heard.rules), [false, false, true, false]);
}

#[test]
fn news_come_as_events_where_a_websocket_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("http://{}", listener.local_addr().expect("bound"));
    let connection = Connection::new(&server, &Credentials::Token("t"), Vec::new()).expect("a connection");
    let events = "Content-Type: text/event-stream\r\nContent-Length: 9\r\n\r\ndata: x\n\n";
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let accept = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
            for (asks, answer) in [
                (true, "400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned()),
                (false, format!("200 OK\r\nConnection: close\r\n{events}")),
                (true, format!("101 Switching Protocols\r\n{accept}")),
            ] {
                let (mut peer, _) = listener.accept().expect("a call");
                let asked = request(&mut peer);
                assert_eq!(asked.contains("upgrade: websocket"), asks, "{asked}");
                peer.write_all(format!("HTTP/1.1 {answer}").as_bytes()).expect("an answer");
            }
        });
        let origin = HttpOrigin::new(connection, "home");
        let wait = || origin.wait(&Cursor(Vec::new()), 0, Duration::from_secs(60));
        assert!(wait().expect("news").changes);
        let error = wait().expect_err("the stream ended, and the key of the next one is another's");
        assert_eq!(error.kind(), Kind::Corrupt);
    });
}

#[test]
fn what_a_busy_server_asks_for_is_told() {
    let said = r#"{"kind":"unavailable","what":"not now"}"#;
    for (head, media, wait_s) in [
        ("503 Busy\r\nRetry-After: 7", "text/html", Some(7)),
        ("429 Slower\r\nRetry-After: 3", PROBLEM, Some(3)),
        ("503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT", PROBLEM, None),
        ("503 Busy", PROBLEM, None),
    ] {
        let error = answered(head, media, &[said], look).expect_err("a refusal");
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(error.asked_wait(), wait_s.map(Duration::from_secs), "{head}");
    }
}

#[test]
fn a_call_that_nobody_waits_for_ends_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("http://{}", listener.local_addr().expect("bound"));
    let connection = Connection::new(&server, &Credentials::Token("t"), Vec::new()).expect("a connection");
    let (origin, cancel, begun) = (HttpOrigin::new(connection, "home"), Cancel::new(), Instant::now());
    let ask = || origin.chunks(NodeId(7), &[ChunkId([7; 32])], &cancel, &mut |_, _| Ok(()));
    std::thread::scope(|scope| {
        let call = scope.spawn(ask);
        let _silent = listener.accept().expect("a call");
        cancel.cancel();
        let error = call.join().expect("no panic").expect_err("no answer came");
        assert_eq!(error.kind(), Kind::Unavailable);
    });
    assert!(ask().is_err(), "nor does another begin");
    assert!(begun.elapsed() < Duration::from_secs(10), "a silent server has 20: {:?}", begun.elapsed());
}

#[test]
fn an_answer_that_drips_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("http://{}", listener.local_addr().expect("bound"));
    let connection = Connection::new(&server, &Credentials::Token("t"), Vec::new()).expect("a connection");
    let (origin, begun) = (HttpOrigin::new(connection, "home"), Instant::now());
    let error = std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut peer, _) = listener.accept().expect("a call");
            peer.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n";
            let mut request = [0; 4096];
            while !peer.read(&mut request).is_ok_and(|len| len > 0) {}
            peer.write_all(head.as_bytes()).expect("a head");
            // A byte each time that nothing more is asked in a tenth of a second.
            loop {
                match peer.read(&mut request) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(_) if peer.write_all(b" ").is_ok() => {}
                    Err(_) => break,
                }
            }
        });
        look(&origin).expect_err("it never ends")
    });
    assert_eq!(error.kind(), Kind::Unavailable);
    let took = begun.elapsed();
    assert!((15..40).contains(&took.as_secs()), "as long as a silent server has: {took:?}");
}

/// Knows the most bytes that moved before they were paid for.
#[derive(Clone, Default)]
struct Longest(Arc<AtomicUsize>);

impl Pace for Longest {
    fn stream(&self, _: Flow) -> Box<dyn Meter> {
        Box::new(self.clone())
    }
}

impl Meter for Longest {
    fn poll_allowed(&mut self, _: &mut Context<'_>, _: bool, wanted: usize) -> Poll<usize> {
        Poll::Ready(wanted)
    }

    fn moved(&mut self, bytes: usize) {
        self.0.fetch_max(bytes, Ordering::Relaxed);
    }
}

#[test]
fn a_long_answer_is_taken_piece_by_piece_as_it_is_paid_for() {
    let nothing = format!(r#"{{"entries":[],"complete":false,"padding":"{}"}}"#, "x".repeat(8 << 20));
    let longest = Longest::default();
    answered_at(("200 OK", JSON, &[&nothing]), Arc::new(longest.clone()), look).expect("an answer");
    let bytes = longest.0.load(Ordering::Relaxed);
    assert!((1..=64 << 10).contains(&bytes), "{bytes} at once");
}

#[test]
fn who_logged_in_again_is_known_by_the_new_token() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("http://{}", listener.local_addr().expect("bound"));
    let connection = Connection::new(&server, &Credentials::Token("old"), Vec::new()).expect("a connection");
    let tokens = Arc::new(AtomicUsize::new(0));
    let known = tokens.clone();
    let again = move || Some(if known.load(Ordering::Relaxed) == 0 { "old" } else { "new" }.to_owned());
    let origin = HttpOrigin::new(connection.renewed(Box::new(again)), "home");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..3 {
                let (mut peer, _) = listener.accept().expect("a call");
                let (mut request, mut more) = (Vec::new(), [0; 4096]);
                while !request.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
                    let read = peer.read(&mut more).expect("a request");
                    request.extend_from_slice(&more[..read]);
                }
                let is_known = String::from_utf8_lossy(&request).contains("Bearer new");
                let (status, media, body) = match is_known {
                    true => ("200 OK", JSON, r#"{"entries":[],"complete":false}"#),
                    false => ("401 Unauthorized", PROBLEM, r#"{"kind":"denied","what":"no such device"}"#),
                };
                let head = format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nConnection: close\r\n");
                let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
                peer.write_all(answer.as_bytes()).expect("an answer");
            }
        });
        assert_eq!(look(&origin).expect_err("not known").kind(), Kind::Denied);
        tokens.store(1, Ordering::Relaxed);
        assert_eq!(look(&origin).expect_err("known the next time").kind(), Kind::Unavailable);
        assert!(!look(&origin).expect("an answer"));
    });
}
