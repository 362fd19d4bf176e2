//! Random operations on names, against a small inode table.

use crate::world::{Backend, RDWR, ROOT, World, name};
use larder_core::{Kind, Name, Node, NodeId, NodeKind, Result};
use larder_drive::{Handle, MakeKind, RenameFlags};
use larder_store::catalog::{Attrs, XattrMode};
use proptest::prelude::*;
use std::collections::BTreeMap;

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

#[derive(Clone, Debug)]
struct Inode {
    kind: NodeKind,
    entries: BTreeMap<Name, u64>,
    names: u32,
    mode: u16,
    bytes: Vec<u8>,
    xattr: Option<Vec<u8>>,
}

/// The expected tree: inodes by their real numbers.
struct Model {
    inodes: BTreeMap<u64, Inode>,
}

impl Model {
    fn folders(&self) -> Vec<u64> {
        let mut folders = vec![ROOT.0];
        let mut at = 0;
        while at < folders.len() {
            let inode = &self.inodes[&folders[at]];
            folders.extend(inode.entries.values().filter(|id| self.inodes[id].kind == NodeKind::Folder));
            at += 1;
        }
        folders
    }

    fn place(&self, (folder, text): Place) -> (u64, Name) {
        let folders = self.folders();
        (folders[folder as usize % folders.len()], name(["a", "b", "c", "d"][text as usize]))
    }

    fn at(&self, (folder, name): &(u64, Name)) -> Option<u64> {
        self.inodes[folder].entries.get(name).copied()
    }

    fn is_folder(&self, id: u64) -> bool {
        self.inodes[&id].kind == NodeKind::Folder
    }

    fn is_below(&self, at: u64, top: u64) -> bool {
        at == top
            || self.inodes[&top].entries.values().any(|id| self.is_folder(*id) && self.is_below(at, *id))
    }

    fn add(&mut self, (folder, name): (u64, Name), id: u64) {
        self.inodes.get_mut(&folder).expect("a folder").entries.insert(name, id);
        self.inodes.get_mut(&id).expect("added before").names += 1;
    }

    fn take(&mut self, (folder, name): &(u64, Name)) -> u64 {
        let id = self.inodes.get_mut(folder).expect("a folder").entries.remove(name).expect("an entry");
        self.inodes.get_mut(&id).expect("named").names -= 1;
        id
    }

    fn nlink(&self, id: u64) -> u32 {
        let inode = &self.inodes[&id];
        match inode.kind {
            NodeKind::Folder if inode.names == 0 && id != ROOT.0 => 0,
            NodeKind::Folder => 2 + inode.entries.values().filter(|id| self.is_folder(**id)).count() as u32,
            _ => inode.names,
        }
    }

    fn replacing_fault(&self, source: u64, target: u64) -> Option<Kind> {
        match (self.is_folder(source), self.is_folder(target)) {
            (true, false) => Some(Kind::NotADirectory),
            (false, true) => Some(Kind::IsADirectory),
            (true, true) if !self.inodes[&target].entries.is_empty() => Some(Kind::NotEmpty),
            _ => None,
        }
    }

    /// Every reason why a rename must fail, by rename(2); none where it must succeed.
    fn rename_faults(&self, from: &(u64, Name), to: &(u64, Name), flags: RenameFlags) -> Vec<Kind> {
        let mut faults = Vec::new();
        let Some(source) = self.at(from) else { return vec![Kind::NotFound] };
        let target = self.at(to);
        if self.is_folder(source) && self.is_below(to.0, source) {
            faults.push(Kind::Invalid);
        }
        match (flags, target) {
            (RenameFlags::NoReplace, Some(_)) => faults.push(Kind::Exists),
            (RenameFlags::Exchange, None) => faults.push(Kind::NotFound),
            (RenameFlags::Exchange, Some(target))
                if self.is_folder(target) && self.is_below(from.0, target) =>
            {
                faults.push(Kind::Invalid);
            }
            (RenameFlags::Replace, Some(target)) if target != source => {
                faults.extend(self.replacing_fault(source, target));
            }
            _ => {}
        }
        faults
    }
}

struct Machine {
    world: World,
    model: Model,
    /// Open files, still named or not.
    open: Vec<(Handle, u64)>,
}

fn agree<T: std::fmt::Debug>(result: Result<T>, faults: &[Kind]) -> Option<T> {
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
        let root = Inode {
            kind: NodeKind::Folder,
            entries: BTreeMap::new(),
            names: 0,
            mode: 0o755,
            bytes: Vec::new(),
            xattr: None,
        };
        let model = Model { inodes: BTreeMap::from([(ROOT.0, root)]) };
        Self { world: World::new(backend), model, open: Vec::new() }
    }

    fn made(&mut self, place: (u64, Name), node: &Node) {
        let inode = Inode {
            kind: node.kind,
            entries: BTreeMap::new(),
            names: 0,
            mode: node.mode,
            bytes: Vec::new(),
            xattr: None,
        };
        assert!(self.model.inodes.insert(node.id.0, inode).is_none(), "an inode number was used twice");
        self.model.add(place, node.id.0);
    }

    fn run(&mut self, step: &Step) {
        self.world.clock.advance(1_000);
        match *step {
            Step::Create(place) => {
                let place = self.model.place(place);
                let faults: &[Kind] = if self.model.at(&place).is_some() { &[Kind::Exists] } else { &[] };
                let (mount, actor) = (&self.world.mount, &self.world.actor);
                let made = mount.create(actor, NodeId(place.0), place.1.clone(), 0o644, RDWR);
                if let Some((node, handle)) = agree(made, faults) {
                    self.open.push((handle, node.id.0));
                    self.made(place, &node);
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
                let place = self.model.place(place);
                let Some(id) = self.model.at(&place) else { return };
                let attrs = Attrs { mode: Some(mode), ..Attrs::default() };
                self.world.mount.set_attrs(&self.world.actor, NodeId(id), attrs, None, None).expect("set");
                self.model.inodes.get_mut(&id).expect("there").mode = mode;
            }
            Step::SetXattr(place, value) => {
                let place = self.model.place(place);
                let Some(id) = self.model.at(&place) else { return };
                let (mount, actor) = (&self.world.mount, &self.world.actor);
                mount.set_xattr(actor, NodeId(id), b"user.x", &[value], XattrMode::Any).expect("set");
                self.model.inodes.get_mut(&id).expect("there").xattr = Some(vec![value]);
            }
            Step::RemoveXattr(place) => {
                let place = self.model.place(place);
                let Some(id) = self.model.at(&place) else { return };
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
        let place = self.model.place(place);
        let kind = match kind {
            0 => MakeKind::File,
            1 => MakeKind::Symlink(b"target".to_vec()),
            2 => MakeKind::Fifo,
            _ => MakeKind::Folder,
        };
        let faults: &[Kind] = if self.model.at(&place).is_some() { &[Kind::Exists] } else { &[] };
        let (mount, actor) = (&self.world.mount, &self.world.actor);
        let made = mount.make(actor, NodeId(place.0), place.1.clone(), kind, 0o750);
        if let Some(node) = agree(made, faults) {
            self.made(place, &node);
        }
    }

    fn link(&mut self, node: Place, place: Place) {
        let (node, place) = (self.model.place(node), self.model.place(place));
        let Some(id) = self.model.at(&node) else { return };
        let mut faults = Vec::new();
        if self.model.at(&place).is_some() {
            faults.push(Kind::Exists);
        }
        if self.model.is_folder(id) {
            faults.push(Kind::Denied);
        }
        let linked = self.world.mount.link(&self.world.actor, NodeId(id), NodeId(place.0), place.1.clone());
        if agree(linked, &faults).is_some() {
            self.model.add(place, id);
        }
    }

    fn remove(&mut self, place: Place, folder: bool) {
        let place = self.model.place(place);
        let mut faults = Vec::new();
        match self.model.at(&place) {
            None => faults.push(Kind::NotFound),
            Some(id) if folder && !self.model.is_folder(id) => faults.push(Kind::NotADirectory),
            Some(id) if !folder && self.model.is_folder(id) => faults.push(Kind::IsADirectory),
            Some(id) if folder && !self.model.inodes[&id].entries.is_empty() => faults.push(Kind::NotEmpty),
            Some(_) => {}
        }
        let (mount, actor) = (&self.world.mount, &self.world.actor);
        let removed = match folder {
            true => mount.rmdir(actor, NodeId(place.0), &place.1),
            false => mount.unlink(actor, NodeId(place.0), &place.1),
        };
        if agree(removed, &faults).is_some() {
            self.model.take(&place);
        }
    }

    fn rename(&mut self, from: Place, to: Place, flags: u8) {
        let (from, to) = (self.model.place(from), self.model.place(to));
        let flags = [RenameFlags::Replace, RenameFlags::NoReplace, RenameFlags::Exchange][flags as usize];
        let faults = self.model.rename_faults(&from, &to, flags);
        let real = |(folder, name): &(u64, Name)| (NodeId(*folder), name.clone());
        let renamed = self.world.mount.rename(&self.world.actor, real(&from), real(&to), flags);
        if agree(renamed, &faults).is_none() || self.model.at(&from) == self.model.at(&to) {
            return;
        }
        let source = self.model.take(&from);
        let target = self.model.at(&to).map(|_| self.model.take(&to));
        self.model.add(to, source);
        if let Some(target) = target.filter(|_| flags == RenameFlags::Exchange) {
            self.model.add(from, target);
        }
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
