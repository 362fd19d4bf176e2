//! Names and folders: creating, linking, removing, renaming.

use super::{Case, ROOT, Session, create, name, place};
use crate::catalog::{Op, Replace, Unlink};
use larder_core::{Kind, NodeId, NodeKind, Timestamp};

pub(super) const CASES: &[Case] = &[
    ("a new catalog has the root only", new_catalog_has_the_root_only),
    ("created nodes are as asked", created_nodes_are_as_asked),
    ("create needs a free name in a folder", create_needs_a_free_name_in_a_folder),
    ("lists are in byte order and go on behind a name", lists_are_in_order),
    ("links share a node", links_share_a_node),
    ("unlink removes what it may", unlink_removes_what_it_may),
    ("rename moves", rename_moves),
    ("rename replaces as it is told", rename_replaces_as_told),
    ("a folder stays out of itself", a_folder_stays_out_of_itself),
    ("exchange swaps", exchange_swaps),
    ("names are bytes", names_are_bytes),
];

fn rename(from: (NodeId, &str), to: (NodeId, &str), replace: Replace) -> Op {
    Op::Rename { from: place(from.0, from.1), to: place(to.0, to.1), replace }
}

fn unlink(parent: NodeId, text: &str, what: Unlink) -> Op {
    Op::Unlink { parent, name: name(text), what }
}

fn new_catalog_has_the_root_only(s: &Session<'_>) {
    let root = s.node(ROOT);
    assert!(root.is_folder() && root.nlink == 2 && root.name.is_none());
    assert_eq!(s.names(ROOT), [""; 0]);
    assert_eq!(s.catalog.counts().nodes, 1);
    assert_eq!(s.catalog.node(NodeId(77)).expect_err("never made").kind(), Kind::NotFound);
}

fn created_nodes_are_as_asked(s: &Session<'_>) {
    let kinds = [
        NodeKind::File,
        NodeKind::Folder,
        NodeKind::Symlink,
        NodeKind::CharDevice,
        NodeKind::BlockDevice,
        NodeKind::Fifo,
        NodeKind::Socket,
    ];
    for (i, kind) in kinds.into_iter().enumerate() {
        let text = format!("node{i}");
        let id = s.make(ROOT, &text, kind);
        let node = s.node(id);
        let now = Timestamp(s.clock.get());
        assert_eq!((node.kind, node.mode, node.uid, node.gid), (kind, 0o640, 7, 8));
        assert_eq!((node.atime, node.mtime, node.ctime, node.btime), (now, now, now, now));
        assert_eq!((node.parent, node.name.clone()), (ROOT, Some(name(&text))));
        assert_eq!(node.nlink, if kind == NodeKind::Folder { 2 } else { 1 });
        assert_eq!(node.content, super::new_node(id, kind).content);
        assert_eq!(s.catalog.lookup(ROOT, &name(&text)).expect("there"), node);
        assert_eq!(s.node(ROOT).mtime, now, "a folder's mtime follows its names");
    }
    assert_eq!(s.node(ROOT).nlink, 3);
    assert_eq!(s.catalog.counts().nodes, 8);
}

fn create_needs_a_free_name_in_a_folder(s: &Session<'_>) {
    let file = s.file(ROOT, "file");
    let new = || s.catalog.new_id();
    assert_eq!(s.refused(create(new(), ROOT, "file", NodeKind::Folder)), Kind::Exists);
    assert_eq!(s.refused(create(new(), file, "below", NodeKind::File)), Kind::NotADirectory);
    assert_eq!(s.refused(create(new(), NodeId(999), "below", NodeKind::File)), Kind::NotFound);
    let gone = s.folder(ROOT, "gone");
    s.done(unlink(ROOT, "gone", Unlink::EmptyFolder));
    assert_eq!(s.refused(create(new(), gone, "below", NodeKind::File)), Kind::NotFound);
    assert_eq!(s.catalog.lookup(file, &name("below")).expect_err("no folder").kind(), Kind::NotADirectory);
    assert_eq!(s.catalog.list(file, None, 10).expect_err("no folder").kind(), Kind::NotADirectory);
    assert_eq!(s.catalog.list(NodeId(999), None, 10).expect_err("nothing").kind(), Kind::NotFound);
}

fn lists_are_in_order(s: &Session<'_>) {
    let folder = s.folder(ROOT, "folder");
    let beside = s.folder(ROOT, "beside");
    for i in [5, 3, 9, 1, 7, 10, 2] {
        s.file(folder, &format!("n{i}"));
        s.file(beside, &format!("m{i}"));
    }
    let all = ["n1", "n10", "n2", "n3", "n5", "n7", "n9"];
    assert_eq!(s.names(folder), all);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = s.catalog.list(folder, after.as_ref(), 3).expect("a folder");
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        seen.extend(page.iter().map(|entry| entry.name.to_string()));
    }
    assert_eq!(seen, all);
    let behind = s.catalog.list(folder, Some(&name("n4")), 2).expect("a name that is not there will do");
    assert_eq!(behind[0].node.id, s.at(folder, "n5").expect("there"));
}

fn links_share_a_node(s: &Session<'_>) {
    let (folder, file) = (s.folder(ROOT, "folder"), s.file(ROOT, "file"));
    let link = |node, parent, text: &str| Op::Link { node, parent, name: name(text) };
    s.done(link(file, folder, "other"));
    assert_eq!((s.at(folder, "other"), s.node(file).nlink), (Some(file), 2));
    assert_eq!(s.refused(link(file, ROOT, "folder")), Kind::Exists);
    assert_eq!(s.refused(link(folder, ROOT, "loop")), Kind::Denied);
    assert_eq!(s.refused(link(NodeId(999), ROOT, "x")), Kind::NotFound);
    s.done(unlink(ROOT, "file", Unlink::File));
    assert_eq!((s.at(ROOT, "file"), s.node(file).nlink), (None, 1));
    assert_eq!(s.at(folder, "other"), Some(file));
    assert_eq!(s.node(file).name, Some(name("other")));
    s.done(link(file, ROOT, "third"));
    s.done(unlink(ROOT, "third", Unlink::File));
    assert_eq!((s.node(file).name, s.node(file).nlink), (None, 1), "the name given last went");
    assert_eq!(s.catalog.deleted(ROOT, None).expect("an answer"), [], "it still has a name");
}

fn unlink_removes_what_it_may(s: &Session<'_>) {
    let (folder, _) = (s.folder(ROOT, "folder"), s.file(ROOT, "file"));
    s.file(folder, "inside");
    assert_eq!(s.refused(unlink(ROOT, "missing", Unlink::Tree)), Kind::NotFound);
    assert_eq!(s.refused(unlink(ROOT, "folder", Unlink::File)), Kind::IsADirectory);
    assert_eq!(s.refused(unlink(ROOT, "file", Unlink::EmptyFolder)), Kind::NotADirectory);
    assert_eq!(s.refused(unlink(ROOT, "folder", Unlink::EmptyFolder)), Kind::NotEmpty);
    s.done(unlink(folder, "inside", Unlink::File));
    s.done(unlink(ROOT, "folder", Unlink::EmptyFolder));
    s.done(unlink(ROOT, "file", Unlink::File));
    assert_eq!((s.names(ROOT), s.node(ROOT).nlink), (vec![], 2));
}

fn rename_moves(s: &Session<'_>) {
    let (a, b) = (s.folder(ROOT, "a"), s.folder(ROOT, "b"));
    let file = s.file(a, "file");
    s.done(rename((a, "file"), (b, "moved"), Replace::Nothing));
    assert_eq!((s.at(a, "file"), s.at(b, "moved")), (None, Some(file)));
    let node = s.node(file);
    assert_eq!((node.parent, node.name, node.nlink), (b, Some(name("moved")), 1));
    s.done(rename((ROOT, "b"), (a, "b"), Replace::Posix));
    assert_eq!((s.node(ROOT).nlink, s.node(a).nlink, s.at(b, "moved")), (3, 3, Some(file)));
    assert_eq!(s.refused(rename((a, "none"), (ROOT, "x"), Replace::Posix)), Kind::NotFound);
    assert_eq!(s.refused(rename((a, "b"), (file, "x"), Replace::Posix)), Kind::NotADirectory);
    assert_eq!(s.catalog.deleted(ROOT, None).expect("an answer"), [], "nothing was replaced");
}

fn rename_replaces_as_told(s: &Session<'_>) {
    let full = s.folder(ROOT, "full");
    s.file(full, "inside");
    for text in ["file", "file2"] {
        s.file(ROOT, text);
    }
    for text in ["folder", "empty"] {
        s.folder(ROOT, text);
    }
    let over = |from, to, replace| rename((ROOT, from), (ROOT, to), replace);
    assert_eq!(s.refused(over("file", "file2", Replace::Nothing)), Kind::Exists);
    assert_eq!(s.refused(over("file", "empty", Replace::Posix)), Kind::IsADirectory);
    assert_eq!(s.refused(over("folder", "file", Replace::Posix)), Kind::NotADirectory);
    assert_eq!(s.refused(over("folder", "full", Replace::Posix)), Kind::NotEmpty);
    let (file, folder) = (s.at(ROOT, "file"), s.at(ROOT, "folder"));
    s.done(over("file", "file2", Replace::Posix));
    s.done(over("folder", "empty", Replace::Posix));
    assert_eq!((s.at(ROOT, "file2"), s.at(ROOT, "empty")), (file, folder));
    s.done(over("file2", "full", Replace::Tree));
    assert_eq!((s.at(ROOT, "full"), s.names(ROOT)), (file, vec!["empty".into(), "full".into()]));
    let deleted = s.catalog.deleted(ROOT, Some(&name("full"))).expect("history");
    assert_eq!(
        deleted.iter().map(|d| d.node).collect::<Vec<_>>(),
        [full],
        "what was replaced is in the history"
    );
    s.done(Op::Link { node: file.expect("there"), parent: ROOT, name: name("same") });
    s.done(over("full", "same", Replace::Posix));
    assert_eq!(s.names(ROOT), ["empty", "full", "same"], "rename(2): two names of one file both stay");
}

fn a_folder_stays_out_of_itself(s: &Session<'_>) {
    let a = s.folder(ROOT, "a");
    let b = s.folder(a, "b");
    let c = s.folder(b, "c");
    for replace in [Replace::Nothing, Replace::Posix, Replace::Tree] {
        assert_eq!(s.refused(rename((ROOT, "a"), (c, "a"), replace)), Kind::Invalid);
        assert_eq!(s.refused(rename((ROOT, "a"), (a, "a"), replace)), Kind::Invalid);
    }
    let exchange = Op::Exchange { a: place(ROOT, "a"), b: place(b, "c") };
    assert_eq!(s.refused(exchange), Kind::Invalid);
}

fn exchange_swaps(s: &Session<'_>) {
    let (folder, file) = (s.folder(ROOT, "folder"), s.file(ROOT, "file"));
    let inside = s.folder(folder, "inside");
    s.done(Op::Exchange { a: place(ROOT, "file"), b: place(folder, "inside") });
    assert_eq!((s.at(ROOT, "file"), s.at(folder, "inside")), (Some(inside), Some(file)));
    assert_eq!((s.node(inside).parent, s.node(file).parent), (ROOT, folder));
    assert_eq!((s.node(ROOT).nlink, s.node(folder).nlink), (4, 2));
    let missing = Op::Exchange { a: place(ROOT, "file"), b: place(ROOT, "none") };
    assert_eq!(s.refused(missing), Kind::NotFound);
}

fn names_are_bytes(s: &Session<'_>) {
    let names = [&b"\xff\xfe"[..], b"a\nb", b" ", "\u{e9}".as_bytes(), "e\u{301}".as_bytes(), &[b'x'; 255]];
    for bytes in names {
        let id = s.catalog.new_id();
        let (parent, name) = (ROOT, larder_core::Name::new(bytes).expect("a name"));
        let node = Box::new(super::new_node(id, NodeKind::File));
        s.done(Op::Create { parent, name: name.clone(), node });
        assert_eq!(s.catalog.lookup(ROOT, &name).expect("there").id, id);
    }
    let listed = s.catalog.list(ROOT, None, 100).expect("a folder");
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    assert!(listed.iter().map(|entry| entry.name.as_bytes()).eq(sorted));
}
