//! The history: old contents, deleted nodes, how they come back and how they end; drafts, which have none.

use super::{Case, ROOT, Session, head, name, place, set_content};
use crate::catalog::{Commit, Counts, Durability, Op, Unlink};
use larder_core::{Kind, NodeId, NodeKind, OpId, Timestamp};

pub(super) const CASES: &[Case] = &[
    ("replaced contents are kept in order", replaced_contents_are_kept_in_order),
    ("deleted nodes come back", deleted_nodes_come_back),
    ("a name deleted many times keeps them all", a_name_deleted_many_times_keeps_them_all),
    ("purging ends the history before a time", purging_ends_the_history_before_a_time),
    ("operation ids end with the history", operation_ids_end_with_the_history),
    ("interim contents are no versions", interim_contents_are_no_versions),
    ("purging a tree forgets a file that has two names in it", purging_forgets_a_file_with_two_names),
    ("drafts become visible and leave no history", drafts_leave_no_history),
];

fn unlink(parent: NodeId, text: &str) -> Op {
    Op::Unlink { parent, name: name(text), what: Unlink::Tree }
}

fn purge(s: &Session<'_>, before: i64) -> usize {
    let before = Timestamp(before);
    let mut purged = 0;
    loop {
        match s.done(Op::PurgeHistory { before, interim_before: Timestamp(i64::MIN), limit: 3 }).purged {
            0 => return purged,
            n => purged += n,
        }
    }
}

fn replaced_contents_are_kept_in_order(s: &Session<'_>) {
    let id = s.file(ROOT, "file");
    let mut replaced_at = Vec::new();
    for size in [10, 20, 30] {
        s.done(set_content(id, size));
        replaced_at.push(Timestamp(s.clock.get()));
    }
    let versions = s.catalog.versions(id).expect("versions");
    let sizes: Vec<u64> = versions.iter().map(|version| version.node.size_bytes()).collect();
    assert_eq!(sizes, [10, 20], "an empty content is worth no version");
    assert_eq!(versions.iter().map(|v| v.until).collect::<Vec<_>>(), replaced_at[1..]);
    assert_eq!(s.catalog.counts().allocated_bytes, 30, "old contents do not count");
    assert_eq!(s.refused(set_content(ROOT, 1)), Kind::Invalid);
}

fn deleted_nodes_come_back(s: &Session<'_>) {
    let top = s.folder(ROOT, "top");
    let sub = s.folder(top, "sub");
    let file = s.file(sub, "file");
    s.done(set_content(file, 100));
    s.done(unlink(ROOT, "top"));
    assert_eq!((s.at(ROOT, "top"), s.node(top).nlink), (None, 0));
    let deleted = s.catalog.deleted(ROOT, Some(&name("top"))).expect("history");
    assert_eq!((deleted.len(), deleted[0].node, deleted[0].at), (1, top, Timestamp(s.clock.get())));
    s.folder(ROOT, "taken");
    assert_eq!(s.refused(Op::Undelete { node: top, to: place(ROOT, "taken") }), Kind::Exists);
    s.done(Op::Undelete { node: top, to: place(ROOT, "back") });
    assert_eq!((s.at(ROOT, "back"), s.at(top, "sub"), s.at(sub, "file")), (Some(top), Some(sub), Some(file)));
    assert_eq!((s.node(top).nlink, s.catalog.deleted(ROOT, None).expect("history").len()), (3, 0));
    assert_eq!(s.refused(Op::Undelete { node: top, to: place(ROOT, "again") }), Kind::Invalid);
}

fn a_name_deleted_many_times_keeps_them_all(s: &Session<'_>) {
    let mut gone = Vec::new();
    for _ in 0..5 {
        gone.push(s.file(ROOT, "file"));
        s.done(unlink(ROOT, "file"));
    }
    s.file(ROOT, "file2");
    s.done(unlink(ROOT, "file2"));
    let deleted = s.catalog.deleted(ROOT, Some(&name("file"))).expect("history");
    assert_eq!(deleted.iter().map(|d| d.node).collect::<Vec<_>>(), gone, "oldest first");
    assert_eq!(s.catalog.deleted(ROOT, None).expect("history").len(), 6);
    s.done(Op::Undelete { node: gone[2], to: place(ROOT, "file") });
    assert_eq!(s.at(ROOT, "file"), Some(gone[2]));
    assert_eq!(s.catalog.deleted(ROOT, Some(&name("file"))).expect("history").len(), 4);
}

fn purging_ends_the_history_before_a_time(s: &Session<'_>) {
    let file = s.file(ROOT, "file");
    for size in [10, 20, 30, 40] {
        s.done(set_content(file, size));
    }
    let half = s.catalog.versions(file).expect("versions")[1].until;
    assert_eq!(purge(s, half.0), 1);
    assert_eq!(s.catalog.versions(file).expect("versions").len(), 2);
    let top = s.folder(ROOT, "top");
    for i in 0..5 {
        let sub = s.folder(top, &format!("sub{i}"));
        let inside = s.file(sub, "file");
        s.done(set_content(inside, 1000));
    }
    s.done(unlink(ROOT, "top"));
    assert_eq!(
        s.catalog.counts(),
        Counts { nodes: 13, allocated_bytes: 5040 },
        "deleted trees count until purged"
    );
    purge(s, i64::MAX);
    assert_eq!(s.catalog.counts(), Counts { nodes: 2, allocated_bytes: 40 });
    assert_eq!(s.catalog.node(top).expect_err("purged").kind(), Kind::NotFound);
    assert_eq!(s.catalog.versions(file).expect("versions"), []);
    assert_eq!(s.node(file).size_bytes(), 40);
}

fn operation_ids_end_with_the_history(s: &Session<'_>) {
    let commit = |id: u32| {
        let (at, op_id) = (Timestamp(i64::from(id)), Some(OpId(id.into())));
        let commit = Commit { at, op_id, expect: vec![], ops: vec![], durability: Durability::Process };
        s.catalog.commit(commit).expect("committed");
    };
    (1..=10).for_each(commit);
    let done = || (1..=10).filter(|id| s.catalog.is_done(OpId(*id)).expect("an answer")).collect::<Vec<_>>();
    assert_eq!(done().len(), 10);
    let step = Op::PurgeHistory { before: Timestamp(8), interim_before: Timestamp(i64::MIN), limit: 3 };
    assert_eq!(s.done(step).purged, 3, "so many in a commit");
    assert_eq!(purge(s, 8), 4);
    assert_eq!(done(), [8, 9, 10]);
}

fn interim_contents_are_no_versions(s: &Session<'_>) {
    let file = s.file(ROOT, "file");
    let mut replaced_at = Vec::new();
    for (size, replaces) in [(10, None), (20, None), (30, Some(20)), (40, Some(30)), (50, Some(30))] {
        let mut op = set_content(file, size);
        let Op::SetContent { interim, .. } = &mut op else { unreachable!("what it makes") };
        *interim = replaces.map(head);
        s.done(op);
        replaced_at.push(Timestamp(s.clock.get()));
    }
    let sizes = || s.catalog.versions(file).expect("versions").iter().map(|v| v.node.size_bytes()).collect();
    let kept: Vec<u64> = sizes();
    assert_eq!(kept, [10, 40]);
    let before = Timestamp(i64::MIN);
    let purge = |interim_before| s.done(Op::PurgeHistory { before, interim_before, limit: 9 }).purged;
    // The contents of 20 and 30 were replaced at the times of the third and the fourth.
    assert_eq!(purge(replaced_at[2]), 0);
    assert_eq!(purge(replaced_at[3]), 1);
    assert_eq!(purge(Timestamp(i64::MAX)), 1);
    let kept: Vec<u64> = sizes();
    assert_eq!(kept, [10, 40]);
}

fn purging_forgets_a_file_with_two_names(s: &Session<'_>) {
    for far in [false, true] {
        let before = s.catalog.counts();
        let top = s.folder(ROOT, "top");
        let sub = s.folder(top, "sub");
        let file = s.file(top, "file");
        s.done(set_content(file, 1000));
        let second = place(if far { sub } else { top }, "second");
        s.done(Op::Link { node: file, parent: second.0, name: second.1 });
        s.done(unlink(ROOT, "top"));
        purge(s, i64::MAX);
        assert_eq!(s.catalog.counts(), before);
        assert_eq!(s.catalog.node(file).expect_err("purged").kind(), Kind::NotFound);
    }
}

fn drafts_leave_no_history(s: &Session<'_>) {
    let draft = |text: &str| {
        let id = s.catalog.new_id();
        let mut node = Box::new(super::new_node(id, NodeKind::File));
        node.draft = true;
        s.done(Op::Create { parent: ROOT, name: name(text), node });
        id
    };
    let (kept, dropped) = (draft("kept"), draft("dropped"));
    assert!(s.node(kept).draft);
    s.done(set_content(kept, 10));
    assert!(!s.node(kept).draft);
    assert_eq!(s.catalog.versions(kept).expect("versions"), []);
    s.done(unlink(ROOT, "dropped"));
    assert_eq!(s.catalog.node(dropped).expect_err("a draft").kind(), Kind::NotFound);
    assert_eq!(s.catalog.deleted(ROOT, None).expect("history"), []);
}
