//! Random operations on names, against the model of a tree.

use crate::tree_model::{self, Inode, Model, Op};
use crate::world::{Backend, RDWR, ROOT, World, name};
use larder_core::{Kind, Node, NodeId, NodeKind, Result};
use larder_drive::{Handle, MakeKind, RenameFlags};
use larder_store::catalog::{Attrs, XattrMode};
use proptest::prelude::*;
use std::fmt::Debug;

/// Which of the folders there are, and which of a few names.
type Place = (u8, u8);

#[derive(Clone, Debug)]
enum Step {
    Create(Place),
    Make(Place, u8),
    Link(Place, Place),
    Unlink(Place),
    Rmdir(Place),
    Rename(Place, Place, u8),
    Write(u8, u8),
    Close(u8),
    Chmod(Place, u16),
    SetXattr(Place, u8),
    RemoveXattr(Place),
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..6u8, 0..4u8);
    prop_oneof![
        4 => place().prop_map(Step::Create),
        6 => (place(), 0..4u8).prop_map(|(p, kind)| Step::Make(p, kind)),
        3 => (place(), place()).prop_map(|(a, b)| Step::Link(a, b)),
        3 => place().prop_map(Step::Unlink),
        2 => place().prop_map(Step::Rmdir),
        8 => (place(), place(), 0..3u8).prop_map(|(a, b, flags)| Step::Rename(a, b, flags)),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(handle, byte)| Step::Write(handle, byte)),
        2 => any::<u8>().prop_map(Step::Close),
        1 => (place(), 0..0o7777u16).prop_map(|(p, mode)| Step::Chmod(p, mode)),
        1 => (place(), any::<u8>()).prop_map(|(p, value)| Step::SetXattr(p, value)),
        1 => place().prop_map(Step::RemoveXattr),
        1 => Just(Step::Crash),
    ]
}

struct Machine {
    world: World,
    /// With the real numbers of inodes.
    model: Model,
    /// Open files, still named or not.
    open: Vec<(Handle, u64)>,
}

fn agree<T: Debug>(result: Result<T>, faults: &[Kind]) -> Option<T> {
    match result {
        Ok(value) => {
            assert!(faults.is_empty(), "succeeded where one of {faults:?} was due");
            Some(value)
        }
        Err(error) => {
            assert!(faults.contains(&error.kind()), "{error:?} where one of {faults:?} was due");
            None
        }
    }
}

impl Machine {
    fn new(backend: Backend) -> Self {
        Self { world: World::new(backend), model: Model::new(ROOT.0, 0o755), open: Vec::new() }
    }

    fn place(&self, (folder, text): Place) -> tree_model::Place {
        let folders = self.model.folders();
        (folders[folder as usize % folders.len()], name(["a", "b", "c", "d"][text as usize]))
    }

    fn at(&self, place: Place) -> Option<u64> {
        self.model.at(&self.place(place))
    }

    /// Holds a result against the model, which then goes along; a new node has the number that the result tells.
    fn agree<T: Debug>(&mut self, op: &Op, result: Result<T>, made: impl FnOnce(&T) -> u64) -> Option<T> {
        let value = agree(result, &self.model.faults(op))?;
        self.model.apply(op, made(&value));
        Some(value)
    }

    fn run(&mut self, step: &Step) {
        self.world.clock.advance(1_000);
        match *step {
            Step::Create(place) => {
                let place = self.place(place);
                let (mount, actor) = (&self.world.mount, &self.world.actor);
                let made = mount.create(actor, NodeId(place.0), place.1.clone(), 0o644, RDWR);
                let op = Op::Make(place, Inode::new(NodeKind::File, 0o644));
                if let Some((node, handle)) = self.agree(&op, made, |(node, _)| node.id.0) {
                    self.open.push((handle, node.id.0));
                }
            }
            Step::Make(place, kind) => self.make(place, kind),
            Step::Link(node, place) => self.link(node, place),
            Step::Unlink(place) => self.remove(place, false),
            Step::Rmdir(place) => self.remove(place, true),
            Step::Rename(from, to, flags) => self.rename(from, to, flags),
            Step::Write(handle, byte) => {
                let Some((handle, id)) = self.pick(handle) else { return };
                let bytes = &mut self.model.inodes.get_mut(&id).expect("open").bytes;
                let at = bytes.len() as u64;
                self.world.mount.write(handle, at, &[byte]).expect("written");
                bytes.push(byte);
            }
            Step::Close(which) => {
                if self.open.is_empty() {
                    return;
                }
                let (handle, _) = self.open.swap_remove(which as usize % self.open.len());
                self.world.mount.release(handle).expect("released");
            }
            Step::Chmod(place, mode) => {
                let Some(id) = self.at(place) else { return };
                let attrs = Attrs { mode: Some(mode), ..Attrs::default() };
                self.world.mount.set_attrs(&self.world.actor, NodeId(id), attrs, None, None).expect("set");
                self.model.inodes.get_mut(&id).expect("there").mode = mode;
            }
            Step::SetXattr(place, value) => {
                let Some(id) = self.at(place) else { return };
                let (mount, actor) = (&self.world.mount, &self.world.actor);
                mount.set_xattr(actor, NodeId(id), b"user.x", &[value], XattrMode::Any).expect("set");
                self.model.inodes.get_mut(&id).expect("there").xattr = Some(vec![value]);
            }
            Step::RemoveXattr(place) => {
                let Some(id) = self.at(place) else { return };
                let taken = self.model.inodes.get_mut(&id).expect("there").xattr.take();
                let faults: &[Kind] = if taken.is_none() { &[Kind::NotFound] } else { &[] };
                agree(self.world.mount.remove_xattr(&self.world.actor, NodeId(id), b"user.x"), faults);
            }
            Step::Crash => {
                self.world.mount.sync_all().expect("saved");
                self.open.clear();
                self.world.crash();
            }
        }
    }

    fn pick(&self, which: u8) -> Option<(Handle, u64)> {
        (!self.open.is_empty()).then(|| self.open[which as usize % self.open.len()])
    }

    fn make(&mut self, place: Place, kind: u8) {
        let place = self.place(place);
        let (make, kind) = match kind {
            0 => (MakeKind::File, NodeKind::File),
            1 => (MakeKind::Symlink(b"target".to_vec()), NodeKind::Symlink),
            2 => (MakeKind::Fifo, NodeKind::Fifo),
            _ => (MakeKind::Folder, NodeKind::Folder),
        };
        let (mount, actor) = (&self.world.mount, &self.world.actor);
        let made = mount.make(actor, NodeId(place.0), place.1.clone(), make, 0o750);
        self.agree(&Op::Make(place, Inode::new(kind, 0o750)), made, |node| node.id.0);
    }

    fn link(&mut self, node: Place, place: Place) {
        let Some(id) = self.at(node) else { return };
        let place = self.place(place);
        let linked = self.world.mount.link(&self.world.actor, NodeId(id), NodeId(place.0), place.1.clone());
        self.agree(&Op::Link(id, place), linked, |node| node.id.0);
    }

    fn remove(&mut self, place: Place, folder: bool) {
        let place = self.place(place);
        let (mount, actor) = (&self.world.mount, &self.world.actor);
        let (removed, op) = match folder {
            true => (mount.rmdir(actor, NodeId(place.0), &place.1), Op::Rmdir(place)),
            false => (mount.unlink(actor, NodeId(place.0), &place.1), Op::Unlink(place)),
        };
        self.agree(&op, removed, |()| 0);
    }

    fn rename(&mut self, from: Place, to: Place, flags: u8) {
        let (from, to) = (self.place(from), self.place(to));
        let flags = [RenameFlags::Replace, RenameFlags::NoReplace, RenameFlags::Exchange][flags as usize];
        let real = |(folder, name): &tree_model::Place| (NodeId(*folder), name.clone());
        let renamed = self.world.mount.rename(&self.world.actor, real(&from), real(&to), flags);
        self.agree(&Op::Rename(from, to, flags), renamed, |()| 0);
    }

    fn check(&self) {
        for folder in self.model.folders() {
            let listed = self.world.mount.list(NodeId(folder), None, 100).expect("a folder");
            let names: Vec<_> = listed.iter().map(|entry| (entry.name.clone(), entry.node.id.0)).collect();
            let expected: Vec<_> =
                self.model.inodes[&folder].entries.iter().map(|(n, id)| (n.clone(), *id)).collect();
            assert_eq!(names, expected);
            for entry in listed {
                let found = self.world.mount.lookup(NodeId(folder), &entry.name).expect("listed");
                assert_eq!(found, entry.node, "lookup and list agree");
                self.check_node(&found);
            }
        }
        for (handle, id) in &self.open {
            assert_eq!(self.world.read_all(*handle), self.model.inodes[id].bytes);
            assert_eq!(self.world.mount.node(NodeId(*id)).expect("open").nlink, self.model.nlink(*id));
        }
    }

    fn check_node(&self, node: &Node) {
        let inode = &self.model.inodes[&node.id.0];
        assert_eq!(
            (node.kind, node.mode, node.nlink),
            (inode.kind, inode.mode, self.model.nlink(node.id.0)),
            "{node:?}"
        );
        let xattr = self.world.mount.xattr(node.id, b"user.x").ok();
        assert_eq!(xattr, inode.xattr);
        if node.is_file() {
            assert_eq!(node.size_bytes(), inode.bytes.len() as u64);
        }
    }
}

fn history(backend: Backend, steps: &[Step]) {
    let mut machine = Machine::new(backend);
    for step in steps {
        machine.run(step);
        machine.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn names_are_what_posix_says_over_memory(steps in prop::collection::vec(step(), 1..60)) {
        history(Backend::Memory, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn names_are_what_posix_says_over_the_log(steps in prop::collection::vec(step(), 1..60)) {
        history(Backend::Log, &steps);
    }
}
