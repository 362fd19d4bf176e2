//! A drive in memory with the protocol over it, called without a socket.

#![allow(dead_code, reason = "each test file uses its own part")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use larder_api::{Api, Body, Caller, Proof, Refusal, Role, Settings, devices};
use larder_core::{ChunkId, Content, Head, Manifest, Name, Node, NodeId, NodeKind, Timestamp};
use larder_drive::{Actor, Clock, Door, Drive, Parts, Target};
use larder_store::catalog::NewNode;
use larder_store::faulty::{Faults, Faulty};
use larder_store::memory::{MemoryChunks, MemoryKv};
use larder_store::{Durability, KvCatalog, Op};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// 2026-01-01T00:00:00Z.
pub const START_S: i64 = 1_767_225_600;
/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Unpredictable enough for a test, and the same in each run.
pub fn noise(bytes: &mut [u8]) {
    static STATE: AtomicU64 = AtomicU64::new(1);
    for byte in bytes {
        let mut z = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        *byte = (z ^ (z >> 27)) as u8;
    }
}

/// `len` bytes that no other call returns.
pub fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    noise(&mut bytes);
    bytes
}

pub fn name(name: impl AsRef<[u8]>) -> Name {
    Name::new(name).expect("a name")
}

pub fn actor() -> Actor {
    Actor::new(Door::Dav, 1000, 100, "ann")
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Checks that this is a problem with all that one has.
    #[track_caller]
    pub fn is_problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["type"], "about:blank");
        assert_eq!((&problem["status"], &problem["kind"]), (&Value::from(status), &Value::from(kind)));
        assert!(problem["title"].is_string() && problem["what"].is_string(), "{problem}");
        problem
    }
}

/// Users that the tests know: ann is an owner, ed an editor, vic a viewer.
fn role(user: &str) -> Option<Role> {
    match user {
        "ann" => Some(Role::Owner),
        "ed" => Some(Role::Editor),
        "vic" => Some(Role::Viewer),
        _ => None,
    }
}

pub struct World {
    pub api: Api,
    pub drive: Arc<Drive>,
    pub clock: Clock,
    pub faults: Faults,
    pub runtime: Runtime,
}

impl World {
    pub fn new() -> World {
        Self::with(|settings| settings)
    }

    pub fn with(change: impl FnOnce(Settings) -> Settings) -> World {
        let clock = Clock::manual(Timestamp::new(START_S, 0));
        let catalog = KvCatalog::open(MemoryKv::default(), clock.now(), (1000, 100)).expect("opens");
        let faults = Faults::default();
        let parts = Parts {
            chunks: Arc::new(Faulty::new(MemoryChunks::default(), faults.clone())),
            catalog: Arc::new(Faulty::new(catalog, faults.clone())),
            clock: clock.clone(),
            random: noise,
        };
        // Nothing is read from the drive's cache, so that faults of the store show.
        let settings = larder_drive::Settings { chunk_cache_bytes: 0, ..Default::default() };
        let world = Self::over(Drive::open(parts, settings).expect("opens"), change);
        World { faults, clock, ..world }
    }

    pub fn over(drive: Arc<Drive>, change: impl FnOnce(Settings) -> Settings) -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let api = Api::new(drive.clone(), change(Settings::new(noise))).expect("begins");
        let (clock, faults) = (drive.clock().clone(), Faults::default());
        World { api, drive, clock, faults, runtime: runtime.expect("threads") }
    }

    /// What the command does with the Authorization header: passwords are `secret`.
    fn who(&self, authorization: Option<&str>) -> Result<Caller, Refusal> {
        let (scheme, credentials) = authorization.and_then(|a| a.split_once(' ')).ok_or(Refusal::Unknown)?;
        let (user, proof) = match scheme {
            "Basic" => {
                let plain = STANDARD.decode(credentials).map_err(|_| Refusal::Unknown)?;
                let plain = String::from_utf8(plain).map_err(|_| Refusal::Unknown)?;
                let user = plain.strip_suffix(":secret").ok_or(Refusal::Unknown)?;
                (user.to_owned(), Proof::Password)
            }
            _ => {
                let device =
                    devices::find(&self.drive, credentials).expect("a record").ok_or(Refusal::Unknown)?;
                (device.user.clone(), Proof::Token(device))
            }
        };
        let role = role(&user).ok_or(Refusal::Unknown)?;
        Ok(Caller { user, role, proof })
    }

    /// A new device of `user`, as an Authorization header.
    pub fn device(&self, user: &str) -> String {
        let (_, token) = devices::make(&self.drive, noise, user, "test").expect("a device");
        format!("Bearer {token}")
    }

    /// Sends a request; the answer's body is not read yet.
    pub fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> http::Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a request");
        let authorization =
            headers.iter().find(|(name, _)| *name == "Authorization").map(|(_, value)| *value);
        self.runtime.block_on(self.api.handle(request, self.who(authorization)))
    }

    /// Sends a request and reads the answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.answer(self.open(method, path, headers, body))
    }

    pub fn answer(&self, response: http::Response<Body>) -> Answer {
        let (head, body) = response.into_parts();
        let body = self.runtime.block_on(body.collect()).expect("a whole body").to_bytes();
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Sends a GET below `/api/v1/projects/home` as a device.
    pub fn get(&self, device: &str, path: &str) -> Answer {
        self.send("GET", &format!("/api/v1/projects/home{path}"), &[("Authorization", device)], b"")
    }

    /// Asks for chunks as a device.
    pub fn chunks(&self, device: &str, node: NodeId, ids: &[ChunkId]) -> Answer {
        self.send("POST", &chunks_path(node), &chunks_headers(device), &joined(ids))
    }

    /// Sends a POST below `/api/v1/projects/home` as a device.
    pub fn post(&self, device: &str, path: &str, media: &str, body: &[u8]) -> Answer {
        let headers = [("Authorization", device), ("Content-Type", media)];
        self.send("POST", &format!("/api/v1/projects/home{path}"), &headers, body)
    }

    /// The next bytes of an open answer; `None` at its end.
    pub fn next(&self, body: &mut Body) -> Option<Bytes> {
        let frame = async { tokio::time::timeout(PATIENCE, body.frame()).await };
        let frame = self.runtime.block_on(frame).expect("a frame in time");
        frame.map(|frame| frame.expect("no error").into_data().expect("bytes"))
    }

    pub fn put(&self, parent: NodeId, file: &str, body: &[u8]) -> Node {
        let mut upload = self.drive.upload();
        upload.write(body).expect("stored");
        let target = Target { parent, name: name(file), expect: Vec::new(), mtime: None, mode: 0o644 };
        let published = upload.finish(&actor(), target).expect("published");
        self.drive.node(published.id).expect("a node")
    }

    pub fn folder(&self, parent: NodeId, folder: &str) -> Node {
        self.drive.make_folder(&actor(), parent, name(folder), 0o755).expect("a folder")
    }

    pub fn commit(&self, ops: Vec<Op>) {
        self.drive.commit(&actor(), Vec::new(), ops, Durability::Power).expect("committed");
    }

    /// A file that a mount writes for the first time.
    pub fn draft(&self, parent: NodeId, file: &str) -> NodeId {
        let id = self.drive.catalog().new_id();
        let node = NewNode {
            id,
            kind: NodeKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: Content::File(Head::default()),
            mtime: None,
            draft: true,
        };
        self.commit(vec![Op::Create { parent, name: name(file), node: Box::new(node) }]);
        id
    }

    pub fn manifest(&self, node: &Node) -> Arc<Manifest> {
        self.drive.manifest(node.id, node.head().expect("a file")).expect("a manifest")
    }

    pub fn ids(&self, node: &Node) -> Vec<ChunkId> {
        self.manifest(node).extents().iter().map(|extent| extent.id).collect()
    }

    pub fn cursor(&self, device: &str) -> String {
        self.get(device, "").json()["cursor"].as_str().expect("a cursor").to_owned()
    }
}

pub fn chunks_path(node: NodeId) -> String {
    format!("/api/v1/projects/home/nodes/{node}/chunks")
}

pub fn chunks_headers(device: &str) -> [(&str, &str); 2] {
    [("Authorization", device), ("Content-Type", "application/octet-stream")]
}

pub fn joined(ids: &[ChunkId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0).collect()
}

/// The frames of an answer; nothing for a chunk that is not there.
pub fn frames(mut bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length);
        let body = if length == u32::MAX { None } else { Some(length as usize) };
        let (body, rest) = body.map_or((None, rest), |length| {
            let (body, rest) = rest.split_at(length);
            (Some(body.to_vec()), rest)
        });
        frames.push(body);
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame");
    frames
}
