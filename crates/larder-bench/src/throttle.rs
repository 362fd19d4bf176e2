//! How exactly our server keeps a rate limit, in both directions, and how evenly streams share it.
//!
//! Downloads are counted in a window that begins after the burst; uploads by a fixed volume up to the answer,
//! because what a sender has handed to its kernel is not yet what the server has taken.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::contender::{Kind, Server};
use crate::http::{Body, Http, together};
use crate::machine::{MIB, fill, fresh_bytes, fresh_seed, pause};
use crate::options::Options;
use crate::table::Table;
use crate::work_webdav::{CLIENTS, start};

/// Rates in bytes per second, as the command line spells them, and the seconds of one measurement.
const RATES: [(u64, &str, u64); 5] = [
    (64 << 10, "64KiB", 32),
    (MIB, "1MiB", 12),
    (10 * MIB, "10MiB", 10),
    (100 * MIB, "100MiB", 8),
    (500 * MIB, "500MiB", 6),
];
/// Downloads are counted from here on, when the burst is over.
const WINDOW_START: Duration = Duration::from_secs(1);

/// Runs the throttle part.
pub fn run(options: &Options, table: &mut Table) -> io::Result<()> {
    let (mut worst_error, mut worst_share) = (0.0_f64, 1.0_f64);
    for (rate, spelled, seconds) in RATES {
        for flag in ["--limit-down", "--limit-up"] {
            let flags = [flag.to_owned(), format!("{spelled}/s")];
            let Some(server) = start(options, Kind::Larder, &flags, table)? else { return Ok(()) };
            let down = flag == "--limit-down";
            if down {
                Http::connect(&server)?
                    .put("/large.bin", &fresh_bytes(options.size_bytes))?
                    .success("PUT")?;
            }
            for streams in [1, CLIENTS] {
                let rates = match down {
                    true => download(&server, streams, seconds)?,
                    false => upload(&server, streams, rate * seconds)?,
                };
                let error = (rates.iter().sum::<f64>() / rate as f64 - 1.0) * 100.0;
                let most = rates.iter().copied().fold(0.0, f64::max);
                let share = rates.iter().copied().fold(f64::INFINITY, f64::min) / most;
                table.note(format!(
                    "throttle: {flag} {spelled}/s, {streams} streams: {error:+.1} %, shares {share:.2}"
                ));
                worst_error = worst_error.max(error.abs());
                worst_share = worst_share.min(share);
            }
        }
    }
    table.record("throttle_error", "larder", worst_error);
    table.record("throttle_share", "larder", worst_share);
    Ok(())
}

/// Returns bytes per second of each stream that downloads during the window.
fn download(server: &Server, streams: usize, seconds: u64) -> io::Result<Vec<f64>> {
    let counters: Vec<AtomicU64> = (0..streams).map(|_| AtomicU64::new(0)).collect();
    let over = AtomicBool::new(false);
    let read = || counters.iter().map(|c| c.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let mut rates = Vec::new();
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            together(server, streams, |stream, http| {
                while !over.load(Ordering::Relaxed) {
                    let count = &mut |piece: &[u8]| {
                        counters[stream].fetch_add(piece.len() as u64, Ordering::Relaxed);
                        match over.load(Ordering::Relaxed) {
                            true => Err(io::Error::from(io::ErrorKind::Interrupted)),
                            false => Ok(()),
                        }
                    };
                    match http.get("/large.bin", count) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
                        other => other?,
                    };
                }
                Ok(())
            })
        });
        pause(WINDOW_START);
        let (before, start) = (read(), Instant::now());
        pause(Duration::from_secs(seconds));
        let (after, elapsed) = (read(), start.elapsed().as_secs_f64());
        over.store(true, Ordering::Relaxed);
        rates = after.iter().zip(&before).map(|(a, b)| (a - b) as f64 / elapsed).collect();
        clients.join().map_err(|_| io::Error::other("a client thread panicked"))?
    })?;
    Ok(rates)
}

/// Returns bytes per second of each stream that uploads its part of `total`.
fn upload(server: &Server, streams: usize, total: u64) -> io::Result<Vec<f64>> {
    let length = total / streams as u64;
    let nanoseconds: Vec<AtomicU64> = (0..streams).map(|_| AtomicU64::new(0)).collect();
    together(server, streams, |stream, http| {
        let start = Instant::now();
        let body = Body::Made { length, make: &mut |block| fill(fresh_seed(), block) };
        http.ask("PUT", &format!("/up-{streams}-{stream}"), "", body)?.success("PUT")?;
        nanoseconds[stream].store(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(nanoseconds.iter().map(|ns| length as f64 * 1e9 / ns.load(Ordering::Relaxed) as f64).collect())
}
