//! What closing, copying, other doors and full disks do to open files, one promise a test.

use crate::world::{Backend, RDONLY, RDWR, ROOT, World, name, noise};
use larder_core::Kind;
use larder_drive::{MakeKind, OpenFlags, RenameFlags};
use larder_store::catalog::Attrs;
use std::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;

fn world() -> World {
    World::new(Backend::Memory)
}

#[test]
fn copying_a_range_moves_no_chunks() {
    let world = world();
    let bytes = noise(3, 32 << 20);
    let (_, from) = world.create("from");
    world.mount.write(from, 0, &bytes).expect("written");
    world.mount.flush(from).expect("published");
    let (_, before) = world.chunks.size();
    let (_, whole) = world.create("whole");
    assert_eq!(world.mount.copy_range((from, 0), (whole, 0), u64::MAX >> 2).expect("copied"), 32 * MIB);
    world.mount.flush(whole).expect("published");
    assert_eq!(world.chunks.size().1, before, "not one byte");
    let (_, part) = world.create("part");
    world.mount.copy_range((from, 5_000_001), (part, 7), 20 * MIB).expect("copied");
    world.mount.flush(part).expect("published");
    assert!(world.chunks.size().1 - before < 3 * MIB, "the edges only");
    assert_eq!(world.read(part, 7, 20 << 20), bytes[5_000_001..5_000_001 + (20 << 20)]);
    let overlapping = world.mount.copy_range((part, 0), (part, 5), 10);
    assert_eq!(overlapping.expect_err("EINVAL").kind(), Kind::Invalid);
}

#[test]
fn a_draft_is_published_before_it_takes_part_in_names() {
    let world = world();
    world.put("target", b"old").expect("put");
    let (id, handle) = world.create("draft");
    world.mount.write(handle, 0, b"new").expect("written");
    let (from, to) = ((ROOT, name("draft")), (ROOT, name("target")));
    world.mount.rename(&world.actor, from, to, RenameFlags::Replace).expect("renamed");
    assert_eq!(world.committed("target").expect("there at every moment"), b"new");
    let (other, _) = world.create("other");
    world.mount.link(&world.actor, other, ROOT, name("second")).expect("linked");
    assert_eq!(world.committed("second").expect("published"), b"");
    assert_eq!(world.mount.node(id).expect("there").name, Some(name("target")));
}

#[test]
fn what_syncs_replace_within_a_minute_is_no_version() {
    const MINUTE_NS: i64 = 60_000_000_000;
    let world = world();
    let id = world.put("database", b"from before").expect("put");
    let handle = world.open(id, RDWR);
    let write = |text: &str| assert!(world.mount.write(handle, 0, text.as_bytes()).is_ok());
    let sync = |text: &str| {
        write(text);
        world.mount.fsync(handle, true).expect("synced");
    };
    let versions = || -> Vec<Vec<u8>> {
        let versions = world.drive.catalog().versions(id).expect("versions");
        let read = |node| {
            let reader = world.drive.reader(&node).expect("a file");
            reader.read(0, usize::MAX).expect("read").to_vec()
        };
        versions.into_iter().map(|version| read(version.node)).collect()
    };
    (0..10).for_each(|number| sync(&format!("transaction {number}")));
    assert_eq!(versions(), [b"from before"]);
    // Saved: a writer closed it, here through another handle.
    let other = world.open(id, RDWR);
    world.mount.flush(other).and_then(|()| world.mount.release(other)).expect("closed");
    sync("transaction A");
    assert_eq!(versions()[1..], [b"transaction 9"]);
    // It stood for long enough that somebody may come back for it.
    world.clock.advance(MINUTE_NS);
    sync("transaction B");
    assert_eq!(versions()[2..], [b"transaction A"]);
    sync("transaction C");
    write("transaction D");
    world.mount.release(handle).expect("published");
    assert_eq!(versions().len(), 3);
    assert_eq!(world.committed("database").expect("there"), b"transaction D");
}

#[test]
fn set_gid_folders_hand_down_their_group() {
    let world = world();
    let mount = &world.mount;
    let folder = mount.make(&world.actor, ROOT, name("team"), MakeKind::Folder, 0o775).expect("made");
    let attrs = Attrs { gid: Some(50), mode: Some(0o2775), ..Attrs::default() };
    mount.set_attrs(&world.actor, folder.id, attrs, None, None).expect("set");
    let (file, _) = mount.create(&world.actor, folder.id, name("f"), 0o664, RDWR).expect("made");
    let sub = mount.make(&world.actor, folder.id, name("sub"), MakeKind::Folder, 0o755).expect("made");
    assert_eq!((file.gid, file.mode, sub.gid, sub.mode), (50, 0o664, 50, 0o2755));
    assert_eq!(mount.node(folder.id).expect("there").nlink, 3);
}

#[test]
fn a_clean_handle_follows_other_doors() {
    let world = world();
    let id = world.put("file", b"one").expect("put");
    let handle = world.open(id, RDONLY);
    assert_eq!(world.read_all(handle), b"one");
    world.put("file", b"number two").expect("put");
    assert_eq!(world.read_all(handle), b"number two");
    let writing = world.open(id, RDWR);
    let error = world.put("file", b"three").expect_err("open for writing");
    assert!(larder_drive::is_locked(&error));
    world.mount.release(writing).expect("released");
    world.put("file", b"three").expect("put");
    assert_eq!(world.read_all(handle), b"three");
}

#[test]
fn of_two_writers_behind_two_mounts_the_last_commit_wins_and_the_other_is_kept() {
    let world = world();
    let second = world.drive.mount();
    let id = world.put("file", b"base").expect("put");
    let (a, b) = (world.open(id, RDWR), second.open(&world.actor, id, RDWR).expect("opened"));
    world.mount.write(a, 0, b"AAAA").expect("written");
    second.write(b, 4, b"BBBB").expect("written");
    second.flush(b).expect("published");
    assert_eq!(world.read_all(a), b"AAAA", "dirty: it goes on with what it has");
    world.mount.flush(a).expect("published");
    assert_eq!(world.committed("file").expect("there"), b"AAAA");
    assert_eq!(second.read(b, 0, 100).expect("read").concat(), b"AAAA", "clean: it follows");
    assert_eq!(world.drive.catalog().versions(id).expect("kept").len(), 2);
}

#[test]
fn a_full_store_loses_nothing() {
    let world = world();
    let (_, handle) = world.create("file");
    let bytes = noise(8, 20 << 20);
    world.chunks.full.store(true, Ordering::Release);
    let mut at = 0;
    let error = loop {
        match world.mount.write(handle, at as u64, &bytes[at..(at + 100_000).min(bytes.len())]) {
            Ok(written) => at += written,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::NoSpace);
    assert_eq!(world.mount.flush(handle).expect_err("still full").kind(), Kind::NoSpace);
    assert_eq!(world.read_all(handle), bytes[..at], "what was taken is there");
    world.chunks.full.store(false, Ordering::Release);
    world.mount.write(handle, at as u64, &bytes[at..]).expect("there is space again");
    world.mount.fsync(handle, false).expect("published");
    assert_eq!(world.committed("file").expect("there"), bytes);
}

#[test]
fn what_could_not_be_saved_at_close_is_saved_later() {
    let world = world();
    let (id, handle) = world.create("file");
    world.mount.write(handle, 0, b"bytes").expect("written");
    world.chunks.full.store(true, Ordering::Release);
    assert!(world.mount.flush(handle).is_err() && world.mount.release(handle).is_err());
    let handle = world.open(id, RDONLY);
    assert_eq!(world.read_all(handle), b"bytes");
    world.mount.release(handle).expect("it only read");
    world.chunks.full.store(false, Ordering::Release);
    world.mount.sync_all().expect("saved");
    assert_eq!(world.committed("file").expect("there"), b"bytes");
}

#[test]
fn a_set_size_without_a_handle_is_published_at_once() {
    let world = world();
    let id = world.put("file", b"12345").expect("put");
    let node = world.mount.set_attrs(&world.actor, id, Attrs::default(), Some(2), None).expect("set");
    assert_eq!(node.size_bytes(), 2);
    assert_eq!(world.committed("file").expect("there"), b"12");
    let handle = world.open(id, RDWR);
    world.mount.write(handle, 2, b"xyz").expect("written");
    world.mount.set_attrs(&world.actor, id, Attrs::default(), Some(4), None).expect("set");
    assert_eq!(world.read_all(handle), b"12xy");
    assert_eq!(world.committed("file").expect("there"), b"12", "the writer publishes");
}

#[test]
fn opening_with_truncation_keeps_the_old_version_until_the_close() {
    let world = world();
    let id = world.put("file", b"old").expect("put");
    let handle = world.open(id, OpenFlags { truncate: true, ..RDWR });
    assert_eq!(world.read_all(handle), b"");
    assert_eq!(world.committed("file").expect("there"), b"old");
    world.mount.write(handle, 0, b"new").expect("written");
    world.mount.release(handle).expect("released");
    assert_eq!(world.committed("file").expect("there"), b"new");
}

#[test]
fn an_fsync_without_changes_still_waits_for_the_disk() {
    let world = world();
    let (_, handle) = world.create("file");
    world.mount.flush(handle).expect("published");
    let before = world.chunks.syncs.load(Ordering::Acquire);
    world.mount.fsync(handle, false).expect("synced");
    world.mount.fsync_folder(ROOT).expect("synced");
    assert_eq!(world.chunks.syncs.load(Ordering::Acquire), before + 2);
}

#[test]
fn many_growing_files_share_a_bounded_memory() {
    let world = world();
    let handles: Vec<_> = (0..150).map(|i| world.create(&format!("f{i}")).1).collect();
    for part in 0..3u64 {
        for (i, handle) in handles.iter().enumerate() {
            let bytes = noise(i as u64 * 10 + part, 300_000);
            world.mount.write(*handle, part * 300_000, &bytes).expect("written");
        }
    }
    for (i, handle) in handles.iter().enumerate() {
        world.mount.flush(*handle).expect("published");
        let expected: Vec<u8> = (0..3).flat_map(|part| noise(i as u64 * 10 + part, 300_000)).collect();
        assert!(world.committed(&format!("f{i}")).expect("there") == expected, "file {i}");
    }
}

#[test]
fn very_many_scattered_writes_stay_bounded() {
    let world = world();
    let (_, handle) = world.create("file");
    let mut expected = noise(1, 7_000_000);
    world.mount.write(handle, 0, &expected).expect("written");
    world.mount.flush(handle).expect("published");
    for i in 0..70_000usize {
        let at = (i * 7919 % 70_000) * 100;
        expected[at..at + 4].copy_from_slice(&(i as u32).to_le_bytes());
        world.mount.write(handle, at as u64, &(i as u32).to_le_bytes()).expect("written");
    }
    assert!(world.read_all(handle) == expected);
    world.mount.flush(handle).expect("published");
    assert!(world.committed("file").expect("there") == expected);
}

#[test]
fn a_sweep_takes_nothing_from_a_writer() {
    let world = world();
    let bytes = noise(4, 12 << 20);
    let (_, handle) = world.create("file");
    world.mount.write(handle, 0, &bytes).expect("written");
    world.chunks.memory.sweep(|_| false);
    assert!(world.read_all(handle) == bytes);
    world.mount.fsync(handle, false).expect("published");
    let (_, copy) = world.create("copy");
    world.mount.copy_range((handle, 0), (copy, 0), 12 * MIB).expect("copied");
    world.mount.unlink(&world.actor, ROOT, &name("file")).expect("removed");
    world.chunks.memory.sweep(|_| false);
    world.mount.fsync(copy, false).expect("published");
    assert!(world.committed("copy").expect("there") == bytes, "the copy holds its chunks");
}

#[test]
fn appends_go_to_the_end_whoever_wrote_before() {
    let world = world();
    let (id, handle) = world.create("file");
    world.mount.write(handle, 0, b"0123456789").expect("written");
    let append = world.open(id, RDWR);
    world.mount.append(append, b"ab").expect("written");
    assert_eq!(world.read_all(handle), b"0123456789ab");
    let wrong = world.open(id, RDONLY);
    assert_eq!(world.mount.write(wrong, 0, b"x").expect_err("EBADF").kind(), Kind::Invalid);
}
