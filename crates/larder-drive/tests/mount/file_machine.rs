//! Random operations on the handles of a file, against a vector of bytes.

use crate::world::{Backend, RDONLY, RDWR, World, noise};
use larder_core::NodeId;
use larder_drive::{Allocate, Handle, Seek};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Write { at: u64, len: usize },
    Append { len: usize },
    Truncate { size: u64 },
    Read { at: u64, len: usize },
    Allocate { at: u64, len: u64, how: Allocate },
    CopyWithin { from: u64, to: u64, len: u64 },
    CopyIn { from: u64, to: u64, len: u64 },
    Holes,
    Flush,
    Sync,
    Reopen,
    Crash,
    Replace { len: usize },
}

fn place() -> impl Strategy<Value = u64> {
    prop_oneof![0..200u64, 0..300_000u64, 0..5_000_000u64, (0..1200u64).prop_map(|page| page * 4096)]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![1..200usize, Just(4096usize), 1..200_000usize, 1..2_500_000usize, Just(1usize << 20)]
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        Just(Allocate::Extend),
        Just(Allocate::KeepSize),
        Just(Allocate::PunchHole),
        Just(Allocate::ZeroRange { keep_size: true }),
        Just(Allocate::ZeroRange { keep_size: false }),
    ];
    let len = || length().prop_map(|len| len as u64);
    prop_oneof![
        8 => (place(), length()).prop_map(|(at, len)| Step::Write { at, len }),
        8 => length().prop_map(|len| Step::Append { len }),
        3 => place().prop_map(|size| Step::Truncate { size }),
        4 => (place(), length()).prop_map(|(at, len)| Step::Read { at, len }),
        3 => (place(), len(), how).prop_map(|(at, len, how)| Step::Allocate { at, len, how }),
        2 => (place(), place(), len()).prop_map(|(from, to, len)| Step::CopyWithin { from, to, len }),
        2 => (place(), place(), len()).prop_map(|(from, to, len)| Step::CopyIn { from, to, len }),
        2 => Just(Step::Holes),
        4 => Just(Step::Flush),
        1 => Just(Step::Sync),
        2 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        1 => length().prop_map(|len| Step::Replace { len }),
    ]
}

struct Machine {
    world: World,
    id: NodeId,
    rdwr: Handle,
    append: Handle,
    rdonly: Handle,
    /// Another file to copy from, half of it not committed.
    other: (Handle, Vec<u8>),
    live: Vec<u8>,
    committed: Vec<u8>,
    seed: u64,
}

const NAME: &str = "file";

impl Machine {
    fn new(backend: Backend) -> Self {
        let world = World::new(backend);
        let (id, rdwr) = world.create(NAME);
        world.mount.flush(rdwr).expect("published");
        let (append, rdonly) = (world.open(id, RDWR), world.open(id, RDONLY));
        let other = Self::other(&world);
        Self { world, id, rdwr, append, rdonly, other, live: Vec::new(), committed: Vec::new(), seed: 1 }
    }

    fn other(world: &World) -> (Handle, Vec<u8>) {
        let (_, handle) = match world.mount.lookup(NodeId::ROOT, &crate::world::name("other")) {
            Ok(node) => {
                world
                    .mount
                    .unlink(&world.actor, NodeId::ROOT, &crate::world::name("other"))
                    .expect("removed");
                let _ = node;
                world.create("other")
            }
            Err(_) => world.create("other"),
        };
        let bytes = noise(99, 3_000_000);
        world.mount.write(handle, 0, &bytes[..2_000_000]).expect("written");
        world.mount.flush(handle).expect("published");
        world.mount.write(handle, 2_000_000, &bytes[2_000_000..]).expect("written");
        (handle, bytes)
    }

    fn noise(&mut self, len: usize) -> Vec<u8> {
        self.seed += 1;
        noise(self.seed, len)
    }

    fn model_write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[at..end].copy_from_slice(bytes);
    }

    fn run(&mut self, step: &Step) {
        self.world.clock.advance(1_000_000);
        match *step {
            Step::Write { at, len } => {
                let bytes = self.noise(len);
                assert_eq!(self.world.mount.write(self.rdwr, at, &bytes).expect("written"), len);
                self.model_write(at as usize, &bytes);
            }
            Step::Append { len } => {
                let bytes = self.noise(len);
                assert_eq!(self.world.mount.append(self.append, &bytes).expect("written"), len);
                self.model_write(self.live.len(), &bytes);
            }
            Step::Truncate { size } => {
                let node = self.world.mount.set_attrs(
                    &self.world.actor,
                    self.id,
                    Default::default(),
                    Some(size),
                    Some(self.rdwr),
                );
                assert_eq!(node.expect("truncated").size_bytes(), size);
                self.live.resize(size as usize, 0);
            }
            Step::Read { at, len } => {
                let from = (at as usize).min(self.live.len());
                let to = (from + len).min(self.live.len());
                assert!(self.world.read(self.rdonly, at, len) == self.live[from..to], "read {at}+{len}");
            }
            Step::Allocate { at, len, how } => self.allocate(at, len, how),
            Step::CopyWithin { from, to, len } => self.copy_within(from, to, len),
            Step::CopyIn { from, to, len } => {
                let (handle, bytes) = self.other.clone();
                let from = from.min(bytes.len() as u64);
                let copied =
                    self.world.mount.copy_range((handle, from), (self.rdwr, to), len).expect("copied");
                let part = &bytes[from as usize..(from + len).min(bytes.len() as u64) as usize];
                assert_eq!(copied, part.len() as u64);
                if copied > 0 {
                    self.model_write(to as usize, part);
                }
            }
            Step::Holes => self.holes(),
            Step::Flush | Step::Sync => {
                let done = match step {
                    Step::Flush => self.world.mount.flush(self.append),
                    _ => self.world.mount.fsync(self.rdonly, false),
                };
                done.expect("committed");
                self.committed = self.live.clone();
            }
            Step::Reopen => self.reopen(),
            Step::Crash => {
                self.world.crash();
                self.live = self.committed.clone();
                self.open();
                self.other = Self::other(&self.world);
            }
            Step::Replace { len } => self.replace(len),
        }
    }

    fn allocate(&mut self, at: u64, len: u64, how: Allocate) {
        self.world.mount.allocate(self.rdwr, at, len, how).expect("allocated");
        let (at, end) = (at as usize, (at + len) as usize);
        if matches!(how, Allocate::Extend | Allocate::ZeroRange { keep_size: false }) && self.live.len() < end
        {
            self.live.resize(end, 0);
        }
        if matches!(how, Allocate::PunchHole | Allocate::ZeroRange { .. }) {
            let end = end.min(self.live.len());
            if at < end {
                self.live[at..end].fill(0);
            }
        }
    }

    /// Copies as callers of copy_file_range(2) do: until nothing more comes.
    fn copy(&self, from: (Handle, u64), to: (Handle, u64), len: u64) -> u64 {
        let mut done = 0;
        while done < len {
            let (from, to) = ((from.0, from.1 + done), (to.0, to.1 + done));
            match self.world.mount.copy_range(from, to, len - done).expect("copied") {
                0 => break,
                more => done += more,
            }
        }
        done
    }

    fn copy_within(&mut self, from: u64, to: u64, len: u64) {
        if from < to + len && to < from + len {
            let copied = self.world.mount.copy_range((self.rdwr, from), (self.append, to), len);
            assert_eq!(copied.expect_err("overlapping").kind(), larder_core::Kind::Invalid);
            return;
        }
        // No more than there is: the copy makes the file longer, and a second look would find more.
        let len = len.min((self.live.len() as u64).saturating_sub(from));
        let copied = self.copy((self.rdwr, from), (self.append, to), len);
        let from = (from as usize).min(self.live.len());
        let part = self.live[from..(from + len as usize).min(self.live.len())].to_vec();
        assert_eq!(copied, part.len() as u64);
        if !part.is_empty() {
            self.model_write(to as usize, &part);
        }
    }

    /// What is said to be a hole reads as zeros, and data and holes take turns up to the end.
    fn holes(&self) {
        let size = self.live.len() as u64;
        let mut at = 0;
        while at < size {
            let data = self.world.mount.seek(self.rdonly, at, Seek::Data).unwrap_or(size);
            assert!(data >= at && self.live[at as usize..data as usize].iter().all(|byte| *byte == 0));
            if data == size {
                break;
            }
            let hole =
                self.world.mount.seek(self.rdonly, data, Seek::Hole).expect("a hole at the end at least");
            assert!(hole > data && hole <= size, "hole at {hole} behind data at {data} of {size}");
            at = hole;
        }
        assert!(self.world.mount.seek(self.rdonly, size, Seek::Hole).is_err(), "ENXIO at the end");
    }

    fn open(&mut self) {
        self.rdwr = self.world.open(self.id, RDWR);
        self.append = self.world.open(self.id, RDWR);
        self.rdonly = self.world.open(self.id, RDONLY);
    }

    fn reopen(&mut self) {
        for handle in [self.rdonly, self.append, self.rdwr] {
            self.world.mount.release(handle).expect("released");
        }
        self.committed = self.live.clone();
        self.open();
    }

    /// Another door replaces the file while only a reader has it open.
    fn replace(&mut self, len: usize) {
        let bytes = self.noise(len);
        assert!(self.world.put(NAME, &bytes).is_err(), "it is open for writing");
        self.world.mount.release(self.rdwr).expect("released");
        self.world.mount.release(self.append).expect("released");
        self.world.put(NAME, &bytes).expect("nobody writes");
        self.live = bytes.clone();
        self.committed = bytes;
        self.check();
        self.rdwr = self.world.open(self.id, RDWR);
        self.append = self.world.open(self.id, RDWR);
    }

    fn check(&self) {
        let node = self.world.mount.node(self.id).expect("there");
        assert_eq!(node.size_bytes(), self.live.len() as u64, "size");
        let head = node.head().expect("a file");
        assert!(head.allocated_bytes <= head.size_bytes, "{head:?}");
        assert!(self.world.read_all(self.rdonly) == self.live, "live bytes");
        assert!(self.world.committed(NAME).expect("there") == self.committed, "committed bytes");
    }
}

fn history(backend: Backend, steps: &[Step]) {
    let mut machine = Machine::new(backend);
    for step in steps {
        machine.run(step);
        machine.check();
    }
    machine.reopen();
    machine.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_file_is_what_was_written_over_memory(steps in prop::collection::vec(step(), 1..24)) {
        history(Backend::Memory, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_file_is_what_was_written_over_the_log(steps in prop::collection::vec(step(), 1..24)) {
        history(Backend::Log, &steps);
    }
}
