//! A folder of a million names is told as it is read: whole, and from a bounded memory.

#[path = "support/million.rs"]
mod million;
mod support;

use larder_core::NodeId;
use million::NAMES;
use std::io::{BufRead, BufReader, Write};
use support::Server;

/// What one answer may take, however long it is.
const ANSWER_MAX_KIB: u64 = 64 << 10;

/// A line of `/proc/self/status`, in KiB.
fn memory(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|value| value.trim().split(' ').next()?.parse().ok()).expect("a number")
}

#[test]
fn a_listing_of_a_million_is_whole_and_takes_no_memory() {
    let server = Server::start();
    million::fill(&server.drive, &server.actor(), NodeId::ROOT);
    // From here on the highest is that of the answer. Source: proc_pid_clear_refs(5).
    std::fs::write("/proc/self/clear_refs", "5").expect("own process");
    let before = memory("VmRSS");
    // To a client of HTTP/1.0 the body goes as it is, without the lengths of its pieces.
    let mut stream = server.connect();
    let request = format!("PROPFIND /dav/home/ HTTP/1.0\r\nHost: {}\r\nDepth: 1\r\n\r\n", server.addr);
    stream.write_all(request.as_bytes()).expect("sent");
    let mut told = vec![0_u8; NAMES as usize];
    let (mut length, mut last) = (0, Vec::new());
    for piece in BufReader::new(stream).split(b'>') {
        let piece = piece.expect("the answer goes on");
        length += piece.len() as u64 + 1;
        let name = piece.strip_suffix(b"</D:href").and_then(|href| href.strip_prefix(b"/dav/home/"));
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let number = std::str::from_utf8(name).ok().and_then(|text| text.parse::<usize>().ok());
            told[number.expect("a number")] += 1;
        }
        last = piece;
    }
    let grown = memory("VmHWM").saturating_sub(before);
    println!("{length} bytes; memory: {before} KiB, {grown} KiB more at most");
    assert_eq!(last, b"\n", "the answer ends behind its last element");
    assert_eq!(told.iter().position(|times| *times != 1), None, "told once each");
    assert!(length > 100 * NAMES, "all properties are told");
    assert!(grown < ANSWER_MAX_KIB, "an answer of {length} bytes took {grown} KiB");
}
