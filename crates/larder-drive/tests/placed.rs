//! What is excluded is seen through no call, and nothing that is done to what is shown harms it.

use larder_core::{DrivePath, Kind, Name, NodeId, Result, Timestamp};
use larder_drive::{
    Actor, Clock, CopyDepth, Door, Drive, MakeKind, Parts, Placements, RenameFlags, Settings, Target,
};
use larder_store::catalog::{Replace, Unlink};
use larder_store::memory::{MemoryChunks, MemoryKv};
use larder_store::origin::Ruled;
use larder_store::{Change, Durability, KvCatalog, Op};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// How long an answer is on its way that something may overtake.
const OVERTAKEN: Duration = Duration::from_millis(100);

/// A drive, and how a device sees it.
struct Fixture {
    all: Arc<Drive>,
    seen: Arc<Drive>,
    actor: Actor,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The files and folders (with a slash at the end) of a drive, through `rules`.
fn fixture(rules: &str, tree: &[&str]) -> Fixture {
    let clock = Clock::manual(Timestamp(0));
    let catalog = KvCatalog::open(MemoryKv::default(), clock.now(), (0, 0)).expect("an empty index");
    let (chunks, catalog) = (Arc::new(MemoryChunks::default()), Arc::new(catalog));
    let parts = Parts { chunks, catalog, clock, random: |bytes| bytes.fill(7) };
    let all = Drive::open(parts, Settings::default()).expect("opens");
    let ruled = Ruled { version: 1, text: rules.to_owned(), ..Ruled::default() };
    let seen = all.seen_through(Arc::new(Placements::fixed(ruled)));
    let fixture = Fixture { all, seen, actor: Actor::new(Door::Dav, 0, 0, "ann") };
    for at in tree {
        let path = DrivePath::parse(at).expect("a path");
        let (parent, last) = path.split().expect("not the root");
        let parent = fixture.all.resolve(&parent).expect("made before").id;
        match at.ends_with('/') {
            true => drop(fixture.all.make_folder(&fixture.actor, parent, last.clone(), 0o755).expect("made")),
            false => fixture.put(&fixture.all, parent, last.clone(), at.as_bytes()).expect("put"),
        }
    }
    fixture
}

impl Fixture {
    fn put(&self, drive: &Arc<Drive>, parent: NodeId, name: Name, bytes: &[u8]) -> Result<()> {
        let mut upload = drive.upload();
        upload.write(bytes)?;
        let target = Target { parent, name, expect: Vec::new(), mtime: None, mode: 0o644 };
        upload.finish(&self.actor, target).map(drop)
    }

    fn id(&self, path: &str) -> NodeId {
        self.all.resolve(&DrivePath::parse(path).expect("a path")).expect(path).id
    }

    /// All paths that `drive` shows.
    fn paths(&self, drive: &Drive) -> Vec<String> {
        let (mut paths, mut folders) = (Vec::new(), vec![NodeId::ROOT]);
        while let Some(folder) = folders.pop() {
            let mut after = None;
            loop {
                let page = drive.list(folder, after.as_ref(), 2).expect("listed");
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for entry in page {
                    paths.push(drive.path_of(entry.node.id).expect("a path").to_string());
                    folders.extend(entry.node.is_folder().then_some(entry.node.id));
                }
            }
        }
        paths.sort_unstable();
        paths
    }
}

#[track_caller]
fn refused<T>(kind: Kind, outcome: Result<T>) {
    assert_eq!(outcome.err().expect("refused").kind(), kind);
}

const TREE: [&str; 8] = ["a/", "a/keep/", "a/keep/x", "a/b.iso", "a/c", "films/", "films/one", "note"];

#[test]
fn what_is_excluded_is_in_no_listing_and_found_by_no_path() {
    let f = fixture("exclude a\npin a/keep\nexclude films\nexclude *.iso", &TREE);
    assert_eq!(f.paths(&f.seen), ["/a", "/a/keep", "/a/keep/x", "/note"], "a leads to what is pinned");
    assert_eq!(f.paths(&f.all).len(), TREE.len(), "others see everything");
    for path in ["films", "films/one", "a/c", "a/b.iso"] {
        refused(Kind::NotFound, f.seen.resolve(&DrivePath::parse(path).expect("a path")));
    }
    let mount = f.seen.mount();
    refused(Kind::NotFound, mount.lookup(NodeId::ROOT, &name("films")));
    assert_eq!(mount.list(f.id("a"), None, 10).expect("listed").len(), 1);
    // A short page would end a listing: hidden names do not make one.
    assert_eq!(mount.list(NodeId::ROOT, None, 2).expect("listed").len(), 2);
}

#[test]
fn nothing_hidden_is_replaced_or_mixed_with_what_is_shown() {
    let f = fixture("exclude films\nexclude *.iso", &TREE);
    let (root, actor) = (NodeId::ROOT, &f.actor);
    let before = f.paths(&f.all);
    let to = |text: &str| (NodeId::ROOT, name(text));
    let mount = f.seen.mount();
    for text in ["films", "new.iso"] {
        refused(Kind::Denied, f.seen.make_folder(actor, root, name(text), 0o755));
        refused(Kind::Denied, f.put(&f.seen, root, name(text), b"mine"));
        refused(Kind::Denied, mount.make(actor, root, name(text), MakeKind::Fifo, 0o644));
        refused(Kind::Denied, mount.link(actor, f.id("note"), root, name(text)));
        for replace in [Replace::Nothing, Replace::Posix, Replace::Tree] {
            refused(Kind::Denied, f.seen.rename(actor, to("a"), to(text), replace, Vec::new()));
            let source = f.id("note");
            let copy = f.seen.copy(actor, source, to(text), replace, CopyDepth::Infinity, Vec::new());
            refused(Kind::Denied, copy);
        }
        for flags in [RenameFlags::Replace, RenameFlags::NoReplace] {
            refused(Kind::Denied, mount.rename(actor, to("note"), to(text), flags));
        }
        let swap = vec![Op::Exchange { a: to("note"), b: to(text) }];
        refused(Kind::Denied, f.seen.commit(actor, Vec::new(), swap, Durability::Process));
        let gone = vec![Op::Unlink { parent: root, name: name(text), what: Unlink::Tree }];
        let gone = f.seen.commit(actor, Vec::new(), gone, Durability::Process);
        assert!(gone.is_err(), "{text}");
    }
    assert_eq!(f.paths(&f.all), before);
}

#[test]
fn folder_is_not_removed_with_what_it_hides() {
    let f = fixture("exclude *.iso", &TREE);
    let (root, actor) = (NodeId::ROOT, &f.actor);
    let before = f.paths(&f.all);
    refused(Kind::NotEmpty, f.seen.remove(actor, root, &name("a"), Unlink::Tree));
    let (from, to) = ((root, name("films")), (root, name("a")));
    refused(Kind::NotEmpty, f.seen.rename(actor, from, to, Replace::Tree, Vec::new()));
    for (folder, entry) in [("a/keep", "x"), ("a", "c"), ("a", "keep")] {
        let what = if entry == "keep" { Unlink::EmptyFolder } else { Unlink::File };
        f.seen.remove(actor, f.id(folder), &name(entry), what).expect("shown");
    }
    refused(Kind::NotEmpty, f.seen.mount().rmdir(actor, root, &name("a")));
    assert_eq!(f.paths(&f.all).len(), before.len() - 3);
    f.seen.remove(actor, root, &name("films"), Unlink::Tree).expect("nothing in it is hidden");
    // Where nothing is hidden below, nobody looks.
    f.seen
        .rename(actor, (root, name("note")), (f.id("a"), name("d")), Replace::Nothing, Vec::new())
        .expect("moved");
}

/// The names that appear and go, as subscribers are told, when a device with rules `was` gets rules `is`.
fn told(f: &Fixture, is: &str, version: u64) -> Vec<String> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hear = heard.clone();
    let _subscription = f.seen.subscribe(
        Box::new(move |event| {
            hear.lock().expect("no panic").extend(event.changes.iter().map(|change| match change {
                Change::Named { name, .. } => format!("+{name}"),
                Change::Unnamed { name, .. } => format!("-{name}"),
                other => panic!("{other:?}"),
            }));
        }),
        None,
    );
    let ruled = Ruled { version, text: is.to_owned(), ..Ruled::default() };
    f.seen.adopt_rules(|| Ok(ruled), f.all.catalog()).expect("adopted");
    let mut heard = heard.lock().expect("no panic").clone();
    heard.sort_unstable();
    heard
}

#[test]
fn changed_rules_tell_of_names_that_appear_or_go_and_of_nothing_else() {
    let f = fixture("", &TREE);
    assert_eq!(told(&f, "exclude films", 2), ["-films"], "what is in it goes with it");
    assert_eq!(told(&f, "exclude films\nexclude *.iso", 3), ["-b.iso"]);
    assert_eq!(told(&f, "exclude *.iso\nexclude films", 4), [""; 0]);
    assert_eq!(told(&f, "exclude /\npin a/keep", 5), ["-c", "-note"], "b.iso and films were hidden before");
    assert_eq!(f.paths(&f.seen), ["/a", "/a/keep", "/a/keep/x"]);
    assert_eq!(told(&f, "", 6), ["+b.iso", "+c", "+films", "+note"]);
    // Those that nobody here understands leave what was.
    assert_eq!(told(&f, "exclude films", 7), ["-films"]);
    assert_eq!(told(&f, "of a later version: films", 8), [""; 0]);
    assert!(!f.paths(&f.seen).contains(&"/films".to_owned()));
}

#[test]
fn rules_asked_for_before_a_change_do_not_replace_it() {
    let f = fixture("", &TREE);
    let of = |version, text: &str| Ruled { version, text: text.to_owned(), ..Ruled::default() };
    let server = Mutex::new(of(2, "exclude films"));
    let read = || server.lock().expect("no panic").clone();
    let (asked, changed) = (mpsc::channel(), mpsc::channel());
    std::thread::scope(|scope| {
        let (f, server) = (&f, &server);
        scope.spawn(move || {
            asked.1.recv().expect("somebody asks");
            let set = || {
                *server.lock().expect("no panic") = of(3, "exclude *.iso");
                Ok(of(3, "exclude *.iso"))
            };
            f.seen.adopt_rules(set, f.all.catalog()).expect("changed");
            // The other one may be done waiting.
            let _ = changed.0.send(());
        });
        let ask = || {
            let old = read();
            asked.0.send(()).expect("somebody changes them");
            // An answer on its way, which a change overtakes if it can.
            let _ = changed.1.recv_timeout(OVERTAKEN);
            Ok(old)
        };
        f.seen.adopt_rules(ask, f.all.catalog()).expect("adopted");
    });
    let now = f.seen.placements().expect("rules").book().ruled.clone();
    assert_eq!(now, read());
}

/// Prints the figures that README has; the bound that decides is generous, as a busy machine must not fail it.
#[test]
fn changed_rules_look_at_few_names() {
    const FILES: usize = 50_000;
    let f = fixture("", &["big/", "small/", "small/x"]);
    let big = f.id("big");
    let node = |number: usize| {
        let new = larder_store::catalog::NewNode {
            id: f.all.catalog().new_id(),
            kind: larder_core::NodeKind::Fifo,
            mode: 0o644,
            uid: 0,
            gid: 0,
            content: larder_core::Content::None,
            mtime: None,
            draft: false,
        };
        Op::Create { parent: big, name: name(&format!("file-{number}")), node: Box::new(new) }
    };
    let ops = (0..FILES).map(node).collect();
    f.all.commit(&f.actor, Vec::new(), ops, Durability::Process).expect("made");
    let timed = |is: &str, version| {
        let begun = Instant::now();
        (told(&f, is, version).len(), begun.elapsed())
    };
    let (folder, folder_took) = timed("exclude small", 2);
    let (pattern, pattern_took) = timed("exclude small\nexclude *.iso", 3);
    println!("a folder by its path: {folder_took:?}; a pattern over {FILES} names: {pattern_took:?}");
    assert_eq!((folder, pattern), (1, 0));
    assert!(folder_took < pattern_took && pattern_took.as_secs() < 5, "{folder_took:?} {pattern_took:?}");
}
