//! Cuts a file into chunks and shows how few change with it: `cargo run --example chunk_a_file [FILE]`.

use larder_core::{ChunkId, Chunker};
use std::collections::HashSet;
use std::error::Error;

fn chunks(bytes: &[u8]) -> Vec<(ChunkId, usize)> {
    let mut chunker = Chunker::new();
    chunker.push(bytes);
    let next = || chunker.next_chunk().or_else(|| chunker.finish());
    std::iter::from_fn(next).map(|(id, body)| (id, body.len())).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut bytes = match std::env::args_os().nth(1) {
        Some(path) => std::fs::read(path)?,
        // The digits of all numbers up to a million: nearly six million bytes.
        None => (0..1_000_000).flat_map(|number: u32| number.to_string().into_bytes()).collect(),
    };
    let before = chunks(&bytes);
    for (id, len) in &before {
        println!("{id} {len}");
    }
    // A byte in the middle moves everything behind it; cuts depend on content and move along.
    bytes.insert(bytes.len() / 2, b'!');
    let known: HashSet<ChunkId> = before.iter().map(|(id, _)| *id).collect();
    let after = chunks(&bytes);
    let changed = after.iter().filter(|(id, _)| !known.contains(id)).count();
    println!("a byte inserted: {changed} of {} chunks are new", after.len());
    Ok(())
}
