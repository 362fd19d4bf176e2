//! Mounts a drive that lives in memory: `cargo run --example mount_drive -- DIR`, then use DIR like any folder.
//! Without DIR it mounts at a temporary folder, writes a file there, reads it back, and ends.

use larder_drive::{Clock, Drive, Parts, Settings};
use larder_store::KvCatalog;
use larder_store::memory::{MemoryChunks, MemoryKv};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

fn drive_in_memory() -> larder_core::Result<Arc<Drive>> {
    let clock = Clock::system();
    let catalog = KvCatalog::open(MemoryKv::default(), clock.now(), (0, 0))?;
    let random = |bytes: &mut [u8]| bytes.fill(0); // only tokens of locks are made of it
    let parts =
        Parts { chunks: Arc::new(MemoryChunks::default()), catalog: Arc::new(catalog), clock, random };
    Drive::open(parts, Settings::default())
}

fn main() -> Result<(), Box<dyn Error>> {
    if let Err(reason) = larder_fuse::is_available() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let drive = drive_in_memory()?;
    let options = larder_fuse::Options::new("larder-example");
    if let Some(folder) = std::env::args_os().nth(1) {
        let mounted = larder_fuse::spawn(&drive, Path::new(&folder), &options)?;
        println!("mounted at {}; end with: umount {0}", mounted.mountpoint().display());
        mounted.wait(None);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mounted = larder_fuse::spawn(&drive, folder.path(), &options)?;
    let file = mounted.mountpoint().join("hello.txt");
    std::fs::write(&file, "hello from a mount\n")?;
    print!("{}", std::fs::read_to_string(&file)?);
    let node = drive.resolve(&larder_core::DrivePath::parse("hello.txt")?)?;
    println!("the drive has {} bytes of it, for every other door too", node.size_bytes());
    mounted.unmount()?;
    Ok(())
}
