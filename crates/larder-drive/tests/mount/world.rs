//! A drive over either backend with one mount, and short names for what tests do with it.

use crate::faults::FaultyChunks;
use larder_core::{DrivePath, Name, NodeId, Result, Timestamp};
use larder_drive::{Actor, Clock, Door, Drive, Handle, Mount, OpenFlags, Parts, Settings, Target};
use larder_store::log::{self, LogStore};
use larder_store::memory::MemoryKv;
use larder_store::{Catalog, ChunkStore, KvCatalog};
use std::sync::Arc;

pub const RDWR: OpenFlags = OpenFlags { read: true, write: true, truncate: false };
pub const RDONLY: OpenFlags = OpenFlags { read: true, write: false, truncate: false };
pub const ROOT: NodeId = NodeId::ROOT;

/// Which backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Memory,
    Log,
}

pub struct World {
    pub mount: Mount,
    pub drive: Arc<Drive>,
    /// The chunks of [`Backend::Memory`].
    pub chunks: Arc<FaultyChunks>,
    pub clock: Clock,
    pub actor: Actor,
    pub dav: Actor,
    _folder: Option<tempfile::TempDir>,
}

fn random(bytes: &mut [u8]) {
    bytes.fill(7);
}

impl World {
    pub fn new(backend: Backend) -> Self {
        let clock = Clock::manual(Timestamp(1_000_000_000));
        let settings = Settings::default();
        match backend {
            Backend::Memory => {
                let chunks = Arc::new(FaultyChunks::default());
                let kv = MemoryKv::default();
                let catalog = KvCatalog::open(kv, clock.now(), (0, 0)).expect("an empty index");
                Self::over(chunks.clone(), Arc::new(catalog), clock, settings, (chunks, None))
            }
            Backend::Log => {
                let folder = tempfile::tempdir().expect("a folder");
                let parts = log::Parts { boot_id: "test".to_owned(), random, key: None, tape: None };
                let store = LogStore::open(folder.path(), log::Settings::default(), &parts).expect("opens");
                let catalog = KvCatalog::open(store.kv(), clock.now(), (0, 0)).expect("an empty index");
                let settings = Settings { data: Some(folder.path().to_owned()), ..settings };
                Self::over(store, Arc::new(catalog), clock, settings, (Arc::default(), Some(folder)))
            }
        }
    }

    /// A drive in memory with its staging files in a folder.
    pub fn staging_in(folder: &std::path::Path) -> Self {
        let clock = Clock::manual(Timestamp(1_000_000_000));
        let chunks = Arc::new(FaultyChunks::default());
        let catalog = KvCatalog::open(MemoryKv::default(), clock.now(), (0, 0)).expect("an empty index");
        let settings = Settings { staging: Some(folder.to_owned()), ..Settings::default() };
        Self::over(chunks.clone(), Arc::new(catalog), clock, settings, (chunks, None))
    }

    fn over(
        chunks: Arc<dyn ChunkStore>,
        catalog: Arc<dyn Catalog>,
        clock: Clock,
        settings: Settings,
        (memory, folder): (Arc<FaultyChunks>, Option<tempfile::TempDir>),
    ) -> Self {
        let parts = Parts { chunks, catalog, clock: clock.clone(), random };
        let drive = Drive::open(parts, settings).expect("opens");
        Self {
            mount: drive.mount(),
            drive,
            chunks: memory,

            clock,
            actor: Actor::new(Door::Mount, 0, 0, ""),
            dav: Actor::new(Door::Dav, 0, 0, "ann"),
            _folder: folder,
        }
    }

    /// What a crash and a new mount do: nothing that was not committed is left.
    pub fn crash(&mut self) {
        self.mount = self.drive.mount();
    }

    pub fn create(&self, text: &str) -> (NodeId, Handle) {
        let (node, handle) = self.mount.create(&self.actor, ROOT, name(text), 0o644, RDWR).expect("created");
        (node.id, handle)
    }

    pub fn open(&self, id: NodeId, flags: OpenFlags) -> Handle {
        self.mount.open(&self.actor, id, flags).expect("opened")
    }

    pub fn read_all(&self, handle: Handle) -> Vec<u8> {
        self.read(handle, 0, usize::MAX >> 1)
    }

    pub fn read(&self, handle: Handle, offset: u64, len: usize) -> Vec<u8> {
        self.mount.read(handle, offset, len).expect("read").concat()
    }

    /// What every other door reads.
    pub fn committed(&self, text: &str) -> Result<Vec<u8>> {
        let path = DrivePath::parse(text).expect("a path");
        let reader = self.drive.reader(&self.drive.resolve(&path)?)?;
        let mut bytes = Vec::new();
        loop {
            match reader.read(bytes.len() as u64, usize::MAX)? {
                piece if piece.is_empty() => return Ok(bytes),
                piece => bytes.extend_from_slice(&piece),
            }
        }
    }

    /// Replaces a file through WebDAV.
    pub fn put(&self, text: &str, bytes: &[u8]) -> Result<NodeId> {
        let mut upload = self.drive.upload();
        upload.write(bytes)?;
        let target = Target { parent: ROOT, name: name(text), expect: Vec::new(), mtime: None, mode: 0o644 };
        upload.finish(&self.dav, target).map(|published| published.id)
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// Bytes that repeat nowhere, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}
