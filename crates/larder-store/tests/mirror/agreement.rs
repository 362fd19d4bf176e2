//! Random histories of two devices and a server.

use crate::device::Device;
use crate::server::Server;
use crate::{ROOT, follow, name, tree};
use larder_core::{Name, NodeId, Result};
use larder_store::catalog::{Attrs, Replace, Unlink};
use larder_store::origin::Policy;
use larder_store::{Catalog, Op};
use proptest::prelude::*;
use std::collections::BTreeSet;

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
    Push { limit: usize, held: Option<usize> },
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
        3 => (1..6_usize, proptest::option::of(0..4_usize))
            .prop_map(|(limit, held)| Step::Push { limit, held }),
        2 => Just(Step::Follow),
    ];
    (0..2_usize, step)
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        3 => Just(Policy::KeepBoth),
        1 => Just(Policy::KeepNewest),
        1 => Just(Policy::KeepLocal),
        1 => Just(Policy::KeepServer),
    ]
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
        Step::Write { node } => device.write_at(pick(node).0, content, i64::from(content)),
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
        Step::Push { limit, held } => {
            device.push_past(limit, held);
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
    fn devices_come_to_agree_and_lose_nothing(
        policies in (policy(), policy()),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let server = Server::new();
        let mut devices = [Device::new(&server), Device::new(&server)];
        (devices[0].policy, devices[1].policy) = policies;
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
