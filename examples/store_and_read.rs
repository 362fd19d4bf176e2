//! Stores a file as chunks in a data directory, twice, and reads it back: `cargo run --example store_and_read [DIR]`.

use larder_core::Chunker;
use larder_store::log::{LogStore, Parts, Settings};
use larder_store::{ChunkStore, Put};
use std::error::Error;
use std::io::Read;
use std::path::PathBuf;

fn random(bytes: &mut [u8]) {
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(bytes))
        .expect("the kernel has some");
}

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args_os().nth(1).map_or(temporary.path().join("data"), PathBuf::from);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let parts = Parts { boot_id, random, key: None, tape: None };
    let store = LogStore::open(&folder, Settings::default(), &parts)?;

    // Five million bytes that do not repeat, and the same with one byte more in front.
    let mut first = vec![0; 5_000_000];
    random(&mut first);
    let second = [&[1], &first[..]].concat();
    for file in [&first, &second] {
        let (mut ids, mut new_bytes) = (Vec::new(), 0);
        let lease = store.lease(); // holds what is put against a sweep, until something refers to it
        let mut chunker = Chunker::new();
        chunker.push(file);
        while let Some((id, body)) = chunker.next_chunk().or_else(|| chunker.finish()) {
            if let Put::New { stored_bytes } = store.put(&lease, &id, &body)? {
                new_bytes += stored_bytes;
            }
            ids.push(id);
        }
        store.sync()?; // from here on it survives a power cut
        let mut read = Vec::new();
        for id in &ids {
            read.extend_from_slice(&store.get(id)?); // checked against its name
        }
        assert!(read == *file, "what comes out is what went in");
        println!("{} bytes in {} chunks: {new_bytes} bytes newly stored", file.len(), ids.len());
    }
    Ok(store.close()?)
}
