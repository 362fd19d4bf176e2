//! What other doors and other mounts change while a file is open here.

use crate::world::{Backend, RDONLY, RDWR, World};
use std::sync::mpsc::channel;
use std::thread;

fn world() -> World {
    World::new(Backend::Memory)
}

#[test]
fn who_opens_a_file_to_write_builds_on_what_was_committed_before() {
    let mut world = world();
    let id = world.put("file", b"old").expect("put");
    // Called between the commit and the word of it to the mount, which is made after this.
    let (committed, is_committed) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let gate = parking_lot::Mutex::new((committed, may_go_on));
    let wait = move |_: &larder_drive::Event<'_>| {
        let gate = gate.lock();
        if gate.0.send(()).is_ok() {
            let _ = gate.1.recv();
        }
    };
    let subscription = world.drive.subscribe(Box::new(wait), None);
    world.crash();
    let reader = world.open(id, RDONLY);
    assert_eq!(world.read_all(reader), b"old");
    thread::scope(|scope| {
        let put = scope.spawn(|| world.put("file", b"new"));
        is_committed.recv().expect("committed");
        let writer = world.open(id, RDWR);
        world.mount.append(writer, b" and more").expect("written");
        drop((go_on, is_committed));
        put.join().expect("no panic").expect("acknowledged");
        world.mount.release(writer).expect("published");
    });
    drop(subscription);
    assert_eq!(world.committed("file").expect("there"), b"new and more");
    assert_eq!(world.read_all(reader), b"new and more");
}

#[test]
fn what_another_mount_published_is_no_interim_content() {
    let world = world();
    let other = world.drive.mount();
    let (id, handle) = world.create("file");
    let write = |text: &[u8]| assert!(world.mount.write(handle, 0, text).is_ok());
    write(b"synced here");
    world.mount.fsync(handle, true).expect("synced");
    write(b"later");
    let theirs = other.open(&world.actor, id, RDWR).expect("opened");
    other.write(theirs, 0, b"saved there").expect("written");
    other.release(theirs).expect("published");
    world.mount.fsync(handle, true).expect("synced");
    let versions = world.drive.catalog().versions(id).expect("versions");
    let read = |node| world.drive.reader(node).expect("a file").read(0, usize::MAX).expect("read");
    let versions: Vec<_> = versions.iter().map(|version| read(&version.node)).collect();
    assert!(versions.iter().any(|version| *version == b"saved there"[..]), "{versions:?}");
}
