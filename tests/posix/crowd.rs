//! A folder of a million names: each is told once and found at once, while others come and go.

#[path = "../../crates/larder-dav/tests/support/million.rs"]
mod million;

use crate::support::mount::{TestMount, dav};
use crate::support::random::Random;
use crate::{errno, raw};
use larder_core::{Name, NodeId};
use million::{NAMES, text};
use rustix::fs::Dir;
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::{self, File};
use std::time::{Duration, Instant};

/// Names that are looked up, and names after which a listing is disturbed.
const SOME: u64 = 500;
/// No call about one name takes longer, on average; each takes some tens of microseconds whatever the folder holds.
const QUICK: Duration = Duration::from_millis(2);

/// Makes folder `d` with its names.
fn fill(mount: &TestMount) {
    let name = Name::new("d").expect("a name");
    let folder = mount.drive().make_folder(&dav(), NodeId::ROOT, name, 0o777).expect("made");
    million::fill(mount.drive(), &dav(), folder.id);
    mount.settle();
}

/// The names that `d` tells, one after the other.
fn listing(mount: &TestMount) -> impl Iterator<Item = String> {
    let mut folder = Dir::new(File::open(mount.path("d")).expect("opens")).expect("listed");
    std::iter::from_fn(move || {
        let entry = folder.read()?.expect("an entry");
        Some(entry.file_name().to_string_lossy().into_owned())
    })
    .filter(|name| name != "." && name != "..")
}

/// Prints how long a step took.
fn timed<T>(what: &str, step: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let result = step();
    let took = started.elapsed();
    println!("{took:?}: {what}");
    (result, took)
}

/// Tells how often each number was told, and any other name once.
struct Told {
    numbers: Vec<u8>,
    others: HashSet<String>,
}

impl Told {
    fn new() -> Told {
        Told { numbers: vec![0; NAMES as usize], others: HashSet::new() }
    }

    fn note(&mut self, name: String) {
        match name.parse::<usize>() {
            Ok(number) => self.numbers[number] += 1,
            Err(_) => assert!(self.others.insert(name.clone()), "{name} is told twice"),
        }
    }
}

#[test]
fn a_million_names_are_told_once_and_found_at_once() {
    let Some(mount) = TestMount::new() else { return };
    timed("made", || fill(&mount));
    look_up(&mount);
    let mut told = Told::new();
    timed("listed", || listing(&mount).for_each(|name| told.note(name)));
    assert!(told.others.is_empty(), "{:?}", told.others);
    assert_eq!(told.numbers.iter().position(|times| *times != 1), None, "told once each");
    list_while_others_come_and_go(&mount);
}

fn look_up(mount: &TestMount) {
    let mut random = Random::seeded();
    let ((), took) = timed("some looked up", || {
        for _ in 0..SOME {
            let number = random.below(NAMES);
            assert!(fs::metadata(mount.path(&format!("d/{}", text(number)))).expect("found").is_file());
            let missing = mount.path(&format!("d/{}-", text(number)));
            assert_eq!(errno(fs::metadata(missing)), raw(Errno::NOENT));
        }
    });
    assert!(took < QUICK * SOME as u32 * 2, "looking up {SOME} names and as many others took {took:?}");
}

/// What one change did: a name that was told went, one that was not, and one came on either side.
fn disturb(mount: &TestMount, at: u64) -> [u64; 2] {
    let gone = [at / 2, NAMES - 1 - at / 3];
    for number in gone {
        // Some went before.
        let _ = fs::remove_file(mount.path(&format!("d/{}", text(number))));
    }
    for new in [format!("d/{}-new", text(at / 2)), format!("d/{}-new", text(NAMES - 1 - at / 3))] {
        File::create(mount.path(&new)).expect("made");
    }
    gone
}

fn list_while_others_come_and_go(mount: &TestMount) {
    let (mut told, mut gone) = (Told::new(), HashSet::new());
    let mut changing = Duration::ZERO;
    timed("listed again meanwhile", || {
        for (at, name) in (1..).zip(listing(mount)) {
            told.note(name);
            if at % (NAMES / SOME) == 0 && at < NAMES {
                let started = Instant::now();
                gone.extend(disturb(mount, at));
                changing += started.elapsed();
            }
        }
    });
    assert!(gone.len() as u64 > SOME, "{} names went", gone.len());
    for (number, times) in told.numbers.iter().enumerate() {
        let stayed = !gone.contains(&(number as u64));
        assert!(
            *times == 1 || (!stayed && *times == 0),
            "{number} is told {times} times; it stayed: {stayed}"
        );
    }
    assert!(changing < QUICK * SOME as u32 * 4, "{SOME} changes took {changing:?}");
    let left = listing(mount).count() as u64;
    assert!(left > NAMES - gone.len() as u64, "{left} names are left");
}
