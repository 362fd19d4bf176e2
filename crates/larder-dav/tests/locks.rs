//! Locks as RFC 4918 § 6, § 7, § 9.10 and § 10.4 have them.

mod support;

use support::{LOCKINFO, Server};

const SECOND: i64 = 1_000_000_000;

fn tagged(server: &Server, path: &str, token: &str) -> String {
    format!("<http://{}{path}> (<{token}>)", server.addr)
}

#[test]
fn a_lock_shuts_out_whoever_lacks_its_token() {
    let server = Server::start();
    server.put("/dav/home/f", "old");
    let token = server.lock("/dav/home/f", &[]);
    let refused = server.put("/dav/home/f", "x");
    assert_eq!(refused.status, 423);
    assert!(refused.text().contains("<D:lock-token-submitted"), "{}", refused.text());
    for method in ["DELETE", "PROPPATCH", "LOCK"] {
        let body = match method {
            "PROPPATCH" => {
                "<D:propertyupdate xmlns:D='DAV:'><D:set><D:prop><x/></D:prop></D:set></D:propertyupdate>"
            }
            "LOCK" => LOCKINFO,
            _ => "",
        };
        assert_eq!(server.send(method, "/dav/home/f", &[], body).status, 423, "{method}");
    }
    let carried = format!("(<{token}>)");
    assert_eq!(server.send("PUT", "/dav/home/f", &[("If", &carried)], "new").status, 204);
    assert_eq!(server.get("/dav/home/f").text(), "new");
    let header = format!("<{token}>");
    assert_eq!(server.status("UNLOCK", "/dav/home/f", &[]), 400);
    assert_eq!(server.status("UNLOCK", "/dav/home/f", &[("Lock-Token", "<urn:uuid:none>")]), 409);
    assert_eq!(server.status("UNLOCK", "/dav/home/other", &[("Lock-Token", &header)]), 409);
    assert_eq!(server.status("UNLOCK", "/dav/home/f", &[("Lock-Token", &header)]), 204);
    assert_eq!(server.status("UNLOCK", "/dav/home/f", &[("Lock-Token", &header)]), 409);
    assert_eq!(server.put("/dav/home/f", "free").status, 204);
}

#[test]
fn the_answer_describes_the_lock() {
    let server = Server::start();
    server.put("/dav/home/f", "x");
    let answer = server.send("LOCK", "/dav/home/f", &[("Timeout", "Second-100, Infinite")], LOCKINFO);
    assert_eq!(answer.status, 200);
    let token = answer.header("lock-token").expect("a token").trim_matches(['<', '>']).to_owned();
    assert!(token.starts_with("urn:uuid:"));
    let text = answer.text();
    for part in ["Second-100", &token, "/dav/home/f", "mailto:ann", "exclusive"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let discovered = server.propfind("/dav/home/f", "0", "");
    for part in
        ["Second-100", &token, "<D:lockroot><D:href>/dav/home/f</D:href>", "mailto:ann", "<D:exclusive/>"]
    {
        assert!(discovered.text().contains(part), "{part} in {}", discovered.text());
    }
}

#[test]
fn locks_expire_by_the_clock() {
    let server = Server::start();
    server.put("/dav/home/f", "x");
    server.lock("/dav/home/f", &[("Timeout", "Second-1")]);
    assert_eq!(server.put("/dav/home/f", "y").status, 423);
    server.clock.advance(2 * SECOND);
    assert_eq!(server.put("/dav/home/f", "y").status, 204);
    for (asked, granted) in [
        ("Infinite", 604_800),
        ("Second-4100000000", 604_800),
        ("Second-99999999999999999999", 604_800),
        ("Extend, Second-7", 7),
    ] {
        let answer = server.send("LOCK", "/dav/home/f", &[("Timeout", asked)], LOCKINFO);
        assert!(answer.text().contains(&format!("Second-{granted}")), "{asked}: {}", answer.text());
        let token = answer.header("lock-token").expect("a token");
        assert_eq!(server.status("UNLOCK", "/dav/home/f", &[("Lock-Token", token)]), 204);
    }
}

#[test]
fn a_refresh_prolongs() {
    let server = Server::start();
    server.put("/dav/home/f", "x");
    let token = server.lock("/dav/home/f", &[("Timeout", "Second-10")]);
    server.clock.advance(9 * SECOND);
    let carried = format!("(<{token}>)");
    let answer = server.send("LOCK", "/dav/home/f", &[("If", &carried), ("Timeout", "Second-10")], "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("Second-10") && answer.text().contains("mailto:ann"), "{}", answer.text());
    server.clock.advance(9 * SECOND);
    assert_eq!(server.put("/dav/home/f", "y").status, 423);
    server.clock.advance(2 * SECOND);
    assert_eq!(server.send("LOCK", "/dav/home/f", &[("If", &carried)], "").status, 412);
    assert_eq!(server.send("LOCK", "/dav/home/f", &[], "").status, 412);
}

#[test]
fn locking_nothing_makes_an_empty_file() {
    let server = Server::start();
    let answer = server.send("LOCK", "/dav/home/new", &[], LOCKINFO);
    assert_eq!(answer.status, 201);
    let token = answer.header("lock-token").expect("a token").trim_matches(['<', '>']).to_owned();
    assert_eq!(server.get("/dav/home/new").header("content-length"), Some("0"));
    assert_eq!(server.put("/dav/home/new", "x").status, 423);
    let carried = tagged(&server, "/dav/home/new", &token);
    assert_eq!(server.send("PUT", "/dav/home/new", &[("If", &carried)], "x").status, 204);
    assert_eq!(server.send("LOCK", "/dav/home/no/such", &[], LOCKINFO).status, 409);
    assert_eq!(server.send("LOCK", "/dav/home/fresh", &[("If-Match", "*")], LOCKINFO).status, 412);
    assert_eq!(server.get("/dav/home/fresh").status, 404);
}

#[test]
fn a_refused_lock_leaves_no_file() {
    let server = Server::start();
    let long_owner = LOCKINFO.replace("mailto:ann", &"a".repeat(10_000));
    let no_scope = LOCKINFO.replace("exclusive", "sideways");
    for (headers, body) in [
        (&[("Depth", "1")][..], LOCKINFO),
        (&[("Depth", "2")], LOCKINFO),
        (&[], &long_owner),
        (&[], &no_scope),
        (&[("Lock-Token", "<x>")], "<D:lockinfo xmlns:D='DAV:'/>"),
    ] {
        let answer = server.send("LOCK", "/dav/home/none", headers, body);
        assert!((400..500).contains(&answer.status), "{headers:?}: {} {}", answer.status, answer.text());
        assert_eq!(server.get("/dav/home/none").status, 404, "{headers:?}");
    }
}

#[test]
fn a_shallow_lock_of_a_folder_protects_its_names() {
    let server = Server::start();
    server.status("MKCOL", "/dav/home/d", &[]);
    server.put("/dav/home/d/f", "x");
    let token = server.lock("/dav/home/d", &[("Depth", "0")]);
    assert_eq!(server.put("/dav/home/d/new", "x").status, 423);
    assert_eq!(server.status("DELETE", "/dav/home/d/f", &[]), 423);
    assert_eq!(server.status("MKCOL", "/dav/home/d/e", &[]), 423);
    assert_eq!(server.send("LOCK", "/dav/home/d/null", &[], LOCKINFO).status, 423);
    assert_eq!(server.get("/dav/home/d/null").status, 404);
    assert_eq!(server.put("/dav/home/d/f", "content is free").status, 204);
    let carried = tagged(&server, "/dav/home/d/", &token);
    assert_eq!(server.send("PUT", "/dav/home/d/new", &[("If", &carried)], "x").status, 201);
}

#[test]
fn a_deep_lock_covers_everything_below() {
    let server = Server::start();
    server.status("MKCOL", "/dav/home/d", &[]);
    server.status("MKCOL", "/dav/home/d/e", &[]);
    server.put("/dav/home/d/e/f", "x");
    let token = server.lock("/dav/home/d", &[("Depth", "infinity")]);
    assert_eq!(server.put("/dav/home/d/e/f", "y").status, 423);
    assert_eq!(server.put("/dav/home/d/e/new", "y").status, 423);
    let conflict = server.send("LOCK", "/dav/home/d/e/f", &[], LOCKINFO);
    assert_eq!(conflict.status, 423);
    assert!(conflict.text().contains("<D:no-conflicting-lock"), "{}", conflict.text());
    let carried = format!("(<{token}>)");
    assert_eq!(server.send("PUT", "/dav/home/d/e/new", &[("If", &carried)], "y").status, 201);
    // The lock of a folder can be ended through any member. Source: RFC 4918 § 9.11.
    assert_eq!(server.status("UNLOCK", "/dav/home/d/e/f", &[("Lock-Token", &format!("<{token}>"))]), 204);
    let inner = server.lock("/dav/home/d/e/f", &[]);
    assert_eq!(server.send("LOCK", "/dav/home/d", &[], LOCKINFO).status, 423);
    assert_eq!(server.send("LOCK", "/dav/home/d", &[("Depth", "1")], LOCKINFO).status, 400);
    drop(inner);
}

#[test]
fn shared_locks_share() {
    let server = Server::start();
    server.put("/dav/home/f", "x");
    let shared = LOCKINFO.replace("exclusive", "shared");
    let first = server.send("LOCK", "/dav/home/f", &[], &shared);
    let second = server.send("LOCK", "/dav/home/f", &[], &shared);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(server.send("LOCK", "/dav/home/f", &[], LOCKINFO).status, 423);
    assert_eq!(server.put("/dav/home/f", "y").status, 423);
    let carried = format!("({})", second.header("lock-token").expect("a token"));
    assert_eq!(server.send("PUT", "/dav/home/f", &[("If", &carried)], "y").status, 204);
}

#[test]
fn the_if_header_is_evaluated_and_never_panics() {
    let server = Server::start();
    server.put("/dav/home/f", "x");
    server.put("/dav/home/g", "x");
    let token = server.lock("/dav/home/f", &[]);
    let tag = server.get("/dav/home/f").header("etag").expect("a tag").to_owned();
    let put = |path: &str, value: &str| server.send("PUT", path, &[("If", value)], "x").status;
    for garbage in ["(<<[", "()", "(", "x", "(<a>", "<x>", "([\"x\"]", "(Not)", "<a> <b> (<c>)"] {
        assert_eq!(put("/dav/home/f", garbage), 400, "{garbage}");
    }
    assert_eq!(put("/dav/home/f", &format!("(<{token}> [{tag}])")), 204);
    assert_eq!(put("/dav/home/f", &format!("(<{token}> [\"other\"])")), 412);
    assert_eq!(put("/dav/home/f", &format!("(<{token}> Not [\"other\"])")), 204);
    assert_eq!(put("/dav/home/f", &format!("(<{token}> [\"other\"]) (Not <DAV:no-lock> <{token}>)")), 204);
    assert_eq!(put("/dav/home/f", "(<urn:uuid:other>)"), 412);
    assert_eq!(put("/dav/home/f", "(<DAV:no-lock>)"), 412);
    assert_eq!(put("/dav/home/f", "(Not <DAV:no-lock>)"), 423);
    // Tagged lists: about another resource, which need not be here.
    assert_eq!(put("/dav/home/g", &format!("<http://{}/dav/home/f> (<{token}>)", server.addr)), 204);
    assert_eq!(put("/dav/home/g", &format!("</dav/home/f> (<{token}>)")), 204);
    assert_eq!(put("/dav/home/g", &format!("(<{token}>)")), 412);
    assert_eq!(put("/dav/home/g", &format!("<http://other.example/dav/home/f> (<{token}>)")), 412);
    assert_eq!(put("/dav/home/g", "<http://other.example/x> (Not <urn:x>)"), 412);
    let twice = server.send("PUT", "/dav/home/g", &[("If", "(Not <urn:x>)"), ("If", "(Not <urn:y>)")], "x");
    assert_eq!(twice.status, 400);
}

#[test]
fn locks_survive_a_restart_and_end_with_their_file() {
    let server = Server::start();
    server.put("/dav/home/f", "x");
    let token = server.lock("/dav/home/f", &[]);
    let carried = format!("(<{token}>)");
    let again = server.restart();
    assert_eq!(again.put("/dav/home/f", "y").status, 423);
    assert_eq!(again.send("DELETE", "/dav/home/f", &[("If", &carried)], "").status, 204);
    assert_eq!(again.put("/dav/home/f", "new").status, 201);
    assert_eq!(again.put("/dav/home/f", "newer").status, 204);
}

#[test]
fn lock_bodies_are_read_strictly_and_leniently_where_the_rfc_says_so() {
    let server = Server::start();
    server.put("/dav/home/f", "x");
    let lock = |body: &str| server.send("LOCK", "/dav/home/f", &[], body).status;
    for bad in [
        "garbage",
        "<D:lockinfo xmlns:D='DAV:'/>",
        "<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>",
        "<D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:read/></D:locktype></D:lockinfo>",
        "<!DOCTYPE x [<!ENTITY a 'b'>]><D:lockinfo xmlns:D='DAV:'/>",
    ] {
        assert_eq!(lock(bad), 400, "{bad}");
    }
    let unknown = LOCKINFO.replace("</D:lockinfo>", "<x:new xmlns:x='urn:x'><x:y/></x:new></D:lockinfo>");
    assert_eq!(lock(&unknown), 200);
}
