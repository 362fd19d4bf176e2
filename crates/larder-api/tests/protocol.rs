//! PROTOCOL.md is what the server really answers: its examples are played from top to bottom.

mod support;

use http_body_util::BodyExt;
use larder_core::NodeId;
use larder_store::Op;
use larder_store::catalog::XattrMode;
use serde_json::Value;
use support::World;

const TEXT: &str = include_str!("../PROTOCOL.md");

/// A request or an answer as the document shows it.
struct Shown<'a> {
    first: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: Vec<u8>,
}

fn shown(block: &str) -> Shown<'_> {
    let (head, body) = block.split_once("\n\n").unwrap_or((block, ""));
    let mut lines = head.lines();
    let first = lines.next().expect("a first line");
    let headers = lines.map(|line| line.split_once(": ").expect("a header")).collect();
    // Bytes are shown in hexadecimal.
    let body = match body.strip_prefix("hex ") {
        Some(digits) => {
            let digits: String = digits.split_whitespace().collect();
            let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
            pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
        }
        None => body.as_bytes().to_vec(),
    };
    Shown { first, headers, body }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_example_is_what_the_server_answers() {
    let world = World::new();
    let docs = world.folder(NodeId::ROOT, "docs");
    world.clock.advance(1_000_000_000);
    let file = world.put(docs.id, "50% off.txt", b"hello, larder\n");
    let (name, value) = (b"user.colour".to_vec(), Some(b"green".to_vec()));
    world.commit(vec![Op::SetXattr { node: file.id, name, value, mode: XattrMode::Any }]);

    let blocks = TEXT.split("```http\n").skip(1);
    let blocks: Vec<&str> = blocks.map(|rest| rest.split_once("\n```").expect("an end").0).collect();
    assert!(blocks.len() >= 24 && blocks.len().is_multiple_of(2), "{} blocks", blocks.len());
    let mut faults = Vec::new();
    for pair in blocks.chunks(2) {
        let (request, expected) = (shown(pair[0]), shown(pair[1]));
        let (method, path) = request.first.split_once(' ').expect("method and path");
        let response = world.open(method, path, &request.headers, &request.body);
        let (head, mut body) = response.into_parts();
        let endless = head.headers.get("content-type").is_some_and(|media| media == "text/event-stream");
        let body = if endless {
            world.next(&mut body).expect("an event")
        } else {
            world.runtime.block_on(body.collect()).expect("a whole body").to_bytes()
        };
        let media = head.headers.get("content-type").map_or("", |media| media.to_str().expect("text"));
        let text = match media {
            "application/octet-stream" => format!("hex {}", hex(&body)),
            _ => String::from_utf8_lossy(&body).into_owned(),
        };
        let real = format!("{}\n\n{}\n{:#?}\n\n{text}\n", pair[0], head.status, head.headers);
        let same_body = match serde_json::from_slice::<Value>(&body) {
            Ok(real) => serde_json::from_slice::<Value>(&expected.body).is_ok_and(|body| body == real),
            Err(_) => body.trim_ascii_end() == expected.body.trim_ascii_end(),
        };
        let same_headers = expected
            .headers
            .iter()
            .all(|(name, value)| head.headers.get_all(*name).iter().any(|real| real == value));
        if !(same_body && same_headers && head.status.to_string() == expected.first) {
            faults.push(real);
        }
    }
    assert!(faults.is_empty(), "these are what the server really answers:\n{}", faults.join("\n----\n"));
}
