//! What fails below has its status above, changes nothing, and works once the fault is gone; a client that leaves
//! in the middle of a change leaves no half of it.

mod support;

use larder_core::Kind;
use larder_store::faulty::{Call, Faults};
use std::io::Write;
use support::Server;

/// A request: method, path, headers.
type Request = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// A kind of failure and its status. Sources: RFC 4918 § 11, RFC 9110 § 15.
const STATUSES: [(Kind, u16); 3] = [(Kind::NoSpace, 507), (Kind::Unavailable, 503), (Kind::Corrupt, 500)];
const TO_NEW: &[(&str, &str)] = &[("Destination", "/dav/home/new")];
/// What changes something.
const CHANGES: [Request; 6] = [
    ("PUT", "/dav/home/f", &[]),
    ("DELETE", "/dav/home/f", &[]),
    ("MOVE", "/dav/home/f", TO_NEW),
    ("COPY", "/dav/home/f", TO_NEW),
    ("MKCOL", "/dav/home/new", &[]),
    ("PUT", "/dav/home/new", &[]),
];

#[test]
fn what_fails_below_has_its_status_and_changes_nothing() {
    let faults = Faults::default();
    let server = Server::failing(&faults);
    server.put("/dav/home/f", "content");
    for (kind, status) in STATUSES {
        for (method, path, headers) in CHANGES {
            faults.fail(Call::Commit, 0, u64::MAX, kind);
            let answer = server.send(method, path, headers, "");
            faults.heal();
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
            // Who is told to come back is told when. Source: RFC 9110 § 10.2.3.
            assert_eq!(answer.header("retry-after").is_some(), status == 503, "{method}: {}", answer.head);
            assert_eq!(server.get("/dav/home/f").text(), "content", "{method} {path}, {kind:?}");
            assert_eq!(server.get("/dav/home/new").status, 404, "{method} {path}, {kind:?}");
        }
        let others = [("PROPFIND", Call::Read, ""), ("GET", Call::Read, ""), ("PUT", Call::Put, "fresh")];
        for (method, call, body) in others {
            faults.fail(call, 0, u64::MAX, kind);
            let answer = server.send(method, "/dav/home/f", &[], body);
            faults.heal();
            assert_eq!(answer.status, status, "{method}, {kind:?}: {}", answer.text());
        }
        assert_eq!(server.get("/dav/home/f").text(), "content", "{kind:?}");
    }
    assert_eq!(server.status("MOVE", "/dav/home/f", TO_NEW), 201);
}

#[test]
fn a_client_that_leaves_does_not_cut_a_change() {
    let server = Server::start();
    for round in 0..100 {
        server.put("/dav/home/from", format!("new {round}"));
        server.put("/dav/home/to", format!("old {round}"));
        let mut stream = server.connect();
        let request = format!(
            "MOVE /dav/home/from HTTP/1.1\r\nHost: {}\r\nDestination: /dav/home/to\r\nOverwrite: T\r\n\r\n",
            server.addr
        );
        stream.write_all(request.as_bytes()).expect("sent");
        drop(stream);
        // Now, or as soon as it is done: it is as before, or all of it has happened.
        let (to, from) = (server.get("/dav/home/to"), server.get("/dav/home/from"));
        let moved = to.text() == format!("new {round}");
        assert!(moved || to.text() == format!("old {round}"), "{}: {}", to.status, to.text());
        assert!(from.status == 404 || !moved, "round {round}: {} {}", from.status, from.text());
    }
}
