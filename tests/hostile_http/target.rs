//! A server under attack, and what must be true of it afterwards.

use super::raw::{Reply, fields, talk};
use crate::support::server::{Place, Server};
use std::net::SocketAddr;

/// Any answer that needs no waiting for the peer comes within this.
pub const PROMPT_S: u64 = 60;
/// The server's memory stays below this, whatever comes.
const RSS_MAX_KIB: u64 = 400 << 10;

/// A server with one file, `/home/kept`.
pub struct Target {
    place: Place,
    /// The server.
    pub server: Server,
}

/// The file.
pub const KEPT: &str = "/dav/home/kept";

impl Target {
    /// Starts the server.
    pub fn new() -> Target {
        let place = Place::new();
        let server = place.start();
        server.client().ok("PUT", KEPT, &[], b"kept as it was");
        Target { place, server }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Sends a request with good fields, `more` and a body.
    pub fn request(&self, line: &str, more: &str, body: &[u8]) -> Reply {
        let length = format!("Content-Length: {}\r\n", body.len());
        let head = format!("{line} HTTP/1.1\r\n{}{length}{more}\r\n", fields(self.address()));
        talk(self.address(), &[head.as_bytes(), body].concat(), false, PROMPT_S)
    }

    /// Sends such a request, which must get one answer of 4xx.
    #[track_caller]
    pub fn refuses(&self, line: &str, more: &str, body: &[u8]) -> Reply {
        let reply = self.request(line, more, body);
        let shown = || format!("{} {}: {reply:?}", shorten(line), shorten(more));
        assert!((400..500).contains(&reply.status()) && reply.closed, "{}", shown());
        reply
    }

    /// Panics unless the server works as before and nothing in it changed.
    #[track_caller]
    pub fn expect_unharmed(self) {
        self.place.assert_no_panic();
        assert!(self.server.lives(), "the server is gone:\n{}", self.place.log());
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).expect("its status");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
        let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(peak_kib < RSS_MAX_KIB, "{peak_kib} KiB of memory");
        let mut client = self.server.client();
        assert_eq!(client.ok("GET", KEPT, &[], b"").text(), "kept as it was");
        let home = client.ok("PROPFIND", "/dav/home/", &[("Depth", "1")], b"").text();
        let names: Vec<&str> = home.split("href>").skip(1).step_by(2).collect();
        assert_eq!(names.len(), 2, "only home and what is kept: {names:?}");
        self.server.stop();
        self.place.assert_no_panic();
    }
}

/// The start of a long text, for messages.
pub fn shorten(text: &str) -> String {
    text.chars().take(120).collect()
}
