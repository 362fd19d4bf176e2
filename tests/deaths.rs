//! kill -9 of a device at random points while programs write, read and fetch in its mount, its changes are sent, and others
//! change what is at the server: what was acknowledged is there, no wrong byte is read, and the server comes to have it all.
//!
//! `LARDER_DEATHS` makes it longer.

#![cfg(target_os = "linux")]

mod support;
mod crash {
    #[expect(dead_code, reason = "its worker comes in through WebDAV, which devices do not have")]
    pub mod dav;
    pub mod folder;
    pub mod mount;
    pub mod others;
}

use crash::folder::Worker;
use crash::mount::MountWorker;
use crash::others::Others;
use std::sync::mpsc;
use std::time::Duration;
use support::random::Random;
use support::remote::World;
use support::server::Server;

/// Deaths where nobody asks for more.
const DEATHS: u64 = 12;
/// The longest life under load.
const LIFE_MS: u64 = 900;
/// The latest death of a device that is just starting.
const START_MS: u64 = 150;
/// Small enough that what came goes again.
const CACHE: [&str; 4] = ["--cache-size", "64MiB", "--cache-mib", "8"];
/// Asks a worker to look into its folder through the mount, or at the server.
const MOUNT: u64 = 0;
const SERVER: u64 = 1;

/// Lets everybody work until the device is killed under them; returns how many operations were acknowledged, and how many
/// reads were right.
fn load_until_death(
    world: &World,
    device: Server,
    workers: &mut [MountWorker],
    others: &Others,
    random: &mut Random,
) -> (usize, usize) {
    let life = Duration::from_millis(5 + random.below(LIFE_MS));
    let (address, seed) = (world.proxy.address(), random.next());
    let (mount, mut client) = (world.device.mount(), world.server().client());
    std::thread::scope(|scope| {
        let (ended, any_ended) = mpsc::channel();
        let mut writing = Vec::new();
        for worker in workers {
            let ended = ended.clone();
            writing.push(scope.spawn(move || {
                let done = worker.work(address);
                // The receiver is gone once the device is.
                let _ = ended.send("a writer");
                done
            }));
        }
        let reading = scope.spawn(move || {
            let read = others.read_until_death(&mount, Random::new(seed));
            let _ = ended.send("the reader");
            read
        });
        let (stop, stopped) = mpsc::channel::<()>();
        let changing = scope.spawn(move || others.change(&mut client, Random::new(!seed), &stopped));
        // Everybody ends when the device is gone; who ends before has found a fault.
        let early = any_ended.recv_timeout(life);
        device.kill();
        drop(stop);
        assert!(
            early.is_err(),
            "{} stopped while the device lived:\n{}",
            early.expect("one"),
            world.device.log()
        );
        changing.join().expect("others go on");
        let written = writing.into_iter().map(|worker| worker.join().expect("a worker's own message")).sum();
        (written, reading.join().expect("the reader's own message"))
    })
}

/// Looks into the folders of all workers.
#[track_caller]
fn verify(world: &World, workers: &mut [MountWorker], place: u64, when: &str) {
    for worker in workers {
        if let Err(what) = worker.verify(world.server(), &world.device, place) {
            panic!("{when}: {what}\n{}", world.device.log());
        }
    }
}

/// Everything is sent.
#[track_caller]
fn push(world: &World) {
    let mount = world.device.mount().display().to_string();
    let pushed = world.device.run(&["push", &mount, "--wait", "--timeout", "100"], 120);
    assert_eq!(pushed.code(), 0, "{pushed}\n{}", world.device.log());
}

#[test]
fn a_device_that_dies_loses_nothing_acknowledged_and_reads_no_wrong_byte() {
    let deaths = support::number("LARDER_DEATHS", DEATHS);
    let Some(world) = World::with(&CACHE) else { return };
    let mut random = Random::seeded();
    let mut workers: Vec<MountWorker> = (0..2)
        .map(|n| MountWorker::new(&format!("mount{n}"), random.next(), &world.device.mount()))
        .collect();
    let others = Others::new(&world);
    let (mut written, mut read) = (0, 0);
    for death in 0..deaths {
        if random.below(4) == 0 {
            let life = Duration::from_millis(random.below(START_MS));
            world.device.attach_and_kill(world.proxy.address(), life);
        }
        let device = world.mount();
        verify(&world, &mut workers, MOUNT, &format!("after death {death}"));
        if death % 4 == 3 {
            push(&world);
            verify(&world, &mut workers, SERVER, &format!("at the server after death {death}"));
        }
        // Some die without a server: then they read what is here, and what they write waits.
        let is_cut = death > 0 && random.below(4) == 0;
        if is_cut {
            world.proxy.lead_to(None);
        }
        others.may_be_late(is_cut);
        let done = load_until_death(&world, device, &mut workers, &others, &mut random);
        (written, read) = (written + done.0, read + done.1);
        world.proxy.lead_to(Some(world.server().address()));
    }
    println!("{written} changes and {read} reads over {deaths} deaths");
    assert!(written > 0 && read > 0, "nobody came to do anything");
    let device = world.mount();
    verify(&world, &mut workers, MOUNT, "at the end");
    push(&world);
    verify(&world, &mut workers, SERVER, "at the end at the server");
    others.verify(&world.device.mount());
    device.stop();
    world.device.run(&["scrub"], 120).ok();
    let device = world.mount();
    verify(&world, &mut workers, MOUNT, "after a scrub");
    world.end(device);
}
