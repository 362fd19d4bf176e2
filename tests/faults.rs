//! What goes wrong between a device and its server: no wrong byte is read, every call ends in time, and the message says what
//! to do.

#![cfg(target_os = "linux")]

mod support;

use rustix::io::Errno;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::process::{self, signal};
use support::proxy::Proxy;
use support::remote::{MIB, World, errno, names};
use support::server::{PASSWORD, Place};
use support::{lacking, skip, soon, within};

/// Stands in the place of a server, and says to every request what `answer` does; where it is, and how often it was asked.
fn strange(answer: fn(&mut dyn Write) -> std::io::Result<()>) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, asked) = (listener.local_addr().expect("bound"), Arc::new(AtomicU64::new(0)));
    let count = asked.clone();
    // Lives as long as the test program.
    std::thread::spawn(move || {
        for mut peer in listener.incoming().map_while(Result::ok) {
            let count = count.clone();
            std::thread::spawn(move || {
                let mut request = [0; 64 << 10];
                if peer.read(&mut request).is_ok_and(|len| len > 0) {
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = answer(&mut peer);
                }
            });
        }
    });
    (address, asked)
}

fn status(world: &World, name: &str) -> Value {
    world.device.json(&["status", &world.file(name).display().to_string()], 30)
}

#[track_caller]
fn read_fails_in_time(world: &World, name: &str) {
    let started = Instant::now();
    assert_eq!(errno(world.read(name)), Some(Errno::TIMEDOUT.raw_os_error()));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let Some(world) = World::new() else { return };
    let big = world.noise(8 * MIB);
    world.put("big", &big);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big"]);
    let (busy, asked) = strange(|peer| {
        let said = r#"{"kind":"unavailable","what":"too many requests"}"#;
        let head = "HTTP/1.1 429 Slower\r\nRetry-After: 2\r\nContent-Type: application/problem+json";
        write!(peer, "{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}", said.len())
    });
    world.proxy.lead_to(Some(busy));
    world.device.run(&["fetch", &world.file("big").display().to_string()], 30).ok();
    read_fails_in_time(&world, "big");
    // Two seconds between tries of what is read, of what is fetched, and of the news.
    let asked = asked.load(Ordering::Relaxed);
    assert!((2..=40).contains(&asked), "{asked} requests");
    world.proxy.lead_to(Some(world.server().address()));
    assert!(soon(|| status(&world, "big")["fetches"][0]["state"] == "done"));
    assert!(world.read("big").expect("read") == big);
    world.end(device);
}

#[test]
fn a_server_that_drips_holds_nobody_longer_than_told() {
    let Some(world) = World::new() else { return };
    let big = world.noise(8 * MIB);
    world.put("big", &big);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big"]);
    let (dripping, _) = strange(|peer| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 8000000\r\n\r\n";
        peer.write_all(head.as_bytes())?;
        // The length of a chunk, which does not come.
        peer.write_all(&65_536_u32.to_le_bytes())?;
        let (_sender, never) = std::sync::mpsc::channel::<()>();
        loop {
            peer.write_all(b"\x01")?;
            let _ = never.recv_timeout(Duration::from_millis(50));
        }
    });
    world.proxy.lead_to(Some(dripping));
    read_fails_in_time(&world, "big");
    let started = Instant::now();
    assert!(world.device.json(&["status"], 30)["mounts"].is_array());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    world.proxy.lead_to(Some(world.server().address()));
    assert!(world.read("big").expect("read") == big);
    world.end(device);
}

#[test]
fn a_token_that_ends_in_the_middle_says_what_to_do_and_loses_nothing() {
    let Some(world) = World::new() else { return };
    let big = world.noise(24 * MIB);
    world.put("big", &big);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big"]);
    let file = world.file("big").display().to_string();
    world.device.run(&["fetch", &file, "--limit", "4MiB/s"], 30).ok();
    assert!(soon(|| status(&world, "big")["here_bytes"].as_u64().is_some_and(|here| here > 0)));
    let id = world.home.json(&["device", "list"], 30)[0]["id"].as_str().expect("an id").to_owned();
    world.home.run(&["device", "remove", &id], 30).ok();
    let fetch = || status(&world, "big")["fetches"][0].clone();
    assert!(soon(|| fetch()["state"] == "failed"), "{}", fetch());
    assert!(fetch()["why"].as_str().is_some_and(|why| why.contains("larder login")), "{}", fetch());
    assert_eq!(errno(world.read("big")), Some(Errno::ACCESS.raw_os_error()));
    fs::write(world.file("written"), b"kept").expect("written");
    let trouble = || world.device.json(&["push", &file], 30)["trouble"].clone();
    assert!(soon(|| trouble().as_str().is_some_and(|why| why.contains("larder login"))), "{}", trouble());
    device.stop();
    world.device.log_in(world.proxy.address());
    let device = world.mount();
    assert!(world.read("big").expect("read") == big);
    let sent = || world.server().client().send("GET", "/dav/home/written", &[], b"");
    assert!(soon(|| sent().is_ok_and(|answer| answer.body == b"kept")));
    world.end(device);
}

#[test]
fn a_device_that_was_stopped_for_a_minute_goes_on() {
    let Some(world) = World::new() else { return };
    let (big, other) = (world.noise(24 * MIB), world.noise(24 * MIB));
    world.put("big", &big);
    world.put("other", &other);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big", "other"]);
    world.device.run(&["fetch", &world.file("other").display().to_string(), "--limit", "4MiB/s"], 30).ok();
    let here = || status(&world, "other")["here_bytes"].as_u64().unwrap_or_default();
    assert!(soon(|| here() > 0));
    std::thread::scope(|scope| {
        let file = world.file("big");
        let before = world.proxy.moved();
        let reader = scope.spawn(move || fs::read(file));
        assert!(soon(|| world.proxy.moved() > before + MIB));
        signal(device.id(), libc::SIGSTOP);
        // Longer than the server waits for somebody who takes nothing.
        assert!(!within(Duration::from_secs(60), || false));
        signal(device.id(), libc::SIGCONT);
        match reader.join().expect("no panic") {
            Ok(bytes) => assert!(bytes == big),
            // Its deadline may have come meanwhile.
            Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::TIMEDOUT.raw_os_error())),
        }
    });
    assert!(soon(|| world.read("big").is_ok_and(|bytes| bytes == big)));
    assert!(within(Duration::from_secs(30), || here() == 24 * MIB), "{}", status(&world, "other"));
    assert!(world.read("other").expect("read") == other);
    fs::write(world.file("written"), b"after").expect("written");
    let sent = || world.server().client().send("GET", "/dav/home/written", &[], b"");
    assert!(within(Duration::from_secs(30), || sent().is_ok_and(|answer| answer.body == b"after")));
    world.end(device);
}

fn make_certificate(cert: &Path, key: &Path) {
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let arguments =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let more = ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &key, "-out", &cert];
    process::ok("openssl", &[&arguments[..], &more[..]].concat(), 60);
}

#[test]
fn a_certificate_of_somebody_else_ends_every_call_and_says_how_to_trust_it() {
    if let Some(why) = lacking(true, &["openssl"]) {
        return skip(&why);
    }
    let home = Place::new();
    let (cert, key) = (home.path("cert.pem"), home.path("key.pem"));
    make_certificate(&cert, &key);
    let files = [&cert, &key].map(|file| file.display().to_string());
    let home = home.with(&["--tls-cert", &files[0], "--tls-key", &files[1]]);
    let server = home.start();
    let way = Proxy::start(server.address());
    let url = format!("https://{}", way.address());
    let device = Place::new().mounted(120).with(&["--reader-deadline", "5"]);
    let log_in = || {
        let login = ["login", &url, "--password-stdin", "--ca", &files[0]];
        process::start(&mut device.command(&login)).feed(PASSWORD.as_bytes()).finish(60).ok();
    };
    log_in();
    let mounted =
        || device.attach_to(&format!("{url}/home")).unwrap_or_else(|why| panic!("{why}\n{}", device.log()));
    let running = mounted();
    let file = device.mount().join("made");
    fs::write(&file, b"content").expect("written");
    device.run(&["push", &file.display().to_string(), "--wait"], 60).ok();
    // Somebody else answers at the address: nothing is told them.
    make_certificate(&cert, &key);
    signal(server.id(), libc::SIGHUP);
    let trouble = || device.json(&["push", &file.display().to_string()], 30)["trouble"].to_string();
    let is_refused = || {
        way.lead_to(None);
        way.lead_to(Some(server.address()));
        fs::write(&file, "changed").expect("written");
        trouble().contains("larder login --ca FILE")
    };
    assert!(soon(is_refused), "{}", trouble());
    running.stop();
    log_in();
    let running = mounted();
    device.run(&["push", &file.display().to_string(), "--wait"], 60).ok();
    running.stop();
    server.stop();
}
