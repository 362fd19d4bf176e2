//! `device`, and the protocol of devices over a real socket.

use crate::support::http::{self, Client};
use crate::support::server::{PASSWORD, Place, Server};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A server gives requests under way ten seconds; streams of news must not use them up.
const END_WITHIN: Duration = Duration::from_secs(8);
const HOME: &str = "/api/v1/projects/home";

/// A device of `user`: its id and a client that has its token.
fn device(server: &Server, user: &str, password: &str) -> (String, Client) {
    let mut client = Client::new(server.address(), user, password);
    let json = [("Content-Type", "application/json")];
    let made = client.ok("POST", "/api/v1/devices", &json, br#"{"name":"laptop"}"#);
    let made: Value = serde_json::from_slice(&made.body).expect("JSON");
    let text = |field: &str| made[field].as_str().expect("text").to_owned();
    (text("id"), Client::bearer(server.address(), &text("token")))
}

fn json(client: &mut Client, path: &str) -> Value {
    serde_json::from_slice(&client.ok("GET", path, &[], b"").body).expect("JSON")
}

fn status(client: &mut Client, path: &str) -> u16 {
    client.send("GET", path, &[], b"").expect("an answer").status
}

#[test]
fn a_device_reads_until_it_is_removed() {
    let place = Place::new();
    let server = place.start();
    let body: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    server.client().ok("PUT", "/dav/home/a%20file", &[], &body);
    let (id, mut client) = device(&server, "admin", PASSWORD);

    let found = json(&mut client, &format!("{HOME}/nodes/1/lookup?path=a%20file"));
    let node = &found["entries"][0]["node"];
    let listed = json(&mut client, &format!("{HOME}/nodes/1/entries"));
    assert_eq!(&listed["entries"][0]["node"], node);
    let head: larder_store::wire::WireHead = serde_json::from_value(node["file"].clone()).expect("a head");
    let ids: Vec<_> = head.read().expect("a head").extents.iter().map(|extent| extent.id).collect();
    let (node, wanted) =
        (node["id"].as_str().expect("an id"), ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>());
    let octets = [("Content-Type", "application/octet-stream")];
    let many = client.ok("POST", &format!("{HOME}/nodes/{node}/chunks"), &octets, &wanted).body;
    let (mut rest, mut whole) = (&many[..], Vec::new());
    for id in &ids {
        let (length, after) = rest.split_first_chunk().expect("a frame");
        let (chunk, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        assert_eq!(blake3::hash(chunk).as_bytes(), &id.0);
        whole.extend_from_slice(chunk);
        rest = after;
    }
    assert!(whole == body && rest.is_empty());
    let one = client.ok("GET", &format!("{HOME}/nodes/{node}/chunks/{}", ids[0]), &[], b"");
    assert_eq!(blake3::hash(&one.body).as_bytes(), &ids[0].0);
    assert_eq!(status(&mut server.client(), HOME), 401, "a password is no token");
    assert_eq!(status(&mut client, "/dav/home/a%20file"), 200, "as the device's rules show it");
    assert_eq!(status(&mut client, "/api/v1/nothing"), 404);

    let shown = place.json(&["device", "list"], 60);
    assert_eq!(
        (&shown[0]["id"], &shown[0]["name"], &shown[0]["user"]),
        (&id.as_str().into(), &"laptop".into(), &"admin".into())
    );
    let table = place.run(&["device", "list"], 60).ok();
    assert!(table.stdout.contains("laptop") && table.stdout.contains(&id), "{table}");
    let metrics = client.ok("GET", "/metrics", &[], b"").text();
    assert!(metrics.contains(r#"larder_requests_total{method="POST",status="2xx"} 2"#), "{metrics}");
    place.run(&["device", "remove", &id], 60).ok();
    assert_eq!(status(&mut client, HOME), 401);
    assert_eq!(status(&mut client, "/dav/home/a%20file"), 401);
    assert_eq!(place.run(&["device", "remove", &id], 60).code(), 1);
    assert!(server.stop().success());
    place.assert_no_panic();
}

#[test]
fn devices_go_with_their_user_and_outlive_a_restart() {
    let place = Place::new();
    let server = place.start();
    let added = |place: &Place| {
        let added = place.json(&["user", "add", "ann", "--role", "viewer"], 60);
        added["password"].as_str().expect("a made password").to_owned()
    };
    let (_, client) = device(&server, "ann", &added(&place));
    assert!(server.stop().success());
    let server = place.start();
    let mut client = client.moved(server.address());
    assert_eq!(json(&mut client, HOME)["role"], "viewer");
    place.run(&["user", "remove", "ann"], 60).ok();
    assert_eq!(status(&mut client, HOME), 401);
    added(&place);
    assert_eq!(status(&mut client, HOME), 401, "a user of the same name has its own devices");
    assert!(server.stop().success());
}

#[test]
fn limits_go_with_their_device_whoever_removes_it() {
    let place = Place::new();
    let server = place.start();
    let added = place.json(&["user", "add", "ann", "--role", "viewer"], 60);
    let password = added["password"].as_str().expect("a made password").to_owned();
    let mut devices: Vec<(String, Client)> = (0..3).map(|_| device(&server, "ann", &password)).collect();
    for (id, _) in &devices {
        place.run(&["limit", "--device", id, "--down", "1MiB/s"], 60).ok();
    }
    let limited = || place.json(&["limit"], 60)["devices"].as_object().map_or(0, serde_json::Map::len);
    assert_eq!(limited(), 3);
    let (id, client) = &mut devices[0];
    assert_eq!(
        client.send("DELETE", &format!("/api/v1/devices/{id}"), &[], b"").expect("an answer").status,
        204
    );
    assert_eq!(limited(), 2, "by itself");
    place.run(&["device", "remove", &devices[1].0], 60).ok();
    assert_eq!(limited(), 1, "by the operator");
    place.run(&["user", "remove", "ann"], 60).ok();
    assert_eq!(limited(), 0, "with its user");
    assert!(server.stop().success());
}

#[test]
fn news_come_while_the_server_runs_and_end_with_it() {
    let place = Place::new();
    let server = place.start();
    let (_, mut client) = device(&server, "admin", PASSWORD);
    let cursor = json(&mut client, HOME)["cursor"].as_str().expect("a cursor").to_owned();
    let mut stream = http::connect(server.address()).expect("a connection");
    let (host, authorization) = (server.address(), client.authorization());
    let head = format!(
        "GET {HOME}/news?after={cursor} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n\r\n"
    );
    stream.get_mut().write_all(head.as_bytes()).expect("sent");
    server.client().ok("PUT", "/dav/home/x", &[], b"x");
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(stream.read_line(&mut line).expect("news") > 0, "the stream ended");
    }
    let after = line.trim_end().trim_start_matches("data: ");
    let changes = json(&mut client, &format!("{HOME}/changes?after={cursor}"));
    assert_eq!((&changes["changes"][0]["name"]["name"], &changes["cursor"]), (&"x".into(), &after.into()));
    let told = Instant::now();
    assert!(server.stop().success());
    assert!(told.elapsed() < END_WITHIN, "a stream of news holds the server up");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an end in order");
    assert!(rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
}

/// Asks for a WebSocket of news; the connection behind the head of the answer, and its first line.
fn socket(server: &Server, client: &Client, cursor: &str, fields: &str) -> (BufReader<TcpStream>, String) {
    let mut stream = http::connect(server.address()).expect("a connection");
    let (host, authorization) = (server.address(), client.authorization());
    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket";
    let head = format!(
        "GET {HOME}/news?after={cursor} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n{upgrade}\r\n{fields}\r\n"
    );
    stream.get_mut().write_all(head.as_bytes()).expect("sent");
    let (mut answer, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        assert!(stream.read_line(&mut line).expect("a head") > 0, "the connection ended");
        answer.push_str(&line);
    }
    (stream, answer)
}

/// The next frame of a server: its first byte and what it carries. Source: RFC 6455 § 5.2.
fn frame(stream: &mut BufReader<TcpStream>) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame");
    assert!(head[1] < 126, "short, and a server does not mask: {head:?}");
    let mut body = vec![0; head[1].into()];
    stream.read_exact(&mut body).expect("all of it");
    (head[0], body)
}

#[test]
fn news_come_over_a_websocket_until_the_server_ends() {
    const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const PING: (u8, Vec<u8>) = (0x89, Vec::new());
    let place = Place::new();
    let server = place.start();
    let (_, mut client) = device(&server, "admin", PASSWORD);
    let cursor = json(&mut client, HOME)["cursor"].as_str().expect("a cursor").to_owned();
    let open = |fields| socket(&server, &client, &cursor, fields);
    for (fields, status) in [
        ("", "426 "),
        ("Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "426 "),
        ("Sec-WebSocket-Version: 13\r\n", "400 "),
        ("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n", "400 "),
    ] {
        let (_, answer) = open(fields);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{fields}: {answer}");
    }
    let (mut stream, answer) = open(KEY);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
    assert_eq!(frame(&mut stream), PING);
    server.client().ok("PUT", "/dav/home/x", &[], b"x");
    let (kind, told) = frame(&mut stream);
    let told: Value = serde_json::from_slice(&told).expect("JSON");
    let changes = json(&mut client, &format!("{HOME}/changes?after={cursor}"));
    assert_eq!((kind, &changes["changes"][0]["name"]["name"]), (0x81, &"x".into()));
    assert_eq!(told, json!({ "news": changes["cursor"] }));
    // A text of one byte, masked with zeros: nothing is to be said here.
    stream.get_mut().write_all(&[0x81, 0x81, 0, 0, 0, 0, b'x']).expect("sent");
    assert_eq!(frame(&mut stream), (0x88, 1003u16.to_be_bytes().to_vec()));

    let (mut stream, _) = socket(&server, &client, changes["cursor"].as_str().expect("text"), KEY);
    assert_eq!(frame(&mut stream), PING);
    let told = Instant::now();
    assert!(server.stop().success());
    assert!(told.elapsed() < END_WITHIN, "a WebSocket holds the server up");
    assert_eq!(frame(&mut stream), (0x88, 1001u16.to_be_bytes().to_vec()));
}

#[test]
fn plain_http_to_another_machine_takes_plain_words() {
    let place = Place::new();
    let refused = place.run(&["login", "http://192.0.2.1:1", "--password-stdin"], 60);
    assert_eq!(refused.code(), 2, "{refused}");
    assert!(refused.stderr.contains("--insecure-http"), "{refused}");
}

#[test]
fn what_a_device_has_of_a_server_is_not_served() {
    let place = Place::new();
    std::fs::create_dir_all(place.data()).expect("a directory");
    let origin = r#"{"server":"http://127.0.0.1:1","project":"home"}"#;
    std::fs::write(std::path::Path::new(&place.data()).join("origin.json"), origin).expect("written");
    for command in ["serve", "up"] {
        let refused = place.run(&[command, "--listen", "127.0.0.1:0"], 60);
        assert_eq!(refused.code(), 2, "{command}: {refused}");
        assert!(refused.stderr.contains("larder mount"), "{command}: {refused}");
    }
}
