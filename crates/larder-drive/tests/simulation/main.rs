//! Two devices and a server go through random histories on a virtual clock, one step after another: requests and answers get
//! lost, stores fail, devices die and lose their power. In the end all have the same tree, and every content that was accepted
//! is somewhere.
//!
//! One seed is one trace: `LARDER_TEST_SEED` says the first one, and `LARDER_SIMULATIONS` how many follow.

mod content;
mod device;
mod disk;
#[path = "../../../larder-store/tests/mirror/server.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod server;
#[path = "../../../../tests/support/splitmix.rs"]
mod splitmix;
mod way;

use content::{Dice, number_of};
use device::Device;
use larder_core::{Name, NodeId, Timestamp};
use larder_store::Catalog;
use larder_store::origin::Policy;
use server::Server;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use way::{Bodies, Way, heads};

const ROOT: NodeId = NodeId::ROOT;
/// Histories where nobody asks for more.
const HISTORIES: u64 = 300;
/// Steps of the longest.
const STEPS: u64 = 120;
/// Steps after which everything must have been told and heard.
const SETTLED: usize = 4000;

thread_local! {
    /// The time of the history that this thread goes through, in nanoseconds.
    static NOW: Cell<i64> = const { Cell::new(1) };
}

fn time() -> Timestamp {
    Timestamp(NOW.get())
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

#[expect(clippy::disallowed_methods, reason = "tests are tuned by the environment")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Everything below the root: paths, and what is there.
fn tree(catalog: &dyn Catalog) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(ROOT, String::new())];
    while let Some((folder, path)) = folders.pop() {
        for entry in catalog.list(folder, None, 10_000).expect("listed") {
            let (path, node) = (format!("{path}/{}", entry.name), entry.node);
            if node.is_folder() {
                folders.push((node.id, path.clone()));
            }
            found.insert(path, format!("{:?} {:o} {:?} {:?}", node.id, node.mode, node.mtime, node.head()));
        }
    }
    found
}

/// A history, and all who are in it.
struct History {
    dice: Dice,
    server: Arc<Server>,
    bodies: Arc<Bodies>,
    devices: Vec<Device>,
    /// Openings of devices so far.
    runs: u64,
    now: Duration,
    /// Contents that a user was told are safe: the files that got them, and whose they are. What a user replaces or removes on
    /// the device that it was made on may go, as that need not be told apart from the change that came before.
    accepted: BTreeMap<u64, (NodeId, usize)>,
    trace: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        NOW.set(1);
        let mut dice = Dice::new(seed);
        let (server, bodies) = (Server::new(), Arc::<Bodies>::default());
        let policies =
            [Policy::KeepBoth, Policy::KeepBoth, Policy::KeepNewest, Policy::KeepLocal, Policy::KeepServer];
        let devices = [1, 2].map(|run| {
            let way = Way::new(server.clone(), bodies.clone(), dice.next());
            let device = Device::new(way, policies[dice.below(5) as usize], run);
            device.way.is_calm.store(false, Ordering::Relaxed);
            device
        });
        let (now, accepted, trace) = (Duration::ZERO, BTreeMap::new(), Vec::new());
        Self { dice, server, bodies, devices: devices.into(), runs: 2, now, accepted, trace }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        NOW.set(1 + self.now.as_nanos() as i64);
    }

    fn step(&mut self, number: u64) {
        let pause = Duration::from_millis(self.dice.below(400));
        self.pass(pause);
        let who = self.dice.below(2) as usize;
        let device = &mut self.devices[who];
        let what = self.dice.below(20);
        let outcome = match what {
            0..7 => {
                let before = device.contents();
                let done = device.act(&mut self.dice, number);
                let after = device.contents();
                self.accepted.retain(|number, (_, owner)| {
                    *owner != who || !before.contains(number) || after.contains(number)
                });
                self.accepted.extend(done.iter().flatten().map(|(number, id)| (*number, (*id, who))));
                format!("acts: {done:?}")
            }
            7..12 => format!("tells: {}", device.tell(self.now)),
            12..15 => format!("hears: {:?}", device.hear()),
            15..17 => format!("reads: {:?}", device.read(&mut self.dice)),
            17 => {
                device.break_stores(&mut self.dice);
                "breaks".into()
            }
            18 => {
                self.bodies.sweep(&self.server);
                "the server starts again".into()
            }
            _ => {
                let power = self.dice.once_in(2);
                self.runs += 1;
                let dead = self.devices.remove(who).dies(power, self.runs);
                self.devices.insert(who, dead);
                format!("dies, its power too: {power}")
            }
        };
        self.trace.push(format!("{number} {:?} {who} {outcome}", self.now));
    }

    /// Nothing goes wrong any more, until all is told and heard.
    fn settle(&mut self) {
        for device in &self.devices {
            device.heal();
            device.way.is_calm.store(true, Ordering::Relaxed);
        }
        for _ in 0..SETTLED {
            self.pass(Duration::from_secs(1));
            let before = self.server.catalog.now();
            let is_telling =
                self.devices.iter_mut().map(|device| device.tell(self.now)).filter(|told| *told).count();
            self.devices.iter().for_each(|device| device.hear().expect("all works"));
            let is_empty = |device: &Device| device.mirror.queue_len().expect("a length").len == 0;
            if is_telling == 0 && self.devices.iter().all(is_empty) && self.server.catalog.now() == before {
                return;
            }
        }
        panic!("it does not end");
    }

    /// Every content that is somewhere.
    fn somewhere(&self) -> BTreeSet<u64> {
        let mut made = self.server.made.lock().clone();
        made.extend(self.accepted.values().map(|(id, _)| *id));
        let at_server = heads(&self.server.catalog, &made).into_iter().map(|head| {
            let body = |id| self.bodies.get(id).expect("every body of what the server has is there");
            let bodies: Vec<_> = head.extents.iter().map(|extent| body(&extent.id)).collect();
            number_of(&bodies.concat()).expect("a content")
        });
        let kept = self.devices.iter().flat_map(|device| device.kept(&made));
        at_server.chain(kept).collect()
    }

    fn go_through(seed: u64) -> Self {
        let mut history = Self::new(seed);
        let steps = 1 + history.dice.below(STEPS);
        (1..=steps).for_each(|number| history.step(number));
        history.settle();
        history
    }
}

#[test]
fn all_come_to_agree_and_every_accepted_content_is_somewhere() {
    let first = setting("LARDER_TEST_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20);
    let histories = setting("LARDER_SIMULATIONS").unwrap_or(HISTORIES);
    let mut accepted = 0;
    for seed in first..first + histories {
        let outcome = std::panic::catch_unwind(|| {
            let history = History::go_through(seed);
            let expected = tree(&history.server.catalog);
            for device in &history.devices {
                assert_eq!(tree(&*device.mirror), expected, "{:#?}", history.trace);
            }
            let somewhere = history.somewhere();
            let lost: Vec<_> = history.accepted.keys().filter(|number| !somewhere.contains(number)).collect();
            assert!(lost.is_empty(), "{lost:?} lost: {:#?}", history.trace);
            history.accepted.len()
        });
        match outcome {
            Ok(count) => accepted += count,
            Err(panic) => {
                println!("LARDER_TEST_SEED={seed} LARDER_SIMULATIONS=1 repeats it");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(accepted > 0, "nobody came to do anything");
    println!("{accepted} contents accepted");
}

#[test]
fn one_seed_is_one_trace() {
    for seed in 0..20 {
        let [one, two] = [seed, seed].map(|seed| {
            let history = History::go_through(seed);
            (history.trace, history.accepted, tree(&history.server.catalog))
        });
        assert_eq!(one, two, "seed {seed}");
    }
}
