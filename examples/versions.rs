//! Overwrites a file in a drive in memory and brings the first version back: `cargo run --example versions`.

use larder_core::{DrivePath, Name, NodeId, Result};
use larder_drive::{Actor, Clock, Door, Drive, Parts, Settings, Target, Which};
use larder_store::KvCatalog;
use larder_store::memory::{MemoryChunks, MemoryKv};
use std::sync::Arc;

fn main() -> Result<()> {
    let clock = Clock::system();
    let catalog = Arc::new(KvCatalog::open(MemoryKv::default(), clock.now(), (0, 0))?);
    let random = |bytes: &mut [u8]| bytes.fill(7); // names locks; a server takes the kernel's
    let parts = Parts { chunks: Arc::new(MemoryChunks::default()), catalog, clock, random };
    let drive = Drive::open(parts, Settings::default())?;
    let actor = Actor::new(Door::Dav, 0, 0, "anna");

    for text in ["first", "second"] {
        let mut upload = drive.upload();
        upload.write(text.as_bytes())?;
        let (parent, name) = (NodeId::ROOT, Name::new("note")?);
        upload.finish(&actor, Target { parent, name, expect: Vec::new(), mtime: None, mode: 0o644 })?;
    }
    let path = DrivePath::parse("/note")?;
    for version in drive.versions(&path)? {
        println!("version {}: {} bytes", version.number, version.node.size_bytes());
    }
    let node = drive.restore(&actor, &path, Which::Version(1))?;
    let bytes = drive.reader(&node)?.read(0, usize::MAX)?;
    println!("restored: {}", String::from_utf8_lossy(&bytes));
    Ok(())
}
