//! A mirror shows what the server has, whatever changes there, and asks no more than it must.

mod agreement;
mod attributes;
mod comparing;
mod device;
mod devices;
mod equal;
mod histories;
mod noted;
mod server;

use larder_core::{Kind, Name, NodeId, NodeKind, Result, Timestamp};
use larder_store::catalog::{Attrs, Replace, Unlink};
use larder_store::kv::Kv;
use larder_store::memory::MemoryKv;
use larder_store::origin::Mirror;
use larder_store::wire::Described;
use larder_store::{Catalog, Change, Commit, Committed, Durability, KvCatalog, Op};
use parking_lot::Mutex;
use server::Server;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const ROOT: NodeId = NodeId::ROOT;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// The numbers of runs, one for each opening.
static RUN: AtomicU64 = AtomicU64::new(1);

fn mirror_of(server: &Arc<Server>) -> (Mirror, Arc<dyn Catalog>) {
    let (mirror, kept) = mirror_over(MemoryKv::default(), server);
    (mirror, kept)
}

/// A mirror over what a device kept.
fn mirror_over<K: Kv + 'static>(kv: K, server: &Arc<Server>) -> (Mirror, Arc<KvCatalog<K>>) {
    let kept = Arc::new(KvCatalog::open(kv, Timestamp(1), (7, 7)).expect("a catalog"));
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let mirror = Mirror::open(kept.clone(), server.clone(), || Timestamp(1), run);
    (mirror.expect("the server answers"), kept)
}

/// Commits as the drive over a mirror does.
fn commit(kept: &Arc<dyn Catalog>, ops: Vec<Op>) -> Result<Committed> {
    let (expect, durability) = (vec![], Durability::Process);
    kept.commit(Commit { at: Timestamp(1), op_id: None, expect, ops, durability })
}

fn follow(mirror: &Mirror, kept: &Arc<dyn Catalog>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut step = || mirror.follow(3, |ops| commit(kept, ops).map(|done| changes.extend(done.changes)));
    while step().expect("followed") {}
    changes
}

fn compare(mirror: &Mirror, kept: &Arc<dyn Catalog>) -> Vec<Change> {
    let mut changes = Vec::new();
    let compared = mirror.compare(|ops| commit(kept, ops).map(|done| changes.extend(done.changes)));
    compared.expect("compared");
    changes
}

/// Everything below the root by path, as `catalog` shows it.
fn tree(catalog: &dyn Catalog) -> BTreeMap<String, Described> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(ROOT, String::new())];
    while let Some((folder, path)) = folders.pop() {
        let mut after = None;
        loop {
            let page = catalog.list(folder, after.as_ref(), 7).expect("listed");
            for entry in &page {
                let path = format!("{path}/{}", entry.name);
                if entry.node.is_folder() {
                    folders.push((entry.node.id, path.clone()));
                }
                let id = entry.node.id;
                let names = catalog.xattrs(id).expect("names");
                let value = |name: Vec<u8>| (name.clone(), catalog.xattr(id, &name).expect("a value"));
                let xattrs = names.into_iter().map(value).collect();
                found.insert(path, Described { node: entry.node.clone(), xattrs });
            }
            match page.last() {
                Some(last) => after = Some(last.name.clone()),
                None => break,
            }
        }
    }
    found
}

#[test]
fn a_folder_is_asked_for_once_and_then_known() {
    let server = Server::new();
    let folder = server.make(ROOT, "folder", NodeKind::Folder);
    for i in 0..2500 {
        server.make(folder, &format!("{i:04}"), NodeKind::File);
    }
    let (mirror, _) = mirror_of(&server);
    assert_eq!(server.asked(), 1);
    assert_eq!(mirror.lookup(ROOT, &name("folder")).expect("there").id, folder);
    assert_eq!(server.asked(), 2);
    assert_eq!(tree(&mirror), tree(&server.catalog));
    // The root is one page, the folder three.
    assert_eq!(server.asked(), 6);
    assert_eq!(tree(&mirror).len(), 2501);
    for missing in ["0", "zz", "0001x"] {
        assert_eq!(mirror.lookup(folder, &name(missing)).expect_err("not there").kind(), Kind::NotFound);
    }
    assert_eq!(server.asked(), 6, "what is known is answered here");
}

#[test]
fn the_first_names_of_a_long_folder_need_one_page() {
    let server = Server::new();
    for i in 0..5000 {
        server.make(ROOT, &format!("{i:04}"), NodeKind::File);
    }
    let (mirror, _) = mirror_of(&server);
    assert_eq!(mirror.list(ROOT, None, 64).expect("listed").len(), 64);
    assert_eq!(server.asked(), 2);
    assert_eq!(mirror.lookup(ROOT, &name("4999")).expect("there").name, Some(name("4999")));
    assert_eq!(mirror.list(ROOT, Some(&name("0063")), 900).expect("listed").len(), 900);
    assert_eq!(server.asked(), 3);
}

#[test]
fn what_changes_is_told_once_and_to_whoever_saw_it() {
    let server = Server::new();
    let folder = server.make(ROOT, "folder", NodeKind::Folder);
    let file = server.make(folder, "old", NodeKind::File);
    server.make(folder, "gone", NodeKind::File);
    let (mirror, kept) = mirror_of(&server);
    tree(&mirror);
    let (from, to) = ((folder, name("old")), (ROOT, name("new")));
    server.run(Op::Rename { from, to, replace: Replace::Nothing }).expect("renamed");
    server.run(Op::Unlink { parent: folder, name: name("gone"), what: Unlink::File }).expect("removed");
    let changes = follow(&mirror, &kept);
    assert!(changes.contains(&Change::Unnamed { parent: folder, name: name("old"), node: file }));
    assert!(changes.contains(&Change::Named { parent: ROOT, name: name("new"), node: file }));
    assert_eq!(tree(&mirror), tree(&server.catalog));
    assert_eq!(follow(&mirror, &kept), [], "nothing is told twice");
}

#[test]
fn a_file_that_is_gone_is_still_found_by_who_has_it_open() {
    let server = Server::new();
    let file = server.make(ROOT, "file", NodeKind::File);
    let (mirror, kept) = mirror_of(&server);
    tree(&mirror);
    server.run(Op::Unlink { parent: ROOT, name: name("file"), what: Unlink::File }).expect("removed");
    follow(&mirror, &kept);
    assert_eq!(mirror.node(file).expect("still known").nlink, 0);
}

/// Has the mirror tell into a list.
fn listen(mirror: &Mirror) -> Arc<Mutex<Vec<Change>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hearing = told.clone();
    mirror.tell(Box::new(move |changes| hearing.lock().extend_from_slice(changes)));
    told
}

/// Forgets what is deleted.
fn purge(kept: &Arc<dyn Catalog>) {
    let (before, interim_before) = (Timestamp(9), Timestamp(9));
    let done = commit(kept, vec![Op::PurgeHistory { before, interim_before, limit: 9 }]);
    assert_eq!(done.expect("purged").changes, []);
}

#[test]
fn what_a_page_brings_is_told_to_whoever_saw_something_else_before() {
    let server = Server::new();
    let seen = server.make(ROOT, "seen", NodeKind::File);
    let (mirror, kept) = mirror_of(&server);
    let told = listen(&mirror);
    mirror.lookup(ROOT, &name("seen")).expect("there");
    mirror.lookup(ROOT, &name("missed")).expect_err("not there");
    assert_eq!(*told.lock(), []);
    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
    server.run(Op::SetAttrs { node: seen, attrs }).expect("set");
    let missed = server.make(ROOT, "missed", NodeKind::File);
    server.make(ROOT, "simply new", NodeKind::File);
    tree(&mirror);
    let named = Change::Named { parent: ROOT, name: name("missed"), node: missed };
    assert_eq!(*told.lock(), [named, Change::Attrs(seen)]);
    follow(&mirror, &kept);
    assert_eq!(tree(&mirror), tree(&server.catalog));
}

#[test]
fn a_node_told_in_a_folder_that_nobody_saw_is_right_where_it_was_seen() {
    let server = Server::new();
    let seen = server.make(ROOT, "seen", NodeKind::Folder);
    let other = server.make(ROOT, "other", NodeKind::Folder);
    let file = server.make(seen, "a", NodeKind::File);
    let (mirror, kept) = mirror_of(&server);
    mirror.lookup(ROOT, &name("seen")).expect("there");
    mirror.lookup(seen, &name("a")).expect("there");
    server.run(Op::Link { node: file, parent: other, name: name("b") }).expect("linked");
    let node = server.named(other, &name("b")).expect("there").map(Box::new);
    commit(&kept, vec![Op::AdoptName { parent: other, name: name("b"), node }]).expect("kept");
    assert_eq!(mirror.node(file).expect("kept").nlink, 2);
}

#[test]
fn what_was_only_asked_for_by_name_is_compared_too() {
    let server = Server::new();
    let folder = server.make(ROOT, "folder", NodeKind::Folder);
    server.make(folder, "goes", NodeKind::File);
    let (mirror, kept) = mirror_of(&server);
    mirror.lookup(ROOT, &name("folder")).expect("there");
    mirror.lookup(folder, &name("goes")).expect("there");
    server.run(Op::Unlink { parent: folder, name: name("goes"), what: Unlink::File }).expect("removed");
    compare(&mirror, &kept);
    assert_eq!(mirror.lookup(folder, &name("goes")).expect_err("gone").kind(), Kind::NotFound);
}

#[test]
fn a_file_that_lost_all_its_names_has_none() {
    let server = Server::new();
    let file = server.make(ROOT, "a", NodeKind::File);
    server.run(Op::Link { node: file, parent: ROOT, name: name("b") }).expect("linked");
    let (mirror, kept) = mirror_of(&server);
    tree(&mirror);
    for gone in ["b", "a"] {
        server.run(Op::Unlink { parent: ROOT, name: name(gone), what: Unlink::File }).expect("removed");
    }
    follow(&mirror, &kept);
    assert_eq!(mirror.node(file).expect("in the history").nlink, 0);
    purge(&kept);
    assert_eq!(mirror.node(file).expect_err("forgotten").kind(), Kind::NotFound);
}

#[test]
fn a_file_that_lost_the_name_given_last_keeps_the_others() {
    let server = Server::new();
    let file = server.make(ROOT, "a", NodeKind::File);
    for name_too in ["b", "z"] {
        server.run(Op::Link { node: file, parent: ROOT, name: name(name_too) }).expect("linked");
    }
    let (mirror, kept) = mirror_of(&server);
    tree(&mirror);
    for gone in ["z", "b"] {
        server.run(Op::Unlink { parent: ROOT, name: name(gone), what: Unlink::File }).expect("removed");
    }
    compare(&mirror, &kept);
    assert_eq!(mirror.lookup(ROOT, &name("a")).expect("there").nlink, 1);
    assert_eq!(tree(&mirror), tree(&server.catalog));
    server.run(Op::Unlink { parent: ROOT, name: name("a"), what: Unlink::File }).expect("removed");
    follow(&mirror, &kept);
    assert_eq!(mirror.node(file).expect("in the history").nlink, 0);
}

#[test]
fn a_folder_that_was_forgotten_is_asked_for_anew_when_it_comes_back() {
    let server = Server::new();
    let there = server.make(ROOT, "there", NodeKind::Folder);
    let here = server.make(ROOT, "here", NodeKind::Folder);
    let folder = server.make(here, "folder", NodeKind::Folder);
    server.make(folder, "file", NodeKind::File);
    let (mirror, kept) = mirror_of(&server);
    mirror.lookup(ROOT, &name("here")).expect("there");
    mirror.lookup(here, &name("folder")).expect("there");
    assert_eq!(mirror.list(folder, None, 9).expect("listed").len(), 1);
    let (from, to) = ((here, name("folder")), (there, name("folder")));
    server.run(Op::Rename { from, to, replace: Replace::Nothing }).expect("moved");
    follow(&mirror, &kept);
    purge(&kept);
    assert_eq!(tree(&mirror), tree(&server.catalog));
}

#[test]
fn a_page_that_was_overtaken_hides_nothing() {
    let server = Server::new();
    server.make(ROOT, "before", NodeKind::File);
    let (mirror, kept) = mirror_of(&server);
    let mirror = Arc::new(mirror);
    let following = mirror.clone();
    // The change is heard of before the page that does not show it has arrived.
    *server.meanwhile.lock() = Some(Box::new(move |server: &Server| {
        server.make(ROOT, "after", NodeKind::File);
        follow(&following, &kept);
    }));
    assert_eq!(tree(&*mirror), tree(&server.catalog));
    assert!(tree(&*mirror).contains_key("/after"));
}

#[test]
fn a_feed_that_does_not_reach_back_is_made_up_for() {
    let server = Server::new();
    let folder = server.make(ROOT, "folder", NodeKind::Folder);
    let old = server.make(folder, "old", NodeKind::File);
    let (mirror, kept) = mirror_of(&server);
    tree(&mirror);
    *server.forgotten.lock() = Some(mirror.cursor().expect("a cursor"));
    server.run(Op::Unlink { parent: folder, name: name("old"), what: Unlink::File }).expect("removed");
    server.make(folder, "new", NodeKind::File);
    server
        .run(Op::SetAttrs { node: folder, attrs: Attrs { mode: Some(0o700), ..Attrs::default() } })
        .expect("set");
    let error = mirror.follow(100, |_| Ok(())).expect_err("too old");
    assert_eq!(error.kind(), Kind::Conflict);
    let changes = compare(&mirror, &kept);
    assert!(changes.contains(&Change::Unnamed { parent: folder, name: name("old"), node: old }));
    assert_eq!(tree(&mirror), tree(&server.catalog));
    assert_eq!(follow(&mirror, &kept), []);
}
