//! How soon our server answers after `kill -9`, and what it holds in memory, with a million files and 10 GiB.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::contender::{Kind, Server};
use crate::http::{Body, Http, together};
use crate::machine::{fill, fresh_seed, memory, reset_peak};
use crate::memory::flood;
use crate::options::Options;
use crate::table::Table;
use crate::work_webdav::{CLIENTS, SMALL_BYTES};

/// Files in the catalog.
const FILES: usize = 1_000_000;
/// Files per folder.
const FOLDER_FILES: usize = 1000;
/// Connections that fill: more than elsewhere, because filling is not what is measured.
const FILLERS: usize = 32;
/// Files written before each kill, so that the log has a tail that no checkpoint covers.
const TAIL_FILES: usize = 5000;
/// Bytes stored in all, in units of `--size`.
const TIMES: u64 = 10;

/// Runs the start part.
pub fn run(options: &Options, table: &mut Table) -> io::Result<()> {
    if !options.takes("larder") {
        return Ok(());
    }
    let place = options.scratch.join("start");
    std::fs::create_dir_all(&place)?;
    let boot = |place: &Path| Server::start(Kind::Larder, &options.larder, place, &[]);
    let mut server = boot(&place)?;
    let files = options.count(FILES);
    reset_peak(server.process.id());
    let large = (options.size_bytes * TIMES).saturating_sub((files * SMALL_BYTES) as u64);
    flood(&server, "/large", large)?;
    let start = Instant::now();
    for folder in 0..files.div_ceil(FOLDER_FILES) {
        Http::connect(&server)?.ask("MKCOL", &format!("/f{folder}/"), "", Body::Empty)?.success("MKCOL")?;
    }
    fill_files(&server, "", files)?;
    let rate = files as f64 / start.elapsed().as_secs_f64();
    table.note(format!(
        "start: {files} files of {SMALL_BYTES} bytes went in over {FILLERS} connections at {rate:.0} files/s"
    ));
    table.record("rss_million", "larder", memory(server.process.id()).peak_mib);
    for round in 0..options.rounds {
        for (id, cold) in [("start_warm", false), ("start_cold", true)] {
            fill_files(&server, &format!("-tail-{round}-{cold}"), options.count(TAIL_FILES))?;
            server.process.kill();
            if cold && let Err(error) = options.chill() {
                table.note(format!("cold start left out: {error}"));
                server = boot(&place)?;
                continue;
            }
            let start = Instant::now();
            server = boot(&place)?;
            table.record(id, "larder", start.elapsed().as_secs_f64());
            // The last file acknowledged before the kill must be there.
            let last = options.count(TAIL_FILES) - 1;
            let path = format!("/f{}/file-{last}-tail-{round}-{cold}", last / FOLDER_FILES);
            Http::connect(&server)?.get(&path, &mut |_| Ok(()))?;
        }
    }
    let mut listing = Vec::new();
    Http::connect(&server)?.propfind("/f0/", b"", &mut listing)?;
    table.record("rss_restarted", "larder", memory(server.process.id()).now_mib);
    Ok(())
}

fn fill_files(server: &Server, suffix: &str, files: usize) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let clients = if suffix.is_empty() { FILLERS } else { CLIENTS };
    together(server, clients, |_, http| {
        let mut bytes = [0; SMALL_BYTES];
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= files {
                return Ok(());
            }
            fill(fresh_seed(), &mut bytes);
            http.put(&format!("/f{}/file-{n}{suffix}", n / FOLDER_FILES), &bytes)?.success("PUT")?;
        }
    })
    .map(drop)
}
