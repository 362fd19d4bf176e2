//! Hostile requests, byte by byte, against the program itself: an error and a closed connection in time; never a panic, a
//! hang or two answers to one message.

mod support;
mod hostile_http {
    pub mod raw;
    pub mod slow;
    pub mod target;
}

use hostile_http::raw::{fields, talk};
use hostile_http::target::{KEPT, PROMPT_S, Target, shorten};
use std::time::Duration;
use support::random::Random;

#[test]
fn garbage_is_refused_and_the_connection_closed() {
    let target = Target::new();
    let ok = fields(target.address());
    let get = format!("GET {KEPT} HTTP/1.1\r\n");
    let whole = |more: &str| format!("{get}{ok}{more}\r\n\r\n").into_bytes();
    let random = Random::seeded().bytes(4096);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("random bytes", random),
        (
            "TLS on a plain port",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaa\r\n\r\n".to_vec(),
        ),
        ("unknown version", format!("GET {KEPT} HTTP/9.9\r\n{ok}\r\n").into_bytes()),
        ("no version", format!("GET {KEPT}\r\n{ok}\r\n").into_bytes()),
        ("long request line", format!("GET /{} HTTP/1.1\r\n{ok}\r\n", "a".repeat(200_000)).into_bytes()),
        ("long field", whole(&format!("X: {}", "a".repeat(1 << 20)))),
        ("many fields", whole(&(0..10_000).map(|n| format!("X{n}: 1")).collect::<Vec<_>>().join("\r\n"))),
        ("field without a colon", whole("nonsense")),
        ("space before the colon", whole("X : 1")),
        ("folded field", whole("X: 1\r\n 2")),
        ("NUL in a field", whole("X: a\0b")),
        ("control byte in a name", whole("X\x01: 1")),
        ("no Host", get.clone().into_bytes().into_iter().chain(*b"\r\n").collect()),
        ("two Hosts", whole("Host: elsewhere")),
        ("control bytes in the path", format!("GET /dav/home/\x01\x7f HTTP/1.1\r\n{ok}\r\n").into_bytes()),
    ];
    for (what, bytes) in cases {
        let reply = talk(target.address(), &bytes, true, PROMPT_S);
        assert!((400..500).contains(&reply.status()) && reply.closed, "{what}: {reply:?}");
    }
    // What is no HTTP/1 at all, or ends before it is a message, is owed no answer.
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"G", b"GET / HTTP/1.1\r\n", b"\r\n\r\n\r\n", b""]
    {
        let reply = talk(target.address(), bytes, false, PROMPT_S);
        assert!(reply.closed, "{bytes:?}: {reply:?}");
    }
    target.expect_unharmed();
}

#[test]
fn garbage_in_fields_is_refused() {
    let target = Target::new();
    let long = "(<a:b>)".repeat(8000);
    let deep = "(".repeat(50_000);
    let ifs =
        ["(<<[", "(<", "<", "(", "([", "(Not", "<a> <b>", "()", "(<urn:x>", "([\"a)", "x", &long, &deep];
    for value in ifs {
        target.refuses(&format!("PUT {KEPT}"), &format!("If: {value}\r\n"), b"new");
        target.refuses(&format!("DELETE {KEPT}"), &format!("If: {value}\r\n"), b"");
    }
    let bad = [
        "",
        "x",
        "http://",
        "http://[::1",
        "/dav/home/%zz",
        "//",
        "/elsewhere",
        "\u{fffd}",
        "/dav/home/a?\u{1}b",
        // Raw, they end the path: what is left would be another file's name.
        "/dav/home/other#1",
        "/dav/home/other?1",
        "/dav/home/#other",
    ];
    for value in bad {
        for method in ["MOVE", "COPY"] {
            let more = format!("Destination: {value}\r\n");
            let reply = target.request(&format!("{method} {KEPT}"), &more, b"");
            // 502: what is on another server. Source: RFC 4918 § 9.9.4.
            let refused = (400..500).contains(&reply.status()) || reply.status() == 502;
            assert!(refused && reply.closed, "{method} to {value:?}: {reply:?}");
        }
    }
    target.refuses(&format!("MOVE {KEPT}"), "", b"");
    for more in ["Depth: 2\r\n", "Depth: -1\r\n", "Depth: infinity, 0\r\n"] {
        target.refuses("PROPFIND /dav/home/", more, b"");
    }
    target.refuses(&format!("UNLOCK {KEPT}"), "Lock-Token: <<>\r\n", b"");
    target.refuses(&format!("PUT {KEPT}"), "Content-Range: bytes 5-2/x\r\n", b"new");
    target.refuses(
        &format!("PUT {KEPT}"),
        "Content-Range: bytes 18446744073709551615-18446744073709551617/*\r\n",
        b"new",
    );
    target.refuses(&format!("PUT {KEPT}"), "If-Match: \"no such\"\r\n", b"new");
    target.expect_unharmed();
}

#[test]
fn credentials_that_are_none_get_401() {
    let target = Target::new();
    let long = format!("Basic {}", "QQ".repeat(20_000));
    let bad = [
        "Basic",
        "Basic !!!!",
        "Basic /////w==",
        "Basic YQ==",
        "Bearer x",
        "Digest username=\"admin\"",
        "\u{80}",
        &long,
    ];
    for value in bad {
        let head = format!("DELETE {KEPT} HTTP/1.1\r\nHost: x\r\nAuthorization: {value}\r\n\r\n");
        let reply = talk(target.address(), head.as_bytes(), false, PROMPT_S);
        assert_eq!((reply.status(), reply.closed), (401, true), "{}", shorten(value));
    }
    let head = format!("DELETE {KEPT} HTTP/1.1\r\nHost: x\r\n\r\n");
    let reply = talk(target.address(), head.as_bytes(), false, PROMPT_S);
    assert_eq!(reply.status(), 401);
    assert!(reply.answers[0].header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")));
    target.expect_unharmed();
}

#[test]
fn ambiguous_framing_gets_one_refusal_and_no_effect() {
    let target = Target::new();
    let ok = fields(target.address());
    let hidden = format!("DELETE {KEPT} HTTP/1.1\r\n{ok}\r\n");
    let chunked = format!("0\r\n\r\n{hidden}");
    let length = chunked.len();
    let framings = [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: 5\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}, {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        "Content-Length: -1\r\n".into(),
        "Content-Length: 0x10\r\n".into(),
        "Content-Length: 99999999999999999999999\r\n".into(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into(),
        "Transfer-Encoding: gzip, chunked\r\n".into(),
        "Transfer-Encoding: chunked, identity\r\n".into(),
        "Transfer-Encoding: xchunked\r\n".into(),
        "Transfer-Encoding : chunked\r\n".into(),
        "Transfer-Encoding:\x0bchunked\r\n".into(),
        format!(" Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
    ];
    for framing in framings {
        let bytes = format!("PUT /dav/home/never HTTP/1.1\r\n{ok}{framing}\r\n{chunked}");
        let reply = talk(target.address(), bytes.as_bytes(), true, PROMPT_S);
        assert!((400..500).contains(&reply.status()) && reply.closed, "{framing}: {reply:?}");
    }
    for chunks in [
        "-1\r\n",
        "g\r\n",
        "ffffffffffffffffff\r\n",
        "5 5\r\nhello\r\n",
        "5\r\nhelloX",
        "5\nhello\n0\n\n\n\n",
    ] {
        let head = format!("PUT /dav/home/never HTTP/1.1\r\n{ok}Transfer-Encoding: chunked\r\n\r\n{chunks}");
        let reply = talk(target.address(), head.as_bytes(), false, PROMPT_S);
        assert!(!(200..300).contains(&reply.status()) && reply.closed, "{chunks:?}: {reply:?}");
    }
    target.expect_unharmed();
}

#[test]
fn short_body_changes_nothing() {
    let target = Target::new();
    let ok = fields(target.address());
    for framing in ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"] {
        let bytes = format!("PUT {KEPT} HTTP/1.1\r\n{ok}{framing}");
        let reply = talk(target.address(), bytes.as_bytes(), false, PROMPT_S);
        assert!(!(200..300).contains(&reply.status()) && reply.closed, "{reply:?}");
    }
    target.expect_unharmed();
}

#[test]
fn xml_bombs_and_external_entities_are_refused() {
    let target = Target::new();
    let mut laughs = String::from("<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY a0 \"ha\">");
    for level in 1..12 {
        laughs += &format!("<!ENTITY a{level} \"{}\">", format!("&a{};", level - 1).repeat(10));
    }
    laughs += "]><propfind xmlns=\"DAV:\"><prop>&a11;</prop></propfind>";
    let external = "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>\
                    <propfind xmlns=\"DAV:\"><prop><x>&e;</x></prop></propfind>";
    let parameter =
        "<!DOCTYPE x [<!ENTITY % p SYSTEM \"http://127.0.0.1:1/\"> %p;]><propfind xmlns=\"DAV:\"/>";
    let deep = format!("<propfind xmlns=\"DAV:\">{}", "<a>".repeat(100_000));
    let wide = format!("<propfind xmlns=\"DAV:\"><prop>{}</prop></propfind>", "<a/>".repeat(200_000));
    let bindings: String = (0..6000).map(|n| format!(" xmlns:a{n}=\"u\"")).collect();
    let heirs =
        format!("<propfind xmlns=\"DAV:\"{bindings}><prop>{}</prop></propfind>", "<b/>".repeat(19_000));
    let fields: String = (0..20_000).map(|n| format!(" a{n}=\"1\"")).collect();
    let attributes = format!("<propfind xmlns=\"DAV:\"{fields}><allprop/></propfind>");
    let huge = format!("<propfind xmlns=\"DAV:\"><!--{}--><allprop/></propfind>", "x".repeat(30 << 20));
    let unclosed = "<propfind xmlns=\"DAV:\"><prop>";
    let foreign = "<propfind><prop/></propfind>";
    let latin = b"<?xml version=\"1.0\" encoding=\"utf-8\"?><propfind xmlns=\"DAV:\"><prop><\xff\xfe/></prop></propfind>";
    let bodies: [&[u8]; 11] = [
        laughs.as_bytes(),
        external.as_bytes(),
        parameter.as_bytes(),
        deep.as_bytes(),
        wide.as_bytes(),
        heirs.as_bytes(),
        huge.as_bytes(),
        unclosed.as_bytes(),
        foreign.as_bytes(),
        latin,
        b"\xff\xfe<\0p\0",
    ];
    for body in bodies {
        for method in ["PROPFIND", "PROPPATCH", "LOCK"] {
            let reply = target.refuses(&format!("{method} {KEPT}"), "Depth: 0\r\n", body);
            assert!(!reply.answers[0].text().contains("root:"), "a file of the server leaks");
            assert!(reply.took < Duration::from_secs(30), "{method} took {:?}", reply.took);
        }
    }
    let reply = target.request(&format!("PROPFIND {KEPT}"), "Depth: 0\r\n", attributes.as_bytes());
    assert!(reply.took < Duration::from_secs(30) && reply.status() != 500, "{reply:?}");
    target.expect_unharmed();
}

#[test]
fn ten_thousand_ranges_are_refused() {
    let target = Target::new();
    let many = vec!["0-0"; 10_000].join(",");
    let overlapping = vec!["0-"; 10_000].join(",");
    let backwards = vec!["9-0"; 10_000].join(",");
    for ranges in [many, overlapping, backwards] {
        let reply = target.refuses(&format!("GET {KEPT}"), &format!("Range: bytes={ranges}\r\n"), b"");
        assert!(reply.answers[0].body.len() < 10_000, "a short request, a long answer");
    }
    for ranges in ["bytes=18446744073709551615-", "bytes=99-", "bytes=-0"] {
        target.refuses(&format!("GET {KEPT}"), &format!("Range: {ranges}\r\n"), b"");
    }
    target.expect_unharmed();
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let target = Target::new();
    let (long_name, long_path) = ("a".repeat(256), "a/".repeat(20_000));
    let paths = [
        "../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "a%2fb",
        "a%2Fb",
        "%00",
        "kept%00",
        "%c0%ae%c0%ae/x",
        "%zz",
        "%",
        "%4",
        "..",
        "%2e%2e",
        ".",
        "kept/below",
        &long_name,
        &long_path,
        "../elsewhere",
        "x/../../../y",
    ];
    for path in paths {
        for method in ["GET", "PUT", "MKCOL", "DELETE"] {
            // `..` within the drive may be resolved; then what it names is no file of the drive.
            let reply = target.refuses(&format!("{method} /dav/home/{path}"), "", b"");
            assert!(!reply.answers[0].text().contains("root:"), "{path} leaks");
        }
        target.refuses(&format!("COPY {KEPT}"), &format!("Destination: /dav/home/{path}\r\n"), b"");
    }
    for line in
        ["GET *", "GET kept", "PUT http://", "CONNECT example.org:80", "GET /dav/home/kept%", "TRACE /"]
    {
        target.refuses(line, "", b"");
    }
    target.expect_unharmed();
}

#[test]
fn mutated_requests_never_hang_or_panic() {
    let target = Target::new();
    let mut random = Random::seeded();
    let ok = fields(target.address());
    let multi = "<propfind xmlns=\"DAV:\"><prop><getetag/></prop></propfind>";
    let seeds = [
        format!("GET {KEPT} HTTP/1.1\r\n{ok}Range: bytes=0-1,3-\r\nIf-None-Match: \"x\"\r\n\r\n"),
        format!("PROPFIND {KEPT} HTTP/1.1\r\n{ok}Depth: 0\r\nContent-Length: {}\r\n\r\n{multi}", multi.len()),
        format!("OPTIONS {KEPT} HTTP/1.1\r\n{ok}If: </x> (<urn:a> [\"e\"]) (Not <DAV:no-lock>)\r\n\r\n"),
        format!(
            "HEAD {KEPT} HTTP/1.1\r\n{ok}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
        ),
    ];
    for round in 0..support::number("LARDER_HOSTILE_ROUNDS", 2000) {
        let mut bytes = seeds[random.below(4) as usize].clone().into_bytes();
        // The first byte stays, so that no request becomes one that changes something.
        for _ in 0..=random.below(4) {
            let at = 1 + random.below(bytes.len() as u64 - 1) as usize;
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.drain(at..(at + random.below(20) as usize).min(bytes.len()))),
                _ => bytes.insert(at, b"\r\n:(<[\"\0 ,"[random.below(10) as usize]),
            }
        }
        let reply = talk(target.address(), &bytes, false, PROMPT_S);
        assert!(reply.closed, "round {round} hangs: {:?}", String::from_utf8_lossy(&bytes));
        let failed = reply.answers.iter().any(|answer| answer.status == 500);
        assert!(!failed, "round {round}: {:?} {reply:?}", String::from_utf8_lossy(&bytes));
    }
    target.expect_unharmed();
}
