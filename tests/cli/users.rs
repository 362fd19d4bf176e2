//! `user`.

use crate::support::http::Client;
use crate::support::process;
use crate::support::server::Place;

fn status(server: &crate::support::server::Server, user: &str, password: &str, method: &str) -> u16 {
    let mut client = Client::new(server.address(), user, password);
    client.send(method, "/dav/home/x", &[], b"x").expect("an answer").status
}

#[test]
fn users_come_change_and_go_while_the_server_runs() {
    let place = Place::new();
    let server = place.start();
    let added = place.json(&["user", "add", "ann"], 60);
    let password = added["password"].as_str().expect("a made password").to_string();
    assert_eq!(status(&server, "ann", &password, "PUT"), 201);

    let viewer =
        process::start(&mut place.command(&["user", "add", "vic", "--role", "viewer", "--password-stdin"]));
    viewer.feed(b"only looking\n").finish(60).ok();
    assert_eq!(status(&server, "vic", "only looking", "GET"), 200);
    assert_eq!(status(&server, "vic", "only looking", "PUT"), 403);
    assert_eq!(status(&server, "vic", "only looking", "DELETE"), 403);

    let list = place.json(&["user", "list"], 60);
    let names: Vec<&str> =
        list.as_array().expect("a list").iter().filter_map(|u| u["name"].as_str()).collect();
    assert_eq!(names, ["admin", "ann", "vic"]);

    let changed = place.json(&["user", "password", "ann"], 60);
    assert_eq!(status(&server, "ann", &password, "GET"), 401, "the old password is dropped at once");
    assert_eq!(status(&server, "ann", changed["password"].as_str().expect("made"), "GET"), 200);

    place.run(&["user", "remove", "ann"], 60).ok();
    assert_eq!(status(&server, "ann", changed["password"].as_str().expect("made"), "GET"), 401);
    assert_eq!(place.run(&["user", "remove", "ann"], 60).code(), 1);
    assert_eq!(place.run(&["user", "remove", "admin"], 60).code(), 1, "the last owner stays");
    assert_eq!(place.run(&["user", "add", "a/b"], 60).code(), 2);
    assert_eq!(place.run(&["user", "add", "vic"], 60).code(), 1);
    assert!(server.stop().success());

    // Passwords are stored as argon2 hashes only.
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(place.path("data/segments")).expect("segments") {
        stored.extend(std::fs::read(entry.expect("an entry").path()).expect("a segment"));
    }
    let has = |text: &[u8]| stored.windows(text.len()).any(|window| window == text);
    assert!(!has(b"only looking") && !has(password.as_bytes()));
}
