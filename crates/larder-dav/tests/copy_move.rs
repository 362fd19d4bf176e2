//! COPY and MOVE: one step each, and nothing is ever lost on the way. Source: RFC 4918 § 9.8, § 9.9.

mod support;

use support::Server;

fn tree() -> Server {
    let server = Server::start();
    for folder in ["d", "d/b", "e"] {
        assert_eq!(server.status("MKCOL", &format!("/dav/home/{folder}"), &[]), 201);
    }
    server.put("/dav/home/d/b/f", "deep");
    server.put("/dav/home/d/f", "shallow");
    server.put("/dav/home/one", "1");
    server.put("/dav/home/two", "2");
    server
}

fn go(server: &Server, method: &str, from: &str, to: &str, more: &[(&str, &str)]) -> u16 {
    let to = format!("http://{}/dav/home/{to}", server.addr);
    let mut headers = vec![("Destination", to.as_str())];
    headers.extend_from_slice(more);
    server.status(method, &format!("/dav/home/{from}"), &headers)
}

#[test]
fn moving_onto_an_ancestor_or_below_itself_changes_nothing() {
    let server = tree();
    for method in ["MOVE", "COPY"] {
        for (from, to) in [
            ("d/b", "d"),
            ("d/b/f", "d"),
            ("d", "d/b"),
            ("d", "d/new"),
            ("d", "d/b/new"),
            ("d", "d"),
            ("one", "one"),
            ("d/", ""),
        ] {
            assert_eq!(go(&server, method, from, to, &[]), 403, "{method} {from} {to}");
        }
    }
    assert_eq!(server.get("/dav/home/d/b/f").text(), "deep");
    assert_eq!(server.get("/dav/home/d/f").text(), "shallow");
}

#[test]
fn who_meets_others_looks_again() {
    let server = tree();
    std::thread::scope(|scope| {
        let puts = scope.spawn(|| {
            (0..500).for_each(|_| assert!(matches!(server.put("/dav/home/two", "x").status, 200..=299)))
        });
        let mut number = 0;
        while !puts.is_finished() {
            // No condition was set, so none can fail; and it is there, whoever is faster.
            assert_eq!(go(&server, "COPY", "one", "two", &[]), 204);
            number += 1;
            let free = format!("new{number}");
            assert_eq!(go(&server, "COPY", "two", &free, &[("Overwrite", "F")]), 201);
            assert_eq!(go(&server, "MOVE", &free, "two", &[]), 204);
        }
    });
}

#[test]
fn overwrite_tells_what_it_did() {
    let server = tree();
    assert_eq!(go(&server, "COPY", "one", "two", &[("Overwrite", "F")]), 412);
    assert_eq!(server.get("/dav/home/two").text(), "2");
    assert_eq!(go(&server, "COPY", "one", "two", &[("Overwrite", "T")]), 204);
    assert_eq!(server.get("/dav/home/two").text(), "1");
    assert_eq!(go(&server, "COPY", "one", "three", &[("Overwrite", "F")]), 201);
    assert_eq!(go(&server, "MOVE", "one", "three", &[("Overwrite", "F")]), 412);
    assert_eq!(go(&server, "MOVE", "one", "three", &[]), 204);
    assert_eq!(server.get("/dav/home/one").status, 404);
    assert_eq!(go(&server, "MOVE", "three", "one", &[]), 201);
    assert_eq!(go(&server, "MOVE", "three", "one", &[]), 404);
    assert_eq!(go(&server, "MOVE", "one", "four", &[("Overwrite", "maybe")]), 400);
}

#[test]
fn folders_replace_files_and_folders_whole() {
    let server = tree();
    server.put("/dav/home/e/old", "x");
    assert_eq!(go(&server, "COPY", "d", "e", &[]), 204);
    assert_eq!(server.get("/dav/home/e/b/f").text(), "deep");
    assert_eq!(server.get("/dav/home/e/old").status, 404);
    assert_eq!(go(&server, "MOVE", "d", "one", &[]), 204);
    assert_eq!(server.get("/dav/home/one/b/f").text(), "deep");
    assert_eq!(server.get("/dav/home/d/f").status, 404);
    assert_eq!(go(&server, "MOVE", "two", "one", &[]), 204);
    assert_eq!(server.get("/dav/home/one").text(), "2");
}

#[test]
fn depth_zero_copies_the_folder_alone() {
    let server = tree();
    assert_eq!(go(&server, "COPY", "d", "alone", &[("Depth", "0")]), 201);
    assert_eq!(server.get("/dav/home/alone/").status, 200);
    assert_eq!(server.get("/dav/home/alone/f").status, 404);
    assert_eq!(go(&server, "COPY", "d", "x", &[("Depth", "1")]), 400);
    assert_eq!(go(&server, "MOVE", "d", "x", &[("Depth", "0")]), 400);
    assert_eq!(go(&server, "MOVE", "d", "x", &[("Depth", "infinity")]), 201);
}

#[test]
fn destinations_elsewhere_are_refused() {
    let server = tree();
    let send = |to: &str| server.status("COPY", "/dav/home/one", &[("Destination", to)]);
    assert_eq!(send("http://other.example/dav/home/x"), 502);
    assert_eq!(send(&format!("http://{}/elsewhere/x", server.addr)), 502);
    assert_eq!(send("http://127.0.0.1:1/dav/home/x"), 502);
    assert_eq!(send("/dav/home/relative"), 201);
    assert_eq!(send("/dav/home/no/such/folder"), 409);
    assert_eq!(send("/dav/home/one/below"), 409);
    assert_eq!(send("/dav/home/../x"), 400);
    assert_eq!(send("not a url"), 400);
    assert_eq!(send("/dav/"), 403);
    assert_eq!(send("/dav/home/"), 403);
    assert_eq!(server.status("COPY", "/dav/home/one", &[]), 400);
    let proxied =
        [("Destination", "https://drive.example/dav/home/p"), ("X-Forwarded-Host", "drive.example")];
    assert_eq!(server.status("COPY", "/dav/home/one", &proxied), 201);
}

#[test]
fn copies_share_content_and_carry_properties() {
    let server = tree();
    let patch = "<D:propertyupdate xmlns:D='DAV:'><D:set><D:prop><x xmlns='urn:x'>v</x></D:prop></D:set></D:propertyupdate>";
    assert_eq!(server.send("PROPPATCH", "/dav/home/d/f", &[], patch).status, 207);
    assert_eq!(go(&server, "COPY", "d", "copy", &[]), 201);
    let find = "<D:propfind xmlns:D='DAV:'><D:prop><x xmlns='urn:x'/></D:prop></D:propfind>";
    assert!(server.propfind("/dav/home/copy/f", "0", find).text().contains(">v</x>"));
    let tag = |path: &str| server.get(path).header("etag").expect("a tag").to_owned();
    assert_eq!(tag("/dav/home/d/f"), tag("/dav/home/copy/f"));
    server.put("/dav/home/copy/f", "changed");
    assert_eq!(server.get("/dav/home/d/f").text(), "shallow");
}

#[test]
fn locks_hold_against_both_ends() {
    let server = tree();
    let token = server.lock("/dav/home/d/f", &[]);
    let carried = format!("<http://{}/dav/home/d/f> (<{token}>)", server.addr);
    assert_eq!(go(&server, "MOVE", "d", "moved", &[]), 423);
    assert_eq!(go(&server, "MOVE", "d/f", "moved", &[]), 423);
    assert_eq!(go(&server, "COPY", "one", "d/f", &[]), 423);
    assert_eq!(go(&server, "COPY", "d/f", "copied", &[]), 201);
    assert_eq!(server.status("DELETE", "/dav/home/d", &[]), 423);
    assert_eq!(go(&server, "MOVE", "d/f", "moved", &[("If", &carried)]), 201);
    // A lock does not move with its resource.
    assert_eq!(server.put("/dav/home/moved", "free").status, 204);
}
