//! Commits: whole or not at all, under conditions, once; and the feed of what they changed.

use super::{Case, ROOT, Session, create, name, new_node, set_content};
use crate::catalog::{Attrs, Change, Commit, Cursor, Durability, Expect, NewNode, Op, Table, Unlink};
use crate::origin::RANGE_BITS;
use larder_core::{Kind, NodeId, NodeKind, OpId, Timestamp};

pub(super) const CASES: &[Case] = &[
    ("a commit is whole or nothing", a_commit_is_whole_or_nothing),
    ("operations see those before them", operations_see_those_before_them),
    ("conditions are checked first", conditions_are_checked_first),
    ("what a path leads to is alive", what_a_path_leads_to_is_alive),
    ("a record is a condition", a_record_is_a_condition),
    ("an operation id counts once", an_operation_id_counts_once),
    ("an id names one node only", an_id_names_one_node_only),
    ("the feed has every change once and in order", the_feed_has_every_change_once),
    ("commits at the same time are all there", commits_at_the_same_time_are_all_there),
    ("a long commit is whole", a_long_commit_is_whole),
];

fn a_commit_is_whole_or_nothing(s: &Session<'_>) {
    let file = s.file(ROOT, "file");
    let before = (s.node(ROOT), s.node(file), s.catalog.now());
    let failed = s.run(vec![
        create(s.catalog.new_id(), ROOT, "new", NodeKind::File),
        set_content(file, 10),
        Op::Unlink { parent: ROOT, name: name("missing"), what: Unlink::File },
    ]);
    assert_eq!(failed.expect_err("the last one fails").kind(), Kind::NotFound);
    assert_eq!((s.node(ROOT), s.node(file), s.catalog.now()), before);
    assert_eq!(s.at(ROOT, "new"), None);
}

fn operations_see_those_before_them(s: &Session<'_>) {
    let (folder, file) = (s.catalog.new_id(), s.catalog.new_id());
    let ops = vec![
        create(folder, ROOT, "folder", NodeKind::Folder),
        create(file, folder, "file", NodeKind::File),
        set_content(file, 10),
        Op::Unlink { parent: folder, name: name("file"), what: Unlink::File },
        Op::Unlink { parent: ROOT, name: name("folder"), what: Unlink::EmptyFolder },
        create(s.catalog.new_id(), ROOT, "folder", NodeKind::File),
    ];
    assert_eq!(s.run(ops).expect("each is right after the one before").changes.len(), 6);
    assert_eq!(s.names(ROOT), ["folder"]);
}

fn conditions_are_checked_first(s: &Session<'_>) {
    let file = s.file(ROOT, "file");
    let version = s.node(file).version;
    let holding = vec![
        Expect::Version(file, version),
        Expect::Name(ROOT, name("file"), Some(file)),
        Expect::Name(ROOT, name("other"), None),
    ];
    s.run_if(holding.clone(), vec![set_content(file, 10)]).expect("all hold");
    let failing = [
        Expect::Version(file, version),
        Expect::Version(NodeId(999), 1),
        Expect::Name(ROOT, name("file"), None),
        Expect::Name(ROOT, name("file"), Some(NodeId(999))),
        Expect::Name(ROOT, name("other"), Some(file)),
    ];
    for expect in failing {
        let refused = s.run_if(vec![expect], vec![set_content(file, 20)]);
        assert_eq!(refused.expect_err("it does not hold").kind(), Kind::Conflict);
    }
    assert_eq!(s.node(file).size_bytes(), 10);
}

fn what_a_path_leads_to_is_alive(s: &Session<'_>) {
    let top = s.folder(ROOT, "top");
    let sub = s.folder(top, "sub");
    let (file, linked) = (s.file(sub, "file"), s.file(sub, "linked"));
    s.done(Op::Link { node: linked, parent: ROOT, name: name("other") });
    let draft = s.catalog.new_id();
    let node = Box::new(NewNode { draft: true, ..new_node(draft, NodeKind::File) });
    s.done(Op::Create { parent: ROOT, name: name("draft"), node });
    let is_alive = |node| match s.run_if(vec![Expect::Alive(node)], Vec::new()) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Conflict);
            false
        }
    };
    let alive = || [ROOT, top, sub, file, linked, draft, NodeId(999)].map(is_alive);
    assert_eq!(alive(), [true, true, true, true, true, false, false]);
    s.done(Op::Unlink { parent: ROOT, name: name("top"), what: Unlink::Tree });
    assert_eq!(alive(), [true, false, false, false, true, false, false], "it has another name");
}

fn a_record_is_a_condition(s: &Session<'_>) {
    let set = |expect: Option<&[u8]>, value: &[u8]| {
        let (table, key, value) = (Table::Settings, b"key".to_vec(), Some(value.to_vec()));
        let expect = Expect::Record(table, key.clone(), expect.map(<[u8]>::to_vec));
        s.run_if(vec![expect], vec![Op::SetRecord { table, key, value }]).map(drop)
    };
    assert_eq!(set(Some(b"1"), b"2").expect_err("there is none").kind(), Kind::Conflict);
    set(None, b"1").expect("there is none");
    assert_eq!(set(None, b"2").expect_err("there is one").kind(), Kind::Conflict);
    set(Some(b"1"), b"2").expect("as expected");
    assert_eq!(s.catalog.record(Table::Settings, b"key").expect("an answer"), Some(b"2".to_vec()));
}

fn an_id_names_one_node_only(s: &Session<'_>) {
    let id = NodeId(5 << RANGE_BITS);
    s.done(create(id, ROOT, "one", NodeKind::File));
    assert_eq!(s.refused(create(id, ROOT, "two", NodeKind::File)), Kind::Invalid);
    let own = s.file(ROOT, "own");
    assert_eq!(s.refused(create(own, ROOT, "two", NodeKind::File)), Kind::Invalid);
    s.done(Op::Unlink { parent: ROOT, name: name("own"), what: Unlink::File });
    s.done(Op::Unlink { parent: ROOT, name: name("one"), what: Unlink::File });
    assert_eq!(s.refused(create(id, ROOT, "two", NodeKind::File)), Kind::Invalid, "the history has it");
    let twice = ["a", "b"].map(|text| create(NodeId(id.0 + 1), ROOT, text, NodeKind::File));
    assert_eq!(s.run(twice.to_vec()).expect_err("one id twice").kind(), Kind::Invalid);
    assert_eq!(s.names(ROOT), [""; 0]);
}

fn an_operation_id_counts_once(s: &Session<'_>) {
    let file = s.file(ROOT, "file");
    let commit = |op_id, mode| Commit {
        at: Timestamp(100),
        op_id: Some(OpId(op_id)),
        expect: Vec::new(),
        ops: vec![Op::SetAttrs { node: file, attrs: Attrs { mode: Some(mode), ..Attrs::default() } }],
        durability: Durability::Power,
    };
    let is_done = |id| s.catalog.is_done(OpId(id)).expect("an answer");
    assert!(!is_done(1));
    assert_eq!(s.catalog.commit(commit(1, 0o600)).expect("first").changes, [Change::Attrs(file)]);
    assert!(is_done(1) && !is_done(2));
    let version = s.node(file).version;
    assert_eq!(s.catalog.commit(commit(1, 0o644)).expect("again").changes, []);
    assert_eq!((s.node(file).mode, s.node(file).version), (0o600, version));
    s.catalog.commit(commit(2, 0o644)).expect("another");
    assert_eq!(s.node(file).mode, 0o644);
    let mut failing = commit(3, 0o640);
    failing.ops.push(Op::SetAttrs { node: NodeId(999), attrs: Attrs::default() });
    assert!(s.catalog.commit(failing).is_err());
    s.catalog.commit(commit(3, 0o640)).expect("what failed did not count");
    assert_eq!(s.node(file).mode, 0o640);
}

fn the_feed_has_every_change_once(s: &Session<'_>) {
    let begin = s.catalog.now();
    let mut expected = Vec::new();
    for i in 0..20 {
        let id = s.catalog.new_id();
        let ops = vec![create(id, ROOT, &format!("file{i}"), NodeKind::File), set_content(id, i + 1)];
        expected.extend(s.run(ops).expect("committed").changes);
    }
    expected.extend(s.done(Op::Unlink { parent: ROOT, name: name("file3"), what: Unlink::File }).changes);
    assert_eq!(expected.len(), 41);
    for step in [1, 7, 1000] {
        let (mut seen, mut at) = (Vec::new(), begin.clone());
        loop {
            let (changes, next) = s.catalog.changes(&at, step).expect("the feed");
            assert!(changes.len() <= step);
            at = next;
            if changes.is_empty() {
                break;
            }
            seen.extend(changes);
        }
        assert_eq!(seen, expected, "in steps of {step}");
        assert_eq!(s.catalog.changes(&s.catalog.now(), 10).expect("the end").0, []);
    }
    assert!(!s.catalog.changes(&Cursor::default(), usize::MAX).expect("the beginning").0.is_empty());
    assert!(s.catalog.changes(&Cursor(b"nonsense".repeat(9)), 1).is_err());
}

fn commits_at_the_same_time_are_all_there(s: &Session<'_>) {
    let catalog = s.catalog;
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                for i in 0..50 {
                    let op = create(catalog.new_id(), ROOT, &format!("{writer}-{i:02}"), NodeKind::File);
                    let durability = if i % 5 == 0 { Durability::Power } else { Durability::Process };
                    let at = Timestamp(i);
                    let commit = Commit { at, op_id: None, expect: Vec::new(), ops: vec![op], durability };
                    catalog.commit(commit).expect("committed");
                }
            });
        }
    });
    assert_eq!((s.names(ROOT).len(), catalog.counts().nodes), (200, 201));
}

fn a_long_commit_is_whole(s: &Session<'_>) {
    let folder = s.folder(ROOT, "folder");
    let begin = s.catalog.now();
    let ops = (0..5000).map(|i| create(s.catalog.new_id(), folder, &format!("{i:05}"), NodeKind::File));
    assert_eq!(s.run(ops.collect()).expect("committed").changes.len(), 5000);
    assert_eq!(s.names(folder).len(), 5000);
    assert_eq!(s.catalog.changes(&begin, usize::MAX).expect("the feed").0.len(), 5000);
    s.done(Op::Unlink { parent: ROOT, name: name("folder"), what: Unlink::Tree });
    assert_eq!(s.names(ROOT), [""; 0]);
}
