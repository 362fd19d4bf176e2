//! What a server does beside serving files: start, status, end, messages whose length is in doubt.

use crate::support::server::{LARDER, Place, Speaking};
use crate::support::{http, lacking, process, skip};
use std::io::{Read, Write};
use std::path::Path;

#[test]
fn status_tells_what_runs() {
    let place = Place::new();
    let without = place.run(&["status"], 60);
    assert_eq!(without.code(), 1, "{without}");
    let server = place.start();
    server.client().ok("PUT", "/dav/home/a.bin", &[], &[7; 5000]);
    let status = place.json(&["status"], 60);
    assert_eq!((status["running"].as_bool(), status["used_bytes"].as_u64()), (Some(true), Some(5000)));
    let file = place.json(&["status", "/a.bin"], 60);
    assert_eq!((file["kind"].as_str(), file["size_bytes"].as_u64()), (Some("file"), Some(5000)));
    assert_eq!(place.run(&["status", "/nothing"], 60).code(), 1);
    let stats = place.json(&["stats"], 60);
    assert!(stats["stored_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{stats}");
    assert!(server.stop().success());
    assert!(!Path::new(&place.data()).join("control.sock").exists());
    assert_eq!(place.json(&["status"], 60)["running"], false);
}

#[test]
fn second_server_on_a_data_directory_is_refused() {
    let place = Place::new();
    let server = place.start();
    let second = place.run(&["serve", "--listen", "127.0.0.1:0"], 60);
    assert_eq!(second.code(), 1, "{second}");
    assert!(second.stderr.contains(&format!("process {}", server.id())), "{second}");
    assert!(server.lives());
    assert!(server.stop().success());
}

#[test]
fn port_in_use_is_told() {
    let place = Place::new();
    let server = place.start();
    let other = Place::new();
    let taken = other.run(&["serve", "--listen", &server.address().to_string()], 60);
    assert_eq!(taken.code(), 1, "{taken}");
    assert!(taken.stderr.contains(&server.address().to_string()), "{taken}");
}

#[test]
fn maintenance_runs_beside_a_server_and_without_one() {
    let place = Place::new();
    let server = place.start();
    server.client().ok("PUT", "/dav/home/a.bin", &[], &[7; 300_000]);
    for command in ["gc", "scrub", "rebuild", "stats"] {
        place.json(&[command], 120);
    }
    assert_eq!(server.client().ok("GET", "/dav/home/a.bin", &[], b"").body, vec![7; 300_000]);
    assert!(server.stop().success());
    for command in ["gc", "scrub", "rebuild", "stats"] {
        place.json(&[command], 120);
    }
    let server = place.start();
    assert_eq!(server.client().ok("GET", "/dav/home/a.bin", &[], b"").body, vec![7; 300_000]);
    assert!(server.stop().success());
}

#[test]
fn doubtful_lengths_get_one_400_and_a_closed_connection() {
    let place = Place::new();
    let server = place.start();
    let authorization = server.client().authorization().to_string();
    for (fields, body) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\nGET /dav/home/ HTTP/1.1\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"),
        ("Content-Length: 5\r\nContent-Length: 6", "hello!"),
        ("Content-Length: 5, 6", "hello!"),
        ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
    ] {
        for cut in [0, 20] {
            let mut stream = http::connect(server.address()).expect("a connection");
            let head = format!(
                "PUT /dav/home/x HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n{fields}\r\n\r\n"
            );
            // In two pieces as well: the doubt may come when hyper has seen a part of the head.
            let (first, second) = head.split_at(head.len() - cut);
            stream.get_mut().write_all(first.as_bytes()).expect("sent");
            // The server may have closed already; what it says is looked at below.
            let _ = stream.get_mut().write_all(format!("{second}{body}").as_bytes());
            let mut all = String::new();
            let _ = stream.read_to_string(&mut all);
            assert!(all.starts_with("HTTP/1.1 400 "), "{fields}: {all}");
            assert_eq!(all.matches("HTTP/1.1").count(), 1, "{fields}: {all}");
        }
    }
    assert_eq!(server.client().send("GET", "/dav/home/x", &[], b"").expect("an answer").status, 404);
    assert!(server.stop().success());
    place.assert_no_panic();
}

#[test]
fn completions_are_written_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.run(&["completions", shell], 60).ok().stdout;
        assert!(script.contains("restore"), "{shell}");
    }
}

#[test]
fn a_reader_who_has_enough_is_no_fault() {
    let place = Place::new();
    assert!(place.start().stop().success());
    for arguments in [&["completions", "bash"][..], &["stats"], &["stats", "--json"], &["doctor"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let done = place.command(arguments).stdout(writer).output().expect("the program starts");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.is_empty(), "{arguments:?}: {} {said}", done.status);
    }
}

#[test]
fn doctor_finds_a_directory_that_cannot_be_used() {
    let place = Place::new();
    let well = place.run(&["doctor", "--json"], 60);
    let findings: serde_json::Value = serde_json::from_str(&well.stdout).expect("JSON");
    let about =
        |name: &str| findings.as_array().expect("a list").iter().find(|f| f["about"] == name).cloned();
    assert_eq!(about("data").expect("looked at")["well"], true);
    assert_eq!(about("server").expect("looked at")["what"], "does not run");

    let file = place.path("file");
    std::fs::write(&file, "in the way").expect("a file");
    let unusable = file.join("data").display().to_string();
    let mut command = std::process::Command::new(LARDER);
    let wrong = process::run(command.args(["doctor", "--data", &unusable]), 60);
    assert_eq!(wrong.code(), 1, "{wrong}");
    let line = wrong.stdout.lines().find(|line| line.starts_with("WRONG data")).expect("it is found");
    assert!(line.contains("choose another --data"), "{line}");
}

#[test]
fn watch_shows_the_status_again_and_again() {
    let place = Place::new();
    let server = place.start();
    let watching = Speaking::start(&mut place.command(&["status", "--watch", "--json"]));
    for _ in 0..2 {
        let status: serde_json::Value = serde_json::from_str(&watching.line(60)).expect("a line of JSON");
        assert_eq!(status["pid"], server.id());
    }
    drop(watching);
    assert!(server.stop().success());
    let alone = place.run(&["status", "--watch"], 60);
    assert_eq!(alone.code(), 75, "{alone}");
}

#[test]
fn log_has_what_the_filter_asks_for() {
    let place = Place::new().with(&["--log", "larder_store=info"]);
    assert!(place.start().stop().success());
    assert!(place.log().lines().any(|line| line.contains("INFO") && line.contains("log replayed")));
    let quiet = Place::new();
    assert!(quiet.start().stop().success());
    assert_eq!(quiet.log(), "");
}

#[test]
fn start_is_told_in_json() {
    let place = Place::new();
    let server = Speaking::start(&mut place.command(&["serve", "--listen", "127.0.0.1:0", "--json"]));
    let ready: serde_json::Value = serde_json::from_str(&server.line(60)).expect("a line of JSON");
    assert_eq!((&ready["ready"], ready["data"].as_str()), (&true.into(), place.data().to_str()));
    assert!(ready["url"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{ready}");
    let other = Place::new();
    let started = other.run(&["serve", "--listen", "127.0.0.1:0", "--json", "--daemon"], 60).ok();
    assert!(started.stdout.contains("\"ready\":true"), "{started}");
    super::background::end(&other);
}

#[test]
fn long_work_shows_a_bar_on_a_terminal() {
    if let Some(why) = lacking(false, &["script"]) {
        return skip(&why);
    }
    let place = Place::new();
    let server = place.start();
    server.client().ok("PUT", "/dav/home/f", &[], &vec![7; 40 << 20]);
    let data = place.data().display().to_string();
    let command = format!("{LARDER} scrub --rate 30MiB/s --data {data}");
    let file = place.path("typescript").display().to_string();
    let mut script = std::process::Command::new("script");
    let done = process::run(script.args(["-qec", &command, &file]).env("TERM", "xterm"), 120).ok();
    assert!(done.stdout.contains("Scrubbing"), "{done}");
    let piped = place.run(&["scrub"], 120).ok();
    assert!(!piped.stderr.contains("Scrubbing"), "{piped}");
    assert!(server.stop().success());
}
