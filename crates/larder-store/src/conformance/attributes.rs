//! Attributes, extended attributes and records.

use super::{Case, ROOT, Session, set_content};
use crate::catalog::{Attrs, Op, RECORD_MAX_BYTES, Table, XATTR_MAX_BYTES, XATTR_NAME_MAX_BYTES, XattrMode};
use larder_core::{Kind, NodeId, Timestamp};

pub(super) const CASES: &[Case] = &[
    ("attributes change one by one", attributes_change_one_by_one),
    ("versions and ctime follow changes", versions_and_ctime_follow_changes),
    ("extended attributes are bytes of any length", xattrs_are_bytes_of_any_length),
    ("extended attributes mind their mode", xattrs_mind_their_mode),
    ("records are kept by table", records_are_kept_by_table),
];

fn xattr(node: NodeId, name: &[u8], value: Option<&[u8]>, mode: XattrMode) -> Op {
    Op::SetXattr { node, name: name.to_vec(), value: value.map(<[u8]>::to_vec), mode }
}

fn attributes_change_one_by_one(s: &Session<'_>) {
    let id = s.file(ROOT, "file");
    let time = |n| Some(Timestamp(n));
    let none = Attrs::default();
    let steps = [
        Attrs { mode: Some(0o7777), ..none },
        Attrs { uid: Some(u32::MAX - 1), ..none },
        Attrs { gid: Some(0), ..none },
        Attrs { atime: time(i64::MIN), ..none },
        Attrs { mtime: time(i64::MAX), ..none },
        Attrs { btime: time(-1), ..none },
    ];
    for attrs in steps {
        let before = s.node(id);
        s.done(Op::SetAttrs { node: id, attrs });
        let mut expected = before.clone();
        expected.mode = attrs.mode.unwrap_or(before.mode);
        expected.uid = attrs.uid.unwrap_or(before.uid);
        expected.gid = attrs.gid.unwrap_or(before.gid);
        expected.atime = attrs.atime.unwrap_or(before.atime);
        expected.mtime = attrs.mtime.unwrap_or(before.mtime);
        expected.btime = attrs.btime.unwrap_or(before.btime);
        expected.ctime = Timestamp(s.clock.get());
        expected.version = before.version + 1;
        assert_eq!(s.node(id), expected);
    }
    assert_eq!(s.refused(Op::SetAttrs { node: NodeId(999), attrs: none }), Kind::NotFound);
}

fn versions_and_ctime_follow_changes(s: &Session<'_>) {
    let id = s.file(ROOT, "file");
    let mut last = s.node(id);
    let changes = [
        set_content(id, 10),
        xattr(id, b"user.a", Some(b"1"), XattrMode::Any),
        Op::Link { node: id, parent: ROOT, name: super::name("link") },
    ];
    for op in changes {
        s.done(op);
        let now = s.node(id);
        assert!(now.version > last.version && now.ctime == Timestamp(s.clock.get()));
        last = now;
    }
    assert_eq!((last.mtime, last.size_bytes()), (Timestamp(-5), 10));
    assert_eq!(s.catalog.counts().allocated_bytes, 10);
}

fn xattrs_are_bytes_of_any_length(s: &Session<'_>) {
    let (id, other) = (s.file(ROOT, "file"), s.file(ROOT, "other"));
    let lens = [0, 1, 3000, 3072, 3073, 4096, XATTR_MAX_BYTES];
    for len in lens {
        let name = format!("user.{len:05}");
        s.done(xattr(id, name.as_bytes(), Some(&vec![len as u8; len]), XattrMode::Any));
    }
    for len in lens {
        let value = s.catalog.xattr(id, format!("user.{len:05}").as_bytes()).expect("there");
        assert!(value == vec![len as u8; len], "{len} bytes");
    }
    let names: Vec<Vec<u8>> = lens.iter().map(|len| format!("user.{len:05}").into_bytes()).collect();
    assert_eq!(s.catalog.xattrs(id).expect("names"), names);
    assert!(s.catalog.xattrs(other).expect("names").is_empty());
    let long = vec![0; XATTR_MAX_BYTES + 1];
    assert_eq!(s.refused(xattr(id, b"user.long", Some(&long), XattrMode::Any)), Kind::Invalid);
    let name = [b'n'; XATTR_NAME_MAX_BYTES + 1];
    assert_eq!(s.refused(xattr(id, &name, Some(b"1"), XattrMode::Any)), Kind::Invalid);
    s.done(xattr(id, &name[1..], Some(b"1"), XattrMode::Any));
    assert_eq!(s.catalog.xattr(id, &name[1..]).expect("there"), b"1");
}

fn xattrs_mind_their_mode(s: &Session<'_>) {
    let id = s.file(ROOT, "file");
    assert_eq!(s.refused(xattr(id, b"user.a", Some(b"1"), XattrMode::Replace)), Kind::NotFound);
    assert_eq!(s.refused(xattr(id, b"user.a", None, XattrMode::Any)), Kind::NotFound);
    s.done(xattr(id, b"user.a", Some(b"1"), XattrMode::Create));
    assert_eq!(s.refused(xattr(id, b"user.a", Some(b"2"), XattrMode::Create)), Kind::Exists);
    s.done(xattr(id, b"user.a", Some(b"3"), XattrMode::Replace));
    assert_eq!(s.catalog.xattr(id, b"user.a").expect("there"), b"3");
    s.done(xattr(id, b"user.a", None, XattrMode::Any));
    assert_eq!(s.catalog.xattr(id, b"user.a").expect_err("removed").kind(), Kind::NotFound);
}

fn records_are_kept_by_table(s: &Session<'_>) {
    let set = |table, key: &[u8], value: Option<Vec<u8>>| Op::SetRecord { table, key: key.to_vec(), value };
    s.done(set(Table::Users, b"ann", Some(b"1".to_vec())));
    s.done(set(Table::Locks, b"ann", Some(b"2".to_vec())));
    s.done(set(Table::Users, b"bob", Some(vec![7; RECORD_MAX_BYTES])));
    assert_eq!(s.catalog.record(Table::Users, b"ann").expect("an answer"), Some(b"1".to_vec()));
    assert_eq!(s.catalog.record(Table::Settings, b"ann").expect("an answer"), None);
    let users = s.catalog.records(Table::Users).expect("records");
    assert_eq!(users, [(b"ann".to_vec(), b"1".to_vec()), (b"bob".to_vec(), vec![7; RECORD_MAX_BYTES])]);
    s.done(set(Table::Users, b"ann", None));
    assert_eq!(s.catalog.record(Table::Users, b"ann").expect("an answer"), None);
    assert_eq!(s.refused(set(Table::Users, b"x", Some(vec![0; RECORD_MAX_BYTES + 1]))), Kind::Invalid);
    assert_eq!(s.refused(set(Table::Users, &[1; 256], Some(vec![0]))), Kind::Invalid);
}
