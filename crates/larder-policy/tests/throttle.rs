//! What the throttle promises, in a time of its own.

use larder_policy::throttle::FREE_PIECE_BYTES;
use larder_policy::{Class, Level, Rate, Step, Throttle, Tick, Ticket};
use std::collections::HashMap;
use std::time::Duration;

/// Runs greedy streams at these levels for `seconds`; every wake-up comes `late_ns` late. Returns each stream's bytes.
fn run_at(
    throttle: &mut Throttle,
    start: Tick,
    streams: &[(Level, Class)],
    (seconds, late_ns): (u64, u64),
) -> Vec<u64> {
    let end = start.after(Duration::from_secs(seconds));
    let mut now = start;
    let mut moved = vec![0; streams.len()];
    let ask = |throttle: &mut Throttle, stream: usize, now| {
        let (level, class) = streams[stream];
        throttle.request(level, class, 1 << 20, now)
    };
    let mut holder: HashMap<Ticket, usize> = HashMap::new();
    for stream in 0..streams.len() {
        holder.insert(ask(throttle, stream, now), stream);
    }
    loop {
        match throttle.poll(now) {
            Step::Grant(ticket, bytes) => {
                let stream = holder.remove(&ticket).expect("a known ticket");
                moved[stream] += bytes;
                holder.insert(ask(throttle, stream, now), stream);
            }
            Step::Wait(at) if at.after(Duration::from_nanos(late_ns)) > end => break,
            Step::Wait(at) => now = Tick(at.0.max(now.0) + late_ns),
            Step::Idle => unreachable!("greedy streams never stop asking"),
        }
    }
    for ticket in holder.keys() {
        throttle.cancel(*ticket);
    }
    moved
}

/// As [`run_at`], at the root.
fn run(throttle: &mut Throttle, start: Tick, streams: usize, seconds: u64, late_ns: u64) -> Vec<u64> {
    run_at(throttle, start, &vec![(Level::ROOT, Class::Bulk); streams], (seconds, late_ns))
}

/// Asserts that each number of MiB is what it should be, within three per cent.
#[track_caller]
fn assert_mib(moved: &[u64], expected: &[f64]) {
    for (moved, expected) in moved.iter().zip(expected) {
        let mib = *moved as f64 / 1_048_576.0;
        assert!((mib / expected - 1.0).abs() < 0.03, "{mib:.2} MiB, not {expected}: {moved:?}");
    }
}

const MIB: fn(u32) -> Option<Rate> = |mib| Some(Rate::mib_per_s(mib));

#[test]
fn every_level_above_a_stream_keeps_its_limit() {
    for late_ns in [0, 1_100_000, 7_000_000] {
        let mut throttle = Throttle::new(MIB(8), Tick(0));
        let user = throttle.add(Level::ROOT, MIB(3), Tick(0));
        let [laptop, phone] = [MIB(1), None].map(|limit| throttle.add(user, limit, Tick(0)));
        let other = throttle.add(Level::ROOT, None, Tick(0));
        let streams = [laptop, phone, other].map(|level| (level, Class::Bulk));
        let moved = run_at(&mut throttle, Tick(0), &streams, (10, late_ns));
        assert_mib(&moved, &[10.0, 20.0, 50.0]);
        // A limit that is taken away leaves the ones above it.
        throttle.set_limit(laptop, None, Tick(10_000_000_000));
        let moved = run_at(&mut throttle, Tick(10_000_000_000), &streams, (10, late_ns));
        assert_mib(&moved, &[15.0, 15.0, 50.0]);
    }
}

#[test]
fn levels_share_evenly_however_many_streams_each_has() {
    let mut throttle = Throttle::new(MIB(5), Tick(0));
    let [many, one] = [(); 2].map(|()| throttle.add(Level::ROOT, None, Tick(0)));
    let streams: Vec<_> = [many, many, many, many, one].iter().map(|level| (*level, Class::Bulk)).collect();
    let moved = run_at(&mut throttle, Tick(0), &streams, (10, 1_100_000));
    assert_mib(&moved, &[6.25, 6.25, 6.25, 6.25, 25.0]);
    // Who did nothing meanwhile gets no more than its share afterwards.
    run_at(&mut throttle, Tick(10_000_000_000), &streams[..4], (10, 0));
    let moved = run_at(&mut throttle, Tick(20_000_000_000), &streams, (10, 0));
    assert_mib(&moved[4..], &[25.0]);
}

#[test]
fn a_slow_transfer_holds_up_nobody_and_readers_go_before_bulk() {
    let mut throttle = Throttle::new(MIB(5), Tick(0));
    let slow = throttle.add(Level::ROOT, MIB(1), Tick(0));
    let file = throttle.add(Level::ROOT, None, Tick(0));
    let moved = run_at(&mut throttle, Tick(0), &[(slow, Class::Reader), (file, Class::Bulk)], (10, 0));
    assert_mib(&moved, &[10.0, 40.0]);
    let streams = [(slow, Class::Bulk), (file, Class::Reader)];
    let moved = run_at(&mut throttle, Tick(10_000_000_000), &streams, (10, 0));
    assert!(moved[1] > 15 * moved[0] && moved[0] > 0, "{moved:?}");
    throttle.remove(slow);
    let moved = run_at(&mut throttle, Tick(20_000_000_000), &[(file, Class::Bulk)], (10, 0));
    assert_mib(&moved, &[50.0]);
}

#[test]
fn rates_are_kept_within_three_per_cent_and_shared_within_ten() {
    for late_ns in [0, 1_100_000, 7_000_000] {
        for rate_kib in [64, 200, 500, 1024, 5 << 10, 50 << 10, 500 << 10] {
            for streams in [1, 8] {
                let rate = Rate::new(rate_kib << 10);
                let mut throttle = Throttle::new(Some(rate), Tick(5));
                let moved = run(&mut throttle, Tick(5), streams, 10, late_ns);
                let total = moved.iter().sum::<u64>() as f64 / 10.0;
                let error = total / rate.bytes_per_s() as f64 - 1.0;
                assert!(
                    error.abs() < 0.03,
                    "{rate} {streams} streams {late_ns} ns late: {:+.1} %",
                    error * 100.0
                );
                let (low, high) = (moved.iter().min(), moved.iter().max());
                let share = *low.expect("streams") as f64 / *high.expect("streams") as f64;
                assert!(share > 0.9, "{rate} {streams} streams: shares {share:.2}");
            }
        }
    }
}

#[test]
fn pause_buys_one_piece_and_no_burst() {
    let rate = Rate::new(64 << 10);
    let mut throttle = Throttle::new(Some(rate), Tick(0));
    let moved = run(&mut throttle, Tick(3_600_000_000_000), 1, 2, 0)[0];
    assert!(moved <= 2 * rate.bytes_per_s() + 2 * 4096, "{moved}");
}

#[test]
fn new_rate_holds_at_once() {
    let mut throttle = Throttle::new(Some(Rate::new(500 << 20)), Tick(0));
    run(&mut throttle, Tick(0), 4, 1, 0);
    let now = Tick(1_000_000_000);
    throttle.set_limit(Level::ROOT, Some(Rate::new(1 << 20)), now);
    let moved: u64 = run(&mut throttle, now, 4, 1, 0).iter().sum();
    assert!((1_000_000..1_060_000).contains(&moved), "{moved}");
    throttle.set_limit(Level::ROOT, None, now);
    let ticket = throttle.request(Level::ROOT, Class::Bulk, 5 << 20, now);
    assert_eq!(throttle.poll(now), Step::Grant(ticket, FREE_PIECE_BYTES));
}

#[test]
fn readers_go_first_and_bulk_does_not_starve() {
    let mut throttle = Throttle::new(None, Tick(0));
    let bulk = throttle.request(Level::ROOT, Class::Bulk, 1, Tick(0));
    let readers: Vec<Ticket> =
        (0..20).map(|_| throttle.request(Level::ROOT, Class::Reader, 1, Tick(0))).collect();
    let order: Vec<Ticket> = std::iter::from_fn(|| match throttle.poll(Tick(0)) {
        Step::Grant(ticket, _) => Some(ticket),
        _ => None,
    })
    .collect();
    assert_eq!(order[0], readers[0]);
    assert_eq!(order[16], bulk);
    assert_eq!(order.len(), 21);
}

#[test]
fn cancelled_request_gets_nothing() {
    let mut throttle = Throttle::new(Some(Rate::new(1 << 20)), Tick(0));
    let first = throttle.request(Level::ROOT, Class::Bulk, 1 << 20, Tick(0));
    let second = throttle.request(Level::ROOT, Class::Bulk, 100, Tick(0));
    throttle.cancel(first);
    assert_eq!(throttle.poll(Tick(1_000_000)), Step::Grant(second, 100));
    assert_eq!(throttle.poll(Tick(1_000_000)), Step::Idle);
}
