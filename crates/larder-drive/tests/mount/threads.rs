//! Many threads on one file, and what may happen while a commit is on its way.

use crate::world::{Backend, RDONLY, RDWR, ROOT, World, name, noise};
use larder_core::Timestamp;
use larder_store::catalog::Attrs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const RECORD: usize = 1000;
const RECORDS: u64 = 400;

#[test]
fn bytes_written_during_a_commit_are_not_lost() {
    let world = World::new(Backend::Memory);
    let (_, handle) = world.create("file");
    let mut expected = noise(1, 3_000_000);
    world.mount.write(handle, 0, &expected).expect("written");
    thread::scope(|scope| {
        world.chunks.close_gate();
        let commit = scope.spawn(|| world.mount.fsync(handle, false));
        world.chunks.somebody_waits();
        for (at, len) in [(5, 10), (2_500_000, 20), (2_999_999, 100)] {
            let bytes = noise(at, len);
            world.mount.write(handle, at, &bytes).expect("a write does not wait for the commit");
            let end = at as usize + len;
            expected.resize(expected.len().max(end), 0);
            expected[at as usize..end].copy_from_slice(&bytes);
        }
        assert!(world.read_all(handle) == expected, "a read does not wait either");
        world.chunks.open_gate();
        commit.join().expect("no panic").expect("published");
    });
    assert!(world.read_all(handle) == expected);
    assert_eq!(
        world.committed("file").expect("there").len(),
        3_000_000,
        "the commit has what came before it"
    );
    world.mount.flush(handle).expect("published");
    assert!(world.committed("file").expect("there") == expected);
}

#[test]
fn a_truncation_during_a_commit_counts_after_it() {
    let world = World::new(Backend::Memory);
    let (id, handle) = world.create("file");
    let bytes = noise(1, 3_000_000);
    world.mount.write(handle, 0, &bytes).expect("written");
    world.mount.flush(handle).expect("published");
    world.mount.write(handle, 100, b"change").expect("written");
    thread::scope(|scope| {
        world.chunks.close_gate();
        let commit = scope.spawn(|| world.mount.flush(handle));
        world.chunks.somebody_waits();
        for size in [50, 200] {
            let set = world.mount.set_attrs(&world.actor, id, Default::default(), Some(size), Some(handle));
            set.expect("truncated");
        }
        world.chunks.open_gate();
        commit.join().expect("no panic").expect("published");
    });
    let expected = [&bytes[..50], &[0; 150]].concat();
    assert!(world.read_all(handle) == expected);
    world.mount.flush(handle).expect("published");
    assert!(world.committed("file").expect("there") == expected);
}

#[test]
fn a_commit_that_fails_gives_back_what_it_took() {
    let world = World::new(Backend::Memory);
    let (_, handle) = world.create("file");
    let mut expected = noise(1, 200_000);
    world.mount.write(handle, 0, &expected).expect("written");
    world.mount.flush(handle).expect("published");
    world.mount.write(handle, 1000, &[1; 5000]).expect("written");
    expected[1000..6000].fill(1);
    world.chunks.full.store(true, Ordering::Release);
    thread::scope(|scope| {
        world.chunks.close_gate();
        let commit = scope.spawn(|| world.mount.flush(handle));
        world.chunks.somebody_waits();
        world.mount.write(handle, 3000, &[2; 5000]).expect("written");
        expected[3000..8000].fill(2);
        world.chunks.open_gate();
        assert!(commit.join().expect("no panic").is_err());
    });
    assert!(world.read_all(handle) == expected);
    world.chunks.full.store(false, Ordering::Release);
    world.mount.flush(handle).expect("published");
    assert!(world.committed("file").expect("there") == expected);
}

/// Runs `work` on a thread of this name, which [`crate::faults::FaultyChunks::hold`] knows.
fn named<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, T> {
    thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).expect("a thread")
}

#[test]
fn a_commit_that_ends_while_a_writer_cuts_its_block_takes_nothing() {
    let world = World::new(Backend::Memory);
    let block = noise(1, 3 << 20);
    let chunks = &world.chunks;
    chunks.hold("larder-cut");
    for other in 0..5 {
        let (_, handle) = world.create(&format!("other{other}"));
        world.mount.write(handle, 0, &block).expect("written");
        // it has the first, and the queue is full with the rest
        chunks.waits("larder-cut");
    }
    let (_, handle) = world.create("file");
    let filled = 3_000_000;
    world.mount.write(handle, 0, &block[..filled]).expect("written");
    thread::scope(|scope| {
        ["committer", "writer"].into_iter().for_each(|name| chunks.hold(name));
        let commit = named(scope, "committer", || world.mount.fsync(handle, false));
        chunks.waits("committer");
        let write = named(scope, "writer", || world.mount.write(handle, filled as u64, &block[filled..]));
        chunks.waits("writer");
        chunks.free("committer");
        commit.join().expect("no panic").expect("published");
        chunks.free("writer");
        chunks.free("larder-cut");
        write.join().expect("no panic").expect("written");
    });
    assert!(world.read_all(handle) == block);
    world.mount.write(handle, block.len() as u64, b"more").expect("written");
    world.mount.flush(handle).expect("published");
    assert!(world.committed("file").expect("there") == [&block[..], b"more"].concat());
}

#[test]
fn what_is_removed_while_it_is_committed_stays_readable() {
    let world = World::new(Backend::Memory);
    let (_, handle) = world.create("draft");
    let bytes = noise(1, 3_000_000);
    world.mount.write(handle, 0, &bytes).expect("written");
    thread::scope(|scope| {
        world.chunks.close_gate();
        let commit = scope.spawn(|| world.mount.fsync(handle, false));
        world.chunks.somebody_waits();
        world.mount.unlink(&world.actor, ROOT, &name("draft")).expect("removed");
        world.chunks.open_gate();
        commit.join().expect("no panic").expect("nothing to publish");
    });
    world.chunks.memory.sweep(|_| false);
    assert!(world.read_all(handle) == bytes);
    world.mount.release(handle).expect("released");
}

#[test]
fn a_copy_holds_what_it_refers_to_from_the_start() {
    let world = World::new(Backend::Memory);
    let bytes = noise(1, 3 << 20);
    let (from_id, from) = world.create("from");
    world.mount.write(from, 0, &bytes).expect("written");
    world.mount.set_attrs(&world.actor, from_id, Attrs::default(), Some(2 << 20), Some(from)).expect("cut");
    let (_, to) = world.create("to");
    thread::scope(|scope| {
        world.chunks.hold("larder-cut");
        // the copy waits for this
        world.mount.write(to, 0, &noise(2, 3 << 20)).expect("written");
        world.chunks.waits("larder-cut");
        let (done, is_done) = std::sync::mpsc::channel();
        let mount = &world.mount;
        scope.spawn(move || done.send(mount.copy_range((from, 0), (to, 4 << 20), 1 << 20)));
        let _ = is_done.recv_timeout(std::time::Duration::from_millis(100));
        let empty = world.mount.set_attrs(&world.actor, from_id, Attrs::default(), Some(0), Some(from));
        empty.expect("truncated");
        world.mount.flush(from).expect("published");
        world.chunks.memory.sweep(|_| false);
        world.chunks.free("larder-cut");
        let copied = is_done.recv().expect("it ends").expect("copied");
        assert_eq!(world.read(to, 4 << 20, copied as usize), bytes[..copied as usize]);
    });
}

#[test]
fn times_set_by_hand_during_a_commit_survive_it() {
    let world = World::new(Backend::Memory);
    let (id, handle) = world.create("file");
    world.mount.write(handle, 0, b"bytes").expect("written");
    thread::scope(|scope| {
        world.chunks.close_gate();
        let commit = scope.spawn(|| world.mount.flush(handle));
        world.chunks.somebody_waits();
        let (done, is_done) = std::sync::mpsc::channel();
        let world = &world;
        scope.spawn(move || {
            let attrs = Attrs { mtime: Some(Timestamp(7)), ..Attrs::default() };
            world.mount.set_attrs(&world.actor, id, attrs, None, None).expect("set");
            let _ = done.send(());
        });
        // it may wait for the commit
        let _ = is_done.recv_timeout(std::time::Duration::from_millis(100));
        world.chunks.open_gate();
        commit.join().expect("no panic").expect("published");
    });
    assert_eq!(world.mount.node(id).expect("there").mtime, Timestamp(7));
    world.mount.release(handle).expect("released");
    assert_eq!(world.drive.node(id).expect("published").mtime, Timestamp(7));
}

#[test]
fn a_truncation_is_published_though_the_last_writer_is_leaving() {
    let world = World::new(Backend::Memory);
    let id = world.put("file", b"0123456789").expect("put");
    for round in 0..500 {
        let size = 1 + round % 9;
        let handle = world.open(id, RDWR);
        world.mount.write(handle, 0, b"0123456789").expect("written");
        world.mount.flush(handle).expect("published");
        thread::scope(|scope| {
            let world = &world;
            scope.spawn(move || world.mount.release(handle).expect("released"));
            let set = world.mount.set_attrs(&world.actor, id, Attrs::default(), Some(size), None);
            set.expect("truncated");
        });
        assert_eq!(world.committed("file").expect("there").len() as u64, size, "round {round}");
        assert!(!world.drive.busy().is_busy(id));
    }
}

/// Each record says who wrote it and which it is, all over.
fn record(writer: u64, number: u64) -> Vec<u8> {
    [writer.to_le_bytes(), number.to_le_bytes()].concat().repeat(RECORD / 16 + 1)[..RECORD].to_vec()
}

fn owner(record: &[u8]) -> (u64, u64) {
    let number = |from: usize| u64::from_le_bytes(record[from..from + 8].try_into().expect("8 bytes"));
    (number(0), number(8))
}

#[test]
fn appends_of_many_threads_all_arrive_whole() {
    for backend in [Backend::Memory, Backend::Log] {
        let world = World::new(backend);
        let (id, handle) = world.create("log");
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let world = &world;
                    scope.spawn(move || {
                        let handle = world.open(id, RDWR);
                        for number in 0..RECORDS {
                            // Some are longer than what fits the stream's block at once.
                            let many = if number % 50 == 0 { 900 } else { 1 };
                            let bytes = record(writer, number).repeat(many);
                            world.mount.append(handle, &bytes).expect("written");
                        }
                        world.mount.release(handle).expect("released");
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    world.mount.fsync(handle, false).expect("published");
                }
            });
            let reader = scope.spawn(|| {
                let handle = world.open(id, RDONLY);
                while !done.load(Ordering::Acquire) {
                    let bytes = world.read_all(handle);
                    let records = bytes.chunks_exact(RECORD);
                    assert!(records.clone().all(|r| r == record(owner(r).0, owner(r).1)), "a torn record");
                    assert!(records.remainder().is_empty(), "half a record");
                }
            });
            writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
            done.store(true, Ordering::Release);
            reader.join().expect("no panic");
        });
        let bytes = world.read_all(handle);
        let mut last = [None; 4];
        let mut count = 0;
        for r in bytes.chunks(RECORD) {
            let (writer, number) = owner(r);
            assert_eq!(r, record(writer, number));
            assert!(last[writer as usize] <= Some(number), "in order");
            last[writer as usize] = Some(number);
            count += 1;
        }
        assert_eq!(count, 4 * (RECORDS + RECORDS / 50 * 899));
        world.mount.flush(handle).expect("published");
        assert!(world.committed("log").expect("there") == bytes);
    }
}

#[test]
fn writers_in_their_own_ranges_do_not_disturb_one_another() {
    for backend in [Backend::Memory, Backend::Log] {
        let world = World::new(backend);
        let (id, handle) = world.create("file");
        let range = 1_500_000;
        thread::scope(|scope| {
            for writer in 0..4u64 {
                let world = &world;
                scope.spawn(move || {
                    let handle = world.open(id, RDWR);
                    for round in 0..6 {
                        let bytes = noise(writer * 100 + round, range);
                        let at = writer * range as u64;
                        let step = [4096, 100_000, 999, 1 << 20, 65_536, 7000][round as usize];
                        for (i, piece) in bytes.chunks(step).enumerate() {
                            world.mount.write(handle, at + (i * step) as u64, piece).expect("written");
                        }
                        assert!(world.read(handle, at, range) == bytes, "writer {writer} round {round}");
                        world.mount.flush(handle).expect("published");
                        assert!(world.read(handle, at, range) == bytes, "writer {writer} round {round}");
                    }
                    world.mount.release(handle).expect("released");
                });
            }
        });
        let expected: Vec<u8> = (0..4).flat_map(|writer| noise(writer * 100 + 5, range)).collect();
        assert!(world.read_all(handle) == expected);
        world.mount.flush(handle).expect("published");
        assert!(world.committed("file").expect("there") == expected);
    }
}

#[test]
fn files_open_and_close_under_load_from_another_door() {
    let world = World::new(Backend::Memory);
    let id = world.put("file", &noise(0, 100_000)).expect("put");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        let handle = world.open(id, RDONLY);
                        let bytes = world.read_all(handle);
                        assert!((0..200).any(|version| bytes == noise(version, 100_000)), "a mixed version");
                        world.mount.release(handle).expect("released");
                    }
                })
            })
            .collect();
        for version in 1..200 {
            world.put("file", &noise(version, 100_000)).expect("put");
        }
        done.store(true, Ordering::Release);
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
    });
    let handle = world.open(id, RDONLY);
    assert!(world.read_all(handle) == noise(199, 100_000));
}
