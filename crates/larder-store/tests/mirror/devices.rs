//! Two devices and the server change the same tree, with and without hearing of one another.

use crate::device::{Device, head};
use crate::server::Server;
use crate::{ROOT, commit, compare, follow, name, tree};
use larder_core::{Content, Head, Kind, NodeKind};
use larder_store::catalog::{Attrs, NewNode, Replace, Unlink, XattrMode};
use larder_store::origin::Policy;
use larder_store::{Catalog, Op};
use std::collections::BTreeSet;

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
fn what_the_server_does_not_take_holds_nothing_up() {
    let server = Server::new();
    let device = Device::new(&server);
    let file = device.make(ROOT, "file", Some(1)).expect("made");
    let set = |value: Option<&[u8]>| Op::SetXattr {
        node: file,
        name: b"user.colour".to_vec(),
        value: value.map(<[u8]>::to_vec),
        mode: XattrMode::Any,
    };
    device.run(set(Some(b"green"))).expect("set");
    device.settle();
    // Both take the same attribute away: for the second there is none.
    server.run(set(None)).expect("removed");
    device.run(set(None)).expect("removed");
    device.write(file, 2).expect("written");
    device.settle();
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
    assert_eq!(device.contents(), BTreeSet::from([3]));
}

#[test]
fn what_is_being_told_stays_as_it_is() {
    let server = Server::new();
    let device = Device::new(&server);
    device.make(ROOT, "passing", Some(1)).expect("made");
    let written = device.make(ROOT, "written", Some(1)).expect("made");
    let entries = device.mirror.take(0, 9).expect("entries");
    device.remove(ROOT, "passing").expect("removed");
    device.write(written, 2).expect("written");
    let keep = |ops| commit(&device.kept, ops).map(drop);
    assert_eq!(device.mirror.push(&entries, keep).expect("told").done, 2);
    device.settle();
    assert_eq!(names(&server.catalog), ["/written"]);
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
    assert_eq!(device.contents(), BTreeSet::from([3]));
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

/// Two devices write one file, the second one with this policy and mtime; the names and the file's content then, and all its
/// contents.
fn after_both_write(policy: Policy, mtime: i64) -> (Vec<String>, u64, BTreeSet<u64>) {
    let server = Server::new();
    let (one, mut two) = (Device::new(&server), Device::new(&server));
    two.policy = policy;
    let file = one.make(ROOT, "file", Some(0)).expect("made");
    one.settle();
    assert_eq!(two.look(ROOT, "file"), file);
    one.write_at(file, 1, 5).expect("written");
    two.write_at(file, 2, mtime).expect("written");
    for device in [&one, &two, &one] {
        device.settle();
    }
    assert_eq!(tree(&one.mirror), tree(&server.catalog));
    assert_eq!(tree(&two.mirror), tree(&server.catalog));
    let versions = server.catalog.versions(file).expect("versions");
    let now = server.catalog.node(file).expect("there").size_bytes();
    let contents = versions.iter().map(|old| old.node.size_bytes()).chain([now]).collect();
    (names(&server.catalog), now, contents)
}

#[test]
fn a_policy_says_which_content_a_file_gets_and_the_other_is_a_version() {
    for (policy, mtime, wins) in [
        (Policy::KeepLocal, 1, 3),
        (Policy::KeepServer, 9, 2),
        (Policy::KeepNewest, 9, 3),
        (Policy::KeepNewest, 1, 2),
    ] {
        let (names, now, contents) = after_both_write(policy, mtime);
        assert_eq!((names, now), (vec!["/file".to_owned()], wins), "{policy:?}");
        assert_eq!(contents, BTreeSet::from([1, 2, 3]), "{policy:?}");
    }
    let (names, now, _) = after_both_write(Policy::KeepBoth, 9);
    assert_eq!((names, now), (vec!["/file".to_owned(), "/file (conflict)".to_owned()], 2));
}

#[test]
fn equal_files_of_one_name_are_one() {
    let server = Server::new();
    let (one, two) = (Device::new(&server), Device::new(&server));
    for device in [&one, &two] {
        let folder = device.make(ROOT, "clone", None).expect("made");
        device.make(folder, "same", Some(1)).expect("made");
        device.make(folder, "other", Some(if std::ptr::eq(device, &one) { 2 } else { 3 })).expect("made");
    }
    for device in [&one, &two, &one] {
        device.settle();
    }
    let expected = ["/clone", "/clone/other", "/clone/other (conflict)", "/clone/same"];
    assert_eq!(names(&server.catalog), expected);
    assert_eq!(tree(&one.mirror), tree(&server.catalog));
    assert_eq!(tree(&two.mirror), tree(&server.catalog));
}

#[test]
fn what_waits_holds_up_nothing_else() {
    let server = Server::new();
    let device = Device::new(&server);
    let locked = device.make(ROOT, "locked", Some(1)).expect("made");
    device.settle();
    device.write(locked, 2).expect("written");
    device.make(ROOT, "new", Some(3)).expect("made");
    device.rename((ROOT, "locked"), (ROOT, "renamed")).expect("renamed");
    device.push_past(9, Some(0));
    assert_eq!(names(&server.catalog), ["/locked", "/new"]);
    assert_eq!(device.mirror.queue_len().expect("a length").len, 2);
    assert_eq!(names(&device.mirror), ["/new", "/renamed"]);
    device.settle();
    assert_eq!(names(&server.catalog), ["/new", "/renamed"]);
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
}

#[test]
fn a_device_brought_back_from_a_backup_tells_of_what_is_new() {
    let server = Server::new();
    let device = Device::new(&server);
    let file = device.make(ROOT, "before", Some(1)).expect("made");
    device.settle();
    let backup = device.backup();
    // What it did since, nobody remembers but the server.
    device.make(ROOT, "forgotten", Some(2)).expect("made");
    device.write(file, 3).expect("written");
    device.settle();
    let device = Device::over(backup, &server);
    device.make(ROOT, "offline", Some(4)).expect("made");
    follow(&device.mirror, &device.kept);
    device.make(ROOT, "new", Some(5)).expect("made");
    device.make(ROOT, "new too", Some(6)).expect("made");
    device.settle();
    assert_eq!(names(&server.catalog), ["/before", "/forgotten", "/new", "/new too", "/offline"]);
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
    assert_eq!(device.contents(), BTreeSet::from([3, 4, 5, 6, 7]));
}

#[test]
fn what_the_server_says_holds_where_it_counts_from_a_backup() {
    let server = Server::new();
    let device = Device::new(&server);
    let file = server.make(ROOT, "file", NodeKind::File);
    for mode in [0o600, 0o640, 0o644] {
        let attrs = Attrs { mode: Some(mode), ..Attrs::default() };
        server.run(Op::SetAttrs { node: file, attrs }).expect("set");
    }
    assert_eq!(device.look(ROOT, "file"), file);
    // As if the device had heard more of it than the server remembers.
    let mut told = server.named(ROOT, &name("file")).expect("an answer").expect("there");
    (told.node.version, told.node.mode) = (told.node.version + 5, 0o777);
    commit(&device.kept, vec![Op::Adopt { node: Box::new(told), is_new: false }]).expect("kept");
    follow(&device.mirror, &device.kept);
    assert_eq!(device.mirror.node(file).expect("kept").mode, 0o777);
    compare(&device.mirror, &device.kept);
    assert_eq!(tree(&device.mirror), tree(&server.catalog));
}
