//! Who publishes what, and when other doors may change a file, one promise a test.

use crate::world::{Backend, RDONLY, RDWR, ROOT, World, name};
use larder_core::Kind;
use larder_drive::{LockRequest, OpenFlags, RenameFlags, is_locked};
use larder_store::catalog::{Attrs, Unlink};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

fn world() -> World {
    World::new(Backend::Memory)
}

/// A file whose last close failed.
fn unsaved(world: &World, text: &str) -> larder_core::NodeId {
    let (id, handle) = world.create(text);
    world.mount.write(handle, 0, b"bytes").expect("written");
    world.chunks.full.store(true, Ordering::Release);
    assert!(world.mount.flush(handle).is_err() && world.mount.release(handle).is_err());
    world.chunks.full.store(false, Ordering::Release);
    id
}

#[test]
fn a_file_made_by_who_only_reads_is_there_for_others() {
    let world = world();
    let (node, handle) =
        world.mount.create(&world.actor, ROOT, name("lock"), 0o644, RDONLY).expect("created");
    assert!(!node.draft);
    assert_eq!(world.committed("lock").expect("published"), b"");
    world.mount.release(handle).expect("released");
    world.put("lock", b"content").expect("nobody writes");
    world.mount.sync_all().expect("nothing to do");
    assert_eq!(world.committed("lock").expect("there"), b"content");
}

#[test]
fn who_truncates_and_reads_publishes_too() {
    let world = world();
    let id = world.put("file", b"old").expect("put");
    let handle = world.open(id, OpenFlags { truncate: true, ..RDONLY });
    assert!(is_locked(&world.put("file", b"new").expect_err("it would be overwritten")));
    assert_eq!(world.mount.write(handle, 0, b"x").expect_err("EBADF").kind(), Kind::Invalid);
    world.mount.release(handle).expect("released");
    assert_eq!(world.committed("file").expect("there"), b"");
    world.put("file", b"new").expect("put");
}

#[test]
fn a_handle_taken_back_late_publishes_nothing_that_another_is_writing() {
    let world = world();
    let id = world.put("file", b"old").expect("put");
    let first = world.open(id, RDWR);
    world.mount.write(first, 0, b"new").expect("written");
    world.mount.flush(first).expect("published");
    // The kernel takes a handle back some time after close(2) returned.
    let second = world.open(id, OpenFlags { truncate: true, ..RDWR });
    world.mount.release(first).expect("released");
    assert_eq!(world.committed("file").expect("there"), b"new");
    world.mount.write(second, 0, b"newest").expect("written");
    world.mount.release(second).expect("published");
    assert_eq!(world.committed("file").expect("there"), b"newest");
}

#[test]
fn a_set_size_is_published_where_somebody_holds_a_lock() {
    let world = world();
    let id = world.put("file", b"12345").expect("put");
    let reader = world.open(id, RDONLY);
    world.drive.busy().add_probe(move |node| node == id);
    world.mount.set_attrs(&world.actor, id, Attrs::default(), Some(2), None).expect("set");
    assert_eq!(world.committed("file").expect("there"), b"12");
    world.mount.release(reader).expect("released");
}

#[test]
fn what_could_not_be_saved_keeps_other_doors_out() {
    let world = world();
    world.put("file", b"one").expect("put");
    unsaved(&world, "other");
    let id = world.mount.lookup(ROOT, &name("file")).expect("there").id;
    let handle = world.open(id, RDWR);
    world.mount.write(handle, 0, b"two").expect("written");
    world.chunks.full.store(true, Ordering::Release);
    world.mount.release(handle).expect_err("full");
    assert!(is_locked(&world.drive.remove(&world.dav, ROOT, &name("file"), Unlink::File).expect_err("kept")));
    world.chunks.full.store(false, Ordering::Release);
    assert!(is_locked(&world.put("file", b"three").expect_err("it would be overwritten")));
    let reader = world.open(id, RDONLY);
    world.mount.release(reader).expect("released");
    assert_eq!(world.committed("file").expect("there"), b"two", "the next close saved it");
    world.put("file", b"three").expect("put");
    world.mount.sync_all().expect("saved");
    assert_eq!(world.committed("file").expect("there"), b"three");
    assert_eq!(world.committed("other").expect("there"), b"bytes");
}

#[test]
fn a_close_that_has_space_again_saves_what_others_could_not() {
    let world = world();
    let id = unsaved(&world, "file");
    let (_, handle) = world.create("another");
    world.mount.release(handle).expect("published");
    assert_eq!(world.committed("file").expect("saved"), b"bytes");
    assert!(!world.drive.busy().is_busy(id));
    world.put("file", b"other").expect("put");
}

#[test]
fn a_writer_and_a_lock_exclude_one_another() {
    let world = world();
    let root = world.put("file", b"bytes").expect("put");
    let holders = AtomicUsize::new(0);
    let alone = || {
        let before = holders.fetch_add(1, Ordering::AcqRel);
        std::thread::yield_now();
        holders.fetch_sub(1, Ordering::AcqRel);
        before == 0
    };
    let lock = LockRequest { root, deep: false, shared: true, owner_xml: String::new(), timeout_s: 10 };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3000 {
                if let Ok(handle) = world.mount.open(&world.actor, root, RDWR) {
                    assert!(alone());
                    world.mount.release(handle).expect("released");
                }
            }
        });
        for _ in 0..3000 {
            if let Ok(lock) = world.drive.locks().acquire(&world.drive, &world.dav, lock.clone()) {
                assert!(alone());
                world.drive.locks().release(&world.drive, &world.dav, &lock.token).expect("released");
            }
        }
    });
}

#[test]
fn removing_what_could_not_be_saved_forgets_it() {
    let world = world();
    let removed = unsaved(&world, "removed");
    world.mount.unlink(&world.actor, ROOT, &name("removed")).expect("removed");
    world.put("new", b"new").expect("put");
    let replaced = unsaved(&world, "replaced");
    let (from, to) = ((ROOT, name("new")), (ROOT, name("replaced")));
    world.mount.rename(&world.actor, from, to, RenameFlags::Replace).expect("renamed");
    for id in [removed, replaced] {
        assert_eq!(world.mount.node(id).expect_err("forgotten").kind(), Kind::NotFound);
        assert!(!world.drive.busy().is_busy(id));
    }
}

#[test]
fn a_file_that_another_door_removed_is_not_opened_again() {
    let world = world();
    let id = world.put("file", b"bytes").expect("put");
    let handle = world.open(id, RDONLY);
    world.drive.remove(&world.dav, ROOT, &name("file"), Unlink::File).expect("removed");
    let second = world.open(id, RDONLY);
    assert_eq!(world.read_all(second), b"bytes", "it lives while it is open");
    [handle, second].into_iter().for_each(|handle| world.mount.release(handle).expect("released"));
    let opened = world.mount.open(&world.actor, id, RDWR);
    assert_eq!(opened.expect_err("the name is to be looked up anew").kind(), Kind::Conflict);
    assert!(!world.drive.busy().is_busy(id));
}

#[test]
fn a_new_file_that_is_renamed_while_it_is_closed_keeps_its_bytes() {
    let world = world();
    for round in 0..5000 {
        let (_, handle) = world.create("new");
        world.mount.write(handle, 0, b"bytes").expect("written");
        let closing = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                closing.store(true, Ordering::Release);
                world.mount.release(handle).expect("published");
            });
            while !closing.load(Ordering::Acquire) {
                thread::yield_now();
            }
            let (from, to) = ((ROOT, name("new")), (ROOT, name("file")));
            world.mount.rename(&world.actor, from, to, RenameFlags::Replace).expect("renamed");
        });
        assert_eq!(world.committed("file").expect("published"), b"bytes", "round {round}");
    }
}

#[test]
fn a_new_file_that_is_removed_at_once_is_open_nevertheless() {
    let world = world();
    for _ in 0..5000 {
        thread::scope(|scope| {
            let maker = scope.spawn(|| world.create("new"));
            while world.mount.unlink(&world.actor, ROOT, &name("new")).is_err() {
                thread::yield_now();
            }
            let (id, handle) = maker.join().expect("made, whoever removes it");
            world.mount.write(handle, 0, b"bytes").expect("written");
            assert_eq!(world.read_all(handle), b"bytes");
            assert_eq!(world.mount.node(id).expect("open").nlink, 0);
            world.mount.release(handle).expect("released");
        });
    }
}
