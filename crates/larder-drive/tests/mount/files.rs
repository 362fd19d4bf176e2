//! One promise about open files a test.

use crate::world::{Backend, RDONLY, RDWR, ROOT, World, name, noise};
use larder_core::{Kind, NodeKind, Timestamp};
use larder_drive::{Allocate, MakeKind, Seek};
use larder_store::catalog::Attrs;

const MIB: u64 = 1 << 20;

fn world() -> World {
    World::new(Backend::Memory)
}

#[test]
fn a_new_file_is_hidden_from_other_doors_until_it_is_closed() {
    let world = world();
    let (id, handle) = world.create("new");
    world.mount.write(handle, 0, b"bytes").expect("written");
    assert_eq!(world.committed("new").expect_err("a draft").kind(), Kind::NotFound);
    assert_eq!(world.mount.lookup(ROOT, &name("new")).expect("there").id, id);
    world.mount.flush(handle).expect("published");
    assert_eq!(world.committed("new").expect("published"), b"bytes");
}

#[test]
fn an_empty_file_is_published_too() {
    let world = world();
    let (_, handle) = world.create("empty");
    world.mount.release(handle).expect("released");
    assert_eq!(world.committed("empty").expect("published"), b"");
}

#[test]
fn a_file_made_by_mknod_is_no_draft() {
    let world = world();
    let made = world.mount.make(&world.actor, ROOT, name("made"), MakeKind::File, 0o600).expect("made");
    assert!(!made.draft && made.kind == NodeKind::File);
    assert_eq!(world.committed("made").expect("there"), b"");
}

#[test]
fn what_was_not_committed_is_gone_after_a_crash() {
    let mut world = world();
    let (id, handle) = world.create("file");
    world.mount.write(handle, 0, b"old").expect("written");
    world.mount.flush(handle).expect("published");
    world.mount.write(handle, 0, &noise(1, 5 << 20)).expect("written");
    world.crash();
    let handle = world.open(id, RDONLY);
    assert_eq!(world.read_all(handle), b"old");
}

#[test]
fn every_handle_sees_every_write_at_once() {
    let world = world();
    let (id, first) = world.create("file");
    let second = world.open(id, RDWR);
    world.mount.write(first, 0, b"hello").expect("written");
    assert_eq!(world.read(second, 1, 100), b"ello");
    world.mount.write(second, 4, b"p!").expect("written");
    assert_eq!(world.read_all(first), b"hellp!");
    assert_eq!(world.mount.lookup(ROOT, &name("file")).expect("there").size_bytes(), 6);
}

#[test]
fn a_removed_file_lives_until_its_last_handle_goes() {
    let world = world();
    for publish in [false, true] {
        let (id, handle) = world.create("file");
        world.mount.write(handle, 0, b"bytes").expect("written");
        if publish {
            world.mount.flush(handle).expect("published");
        }
        world.mount.unlink(&world.actor, ROOT, &name("file")).expect("removed");
        world.mount.write(handle, 5, b" and more").expect("written");
        assert_eq!(world.read_all(handle), b"bytes and more");
        let node = world.mount.node(id).expect("open");
        assert_eq!((node.nlink, node.size_bytes()), (0, 14));
        let attrs = Attrs { mode: Some(0o400), ..Attrs::default() };
        let node = world.mount.set_attrs(&world.actor, id, attrs, Some(3), Some(handle)).expect("set");
        assert_eq!((node.mode, node.size_bytes()), (0o400, 3));
        world.mount.fsync(handle, false).expect("nothing to do");
        assert_eq!(world.read_all(handle), b"byt");
        world.mount.release(handle).expect("released");
        assert!(world.mount.lookup(ROOT, &name("file")).is_err());
        assert_eq!(world.mount.node(id).is_err(), !publish, "a published one is in the history");
    }
}

#[test]
fn one_byte_in_a_large_file_stores_a_few_chunks() {
    let world = world();
    let (_, handle) = world.create("large");
    world.mount.write(handle, 0, &noise(1, 64 << 20)).expect("written");
    world.mount.flush(handle).expect("published");
    for at in [0, 30 * MIB + 7, 64 * MIB - 1, 64 * MIB] {
        let (_, before) = world.chunks.size();
        world.mount.write(handle, at, b"!").expect("written");
        world.mount.flush(handle).expect("published");
        let (_, after) = world.chunks.size();
        assert!(after - before < 3 * MIB, "{} bytes for one at {at}", after - before);
    }
}

#[test]
fn the_same_bytes_give_the_same_chunks_however_they_were_written() {
    let world = world();
    let bytes = noise(5, 9 << 20);
    let (_, whole) = world.create("whole");
    world.mount.write(whole, 0, &bytes).expect("written");
    world.mount.flush(whole).expect("published");
    let (_, before) = world.chunks.size();
    let (_, backwards) = world.create("backwards");
    for (i, piece) in bytes.chunks(100_000).enumerate().collect::<Vec<_>>().into_iter().rev() {
        world.mount.write(backwards, i as u64 * 100_000, piece).expect("written");
    }
    world.mount.flush(backwards).expect("published");
    assert_eq!(world.chunks.size().1, before, "nothing new");
    let (_, appended) = world.create("appended");
    for (i, piece) in bytes.chunks(1_000_000).enumerate() {
        world.mount.write(appended, i as u64 * 1_000_000, piece).expect("written");
        world.mount.flush(appended).expect("published");
    }
    assert_eq!(world.committed("appended").expect("there"), bytes);
    let etag =
        |text: &str| world.mount.lookup(ROOT, &name(text)).expect("there").head().expect("file").etag();
    assert_eq!((etag("whole"), etag("whole")), (etag("backwards"), etag("appended")));
}

#[test]
fn times_set_by_hand_survive_the_commit() {
    let world = world();
    let (id, handle) = world.create("file");
    world.clock.advance(5);
    world.mount.write(handle, 0, b"bytes").expect("written");
    let written = world.drive.now();
    assert_eq!(world.mount.node(id).expect("there").mtime, written);
    world.clock.advance(5);
    let attrs = Attrs {
        mtime: Some(Timestamp(-7)),
        atime: Some(Timestamp(-8)),
        mode: Some(0o640),
        ..Attrs::default()
    };
    let node = world.mount.set_attrs(&world.actor, id, attrs, None, None).expect("set");
    assert_eq!((node.mtime, node.atime), (Timestamp(-7), Timestamp(-8)));
    world.mount.release(handle).expect("released");
    let node = world.mount.node(id).expect("there");
    assert_eq!((node.mtime, node.atime, node.mode), (Timestamp(-7), Timestamp(-8), 0o640));
    let handle = world.open(id, RDWR);
    world.mount.write(handle, 0, b"B").expect("written");
    assert_eq!(world.mount.node(id).expect("there").mtime, world.drive.now(), "a later write counts again");
}

#[test]
fn closing_does_not_move_mtime() {
    let world = world();
    let (id, handle) = world.create("file");
    world.mount.write(handle, 0, b"bytes").expect("written");
    let written = world.drive.now();
    world.clock.advance(1_000);
    world.mount.release(handle).expect("released");
    assert_eq!(world.mount.node(id).expect("there").mtime, written);
}

#[test]
fn reading_moves_atime_once_and_nothing_else() {
    let world = world();
    let (id, handle) = world.create("file");
    world.mount.write(handle, 0, b"bytes").expect("written");
    world.mount.release(handle).expect("released");
    let before = world.mount.node(id).expect("there");
    world.clock.advance(1_000);
    let handle = world.open(id, RDONLY);
    world.read_all(handle);
    let read = world.drive.now();
    assert_eq!(world.mount.node(id).expect("there").atime, read);
    world.clock.advance(1_000);
    world.read_all(handle);
    world.mount.release(handle).expect("released");
    let after = world.mount.node(id).expect("there");
    assert_eq!(after, larder_core::Node { atime: read, ..before });
}

#[test]
fn holes_take_no_space_and_are_found() {
    let world = world();
    let (id, handle) = world.create("sparse");
    world.mount.write(handle, 10 * MIB, b"x").expect("written");
    let seek = |at, what| world.mount.seek(handle, at, what);
    let size = 10 * MIB + 1;
    for committed in [false, true] {
        if committed {
            world.mount.flush(handle).expect("published");
        }
        assert_eq!(seek(0, Seek::Data).expect("data"), 10 * MIB);
        assert_eq!(seek(0, Seek::Hole).expect("a hole"), 0);
        assert_eq!(seek(10 * MIB, Seek::Hole).expect("the end"), size);
        assert_eq!(seek(size, Seek::Data).expect_err("behind the end").kind(), Kind::Invalid);
        let node = world.mount.node(id).expect("there");
        let allocated = node.head().expect("a file").allocated_bytes;
        assert!((1..=128 * 1024).contains(&allocated), "{allocated}");
    }
    world.mount.allocate(handle, 0, 20 * MIB, Allocate::KeepSize).expect("no change");
    assert_eq!(world.mount.node(id).expect("there").size_bytes(), size);
    world.mount.allocate(handle, 0, size, Allocate::PunchHole).expect("punched");
    assert_eq!(world.mount.node(id).expect("there").head().expect("a file").allocated_bytes, 0);
    let all = Attrs::default();
    world.mount.set_attrs(&world.actor, id, all, Some(1 << 40), Some(handle)).expect("a TiB of nothing");
    world.mount.flush(handle).expect("published");
    assert_eq!(world.read(handle, (1 << 40) - 3, 10), [0; 3]);
}

#[test]
fn files_end_where_offsets_do() {
    let world = world();
    let (_, handle) = world.create("file");
    let error = world.mount.write(handle, i64::MAX as u64, b"x").expect_err("EFBIG");
    let source = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<std::io::Error>());
    assert_eq!(source.and_then(std::io::Error::raw_os_error), Some(27));
}
