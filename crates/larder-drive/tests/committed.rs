//! What the committed view of a drive promises.

use larder_core::{DrivePath, Kind, Name, NodeId, OpId, Result, Timestamp};
use larder_drive::{
    Actor, Clock, CopyDepth, Door, Drive, LockRequest, OpenFlags, Parts, Settings, Target, Which, is_locked,
};
use larder_store::catalog::{Attrs, Replace, Table, Unlink};
use larder_store::memory::{MemoryChunks, MemoryKv};
use larder_store::{Catalog, Durability, Expect, KvCatalog, Op};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

const SECOND: i64 = 1_000_000_000;

struct Fixture {
    drive: Arc<Drive>,
    chunks: Arc<MemoryChunks>,
    catalog: Arc<KvCatalog<MemoryKv>>,
    clock: Clock,
    actor: Actor,
}

fn fixture() -> Fixture {
    let clock = Clock::manual(Timestamp(0));
    let chunks = Arc::new(MemoryChunks::default());
    let catalog =
        Arc::new(KvCatalog::open(MemoryKv::default(), clock.now(), (0, 0)).expect("an empty index"));
    let random = |bytes: &mut [u8]| {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        bytes.fill(NEXT.fetch_add(1, Ordering::Relaxed));
    };
    let parts = Parts { chunks: chunks.clone(), catalog: catalog.clone(), clock: clock.clone(), random };
    let settings = Settings { history_ns: 100 * SECOND, ..Settings::default() };
    let drive = Drive::open(parts, settings).expect("opens");
    Fixture { drive, chunks, catalog, clock, actor: Actor::new(Door::Dav, 0, 0, "ann") }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn path(text: &str) -> DrivePath {
    DrivePath::parse(text).expect("a path")
}

impl Fixture {
    fn put(&self, parent: NodeId, text: &str, bytes: &[u8]) -> Result<NodeId> {
        self.clock.advance(SECOND);
        let mut upload = self.drive.upload();
        upload.write(bytes)?;
        let target = Target { parent, name: name(text), expect: Vec::new(), mtime: None, mode: 0o644 };
        upload.finish(&self.actor, target).map(|published| published.id)
    }

    fn read(&self, text: &str) -> Result<Vec<u8>> {
        let reader = self.drive.reader(&self.drive.resolve(&path(text))?)?;
        let mut bytes = Vec::new();
        loop {
            match reader.read(bytes.len() as u64, usize::MAX)? {
                piece if piece.is_empty() => return Ok(bytes),
                piece => bytes.extend_from_slice(&piece),
            }
        }
    }

    fn sweep(&self) {
        self.drive.purge_history().expect("purged");
        let mut live = std::collections::HashSet::new();
        self.catalog
            .mark(&*self.chunks, |id| {
                live.insert(*id);
            })
            .expect("marked");
        self.chunks.sweep(|id| live.contains(id));
    }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    step.take(len).collect()
}

#[test]
fn aborted_upload_keeps_old_version() {
    let f = fixture();
    f.put(NodeId::ROOT, "a", b"old").expect("put");
    let mut upload = f.drive.upload();
    upload.write(&noise(3 << 20, 1)).expect("written");
    drop(upload);
    assert_eq!(f.read("/a").expect("there"), b"old");
    f.sweep();
    assert_eq!(f.chunks.size().0, 1);
}

#[test]
fn reader_keeps_its_version_through_replacement_purge_and_sweep() {
    let f = fixture();
    let long = noise(20 << 20, 2);
    f.put(NodeId::ROOT, "a", &long).expect("put");
    let reader = f.drive.reader(&f.drive.resolve(&path("/a")).expect("there")).expect("a file");
    f.put(NodeId::ROOT, "a", b"new").expect("replaced");
    f.clock.advance(1000 * SECOND);
    f.sweep();
    let mut offset = 0;
    while offset < reader.size_bytes() {
        let piece = reader.read(offset, usize::MAX).expect("still there");
        assert_eq!(piece, long[offset as usize..][..piece.len()]);
        offset += piece.len() as u64;
    }
    drop(reader);
    f.sweep();
    assert_eq!(f.chunks.size().0, 1);
}

#[test]
fn copy_moves_no_bytes_and_refuses_its_own_source() {
    let f = fixture();
    let folder = f.drive.make_folder(&f.actor, NodeId::ROOT, name("d"), 0o755).expect("made").id;
    f.put(folder, "a", &noise(5 << 20, 3)).expect("put");
    let before = f.chunks.size();
    let copy = |to: NodeId, text: &str, replace| {
        f.drive.copy(&f.actor, folder, (to, name(text)), replace, CopyDepth::Infinity, Vec::new())
    };
    copy(NodeId::ROOT, "e", Replace::Nothing).expect("copied");
    assert_eq!(f.chunks.size(), before);
    assert_eq!(f.read("/e/a").expect("copied"), f.read("/d/a").expect("there"));
    assert_eq!(copy(folder, "in", Replace::Tree).expect_err("into itself").kind(), Kind::Invalid);
    assert_eq!(copy(NodeId::ROOT, "e", Replace::Nothing).expect_err("taken").kind(), Kind::Exists);
    copy(NodeId::ROOT, "e", Replace::Tree).expect("replaced");
}

#[test]
fn copy_and_rename_hold_their_expectations_to_the_commit() {
    let f = fixture();
    let id = f.put(NodeId::ROOT, "a", b"one").expect("put");
    let seen = vec![Expect::Version(id, f.drive.node(id).expect("there").version)];
    f.put(NodeId::ROOT, "a", b"two").expect("put");
    let to = || (NodeId::ROOT, name("b"));
    let copied = f.drive.copy(&f.actor, id, to(), Replace::Tree, CopyDepth::Zero, seen.clone());
    assert_eq!(copied.expect_err("changed meanwhile").kind(), Kind::Conflict);
    let renamed = f.drive.rename(&f.actor, (NodeId::ROOT, name("a")), to(), Replace::Tree, seen);
    assert_eq!(renamed.expect_err("changed meanwhile").kind(), Kind::Conflict);
    assert_eq!(f.drive.resolve(&path("/b")).expect_err("neither came").kind(), Kind::NotFound);
    assert_eq!(f.read("/a").expect("as it was"), b"two");
}

#[test]
fn every_change_can_be_undone() {
    let f = fixture();
    f.put(NodeId::ROOT, "a", b"one").expect("put");
    f.put(NodeId::ROOT, "a", b"two").expect("put");
    f.clock.advance(SECOND);
    f.drive.remove(&f.actor, NodeId::ROOT, &name("a"), Unlink::File).expect("removed");
    f.clock.advance(SECOND);
    let texts: Vec<(u64, bool)> =
        f.drive.versions(&path("/a")).expect("history").iter().map(|v| (v.number, v.deleted)).collect();
    assert_eq!(texts, [(1, false), (2, true)]);
    f.drive.restore(&f.actor, &path("/a"), Which::Latest).expect("undeleted");
    assert_eq!(f.read("/a").expect("back"), b"two");
    f.drive.restore(&f.actor, &path("/a"), Which::Version(1)).expect("older");
    assert_eq!(f.read("/a").expect("back"), b"one");
    f.drive.restore(&f.actor, &path("/a"), Which::At(Timestamp(2 * SECOND))).expect("as of then");
    assert_eq!(f.read("/a").expect("back"), b"two");
    assert_eq!(f.drive.versions(&path("/b")).expect_err("never there").kind(), Kind::NotFound);
}

#[test]
fn locks_bind_others_expire_and_survive_a_restart() {
    let f = fixture();
    let folder = f.drive.make_folder(&f.actor, NodeId::ROOT, name("d"), 0o755).expect("made").id;
    let request = LockRequest {
        root: folder,
        deep: true,
        shared: false,
        owner_xml: "<href>ann</href>".into(),
        timeout_s: 10,
    };
    let lock = f.drive.locks().acquire(&f.drive, &f.actor, request.clone()).expect("free");
    assert!(is_locked(&f.put(folder, "a", b"x").expect_err("no token")));
    assert!(is_locked(&f.drive.locks().acquire(&f.drive, &f.actor, request).expect_err("held")));
    let again = Parts {
        chunks: f.chunks.clone(),
        catalog: f.catalog.clone() as Arc<dyn Catalog>,
        clock: f.clock.clone(),
        random: |_| {},
    };
    let again = Drive::open(again, Settings::default()).expect("opens");
    assert_eq!(again.locks().covering(&again, folder).expect("read"), std::slice::from_ref(&lock));
    let mut holder = f.actor.clone();
    holder.lock_tokens.push(lock.token);
    f.drive.make_folder(&holder, folder, name("sub"), 0o755).expect("the holder may");
    f.clock.advance(20 * SECOND);
    f.put(folder, "a", b"x").expect("expired");
}

fn lock_of(root: NodeId, deep: bool) -> LockRequest {
    LockRequest { root, deep, shared: false, owner_xml: String::new(), timeout_s: 10 }
}

#[test]
fn what_is_committed_once_succeeds_again_whatever_is_locked() {
    let f = fixture();
    let id = f.put(NodeId::ROOT, "a", b"x").expect("put");
    let commit = |op_id, mode| {
        let attrs = Attrs { mode: Some(mode), ..Attrs::default() };
        f.drive.commit_once(&f.actor, OpId(op_id), vec![], vec![Op::SetAttrs { node: id, attrs }])
    };
    assert_eq!(commit(1, 0o600).expect("the first time").changes.len(), 1);
    f.drive.locks().acquire(&f.drive, &f.actor, lock_of(id, false)).expect("free");
    assert_eq!(commit(1, 0o640).expect("again").changes, []);
    assert!(is_locked(&commit(2, 0o640).expect_err("another")));
    f.drive.settle().expect("durable");
    assert_eq!(f.drive.node(id).expect("there").mode, 0o600);
}

#[test]
fn expired_locks_leave_no_records() {
    let f = fixture();
    let (a, b) = (f.put(NodeId::ROOT, "a", b"x").expect("put"), f.put(NodeId::ROOT, "b", b"x").expect("put"));
    let records = || f.catalog.records(Table::Locks).expect("read").len();
    f.drive.locks().acquire(&f.drive, &f.actor, lock_of(a, false)).expect("free");
    f.clock.advance(20 * SECOND);
    f.drive.locks().acquire(&f.drive, &f.actor, lock_of(b, false)).expect("free");
    assert_eq!(records(), 1);
    f.clock.advance(20 * SECOND);
    let again = Parts {
        chunks: f.chunks.clone(),
        catalog: f.catalog.clone() as Arc<dyn Catalog>,
        clock: f.clock.clone(),
        random: |_| {},
    };
    Drive::open(again, Settings::default()).expect("opens");
    assert_eq!(records(), 0);
}

#[test]
fn a_folder_is_as_busy_as_the_files_in_it() {
    let f = fixture();
    let folder = f.drive.make_folder(&f.actor, NodeId::ROOT, name("d"), 0o755).expect("made").id;
    let sub = f.drive.make_folder(&f.actor, folder, name("sub"), 0o755).expect("made").id;
    let id = f.put(sub, "a", b"x").expect("put");
    let writing = f.drive.busy().writing(id);
    let acquire = |deep| f.drive.locks().acquire(&f.drive, &f.actor, lock_of(folder, deep));
    assert!(is_locked(&acquire(true).expect_err("a file below is being written")));
    let rename = |text| {
        let (from, to) = ((NodeId::ROOT, name("d")), (NodeId::ROOT, name(text)));
        f.drive.rename(&f.actor, from, to, Replace::Nothing, Vec::new())
    };
    assert!(is_locked(&rename("e").expect_err("busy")));
    let remove = || f.drive.remove(&f.actor, NodeId::ROOT, &name("d"), Unlink::Tree);
    assert!(is_locked(&remove().expect_err("busy")));
    f.put(folder, "b", b"members come and go").expect("put");
    let lock = acquire(false).expect("only the folder itself");
    f.drive.locks().release(&f.drive, &f.actor, &lock.token).expect("released");
    drop(writing);
    rename("e").expect("free again");
}

#[test]
fn interim_contents_last_as_long_as_their_readers() {
    let f = fixture();
    let mount = f.drive.mount();
    let flags = OpenFlags { read: true, write: true, truncate: false };
    let (_, handle) = mount.create(&f.actor, NodeId::ROOT, name("database"), 0o644, flags).expect("made");
    let sync = |seed: u8| {
        f.clock.advance(SECOND);
        mount.write(handle, 0, &vec![seed; 100_000]).expect("written");
        mount.fsync(handle, true).expect("synced");
    };
    let chunks_after_a_sweep = || {
        f.clock.advance(SECOND);
        f.sweep();
        f.chunks.size().0
    };
    sync(1);
    let reader = f.drive.reader(&f.drive.resolve(&path("database")).expect("there")).expect("a file");
    (2..6).for_each(sync);
    assert_eq!(chunks_after_a_sweep(), 5);
    assert_eq!(reader.read(0, usize::MAX).expect("still there"), vec![1; 100_000]);
    drop(reader);
    mount.release(handle).expect("released");
    assert_eq!(chunks_after_a_sweep(), 1);
}

#[test]
fn a_lock_and_a_commit_at_the_same_time_see_one_another() {
    let f = fixture();
    let id = f.put(NodeId::ROOT, "a", b"x").expect("put");
    f.put(NodeId::ROOT, "b", b"x").expect("put");
    let other = Actor::new(Door::Dav, 0, 0, "ben");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                // asked for first, and a while before the commit is made
                let first = Op::SetAttrs { node: id, attrs: Attrs::default() };
                let b = || (NodeId::ROOT, name("b"));
                let nothing = || Op::Rename { from: b(), to: b(), replace: Replace::Posix };
                let ops = std::iter::once(first).chain((0..100).map(|_| nothing())).collect();
                let _ = f.drive.commit(&f.actor, Vec::new(), ops, Durability::Process);
            }
        });
        let version = || f.catalog.node(id).expect("there").version;
        let changed = (0..2000).any(|_| {
            let lock = f.drive.locks().acquire(&f.drive, &other, lock_of(id, false)).expect("free");
            let locked = version();
            let changed = (0..50).any(|_| version() != locked);
            f.drive.locks().release(&f.drive, &other, &lock.token).expect("released");
            changed
        });
        done.store(true, Ordering::Release);
        assert!(!changed, "a commit was permitted before the lock and made after it");
    });
}
