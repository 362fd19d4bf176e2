//! A WebDAV server over memory on a free port, and a client that writes requests byte by byte.

#![allow(dead_code, reason = "each test file uses its own part")]

use hyper_util::rt::TokioIo;
use larder_core::{DrivePath, Node, Timestamp};
use larder_dav::{DavService, Limits, Role, Settings, User};
use larder_drive::{Actor, Clock, Door, Drive, Parts};
use larder_store::KvCatalog;
use larder_store::faulty::{Faults, Faulty};
use larder_store::memory::{MemoryChunks, MemoryKv};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// 2026-01-01T00:00:00Z.
pub const START_S: i64 = 1_767_225_600;
/// How long a test waits for an answer that must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Unpredictable enough for a test, and the same in each run.
pub fn noise(bytes: &mut [u8]) {
    static STATE: AtomicU64 = AtomicU64::new(1);
    for byte in bytes {
        let mut z = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        *byte = (z ^ (z >> 27)) as u8;
    }
}

type MemoryParts = (Arc<MemoryChunks>, Arc<KvCatalog<MemoryKv>>);

/// A catalog without anything in it.
fn empty(clock: &Clock) -> KvCatalog<MemoryKv> {
    KvCatalog::open(MemoryKv::default(), clock.now(), (0, 0)).expect("an empty index opens")
}

pub struct Server {
    pub addr: SocketAddr,
    pub drive: Arc<Drive>,
    pub clock: Clock,
    /// What a restart finds again.
    parts: Option<MemoryParts>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub fn start() -> Self {
        Self::with(Limits::default(), Role::Owner)
    }

    pub fn with(limits: Limits, role: Role) -> Self {
        let clock = Clock::manual(Timestamp::new(START_S, 0));
        let mut settings = Settings::home(0, 0, noise);
        settings.limits = limits;
        let memory = (Arc::new(MemoryChunks::default()), Arc::new(empty(&clock)));
        Self::over(memory, clock, settings, role)
    }

    /// A server over a store that fails as `faults` say; it cannot be restarted.
    pub fn failing(faults: &Faults) -> Self {
        let clock = Clock::manual(Timestamp::new(START_S, 0));
        let parts = Parts {
            chunks: Arc::new(Faulty::new(MemoryChunks::default(), faults.clone())),
            catalog: Arc::new(Faulty::new(empty(&clock), faults.clone())),
            clock,
            random: noise,
        };
        Self::serving(parts, None, Settings::home(0, 0, noise), Role::Owner)
    }

    /// The same parts under a new drive and a new service, as after a restart.
    pub fn restart(&self) -> Self {
        let parts = self.parts.clone().expect("a server over memory");
        Self::over(parts, self.clock.clone(), Settings::home(0, 0, noise), Role::Owner)
    }

    fn over(memory: MemoryParts, clock: Clock, settings: Settings, role: Role) -> Self {
        let (chunks, catalog) = memory.clone();
        let parts = Parts { chunks, catalog, clock, random: noise };
        Self::serving(parts, Some(memory), settings, role)
    }

    fn serving(parts: Parts, memory: Option<MemoryParts>, settings: Settings, role: Role) -> Self {
        let clock = parts.clock.clone();
        let drive = Drive::open(parts, Default::default()).expect("opens");
        let service = DavService::new(drive.clone(), settings);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                let answer = hyper::service::service_fn(move |request| {
                    let service = service.clone();
                    let user = User { name: "ann".to_owned(), role };
                    async move { Ok::<_, std::convert::Infallible>(service.handle(request, user).await) }
                });
                let _ = stream.set_nodelay(true);
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
            }
        });
        Server { addr, drive, clock, parts: memory, _runtime: runtime }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// Sends bytes as they are and reads answers until the server closes.
    pub fn raw(&self, request: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).expect("sent");
        let mut answer = Vec::new();
        // A reset after the answer is as good as an end.
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// Sends one request on a connection of its own.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.addr);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "PUT" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        Answer::parse(&self.raw(bytes))
    }

    pub fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send("PUT", path, &[], body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub fn status(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        self.send(method, path, headers, "").status
    }

    pub fn propfind(&self, path: &str, depth: &str, body: &str) -> Answer {
        self.send("PROPFIND", path, &[("Depth", depth)], body)
    }

    /// Takes a lock and returns its token.
    pub fn lock(&self, path: &str, headers: &[(&str, &str)]) -> String {
        let answer = self.send("LOCK", path, headers, LOCKINFO);
        assert!(matches!(answer.status, 200 | 201), "LOCK {path}: {} {}", answer.status, answer.text());
        answer.header("lock-token").expect("a token").trim_matches(['<', '>']).to_owned()
    }

    pub fn node(&self, path: &str) -> Node {
        self.drive.resolve(&DrivePath::parse(path).expect("a path")).expect("a node")
    }

    pub fn actor(&self) -> Actor {
        Actor::new(Door::Mount, 0, 0, "root")
    }
}

pub const LOCKINFO: &str = "<?xml version=\"1.0\"?><D:lockinfo xmlns:D='DAV:'><D:lockscope><D:exclusive/></D:lockscope>\
<D:locktype><D:write/></D:locktype><D:owner><D:href>mailto:ann</D:href></D:owner></D:lockinfo>";

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer in {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let rest = &bytes[end + 4..];
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line");
        if status == 100 {
            return Self::parse(rest);
        }
        let mut answer = Answer { status, head, body: Vec::new() };
        answer.body =
            if answer.header("transfer-encoding").is_some() { unchunk(rest) } else { rest.to_vec() };
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What the first element of that name holds.
    pub fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, after) = text.split_once(&format!("<{name}>"))?;
        Some(after.split_once(&format!("</{name}>"))?.0.to_owned())
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").expect("a chunk's length");
        let len = std::str::from_utf8(&rest[..end]).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let len = len.expect("a hexadecimal length");
        if len == 0 {
            return out;
        }
        out.extend_from_slice(&rest[end + 2..end + 2 + len]);
        rest = &rest[end + 4 + len..];
    }
}
