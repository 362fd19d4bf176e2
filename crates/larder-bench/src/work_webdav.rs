//! The WebDAV rows: the same requests to each server in turn, every round anew.
//!
//! All servers run for the whole part; before each timed step the disk is synced, so that no contender pays for
//! the bytes that the one before it left dirty.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::contender::{ALL, Kind, Server, find};
use crate::http::{Body, Http, together};
use crate::machine::{MIB, fill, fresh_bytes, fresh_seed, memory, reset_peak, sync_disk};
use crate::options::Options;
use crate::table::Table;

/// Connections of the rows with several clients.
pub const CLIENTS: usize = 8;
/// Size of a small file.
pub const SMALL_BYTES: usize = 4096;
/// Requests of one round of small downloads.
const SMALL_GETS: usize = 20_000;
/// A slow contender stops the small downloads here; its rate counts what it did.
const GETS_LIMIT: Duration = Duration::from_secs(10);
/// Uploads of one round of small uploads.
const SMALL_PUTS: usize = 4000;
/// Files of the folder that is copied and moved: together one `--size`.
const TREE_FILES: u64 = 64;

/// Lists the properties that file managers and rclone ask for.
const PROPFIND: &[u8] =
    b"<?xml version=\"1.0\" encoding=\"utf-8\"?><D:propfind xmlns:D=\"DAV:\"><D:prop><D:displayname/>\
<D:getlastmodified/><D:getcontentlength/><D:resourcetype/><D:getetag/></D:prop></D:propfind>";

/// Runs the WebDAV part.
pub fn run(options: &Options, table: &mut Table) -> io::Result<()> {
    let mut servers = Vec::new();
    for kind in ALL {
        if let Some(server) = start(options, kind, &[], table)? {
            servers.push(server);
        }
    }
    for server in &servers {
        prepare(options, server)?;
    }
    for round in 0..options.rounds {
        eprintln!("webdav: round {} of {}", round + 1, options.rounds);
        for server in &servers {
            let name = server.kind.name();
            if let Err(error) = one_round(options, server, round, table) {
                table.note(format!("{name}: a round ended early: {error}"));
            }
        }
    }
    Ok(())
}

/// Starts `kind` if it is wanted and installed; notes it if it is not.
pub fn start(
    options: &Options,
    kind: Kind,
    flags: &[String],
    table: &mut Table,
) -> io::Result<Option<Server>> {
    let name = kind.name();
    if !options.takes(name) {
        return Ok(None);
    }
    let program = match kind {
        Kind::Larder => Some(options.larder.clone()),
        _ => find(kind.program(), &options.tools),
    };
    let Some(program) = program else {
        table.note(format!("{name} is not installed: left out"));
        return Ok(None);
    };
    let place = options.scratch.join(format!("{name}-{}", fresh_seed()));
    std::fs::create_dir_all(&place)?;
    match Server::start(kind, &program, &place, flags) {
        Ok(server) => Ok(Some(server)),
        Err(error) if kind != Kind::Larder => {
            table.note(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn prepare(options: &Options, server: &Server) -> io::Result<()> {
    if options.wants("propfind") {
        for (folder, entries) in [("/list10k/", 10_000), ("/list100k/", 100_000)] {
            populate(server, folder, options.count(entries))?;
        }
    }
    if options.wants("copy") {
        let mut http = Http::connect(server)?;
        http.ask("MKCOL", "/tree/", "", Body::Empty)?.success("MKCOL")?;
        for file in 0..TREE_FILES {
            let bytes = fresh_bytes(options.size_bytes / TREE_FILES);
            http.put(&format!("/tree/{file:03}.bin"), &bytes)?.success("PUT")?;
        }
    }
    Ok(())
}

/// Makes a folder of `entries` tiny files: on the disk where the server keeps plain files, else by PUT.
fn populate(server: &Server, folder: &str, entries: usize) -> io::Result<()> {
    if let Some(files) = &server.files {
        let folder = files.join(folder.trim_matches('/'));
        std::fs::create_dir_all(&folder)?;
        return (0..entries)
            .try_for_each(|n| std::fs::write(folder.join(format!("entry-{n:06}.txt")), b"text"));
    }
    Http::connect(server)?.ask("MKCOL", folder, "", Body::Empty)?.success("MKCOL")?;
    let next = AtomicUsize::new(0);
    together(server, 4 * CLIENTS, |_, http| {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= entries {
                return Ok(());
            }
            http.put(&format!("{folder}entry-{n:06}.txt"), b"text")?.success("PUT")?;
        }
    })?;
    Ok(())
}

fn one_round(options: &Options, server: &Server, round: usize, table: &mut Table) -> io::Result<()> {
    if options.wants("put") || options.wants("get") {
        large(options, server, round, table)?;
    }
    if options.wants("small") {
        small(options, server, round, table)?;
    }
    if options.wants("propfind") {
        listings(options, server, table)?;
    }
    if options.wants("copy") {
        copies(options, server, table)?;
    }
    Ok(())
}

fn large(options: &Options, server: &Server, round: usize, table: &mut Table) -> io::Result<()> {
    let (name, mib) = (server.kind.name(), options.size_bytes as f64 / MIB as f64);
    let path = format!("/large-{round}.bin");
    let bytes = fresh_bytes(options.size_bytes);
    options.settle()?;
    let start = Instant::now();
    Http::connect(server)?.put(&path, &bytes)?.success("PUT")?;
    let answered = start.elapsed().as_secs_f64();
    sync_disk(&options.scratch)?;
    let synced = start.elapsed().as_secs_f64();
    table.record("put", name, mib / answered);
    // Ours is durable when it answers: the same figure stands against both kinds of peers.
    table.record("put_synced", name, mib / if server.kind == Kind::Larder { answered } else { synced });
    check(server, &path, &bytes)?;
    drop(bytes);
    if options.wants("get") {
        for (warm, id, clients) in [
            (true, "get_warm_1", 1),
            (true, "get_warm_8", CLIENTS),
            (false, "get_cold_1", 1),
            (false, "get_cold_8", CLIENTS),
        ] {
            if !warm && let Err(error) = options.chill() {
                table.note(format!("cold rows left out: {error}"));
                continue;
            }
            let seconds = together(server, clients, |_, http| http.get(&path, &mut |_| Ok(())).map(drop))?;
            table.record(id, name, mib * clients as f64 / seconds);
        }
    }
    Http::connect(server)?.ask("DELETE", &path, "", Body::Empty)?.success("DELETE").map(drop)
}

/// Downloads once and compares each byte; also warms the caches for the first timed download.
fn check(server: &Server, path: &str, expected: &[u8]) -> io::Result<()> {
    let mut at = 0;
    let length = Http::connect(server)?.get(path, &mut |piece| {
        if expected.get(at..at + piece.len()) != Some(piece) {
            return Err(io::Error::other(format!("wrong bytes behind offset {at} of {path}")));
        }
        at += piece.len();
        Ok(())
    })?;
    match length == expected.len() as u64 {
        true => Ok(()),
        false => Err(io::Error::other(format!("{path}: {length} bytes, not {}", expected.len()))),
    }
}

fn small(options: &Options, server: &Server, round: usize, table: &mut Table) -> io::Result<()> {
    let name = server.kind.name();
    let folder = format!("/small-{round}/");
    Http::connect(server)?.ask("MKCOL", &folder, "", Body::Empty)?.success("MKCOL")?;
    let (puts, gets) = (options.count(SMALL_PUTS), options.count(SMALL_GETS));
    options.settle()?;
    let refused = AtomicUsize::new(0);
    let start = Instant::now();
    let answered = together(server, CLIENTS, |client, http| {
        let mut bytes = [0; SMALL_BYTES];
        for n in (client..puts).step_by(CLIENTS) {
            fill(fresh_seed(), &mut bytes);
            if http.put(&format!("{folder}file-{n:05}"), &bytes)?.status >= 300 {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    })?;
    sync_disk(&options.scratch)?;
    let synced = start.elapsed().as_secs_f64();
    let refused = refused.into_inner();
    let stored = (puts - refused) as f64;
    table.record("small_put", name, stored / answered);
    table.record(
        "small_put_synced",
        name,
        stored / if server.kind == Kind::Larder { answered } else { synced },
    );
    if refused > 0 {
        table.note(format!(
            "{name} refused some of the small PUTs (for example {refused} of {puts}); only the others count"
        ));
    }
    let (next, got) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    let seconds = together(server, CLIENTS, |_, http| {
        while start.elapsed() < GETS_LIMIT {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= gets {
                break;
            }
            http.get(&format!("{folder}file-{:05}", n % puts), &mut |_| Ok(()))?;
            got.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })?;
    table.record("small_get", name, got.into_inner() as f64 / seconds);
    Http::connect(server)?.ask("DELETE", &folder, "", Body::Empty)?.success("DELETE").map(drop)
}

fn listings(options: &Options, server: &Server, table: &mut Table) -> io::Result<()> {
    let name = server.kind.name();
    for (id, folder, entries) in [("list_10k", "/list10k/", 10_000), ("list_100k", "/list100k/", 100_000)] {
        let entries = options.count(entries);
        let mut answer = Vec::with_capacity(entries * 1024);
        let pid = server.process.id();
        reset_peak(pid);
        let before = memory(pid);
        let mut http = Http::connect(server)?;
        let start = Instant::now();
        http.propfind(folder, PROPFIND, &mut answer)?;
        let seconds = start.elapsed().as_secs_f64();
        let found = answer.windows(9).filter(|w| w == b"response>").count();
        // Apache's opening tag carries name spaces, so that only its closing tag ends so.
        if found != entries + 1 && found != 2 * (entries + 1) {
            return Err(io::Error::other(format!("{folder}: {found} response tags for {entries} entries")));
        }
        table.record(id, name, entries as f64 / seconds);
        if id == "list_100k" {
            table.record("list_growth", name, (memory(pid).peak_mib - before.now_mib).max(0.0));
        }
    }
    Ok(())
}

fn copies(options: &Options, server: &Server, table: &mut Table) -> io::Result<()> {
    let name = server.kind.name();
    options.settle()?;
    let mut http = Http::connect(server)?;
    for (id, method, from, to) in
        [("copy", "COPY", "/tree/", "/copied/"), ("move", "MOVE", "/copied/", "/moved/")]
    {
        let start = Instant::now();
        http.transplant(method, from, to)?;
        table.record(id, name, start.elapsed().as_secs_f64() * 1000.0);
    }
    http.ask("DELETE", "/moved/", "", Body::Empty)?.success("DELETE")?;
    sync_disk(&options.scratch)
}
