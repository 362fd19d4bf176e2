//! Peak memory of our server while ten times `--size` goes in and comes out again over several streams.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::contender::{Kind, Server};
use crate::http::{Body, together};
use crate::machine::{MIB, fill, fresh_seed, memory, reset_peak};
use crate::options::Options;
use crate::table::Table;
use crate::work_webdav::{CLIENTS, start};

/// How many times `--size` goes through.
const TIMES: u64 = 10;
/// Files each stream writes, one after the other.
const FILES_PER_STREAM: u64 = 5;

/// Runs the memory part.
pub fn run(options: &Options, table: &mut Table) -> io::Result<()> {
    let Some(server) = start(options, Kind::Larder, &[], table)? else { return Ok(()) };
    let total = options.size_bytes * TIMES;
    let pid = server.process.id();
    reset_peak(pid);
    let seconds = flood(&server, "/flood", total)?;
    table.record("rss_in", "larder", memory(pid).peak_mib);
    table.note(format!("memory: {:.0} MiB/s in over {CLIENTS} streams", (total / MIB) as f64 / seconds));
    reset_peak(pid);
    let received = AtomicU64::new(0);
    let seconds = together(&server, CLIENTS, |stream, http| {
        (0..FILES_PER_STREAM).try_for_each(|file| {
            let bytes = http.get(&format!("/flood-{stream}-{file}"), &mut |_| Ok(()))?;
            received.fetch_add(bytes, Ordering::Relaxed);
            Ok(())
        })
    })?;
    table.record("rss_out", "larder", memory(pid).peak_mib);
    table.note(format!("memory: {:.0} MiB/s out over {CLIENTS} streams", (total / MIB) as f64 / seconds));
    match received.into_inner() {
        bytes if bytes == total => Ok(()),
        bytes => Err(io::Error::other(format!("{bytes} of {total} bytes came back"))),
    }
}

/// Uploads `total` fresh bytes as files named `path-STREAM-FILE` and returns the seconds.
pub fn flood(server: &Server, path: &str, total: u64) -> io::Result<f64> {
    let length = total / CLIENTS as u64 / FILES_PER_STREAM;
    together(server, CLIENTS, |stream, http| {
        for file in 0..FILES_PER_STREAM {
            let rest =
                if stream == 0 && file == 0 { total - length * CLIENTS as u64 * FILES_PER_STREAM } else { 0 };
            let body = Body::Made { length: length + rest, make: &mut |block| fill(fresh_seed(), block) };
            http.ask("PUT", &format!("{path}-{stream}-{file}"), "", body)?.success("PUT")?;
        }
        Ok(())
    })
}
