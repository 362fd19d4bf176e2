//! kill -9 of the real server at random points under a mixed load: what was acknowledged is there, nothing half-written is.
//!
//! `LARDER_CRASH_ROUNDS` makes it longer. Each worker owns a folder and knows what may be in it: the state after its last
//! acknowledged operation, and what the operation that was under way may have made of it.

mod support;
mod crash {
    pub mod dav;
    pub mod folder;
    pub mod mount;
}

use crash::dav::DavWorker;
use crash::folder::Worker;
use crash::mount::MountWorker;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::process;
use support::random::Random;
use support::server::{Place, Server};

/// Rounds where nobody asks for more.
const ROUNDS: u64 = 200;
/// The longest load before a death.
const LOAD_MS: u64 = 250;
/// The latest death of a server that is just starting.
const START_MS: u64 = 40;

#[test]
fn acknowledged_survives_kill_and_half_written_is_never_seen() {
    if let Some(why) = support::lacking(true, &["umount"]) {
        return support::skip(&why);
    }
    let mut random = Random::seeded();
    let rounds = support::number("LARDER_CRASH_ROUNDS", ROUNDS);
    let place = Place::new().mounted(300 + rounds * 10);
    let mut workers: Vec<Box<dyn Worker>> = Vec::new();
    for number in 0..2 {
        workers.push(Box::new(DavWorker::new(&format!("dav{number}"), random.next())));
        workers.push(Box::new(MountWorker::new(&format!("mount{number}"), random.next(), &place.mount())));
    }
    let (mut operations, mut restart_worst) = (0, Duration::ZERO);
    for round in 0..rounds {
        if random.below(5) == 0 {
            place.start_and_kill(Duration::from_millis(random.below(START_MS)));
        }
        let started = Instant::now();
        let server = place.start();
        restart_worst = restart_worst.max(started.elapsed());
        for worker in &mut workers {
            if let Err(what) = worker.verify(&server, &place, round) {
                panic!("round {round}: {what}\n{}", place.log());
            }
        }
        operations += load_until_death(&place, server, &mut workers, &mut random);
    }
    println!("{operations} operations in {rounds} rounds; slowest start {restart_worst:?}");
    let server = place.start();
    for worker in &mut workers {
        worker.verify(&server, &place, rounds).unwrap_or_else(|what| panic!("at the end: {what}"));
    }
    place.run(&["scrub"], 120).ok();
    server.stop();
    place.assert_no_panic();
}

/// Lets all workers work until the server is killed under them; returns how many operations were acknowledged.
fn load_until_death(
    place: &Place,
    server: Server,
    workers: &mut [Box<dyn Worker>],
    random: &mut Random,
) -> usize {
    let address = server.address();
    let life = Duration::from_millis(5 + random.below(LOAD_MS));
    let collection = (random.below(3) == 0).then(|| process::start(&mut place.command(&["gc"])));
    let operations = std::thread::scope(|scope| {
        let (ended, any_ended) = mpsc::channel();
        let running: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                let ended = ended.clone();
                scope.spawn(move || {
                    let done = worker.work(address);
                    // The receiver is gone once the server is.
                    let _ = ended.send(());
                    done
                })
            })
            .collect();
        // Workers end when the server is gone; one that ends before has found a fault and panics.
        let early = any_ended.recv_timeout(life);
        server.kill();
        assert!(early.is_err(), "a worker stopped while the server lived:\n{}", place.log());
        running.into_iter().map(|worker| worker.join().expect("a worker's own message")).sum()
    });
    if let Some(collection) = collection {
        collection.finish(30);
    }
    operations
}

#[test]
fn second_server_on_a_data_directory_is_refused() {
    let place = Place::new();
    let server = place.start();
    let mut second = Command::new(support::server::LARDER);
    second.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(place.data());
    let refused = process::run(second.env("HOME", place.path("home")), 20);
    assert_eq!(refused.code(), 1, "{refused}");
    let line = refused.stderr.lines().next().unwrap_or_default();
    let (data, holder) = (place.data(), server.id().to_string());
    assert!(line.contains(data.to_str().expect("UTF-8")) && line.ends_with(&holder), "{refused}");
    assert!(server.client().ok("GET", "/healthz", &[], b"").is_success());
    server.stop();
}
