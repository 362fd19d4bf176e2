//! GET and HEAD: ranges and conditions. Source: RFC 9110 § 13, § 14.

mod support;

use support::{Answer, Server};

const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";

fn server() -> Server {
    let server = Server::start();
    server.put("/dav/home/f", ALPHABET);
    server
}

fn ranged(server: &Server, range: &str) -> Answer {
    server.send("GET", "/dav/home/f", &[("Range", range)], "")
}

#[test]
fn single_ranges() {
    let server = server();
    for (range, want, shown) in [
        ("bytes=0-2", "abc", "bytes 0-2/26"),
        ("bytes=24-", "yz", "bytes 24-25/26"),
        ("bytes=-3", "xyz", "bytes 23-25/26"),
        ("bytes=-100", ALPHABET, "bytes 0-25/26"),
        ("bytes=25-99", "z", "bytes 25-25/26"),
    ] {
        let answer = ranged(&server, range);
        assert_eq!((answer.status, answer.text().as_str()), (206, want), "{range}");
        assert_eq!(answer.header("content-range"), Some(shown));
        assert_eq!(answer.header("content-length"), Some(want.len().to_string().as_str()));
        assert!(answer.header("etag").is_some());
    }
    let beyond = ranged(&server, "bytes=26-");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */26")));
    for ignored in ["bytes=x-y", "lines=1-2", "bytes=9-2"] {
        assert_eq!(ranged(&server, ignored).status, 200, "{ignored}");
    }
    let head = server.send("HEAD", "/dav/home/f", &[("Range", "bytes=0-2")], "");
    assert_eq!((head.status, head.header("content-length")), (200, Some("26")));
    assert_eq!(head.header("accept-ranges"), Some("bytes"));
}

#[test]
fn several_ranges_come_as_multipart() {
    let server = server();
    let answer = ranged(&server, "bytes=0-1,-2, 10-11");
    assert_eq!(answer.status, 206);
    let kind = answer.header("content-type").expect("a type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
    let want = format!(
        "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 0-1/26\r\n\r\nab\
         \r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 24-25/26\r\n\r\nyz\
         \r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes 10-11/26\r\n\r\nkl\
         \r\n--{boundary}--\r\n"
    );
    assert_eq!(answer.text(), want);
    assert_eq!(answer.header("content-length"), Some(want.len().to_string().as_str()));
    let again = ranged(&server, "bytes=0-1,-2");
    assert_ne!(again.header("content-type"), Some(kind), "the boundary is not to be guessed");
}

#[test]
fn ten_thousand_ranges_cost_nothing() {
    let server = server();
    // As many as fit into the head that the server reads.
    let many = format!("bytes={}", vec!["0-0"; 10_000].join(","));
    let answer = ranged(&server, &many);
    assert_eq!(answer.status, 416, "{}", answer.head);
    assert_eq!(ranged(&server, "bytes=0-,0-,0-").status, 200);
}

#[test]
fn an_empty_file_has_no_ranges() {
    let server = server();
    server.put("/dav/home/f", "");
    assert_eq!(ranged(&server, "bytes=0-").status, 416);
    let whole = server.get("/dav/home/f");
    assert_eq!((whole.status, whole.header("content-length")), (200, Some("0")));
}

#[test]
fn if_range_serves_the_whole_when_the_file_changed() {
    let server = server();
    let tag = server.get("/dav/home/f").header("etag").expect("a tag").to_owned();
    let get = |validator: &str| {
        server.send("GET", "/dav/home/f", &[("Range", "bytes=0-1"), ("If-Range", validator)], "").status
    };
    assert_eq!(get(&tag), 206);
    assert_eq!(get("\"other\""), 200);
    assert_eq!(get(&format!("W/{tag}")), 200);
    assert_eq!(get("Thu, 01 Jan 2026 00:00:00 GMT"), 206);
    assert_eq!(get("Wed, 31 Dec 2025 00:00:00 GMT"), 200);
}

#[test]
fn conditions_are_checked_in_their_order() {
    let server = server();
    let tag = server.get("/dav/home/f").header("etag").expect("a tag").to_owned();
    let weak = format!("W/{tag}");
    let get = |headers: &[(&str, &str)]| server.status("GET", "/dav/home/f", headers);
    let same = "Thu, 01 Jan 2026 00:00:00 GMT";
    let before = "Wed, 31 Dec 2025 00:00:00 GMT";
    assert_eq!(get(&[("If-None-Match", &tag)]), 304);
    assert_eq!(get(&[("If-None-Match", &weak)]), 304);
    assert_eq!(get(&[("If-None-Match", "*")]), 304);
    assert_eq!(get(&[("If-None-Match", "\"a\", \"b\"")]), 200);
    assert_eq!(get(&[("If-Modified-Since", same)]), 304);
    assert_eq!(get(&[("If-Modified-Since", before)]), 200);
    assert_eq!(get(&[("If-None-Match", "\"a\""), ("If-Modified-Since", same)]), 200);
    assert_eq!(get(&[("If-Match", &tag)]), 200);
    assert_eq!(get(&[("If-Match", &weak)]), 412);
    assert_eq!(get(&[("If-Match", "\"a\"")]), 412);
    assert_eq!(get(&[("If-Match", &tag), ("If-Unmodified-Since", before)]), 200);
    assert_eq!(get(&[("If-Unmodified-Since", before)]), 412);
    assert_eq!(get(&[("If-Match", "\"a\""), ("If-None-Match", &tag)]), 412);
    assert_eq!(get(&[("If-Match", "\"unclosed")]), 400);
    let cached = server.send("GET", "/dav/home/f", &[("If-None-Match", &tag)], "");
    assert_eq!((cached.header("etag"), cached.body.len()), (Some(tag.as_str()), 0));
    assert_eq!(server.status("GET", "/dav/home/none", &[("If-None-Match", "*")]), 404);
}

#[test]
fn writes_are_conditional() {
    let server = server();
    let put = |name: &str, headers: &[(&str, &str)]| {
        server.send("PUT", &format!("/dav/home/{name}"), headers, "x").status
    };
    assert_eq!(put("f", &[("If-None-Match", "*")]), 412);
    assert_eq!(put("new", &[("If-None-Match", "*")]), 201);
    assert_eq!(put("none", &[("If-Match", "*")]), 412);
    assert_eq!(put("f", &[("If-Match", "\"stale\"")]), 412);
    let tag = server.get("/dav/home/f").header("etag").expect("a tag").to_owned();
    assert_eq!(put("f", &[("If-Match", &tag)]), 204);
    assert_eq!(put("f", &[("If-Match", &tag)]), 412);
    assert_eq!(server.status("DELETE", "/dav/home/f", &[("If-Match", &tag)]), 412);
    let tag = server.get("/dav/home/f").header("etag").expect("a tag").to_owned();
    assert_eq!(server.status("DELETE", "/dav/home/f", &[("If-Match", &tag)]), 204);
    assert_eq!(server.status("MKCOL", "/dav/home/d", &[("If-Match", "*")]), 412);
    assert_eq!(server.status("MKCOL", "/dav/home/d", &[("If-None-Match", "*")]), 201);
}
