//! The mount rows: plain system calls in a folder of each contender in turn, every round anew.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::machine::{Draw, MIB, fill, fresh_bytes, fresh_seed};
use crate::mounting::{ALL, Mounted};
use crate::options::Options;
use crate::table::Table;

/// Bytes of one sequential `read` or `write`.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes of one random access, and of a small file.
const SMALL_BYTES: usize = 4096;
/// Small files per round.
const FILES: usize = 10_000;
/// Random accesses per round.
const ACCESSES: usize = 50_000;
/// A slow contender stops a loop of small operations here; its rate counts what it did.
const LOOP_LIMIT: Duration = Duration::from_secs(20);
/// The watchdog's limit for one kind of work.
const WORK_LIMIT: Duration = Duration::from_secs(180);

/// Runs the mount part.
pub fn run(options: &Options, table: &mut Table) -> io::Result<()> {
    let mut mounts = Vec::new();
    for name in ALL.into_iter().filter(|name| options.takes(name)) {
        match Mounted::start(options, name) {
            Ok(Some(mounted)) => mounts.push(mounted),
            Ok(None) => table.note(format!("{name}: a program for it is not installed, left out")),
            Err(error) if name == "larder" => return Err(error),
            Err(error) => table.note(error.to_string()),
        }
    }
    for round in 0..options.rounds {
        eprintln!("mount: round {} of {}", round + 1, options.rounds);
        for mounted in &mounts {
            if let Err(error) = one_round(options, mounted, table) {
                table.note(format!("{}: a round ended early: {error}", mounted.name));
            }
            mounted.rest();
        }
    }
    Ok(())
}

fn one_round(options: &Options, mounted: &Mounted, table: &mut Table) -> io::Result<()> {
    let file = mounted.folder.join("large.bin");
    if options.wants("sequential") || options.wants("random") {
        mounted.allow(WORK_LIMIT);
        sequential(options, mounted.name, &file, table)?;
        if options.wants("random") {
            mounted.allow(WORK_LIMIT);
            random_reads(options, mounted.name, &file, table)?;
            mounted.allow(WORK_LIMIT);
            random_writes(options, mounted.name, &file, table)?;
        }
        mounted.allow(WORK_LIMIT);
        fs::remove_file(&file)?;
    }
    if options.wants("files") {
        mounted.allow(WORK_LIMIT);
        small_files(options, mounted, table)?;
    }
    Ok(())
}

fn sequential(options: &Options, name: &'static str, file: &Path, table: &mut Table) -> io::Result<()> {
    let mib = options.size_bytes as f64 / MIB as f64;
    let bytes = fresh_bytes(options.size_bytes);
    options.settle()?;
    let start = Instant::now();
    let mut to = File::create(file)?;
    bytes.chunks(BLOCK_BYTES).try_for_each(|block| to.write_all(block))?;
    to.sync_all()?;
    drop(to);
    table.record("seq_write", name, mib / start.elapsed().as_secs_f64());
    table.record("seq_read_warm", name, mib / read_back(file, None)?);
    if let Err(error) = options.chill() {
        table.note(format!("cold rows left out: {error}"));
        return Ok(());
    }
    table.record("seq_read_cold", name, mib / read_back(file, None)?);
    read_back(file, Some(&bytes)).map(drop)
}

/// Reads `file` to its end in large blocks and returns the seconds; compares where `expected` is given.
fn read_back(file: &Path, expected: Option<&[u8]>) -> io::Result<f64> {
    let mut block = vec![0; BLOCK_BYTES];
    let start = Instant::now();
    let mut from = File::open(file)?;
    let mut at = 0;
    loop {
        let n = from.read(&mut block)?;
        if n == 0 {
            break;
        }
        if let Some(expected) = expected
            && expected.get(at..at + n) != Some(&block[..n])
        {
            return Err(io::Error::other(format!("{}: wrong bytes behind offset {at}", file.display())));
        }
        at += n;
    }
    if expected.is_some_and(|expected| expected.len() != at) {
        return Err(io::Error::other(format!("{}: {at} bytes only", file.display())));
    }
    Ok(start.elapsed().as_secs_f64())
}

fn random_reads(options: &Options, name: &'static str, file: &Path, table: &mut Table) -> io::Result<()> {
    let blocks = options.size_bytes / SMALL_BYTES as u64;
    let mut draw = Draw::new(fresh_seed());
    let mut block = [0; SMALL_BYTES];
    for (id, cold) in [("random_read", false), ("random_read_cold", true)] {
        if cold && options.chill().is_err() {
            continue;
        }
        let from = File::open(file)?;
        let rate = timed(options.count(ACCESSES), |_| {
            from.read_exact_at(&mut block, draw.below(blocks) * SMALL_BYTES as u64)
        })?;
        table.record(id, name, rate);
    }
    Ok(())
}

fn random_writes(options: &Options, name: &'static str, file: &Path, table: &mut Table) -> io::Result<()> {
    let blocks = options.size_bytes / SMALL_BYTES as u64;
    let mut draw = Draw::new(fresh_seed());
    let mut block = [0; SMALL_BYTES];
    // Warm for everyone: the cold reads before have emptied the caches.
    read_back(file, None)?;
    options.settle()?;
    let to = File::options().write(true).open(file)?;
    let mut done = 0;
    let start = Instant::now();
    let rate = timed(options.count(ACCESSES), |n| {
        done = n + 1;
        block[..8].copy_from_slice(&n.to_le_bytes());
        to.write_all_at(&block, draw.below(blocks) * SMALL_BYTES as u64)
    })?;
    table.record("random_write", name, rate);
    to.sync_all()?;
    table.record("random_write_fsync", name, done as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn small_files(options: &Options, mounted: &Mounted, table: &mut Table) -> io::Result<()> {
    let (name, files) = (mounted.name, options.count(FILES));
    let folder = mounted.folder.join("small");
    fs::create_dir(&folder)?;
    options.settle()?;
    let paths: Vec<PathBuf> = (0..files).map(|n| folder.join(format!("file-{n:05}.txt"))).collect();
    let mut bytes = [0; SMALL_BYTES];
    let mut made = 0;
    let rate = timed(files, |n| {
        fill(fresh_seed(), &mut bytes);
        made = n + 1;
        File::create_new(&paths[n])?.write_all(&bytes)
    })?;
    table.record("create", name, rate);
    mounted.allow(WORK_LIMIT);
    let rate = timed(made, |n| match fs::metadata(&paths[n])?.len() {
        len if len == SMALL_BYTES as u64 => Ok(()),
        len => Err(io::Error::other(format!("{} has {len} bytes", paths[n].display()))),
    })?;
    table.record("stat", name, rate);
    for (id, long) in [("list", false), ("list_long", true)] {
        let start = Instant::now();
        let mut listed = 0;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            listed += usize::from(!long || entry.metadata()?.len() == SMALL_BYTES as u64);
        }
        table.record(id, name, listed as f64 / start.elapsed().as_secs_f64());
        if listed != made {
            return Err(io::Error::other(format!("listed {listed} of {made} files")));
        }
    }
    mounted.allow(WORK_LIMIT);
    let rate = timed(made, |n| fs::remove_file(&paths[n]))?;
    table.record("delete", name, rate);
    mounted.allow(WORK_LIMIT);
    fs::remove_dir_all(&folder)
}

/// Does `work` up to `count` times within [`LOOP_LIMIT`] and returns the rate per second.
fn timed(count: usize, mut work: impl FnMut(usize) -> io::Result<()>) -> io::Result<f64> {
    let start = Instant::now();
    let mut done = 0;
    while done < count && start.elapsed() < LOOP_LIMIT {
        work(done)?;
        done += 1;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}
