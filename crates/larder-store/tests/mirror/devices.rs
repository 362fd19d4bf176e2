//! Two devices and the server change the same tree, with and without hearing of one another.

use crate::server::Server;
use crate::{ROOT, commit, compare, follow, mirror_of, name, tree};
use larder_core::{ChunkId, Content, Extent, Head, Kind, Name, NodeId, NodeKind, Result, Timestamp};
use larder_store::catalog::{Attrs, NewNode, Replace, Unlink};
use larder_store::origin::{Mirror, Refused};
use larder_store::{Catalog, Commit, Durability, Op};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Answers after which everything must have been told.
const ROUNDS_MAX: usize = 2000;

struct Device {
    mirror: Mirror,
    kept: Arc<dyn Catalog>,
}

impl Device {
    fn new(server: &Arc<Server>) -> Self {
        let (mirror, kept) = mirror_of(server);
        Self { mirror, kept }
    }

    fn run(&self, op: Op) -> Result<()> {
        let (expect, durability) = (vec![], Durability::Process);
        let commit = Commit { at: Timestamp(1), op_id: None, expect, ops: vec![op], durability };
        self.mirror.commit(commit).map(drop)
    }

    fn make(&self, parent: NodeId, text: &str, content: Option<u8>) -> Result<NodeId> {
        let id = self.mirror.new_id();
        let (kind, content) = match content {
            Some(content) => (NodeKind::File, Content::File(head(content))),
            None => (NodeKind::Folder, Content::None),
        };
        let (mode, uid, gid, mtime, draft) = (0o644, 1, 2, None, false);
        let node = Box::new(NewNode { id, kind, mode, uid, gid, content, mtime, draft });
        self.run(Op::Create { parent, name: name(text), node }).map(|()| id)
    }

    fn write(&self, node: NodeId, content: u8) -> Result<()> {
        self.run(Op::SetContent { node, head: head(content), mtime: Timestamp(1), interim: None })
    }

    fn rename(&self, from: (NodeId, &str), to: (NodeId, &str)) -> Result<()> {
        let (from, to) = ((from.0, name(from.1)), (to.0, name(to.1)));
        self.run(Op::Rename { from, to, replace: Replace::Posix })
    }

    fn remove(&self, parent: NodeId, text: &str) -> Result<()> {
        self.run(Op::Unlink { parent, name: name(text), what: Unlink::File })
    }

    fn look(&self, parent: NodeId, text: &str) -> NodeId {
        self.mirror.lookup(parent, &name(text)).expect("there").id
    }

    /// Tells the server of up to `limit` changes; says whether there were any.
    fn push(&self, limit: usize) -> bool {
        let entries = self.mirror.queue(limit).expect("a queue");
        let keep = |ops| commit(&self.kept, ops).map(drop);
        let answer = self.mirror.push(&entries, keep).expect("an answer");
        if let Some((refused, news)) = answer.refused {
            let Refused::Failed(why) = refused else { panic!("this server has every chunk") };
            let entry = &entries[answer.done];
            let restated = self.mirror.resolve(entry, &why, &news, "conflict").expect("resolved");
            let restated = restated.unwrap_or_else(|| panic!("{entry:?} is refused for ever: {why:?}"));
            self.mirror.restate(restated, news, keep).expect("restated");
        }
        !entries.is_empty()
    }

    fn push_all(&self) {
        let rounds = (0..ROUNDS_MAX).take_while(|_| self.push(3)).count();
        assert!(rounds < ROUNDS_MAX, "the queue does not end: {:?}", self.mirror.queue(9));
    }

    fn settle(&self) {
        self.push_all();
        if self.mirror.queue_len().expect("a state").in_doubt {
            compare(&self.mirror, &self.kept);
        }
        follow(&self.mirror, &self.kept);
    }

    fn contents(&self) -> BTreeSet<u64> {
        tree(&self.mirror).into_values().filter_map(|told| told.node.head().map(|h| h.size_bytes)).collect()
    }
}

/// A content that is told from others by its size.
fn head(content: u8) -> Head {
    let size = u64::from(content) + 1;
    let extents = vec![Extent { id: ChunkId([content; 32]), len_bytes: size }];
    Head { size_bytes: size, allocated_bytes: size, depth: 0, extents }
}

/// Every content that the server has, old versions and deleted files among them.
fn everything(server: &Server, last: &[NodeId]) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for id in last {
        let versions = server.catalog.versions(*id).expect("versions");
        found.extend(versions.iter().filter_map(|old| old.node.head().map(|head| head.size_bytes)));
        found.extend(server.catalog.node(*id).ok().and_then(|node| node.head().map(|head| head.size_bytes)));
    }
    found
}

fn names(catalog: &dyn Catalog) -> Vec<String> {
    tree(catalog).into_keys().collect()
}

#[test]
fn what_is_made_here_arrives_there() {
    let server = Server::new();
    let device = Device::new(&server);
    let folder = device.make(ROOT, "folder", None).expect("made");
    let file = device.make(folder, "file", Some(1)).expect("made");
    device.write(file, 2).expect("written");
    device.rename((folder, "file"), (ROOT, "moved")).expect("renamed");
    assert_eq!(names(&device.mirror), ["/folder", "/moved"]);
    device.settle();
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
    assert_eq!(server.catalog.node(file).expect("arrived").head(), Some(&head(2)));
    assert_eq!(device.mirror.queue_len().expect("a length").len, 0);
}

#[test]
fn what_joins_an_entry_is_told_once() {
    let server = Server::new();
    let device = Device::new(&server);
    let file = device.make(ROOT, "file", Some(1)).expect("made");
    for content in 2..9 {
        device.write(file, content).expect("written");
    }
    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
    device.run(Op::SetAttrs { node: file, attrs }).expect("set");
    assert_eq!(device.mirror.queue_len().expect("a length").len, 1);
    device.make(ROOT, "passing", Some(1)).expect("made");
    device.remove(ROOT, "passing").expect("removed");
    // Of what nobody has heard of, the folder's time is left.
    assert_eq!(device.mirror.queue_len().expect("a length").len, 2);
    device.settle();
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
    assert_eq!(server.catalog.node(file).expect("arrived").mode, 0o600);
}

#[test]
fn both_contents_survive_where_two_devices_write_one_file() {
    let server = Server::new();
    let (one, two) = (Device::new(&server), Device::new(&server));
    let file = one.make(ROOT, "file.txt", Some(0)).expect("made");
    one.settle();
    assert_eq!(two.look(ROOT, "file.txt"), file);
    one.write(file, 1).expect("written");
    two.write(file, 2).expect("written");
    for device in [&one, &two, &one] {
        device.settle();
    }
    assert_eq!(names(&server.catalog), ["/file (conflict).txt", "/file.txt"]);
    for device in [&one, &two] {
        assert_eq!(tree(&device.mirror), tree(&server.catalog));
        assert_eq!(device.contents(), BTreeSet::from([2, 3]));
    }
}

#[test]
fn both_files_survive_where_two_devices_give_one_name() {
    let server = Server::new();
    let (one, two) = (Device::new(&server), Device::new(&server));
    for (device, content) in [(&one, 1), (&two, 2)] {
        let file = device.make(ROOT, "name", Some(content)).expect("made");
        // What follows means the same file, by whatever name.
        device.rename((ROOT, "name"), (ROOT, "other")).expect("renamed");
        device.rename((ROOT, "other"), (ROOT, "name")).expect("renamed");
        device.write(file, content + 2).expect("written");
    }
    for device in [&one, &two, &one] {
        device.settle();
    }
    assert_eq!(names(&server.catalog), ["/name", "/name (conflict)"]);
    assert_eq!(two.contents(), BTreeSet::from([4, 5]));
    assert_eq!(tree(&one.mirror), tree(&two.mirror));
}

#[test]
fn a_folder_that_two_devices_make_is_one_folder() {
    let server = Server::new();
    let (one, two) = (Device::new(&server), Device::new(&server));
    for (device, text) in [(&one, "from one"), (&two, "from two")] {
        let folder = device.make(ROOT, "photographs", None).expect("made");
        let below = device.make(folder, "2026", None).expect("made");
        device.make(below, text, Some(1)).expect("made");
        device.rename((below, text), (folder, text)).expect("renamed");
    }
    for device in [&one, &two, &one] {
        device.settle();
    }
    let expected = ["/photographs", "/photographs/2026", "/photographs/from one", "/photographs/from two"];
    assert_eq!(names(&server.catalog), expected);
    assert_eq!(tree(&one.mirror), tree(&server.catalog));
    assert_eq!(tree(&two.mirror), tree(&server.catalog));
}

#[test]
fn what_was_written_here_outlives_its_removal_there() {
    let server = Server::new();
    let device = Device::new(&server);
    let folder = server.make(ROOT, "folder", NodeKind::Folder);
    let file = server.make(folder, "file", NodeKind::File);
    assert_eq!(device.look(device.look(ROOT, "folder"), "file"), file);
    device.write(file, 1).expect("written");
    device.make(folder, "new", Some(2)).expect("made");
    server.run(Op::Unlink { parent: ROOT, name: name("folder"), what: Unlink::Tree }).expect("removed");
    follow(&device.mirror, &device.kept);
    device.settle();
    assert_eq!(names(&server.catalog), ["/folder", "/folder/file", "/folder/new"]);
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
}

#[test]
fn what_was_written_far_below_what_was_removed_comes_back_in_its_place() {
    let server = Server::new();
    let device = Device::new(&server);
    let folder = server.make(ROOT, "folder", NodeKind::Folder);
    let below = server.make(folder, "below", NodeKind::Folder);
    let file = server.make(below, "file", NodeKind::File);
    assert_eq!(tree(&device.mirror).len(), 3);
    device.write(file, 1).expect("written");
    server.run(Op::Unlink { parent: ROOT, name: name("folder"), what: Unlink::Tree }).expect("removed");
    device.settle();
    assert_eq!(names(&server.catalog), ["/folder", "/folder/below", "/folder/below/file"]);
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
}

#[test]
fn what_was_written_there_outlives_its_removal_here() {
    let server = Server::new();
    let (one, two) = (Device::new(&server), Device::new(&server));
    let file = one.make(ROOT, "file", Some(0)).expect("made");
    one.settle();
    assert_eq!(two.look(ROOT, "file"), file);
    two.remove(ROOT, "file").expect("removed");
    one.write(file, 1).expect("written");
    one.settle();
    two.settle();
    assert_eq!(tree(&two.mirror), tree(&server.catalog));
    assert_eq!(two.contents(), BTreeSet::from([2]));
}

#[test]
fn a_change_here_is_not_undone_by_older_news() {
    let server = Server::new();
    let device = Device::new(&server);
    let file = server.make(ROOT, "file", NodeKind::File);
    assert_eq!(device.look(ROOT, "file"), file);
    let (from, to) = ((ROOT, name("file")), (ROOT, name("renamed there")));
    device.write(file, 7).expect("written");
    server.run(Op::Rename { from, to, replace: Replace::Nothing }).expect("renamed");
    follow(&device.mirror, &device.kept);
    assert_eq!(names(&device.mirror), ["/renamed there"]);
    assert_eq!(device.mirror.node(file).expect("there").head(), Some(&head(7)));
    compare(&device.mirror, &device.kept);
    device.settle();
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
    assert_eq!(device.contents(), BTreeSet::from([8]));
}

#[test]
fn a_draft_is_no_matter_of_the_servers() {
    let server = Server::new();
    let device = Device::new(&server);
    let id = device.mirror.new_id();
    let (mode, uid, gid, mtime, draft) = (0o644, 1, 2, None, true);
    let content = Content::File(Head::default());
    let node = Box::new(NewNode { id, kind: NodeKind::File, mode, uid, gid, content, mtime, draft });
    device.run(Op::Create { parent: ROOT, name: name("draft"), node }).expect("made");
    device.push_all();
    assert_eq!(names(&server.catalog), Vec::<String>::new());
    server.make(ROOT, "draft", NodeKind::Folder);
    follow(&device.mirror, &device.kept);
    assert_eq!(device.look(ROOT, "draft"), id, "who writes it goes on");
    device.write(id, 1).expect("published");
    device.settle();
    assert_eq!(names(&server.catalog), ["/draft", "/draft (conflict)"]);
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
}

#[test]
fn a_folder_that_nobody_looked_into_is_not_taken_for_empty() {
    let server = Server::new();
    let device = Device::new(&server);
    let folder = server.make(ROOT, "folder", NodeKind::Folder);
    server.make(folder, "file", NodeKind::File);
    assert_eq!(device.look(ROOT, "folder"), folder);
    let removal = Op::Unlink { parent: ROOT, name: name("folder"), what: Unlink::EmptyFolder };
    assert_eq!(device.run(removal).expect_err("not empty").kind(), Kind::NotEmpty);
}

/// What somebody does; nodes are chosen from those of the tree that they see.
#[derive(Clone, Debug)]
enum Step {
    Make { parent: usize, name: usize, folder: bool },
    Write { node: usize },
    Remove { node: usize },
    Rename { node: usize, parent: usize, name: usize },
    Link { node: usize, parent: usize, name: usize },
    Exchange { a: usize, b: usize },
    Mode { node: usize, mode: u16 },
    Push { limit: usize },
    Follow,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let (place, label) = (0..6_usize, 0..3_usize);
    let step = prop_oneof![
        5 => (place.clone(), label.clone(), any::<bool>())
            .prop_map(|(parent, name, folder)| Step::Make { parent, name, folder }),
        4 => place.clone().prop_map(|node| Step::Write { node }),
        2 => place.clone().prop_map(|node| Step::Remove { node }),
        4 => (place.clone(), place.clone(), label.clone())
            .prop_map(|(node, parent, name)| Step::Rename { node, parent, name }),
        1 => (place.clone(), place.clone(), label)
            .prop_map(|(node, parent, name)| Step::Link { node, parent, name }),
        1 => (place.clone(), place.clone()).prop_map(|(a, b)| Step::Exchange { a, b }),
        1 => (place, 0..0o7777_u16).prop_map(|(node, mode)| Step::Mode { node, mode }),
        2 => (1..4_usize).prop_map(|limit| Step::Push { limit }),
        2 => Just(Step::Follow),
    ];
    (0..2_usize, step)
}

/// The nodes that a device sees, each with one name; the root first.
fn seen(device: &Device) -> Vec<(NodeId, Option<(NodeId, Name)>)> {
    let mut found = vec![(ROOT, None)];
    let mut folders = vec![ROOT];
    while let Some(folder) = folders.pop() {
        for entry in device.mirror.list(folder, None, 1000).expect("listed") {
            if entry.node.is_folder() {
                folders.push(entry.node.id);
            }
            found.push((entry.node.id, Some((folder, entry.name))));
        }
    }
    found
}

fn act(device: &Device, step: &Step, content: u8) -> Result<()> {
    let seen = seen(device);
    let pick = |at: usize| seen[at % seen.len()].clone();
    let text = |at: usize| format!("n{at}");
    match *step {
        Step::Make { parent, name, folder } => {
            device.make(pick(parent).0, &text(name), (!folder).then_some(content)).map(drop)
        }
        Step::Write { node } => device.write(pick(node).0, content),
        Step::Remove { node } => {
            let (id, Some((parent, name))) = pick(node) else { return Ok(()) };
            let is_folder = device.mirror.node(id)?.is_folder();
            let what = if is_folder { Unlink::EmptyFolder } else { Unlink::File };
            device.run(Op::Unlink { parent, name, what })
        }
        Step::Rename { node, parent, name: to } => {
            let (_, Some(from)) = pick(node) else { return Ok(()) };
            let to = (pick(parent).0, name(&text(to)));
            device.run(Op::Rename { from, to, replace: Replace::Posix })
        }
        Step::Link { node, parent, name: to } => {
            device.run(Op::Link { node: pick(node).0, parent: pick(parent).0, name: name(&text(to)) })
        }
        Step::Exchange { a, b } => {
            let ((_, Some(a)), (_, Some(b))) = (pick(a), pick(b)) else { return Ok(()) };
            device.run(Op::Exchange { a, b })
        }
        Step::Mode { node, mode } => {
            let attrs = Attrs { mode: Some(mode), ..Attrs::default() };
            device.run(Op::SetAttrs { node: pick(node).0, attrs })
        }
        Step::Push { limit } => {
            device.push(limit);
            Ok(())
        }
        Step::Follow => {
            follow(&device.mirror, &device.kept);
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8 * ProptestConfig::default().cases, ..ProptestConfig::default() })]
    #[test]
    fn devices_come_to_agree_and_lose_nothing(steps in proptest::collection::vec(step(), 1..40)) {
        let server = Server::new();
        let devices = [Device::new(&server), Device::new(&server)];
        for (content, (who, step)) in steps.iter().enumerate() {
            // What cannot be done is refused, and changes nothing.
            let _ = act(&devices[*who], step, content as u8);
        }
        let written: BTreeSet<u64> = devices.iter().flat_map(Device::contents).collect();
        for device in [0, 1, 0, 1] {
            devices[device].settle();
        }
        for device in &devices {
            prop_assert_eq!(device.mirror.queue_len().expect("a length").len, 0);
            prop_assert_eq!(tree(&device.mirror), tree(&server.catalog));
        }
        let made = server.made.lock().clone();
        let there = everything(&server, &made);
        prop_assert!(written.is_subset(&there), "{written:?} of {there:?}");
    }
}
