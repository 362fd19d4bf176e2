//! `--limit-down`, `--limit-up` and `limit`: how exact they are, and that they hold at once.

use crate::support::http::Client;
use crate::support::process;
use crate::support::rates::{MIB, assert_keeps};
use crate::support::server::{PASSWORD, Place};
use std::net::SocketAddr;
use std::time::Instant;

fn limit(place: &Place, direction: &str, rate: &str) {
    place.run(&["limit", direction, rate], 60).ok();
}

/// Bytes a second of each of `streams` downloads of `path` at a time.
fn downloads(server: SocketAddr, path: &str, streams: usize) -> Vec<f64> {
    downloads_of(server, path, &vec!["admin"; streams])
}

/// Bytes a second of downloads of `path` at a time, one by each of these users.
fn downloads_of(server: SocketAddr, path: &str, users: &[&str]) -> Vec<f64> {
    std::thread::scope(|scope| {
        let one = move |user: &str| {
            let mut client = Client::new(server, user, PASSWORD);
            let started = Instant::now();
            let bytes = client.drain(path);
            bytes as f64 / started.elapsed().as_secs_f64()
        };
        let threads: Vec<_> = users.iter().map(|user| scope.spawn(move || one(user))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a download")).collect()
    })
}

#[test]
fn downloads_keep_the_limit_and_share_it() {
    let place = Place::new();
    let server = place.start();
    let mut client = server.client();
    for (rate, per_s, streams, seconds) in [
        ("64KiB/s", MIB / 16.0, 1, 4.0),
        ("128KiB/s", MIB / 8.0, 8, 4.0),
        ("2MiB/s", 2.0 * MIB, 1, 3.0),
        ("20MiB/s", 20.0 * MIB, 8, 3.0),
        ("150MiB/s", 150.0 * MIB, 1, 2.0),
    ] {
        limit(&place, "--down", "off");
        let size = (per_s * seconds / streams as f64) as usize;
        client.ok("PUT", "/dav/home/file", &[], &vec![0x5a; size]);
        // Warm: what is measured is the limit, not the disk; and every client is known.
        downloads(server.address(), "/dav/home/file", streams);
        limit(&place, "--down", rate);
        assert_keeps(per_s, || downloads(server.address(), "/dav/home/file", streams));
    }
    assert!(server.stop().success());
}

#[test]
fn uploads_keep_the_limit() {
    let place = Place::new();
    let server = place.start();
    let mut client = server.client();
    client.ok("PUT", "/dav/home/warm", &[], b"x");
    limit(&place, "--up", "5MiB/s");
    let body = vec![0x5a; 15 << 20];
    assert_keeps(5.0 * MIB, || {
        let started = Instant::now();
        client.ok("PUT", "/dav/home/file", &[], &body);
        vec![body.len() as f64 / started.elapsed().as_secs_f64()]
    });
    assert!(server.stop().success());
}

#[test]
fn limit_holds_from_one_moment_to_the_next_and_after_a_restart() {
    let place = Place::new().with(&["--limit-up", "off"]);
    let server = place.start();
    let mut client = server.client();
    let body = vec![0x5a; 8 << 20];
    client.ok("PUT", "/dav/home/file", &[], &body);
    limit(&place, "--down", "1MiB/s");
    let started = Instant::now();
    std::thread::scope(|scope| {
        let address = server.address();
        let download = scope.spawn(move || downloads(address, "/dav/home/file", 1));
        // The change comes while the download runs: it would take eight seconds without.
        while place.json(&["status"], 60)["limits"]["down"] == "1MiB/s"
            && started.elapsed().as_secs_f64() < 1.0
        {}
        limit(&place, "--down", "off");
        download.join().expect("a download");
    });
    let took = started.elapsed().as_secs_f64();
    assert!((0.9..4.0).contains(&took), "{took}");
    limit(&place, "--down", "3MiB/s");
    assert!(server.stop().success());
    let server = place.start();
    assert_eq!(place.json(&["limit"], 60)["down"], "3MiB/s");
    assert!(server.stop().success());
    assert_eq!(place.run(&["limit", "--down", "fast"], 60).code(), 2);
}

#[test]
fn limits_follow_the_clock_where_the_server_lives() {
    // 9 hours east, without summer time.
    let place = Place::new().with_variable("TZ", "XYZ-9");
    let server = place.start();
    let shown = |arguments: &[&str]| place.json(&[&["limit"], arguments].concat(), 60);
    let there = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() / 3600 + 9;
    let [past, coming] = [there + 18, there + 6].map(|hour| format!("{:02}:00", hour % 24));
    let (inside, outside) = (format!("{past}-{coming}"), format!("{coming}-{past}"));
    let now = |arguments: &[&str]| {
        let limits = shown(arguments);
        ["down_now", "up_now"].map(|key| limits[key].as_str().expect("a text").to_string())
    };
    assert_eq!(now(&["--down", "2MiB/s", "--window", &inside]), ["2MiB/s", "off"]);
    assert_eq!(now(&["--down", "2MiB/s", "--up", "1MiB/s", "--window", &outside]), ["off", "off"]);
    assert_eq!(now(&["--up", "1MiB/s"]), ["off", "1MiB/s"]);
    // As rclone has it: up before down.
    let both = format!("{past},3M:2M {coming},off");
    assert_eq!(now(&["--down", &both, "--up", &both]), ["2MiB/s", "3MiB/s"]);
    let last = shown(&[]);
    for (arguments, place_of_mistake) in [
        (&["--down", "00:00,1M 25:00,off"][..], "\"25:00,off\" at character 10"),
        (&["--up", "1MiB/s", "--window", "mon-fry 08:00-18:00"], "\"mon-fry\" at character 1"),
        (&["--window", "08:00-18:00"], "--down, --up or --total"),
    ] {
        let refused = place.run(&[&["limit"], arguments].concat(), 60);
        assert_eq!(refused.code(), 2, "{refused}");
        assert!(refused.stderr.contains(place_of_mistake), "{refused}");
    }
    assert_eq!(shown(&[]), last, "mistakes change nothing");
    server.stop();
    let server = place.start();
    assert_eq!(shown(&[]), last, "and a start keeps it");
    server.stop();
}

#[test]
fn a_user_has_a_limit_below_that_of_the_server() {
    let place = Place::new();
    let server = place.start();
    for user in ["ann", "ben"] {
        let added = &mut place.command(&["user", "add", user, "--role", "viewer", "--password-stdin"]);
        process::start(added).feed(PASSWORD.as_bytes()).finish(60).ok();
    }
    server.client().ok("PUT", "/dav/home/file", &[], &vec![0x5a; 4 << 20]);
    let address = server.address();
    let measure = |users: &[&str]| downloads_of(address, "/dav/home/file", users);
    measure(&["ann", "ben"]);
    place.run(&["limit", "--user", "ann", "--down", "2MiB/s"], 60).ok();
    // However many connections she has; the others move as they like.
    assert_keeps(2.0 * MIB, || measure(&["ann", "ann", "ben"])[..2].to_vec());
    assert!(measure(&["ann", "ben"])[1] > 20.0 * MIB);
    limit(&place, "--down", "4MiB/s");
    assert_keeps(4.0 * MIB, || measure(&["ann", "ben"]));
    // Both directions together: what goes up leaves less for what goes down.
    limit(&place, "--down", "off");
    limit(&place, "--total", "4MiB/s");
    assert_keeps(4.0 * MIB, || {
        std::thread::scope(|scope| {
            let down = scope.spawn(|| measure(&["ben"])[0]);
            let mut client = Client::new(address, "admin", PASSWORD);
            let started = Instant::now();
            client.ok("PUT", "/dav/home/other", &[], &vec![0x5a; 4 << 20]);
            vec![4.0 * MIB / started.elapsed().as_secs_f64(), down.join().expect("a download")]
        })
    });
    let shown = place.json(&["limit"], 60);
    assert_eq!((&shown["total"], &shown["users"]["ann"]["down"]), (&"4MiB/s".into(), &"2MiB/s".into()));
    server.stop();
    let server = place.start();
    assert_eq!(place.json(&["limit"], 60), shown, "a start keeps all of it");
    assert_eq!(place.json(&["limit", "--user", "ann"], 60)["down_now"], "2MiB/s");
    // Whoever comes by that name later has no limit.
    place.run(&["user", "remove", "ann"], 60).ok();
    assert!(place.json(&["limit"], 60)["users"].is_null());
    for nobody in [["--user", "ann"], ["--device", "0123456789abcdef"]] {
        let refused = place.run(&[&["limit", "--up", "1MiB/s"][..], &nobody].concat(), 60);
        assert_eq!(refused.code(), 1, "{refused}");
    }
    server.stop();
}
