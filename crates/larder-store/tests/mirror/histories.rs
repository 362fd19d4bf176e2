//! Random histories.

use crate::server::Server;
use crate::{ROOT, compare, follow, mirror_of, name, tree};
use larder_core::NodeKind;
use larder_store::catalog::{Attrs, Replace, Unlink, XattrMode};
use larder_store::{Catalog, Op};
use proptest::prelude::*;

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
    Compare,
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
        1 => Just(Step::Compare),
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
                Step::Compare => {
                    compare(&mirror, &kept);
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
