//! A mirror shows what the server has, whatever changes there, and asks no more than it must.

mod server;

use larder_core::{Content, Kind, Name, NodeId, NodeKind, Timestamp};
use larder_store::catalog::{Attrs, NewNode, Replace, Unlink, XattrMode};
use larder_store::memory::MemoryKv;
use larder_store::origin::Mirror;
use larder_store::wire::Described;
use larder_store::{Catalog, Change, Commit, Durability, KvCatalog, Op};
use proptest::prelude::*;
use server::Server;
use std::collections::BTreeMap;
use std::sync::Arc;

const ROOT: NodeId = NodeId::ROOT;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn mirror_of(server: &Arc<Server>) -> (Mirror, Arc<dyn Catalog>) {
    let kept: Arc<dyn Catalog> =
        Arc::new(KvCatalog::open(MemoryKv::default(), Timestamp(1), (7, 7)).expect("an empty catalog"));
    (Mirror::open(kept.clone(), server.clone(), || Timestamp(1)).expect("the server answers"), kept)
}

fn follow(mirror: &Mirror, kept: &Arc<dyn Catalog>) -> Vec<Change> {
    let mut changes = Vec::new();
    while mirror
        .follow(3, |ops| {
            let (expect, durability) = (vec![], Durability::Process);
            changes.extend(
                kept.commit(Commit { at: Timestamp(1), op_id: None, expect, ops, durability })?.changes,
            );
            Ok(())
        })
        .expect("followed")
    {}
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

#[test]
fn a_page_that_was_overtaken_is_asked_for_again() {
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
    let mut changes = Vec::new();
    let compared = mirror.compare(|ops| {
        let (expect, durability) = (vec![], Durability::Process);
        changes
            .extend(kept.commit(Commit { at: Timestamp(1), op_id: None, expect, ops, durability })?.changes);
        Ok(())
    });
    compared.expect("compared");
    assert!(changes.contains(&Change::Unnamed { parent: folder, name: name("old"), node: old }));
    assert_eq!(tree(&mirror), tree(&server.catalog));
    assert_eq!(follow(&mirror, &kept), []);
}

#[test]
fn nothing_is_written_through_a_mirror() {
    let server = Server::new();
    let (mirror, _) = mirror_of(&server);
    let node = Box::new(NewNode {
        id: mirror.new_id(),
        kind: NodeKind::Folder,
        mode: 0o755,
        uid: 0,
        gid: 0,
        content: Content::None,
        mtime: None,
        draft: false,
    });
    let ops = vec![Op::Create { parent: ROOT, name: name("new"), node }];
    let (expect, durability) = (vec![], Durability::Process);
    let error = mirror.commit(Commit { at: Timestamp(1), op_id: None, expect, ops, durability });
    assert_eq!(error.expect_err("read-only").kind(), Kind::Denied);
    assert_eq!(tree(&mirror), BTreeMap::new());
}

/// What a user of the server or of the mirror does.
#[derive(Clone, Debug)]
enum Step {
    Make { parent: usize, name: usize, folder: bool },
    Remove { parent: usize, name: usize },
    Rename { from: (usize, usize), to: (usize, usize) },
    Link { node: usize, parent: usize, name: usize },
    Attribute { node: usize, value: Option<u8> },
    Mode { node: usize, mode: u16 },
    Follow,
    Look { parent: usize, name: usize },
    List { parent: usize, limit: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (place, label) = (0..8_usize, 0..6_usize);
    prop_oneof![
        4 => (place.clone(), label.clone(), any::<bool>())
            .prop_map(|(parent, name, folder)| Step::Make { parent, name, folder }),
        2 => (place.clone(), label.clone()).prop_map(|(parent, name)| Step::Remove { parent, name }),
        3 => ((place.clone(), label.clone()), (place.clone(), label.clone()))
            .prop_map(|(from, to)| Step::Rename { from, to }),
        1 => (place.clone(), place.clone(), label.clone())
            .prop_map(|(node, parent, name)| Step::Link { node, parent, name }),
        1 => (place.clone(), any::<Option<u8>>()).prop_map(|(node, value)| Step::Attribute { node, value }),
        1 => (place.clone(), 0..0o7777_u16).prop_map(|(node, mode)| Step::Mode { node, mode }),
        2 => Just(Step::Follow),
        2 => (place.clone(), label).prop_map(|(parent, name)| Step::Look { parent, name }),
        2 => (place, 1..5_usize).prop_map(|(parent, limit)| Step::List { parent, limit }),
    ]
}

proptest! {
    #[test]
    fn a_mirror_that_followed_equals_its_server(steps in proptest::collection::vec(step(), 1..60)) {
        let server = Server::new();
        let (mirror, kept) = mirror_of(&server);
        let mut nodes = vec![ROOT];
        let label = |i: usize| name(&format!("n{i}"));
        for step in steps {
            let node = |i: usize| nodes[i % nodes.len()];
            // What cannot be done is refused, and changes nothing.
            let _ = match step {
                Step::Make { parent, name, folder } => {
                    let (parent, kind) = (node(parent), if folder { NodeKind::Folder } else { NodeKind::File });
                    let is_free = server.catalog.node(parent).is_ok_and(|n| n.is_folder() && n.nlink > 0)
                        && server.catalog.lookup(parent, &label(name)).is_err();
                    if is_free {
                        nodes.push(server.make(parent, &format!("n{name}"), kind));
                    }
                    Ok(())
                }
                Step::Remove { parent, name } => {
                    server.run(Op::Unlink { parent: node(parent), name: label(name), what: Unlink::Tree })
                }
                Step::Rename { from, to } => server.run(Op::Rename {
                    from: (node(from.0), label(from.1)),
                    to: (node(to.0), label(to.1)),
                    replace: Replace::Tree,
                }),
                Step::Link { node: id, parent, name } => {
                    server.run(Op::Link { node: node(id), parent: node(parent), name: label(name) })
                }
                Step::Attribute { node: id, value } => server.run(Op::SetXattr {
                    node: node(id),
                    name: b"user.x".to_vec(),
                    value: value.map(|byte| vec![byte]),
                    mode: XattrMode::Any,
                }),
                Step::Mode { node: id, mode } => server
                    .run(Op::SetAttrs { node: node(id), attrs: Attrs { mode: Some(mode), ..Attrs::default() } }),
                Step::Follow => {
                    follow(&mirror, &kept);
                    Ok(())
                }
                Step::Look { parent, name } => mirror.lookup(node(parent), &label(name)).map(drop),
                Step::List { parent, limit } => mirror.list(node(parent), None, limit).map(drop),
            };
        }
        follow(&mirror, &kept);
        prop_assert_eq!(tree(&mirror), tree(&server.catalog));
    }
}
