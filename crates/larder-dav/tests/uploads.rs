//! A file is published whole or not at all. Sources: RFC 9110 § 9.3.4, § 14.5; sabre/dav "HTTP PATCH".

mod support;

use larder_drive::Target;
use std::io::{Read, Write};
use support::{Answer, Server};

const PATCH: (&str, &str) = ("Content-Type", "application/x-sabredav-partialupdate");

#[test]
fn short_put_keeps_the_old_file() {
    let server = Server::start();
    server.put("/dav/home/f", "old");
    for request in [
        "PUT /dav/home/f HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nonly a part",
        "PUT /dav/home/f HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "PUT /dav/home/new HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nonly a part",
    ] {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(server.get("/dav/home/f").text(), "old");
    assert_eq!(server.get("/dav/home/new").status, 404);
}

#[test]
fn entity_tag_and_checksum_are_those_of_the_own_upload() {
    let server = Server::start();
    let tag_of = |path: &str, body: &str| server.put(path, body).header("etag").expect("a tag").to_owned();
    let (tag, other) = (tag_of("/dav/home/tag", "mine"), tag_of("/dav/home/other", "theirs"));
    // As soon as the first upload is committed, and before it is answered, another one replaces it.
    let (drive, actor) = (server.drive.clone(), server.actor());
    let first = std::sync::atomic::AtomicBool::new(true);
    let replace = move |_: &larder_drive::Event<'_>| {
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            let (drive, actor) = (drive.clone(), actor.clone());
            let theirs = move || {
                let name = larder_core::Name::new("f").expect("a name");
                let parent = larder_core::NodeId::ROOT;
                let target = Target { parent, name, expect: Vec::new(), mtime: None, mode: 0o644 };
                let mut upload = drive.upload();
                upload.write(b"theirs").and_then(|()| upload.finish(&actor, target))
            };
            std::thread::spawn(theirs).join().expect("no panic").expect("published");
        }
    };
    let subscription = server.drive.subscribe(Box::new(replace), None);
    let sum = ("OC-Checksum", "SHA1:8034c43d15bb7ef42e2cc24255217acfc5f4b2f4");
    let answer = server.send("PUT", "/dav/home/f", &[sum], "mine");
    drop(subscription);
    assert_eq!((answer.status, answer.header("etag")), (201, Some(&*tag)), "{}", answer.text());
    assert_eq!(server.get("/dav/home/f").header("etag"), Some(&*other));
    let find = "<D:propfind xmlns:D='DAV:'><D:prop><x:checksums xmlns:x='http://owncloud.org/ns'/></D:prop></D:propfind>";
    let found = server.propfind("/dav/home/f", "0", find).text();
    assert!(!found.contains("SHA1"), "{found}");
}

#[test]
fn times_before_1970_are_kept() {
    let server = Server::start();
    assert_eq!(server.send("PUT", "/dav/home/f", &[("X-OC-Mtime", "-86400")], "x").status, 201);
    assert_eq!(server.node("/f").mtime.secs(), -86_400);
    assert_eq!(server.get("/dav/home/f").header("last-modified"), Some("Wed, 31 Dec 1969 00:00:00 GMT"));
    assert_eq!(server.send("PUT", "/dav/home/f", &[("X-OC-Mtime", "--1")], "x").status, 400);
}

#[test]
fn aborted_large_put_keeps_the_old_file() {
    let server = Server::start();
    server.put("/dav/home/f", "old");
    let mut stream = server.connect();
    stream
        .write_all(b"PUT /dav/home/f HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n")
        .expect("sent");
    stream.write_all(&vec![7; 5_000_000]).expect("sent");
    drop(stream);
    assert_eq!(server.get("/dav/home/f").text(), "old");
    assert_eq!(server.put("/dav/home/f", "new").status, 204);
    assert_eq!(server.get("/dav/home/f").text(), "new");
}

#[test]
fn announced_lengths_must_hold() {
    let server = Server::start();
    let chunked = |announced: &str| {
        let head = format!(
            "PUT /dav/home/f HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
             X-Expected-Entity-Length: {announced}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        Answer::parse(&server.raw(head)).status
    };
    assert_eq!(chunked("6"), 400);
    assert_eq!(server.get("/dav/home/f").status, 404);
    assert_eq!(chunked("5"), 201);
    assert_eq!(server.get("/dav/home/f").text(), "hello");
}

#[test]
fn expectations_are_answered_before_the_body() {
    let server = Server::start();
    let mut stream = server.connect();
    let head = "PUT /dav/home/f HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).expect("an interim answer");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert_eq!(Answer::parse(&answer).status, 201);
    // Refused at once, without the body.
    let refused = head.replace("/f ", "/no/such/f ");
    let mut stream = server.connect();
    stream.write_all(refused.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 409"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn content_range_replaces_a_part() {
    let server = Server::start();
    server.put("/dav/home/f", "0123456789");
    let put =
        |range: &str, body: &str| server.send("PUT", "/dav/home/f", &[("Content-Range", range)], body).status;
    assert_eq!(put("bytes 2-4/10", "abc"), 204);
    assert_eq!(server.get("/dav/home/f").text(), "01abc56789");
    assert_eq!(put("bytes 8-11/*", "WXYZ"), 204);
    assert_eq!(server.get("/dav/home/f").text(), "01abc567WXYZ");
    assert_eq!(put("bytes 2-4/10", "too long"), 400);
    assert_eq!(put("bytes 4-2/10", "abc"), 400);
    assert_eq!(put("nonsense", "abc"), 400);
    assert_eq!(put("bytes 50-52/*", "abc"), 416);
    assert_eq!(server.get("/dav/home/f").text(), "01abc567WXYZ");
    let first = server.send("PUT", "/dav/home/new", &[("Content-Range", "bytes 0-2/6")], "abc");
    assert_eq!(first.status, 201);
    assert_eq!(server.send("PUT", "/dav/home/new", &[("Content-Range", "bytes 3-5/6")], "def").status, 204);
    assert_eq!(server.get("/dav/home/new").text(), "abcdef");
}

#[test]
fn patch_updates_ranges() {
    let server = Server::start();
    server.put("/dav/home/f", "0123456789");
    let patch = |range: &str, body: &str| {
        server.send("PATCH", "/dav/home/f", &[PATCH, ("X-Update-Range", range)], body).status
    };
    assert_eq!(patch("bytes=2-3", "ab"), 204);
    assert_eq!(patch("append", "!"), 204);
    assert_eq!(patch("bytes=-1", "?"), 204);
    assert_eq!(patch("bytes=9-", "nine+"), 204);
    assert_eq!(server.get("/dav/home/f").text(), "01ab45678nine+");
    assert_eq!(patch("bytes=100-101", "xx"), 416);
    assert_eq!(patch("bytes=2-3", "three"), 400);
    assert_eq!(patch("sideways", "x"), 400);
    assert_eq!(server.send("PATCH", "/dav/home/f", &[("X-Update-Range", "append")], "x").status, 415);
    assert_eq!(
        server.send("PATCH", "/dav/home/none", &[PATCH, ("X-Update-Range", "append")], "x").status,
        404
    );
}

#[test]
fn a_byte_in_the_middle_of_a_large_file_is_replaced() {
    let server = Server::start();
    let mut body = vec![0; 5 << 20];
    support::noise(&mut body);
    server.put("/dav/home/f", &body);
    let range = format!("bytes {0}-{0}/*", 3 << 20);
    assert_eq!(server.send("PUT", "/dav/home/f", &[("Content-Range", &range)], "x").status, 204);
    body[3 << 20] = b'x';
    assert!(server.get("/dav/home/f").body == body);
}

#[test]
fn encoded_bodies_are_refused() {
    let server = Server::start();
    assert_eq!(server.send("PUT", "/dav/home/f", &[("Content-Encoding", "gzip")], "x").status, 415);
}

#[test]
fn a_download_keeps_its_version() {
    let server = Server::start();
    let old = vec![b'a'; 8 << 20];
    server.put("/dav/home/f", &old);
    let mut stream = server.connect();
    stream.write_all(b"GET /dav/home/f HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = vec![0; 1000];
    stream.read_exact(&mut answer).expect("a beginning");
    assert_eq!(server.put("/dav/home/f", "new").status, 204);
    assert_eq!(server.status("DELETE", "/dav/home/f", &[]), 204);
    stream.read_to_end(&mut answer).expect("the rest");
    assert!(Answer::parse(&answer).body == old);
}
