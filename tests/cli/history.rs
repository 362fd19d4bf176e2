//! `versions` and `restore`.

use crate::support::server::Place;

#[test]
fn versions_and_deleted_files_come_back() {
    let place = Place::new();
    let server = place.start();
    let mut client = server.client();
    for text in ["one", "two", "three"] {
        client.ok("PUT", "/dav/home/note.txt", &[], text.as_bytes());
    }
    let versions = place.json(&["versions", "/note.txt"], 60);
    let sizes: Vec<u64> =
        versions.as_array().expect("a list").iter().filter_map(|v| v["size_bytes"].as_u64()).collect();
    assert_eq!(sizes, [3, 3, 5]);
    assert_eq!(versions[2]["current"], true);

    place.run(&["restore", "/note.txt", "--version", "1"], 60).ok();
    assert_eq!(client.ok("GET", "/dav/home/note.txt", &[], b"").text(), "one");

    client.ok("DELETE", "/dav/home/note.txt", &[], b"");
    assert_eq!(client.send("GET", "/dav/home/note.txt", &[], b"").expect("an answer").status, 404);
    place.run(&["restore", "/note.txt"], 60).ok();
    assert_eq!(client.ok("GET", "/dav/home/note.txt", &[], b"").text(), "one");
    assert!(server.stop().success());

    // And the same without a server.
    let versions = place.json(&["versions", "note.txt"], 60);
    assert!(versions.as_array().expect("a list").len() >= 4, "{versions}");
    let server = place.start();
    server.client().ok("PUT", "/dav/home/at.txt", &[], b"first");
    let between = jiff::Timestamp::now().to_string();
    server.client().ok("PUT", "/dav/home/at.txt", &[], b"second");
    place.run(&["restore", "/at.txt", "--at", &between], 60).ok();
    assert_eq!(server.client().ok("GET", "/dav/home/at.txt", &[], b"").text(), "first");
    assert_eq!(place.run(&["restore", "/at.txt", "--at", "1h"], 60).code(), 1, "it was not there then");
    assert!(server.stop().success());

    let missing = place.run(&["restore", "/nothing"], 60);
    assert_eq!(missing.code(), 1, "{missing}");
    let bad = place.run(&["restore", "/note.txt", "--at", "yesterday"], 60);
    assert_eq!(bad.code(), 2, "{bad}");
    assert!(bad.stderr.contains("2026-11-20T18:00:00Z"), "{bad}");
}
