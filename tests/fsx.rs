//! The file system exerciser on the mount of `larder up`: random reads, writes, maps, truncations, holes and copies of
//! one file, each read compared with a model. `LARDER_TEST_FSX_OPS` sets how many; 100,000 otherwise.

#![cfg(target_os = "linux")]

mod support;

use std::process::Command;
use support::random::Random;
use support::server::Place;
use support::{found, lacking, number, process, skip};

/// Every operation that fsx has.
const WEIGHTS: &str = "
[weights]
close_open = 1
invalidate = 1
mapread = 3
mapwrite = 3
read = 3
write = 5
truncate = 1
fsync = 0.2
fdatasync = 0.2
posix_fallocate = 0.5
punch_hole = 1
sendfile = 1
posix_fadvise = 0.5
copy_file_range = 1
";
/// Operations in all; the seed decides what they are.
const OPS: u64 = 100_000;
/// Operations that a slow machine does in a second, so that a long run by number gets its time.
const OPS_PER_S: u64 = 200;

/// Runs `ops` operations on a file of at most `len` bytes, each on at most `size` bytes of it.
fn exercise(len: u32, size: u32, ops: u64) {
    let Some(program) = found("fsx") else { return skip("fsx is not installed") };
    let limit_s = 120 + ops / OPS_PER_S;
    if let Some(why) = lacking(true, &[]) {
        return skip(&why);
    }
    let place = Place::new().mounted(limit_s + 60);
    let server = place.start();
    let configuration = place.path("fsx.toml");
    let text = format!("flen = {len}\n[opsize]\nmax = {size}\n{WEIGHTS}");
    std::fs::write(&configuration, text).expect("written");
    let seed = Random::seeded().next() as u32;
    let mut command = Command::new(program);
    command.args(["-q", "-S", &seed.to_string(), "-N", &ops.to_string(), "-f"]).arg(configuration);
    command.arg("-P").arg(place.path("")).arg(place.mount().join("exercised"));
    let done = process::run(&mut command, limit_s);
    assert_eq!(done.code(), 0, "seed {seed}: {done}");
    // What the exerciser left is what other doors see, and every byte of it is sound.
    let left = std::fs::read(place.mount().join("exercised")).expect("in the mount");
    assert!(server.client().ok("GET", "/dav/home/exercised", &[], b"").body == left, "seed {seed}");
    place.run(&["scrub"], limit_s).ok();
    server.stop();
    place.assert_no_panic();
}

#[test]
fn a_small_file_survives_random_operations() {
    exercise(262_144, 65_536, number("LARDER_TEST_FSX_OPS", OPS) / 10 * 9);
}

#[test]
fn a_file_of_many_chunks_survives_random_operations() {
    exercise(8 << 20, 1 << 20, number("LARDER_TEST_FSX_OPS", OPS) / 10);
}
