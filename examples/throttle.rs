//! Shares 1 MiB/s between two streams for three seconds that pass at once: `cargo run --example throttle`.

use larder_policy::{Class, Level, Rate, Step, Throttle, Tick};
use std::collections::HashMap;

fn main() -> Result<(), larder_core::Error> {
    let rate: Rate = "1MiB/s".parse()?;
    let (mut now, end) = (Tick(0), Tick(3_000_000_000));
    let mut throttle = Throttle::new(Some(rate), now);
    let mut moved_bytes = [0u64; 2];
    // Both streams always want more: each asks again as soon as it was granted a piece.
    let mut holders = HashMap::new();
    for stream in [0, 1] {
        holders.insert(throttle.request(Level::ROOT, Class::Bulk, 1 << 20, now), stream);
    }
    while now < end {
        match throttle.poll(now) {
            Step::Grant(ticket, bytes) => {
                let stream = holders.remove(&ticket).expect("granted to who asked");
                moved_bytes[stream] += bytes;
                holders.insert(throttle.request(Level::ROOT, Class::Bulk, 1 << 20, now), stream);
            }
            // A program would sleep; time is an argument, so this one does not have to.
            Step::Wait(until) => now = until,
            Step::Idle => break,
        }
    }
    println!("{rate} for {:?}: {moved_bytes:?} bytes", now.since(Tick(0)));
    Ok(())
}
