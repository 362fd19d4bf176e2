//! Full disks, and what stays bounded.

use crate::world::{Backend, RDWR, ROOT, World, name, noise};
use larder_core::Kind;
use larder_drive::Allocate;
use larder_store::catalog::Attrs;
use std::sync::atomic::Ordering;

#[test]
fn on_a_full_disk_files_can_be_cut_short() {
    for size in [0, 1, 500_000, 2_000_000, 3_500_000] {
        let world = World::new(Backend::Memory);
        let (id, handle) = world.create("file");
        let mut bytes = noise(8, 8 << 20);
        world.chunks.full.store(true, Ordering::Release);
        let mut at = 0;
        let error = loop {
            match world.mount.write(handle, at as u64, &bytes[at..at + 100_000]) {
                Ok(written) => at += written,
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), world.read_all(handle).len()), (Kind::NoSpace, at));
        let (_, copy) = world.create("copy");
        let copied = world.mount.copy_range((handle, 0), (copy, 0), 1000).expect("it is in memory");
        assert_eq!((copied, world.read_all(copy)), (1000, bytes[..1000].to_vec()));
        let set = world.mount.set_attrs(&world.actor, id, Attrs::default(), Some(size), Some(handle));
        assert_eq!(set.expect("less needs no space").size_bytes(), size);
        bytes.truncate(size as usize);
        assert!(world.read_all(handle) == bytes, "{size}");
        world.chunks.full.store(false, Ordering::Release);
        let more = noise(9, 5 << 20);
        world.mount.append(handle, &more).expect("there is space again");
        bytes.extend_from_slice(&more);
        assert!(world.read_all(handle) == bytes, "{size}");
        world.mount.flush(handle).expect("published");
        assert!(world.committed("file").expect("there") == bytes, "{size}");
    }
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let staging = folder.path().join("staging");
    let world = World::staging_in(&staging);
    let id = world.put("file", b"bytes").expect("put");
    let handle = world.open(id, RDWR);
    std::fs::remove_dir(&staging).expect("empty");
    world.mount.write(handle, 1 << 20, b"x").expect_err("nowhere to stage it");
    assert_eq!(world.mount.lookup(ROOT, &name("file")).expect("there").size_bytes(), 5);
    assert_eq!(world.read_all(handle), b"bytes");
    std::fs::create_dir(&staging).expect("made");
    world.mount.write(handle, 1 << 20, b"x").expect("written");
    assert_eq!(world.read(handle, 4, 2), b"s\0");
    assert_eq!(world.mount.lookup(ROOT, &name("file")).expect("there").size_bytes(), (1 << 20) + 1);
}

#[test]
fn very_many_holes_stay_bounded() {
    let world = World::new(Backend::Memory);
    let (_, handle) = world.create("file");
    let mut expected = noise(1, 600_000);
    world.mount.write(handle, 0, &expected).expect("written");
    world.mount.flush(handle).expect("published");
    let before = world.chunks.size();
    for at in (0..expected.len()).step_by(2) {
        expected[at] = 0;
        world.mount.allocate(handle, at as u64, 1, Allocate::PunchHole).expect("punched");
    }
    assert_ne!(world.chunks.size(), before, "the map was stored meanwhile");
    assert!(world.read_all(handle) == expected);
    world.mount.flush(handle).expect("published");
    assert!(world.committed("file").expect("there") == expected);
}
