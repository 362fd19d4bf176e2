//! What operations on names do, by POSIX, to a small inode table. The one model of every machine that changes trees.
#![allow(dead_code, reason = "each machine uses a part of it")]

use larder_core::{Kind, Name, NodeKind};
use larder_drive::RenameFlags;
use std::collections::BTreeMap;

/// A folder inherits it. Source: inode(7).
const SET_GID: u16 = 0o2000;

/// A name in a folder.
pub type Place = (u64, Name);

/// An operation on names.
#[derive(Clone, Debug)]
pub enum Op {
    Make(Place, Inode),
    Link(u64, Place),
    Unlink(Place),
    Rmdir(Place),
    Rename(Place, Place, RenameFlags),
    Find(Place),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inode {
    pub kind: NodeKind,
    pub entries: BTreeMap<Name, u64>,
    pub names: u32,
    pub mode: u16,
    pub bytes: Vec<u8>,
    pub xattr: Option<Vec<u8>>,
}

impl Inode {
    /// An inode as it is before it has its first name.
    pub fn new(kind: NodeKind, mode: u16) -> Self {
        Self { kind, entries: BTreeMap::new(), names: 0, mode, bytes: Vec::new(), xattr: None }
    }
}

/// The expected tree. Inodes bear what numbers the caller gives them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    pub root: u64,
    pub inodes: BTreeMap<u64, Inode>,
}

impl Model {
    /// An empty root.
    pub fn new(root: u64, mode: u16) -> Self {
        Self { root, inodes: BTreeMap::from([(root, Inode::new(NodeKind::Folder, mode))]) }
    }

    /// The folders that have a name, the root first, each behind its parent.
    pub fn folders(&self) -> Vec<u64> {
        let mut folders = vec![self.root];
        let mut at = 0;
        while at < folders.len() {
            let inode = &self.inodes[&folders[at]];
            folders.extend(inode.entries.values().filter(|id| self.is_folder(**id)));
            at += 1;
        }
        folders
    }

    pub fn at(&self, (folder, name): &Place) -> Option<u64> {
        self.inodes[folder].entries.get(name).copied()
    }

    pub fn is_folder(&self, id: u64) -> bool {
        self.inodes[&id].kind == NodeKind::Folder
    }

    /// Says whether it lost its last name: nothing can be made in it or linked to it any more.
    fn is_gone(&self, id: u64) -> bool {
        id != self.root && self.inodes[&id].names == 0
    }

    fn is_below(&self, at: u64, top: u64) -> bool {
        at == top
            || self.inodes[&top].entries.values().any(|id| self.is_folder(*id) && self.is_below(at, *id))
    }

    pub fn nlink(&self, id: u64) -> u32 {
        let inode = &self.inodes[&id];
        match inode.kind {
            NodeKind::Folder if self.is_gone(id) => 0,
            NodeKind::Folder => 2 + inode.entries.values().filter(|id| self.is_folder(**id)).count() as u32,
            _ => inode.names,
        }
    }

    /// Every reason why the operation must fail; none where it must succeed.
    pub fn faults(&self, op: &Op) -> Vec<Kind> {
        match op {
            Op::Make(place, _) => self.naming_faults(place),
            Op::Link(id, place) => {
                let mut faults = self.naming_faults(place);
                faults.extend(self.is_folder(*id).then_some(Kind::Denied));
                faults.extend(self.is_gone(*id).then_some(Kind::NotFound));
                faults
            }
            Op::Unlink(place) | Op::Rmdir(place) | Op::Find(place) => match self.at(place) {
                None => vec![Kind::NotFound],
                Some(id) => self.removing_fault(op, id).into_iter().collect(),
            },
            Op::Rename(from, to, flags) => self.rename_faults(from, to, *flags),
        }
    }

    fn naming_faults(&self, place: &Place) -> Vec<Kind> {
        let gone = self.is_gone(place.0).then_some(Kind::NotFound);
        gone.into_iter().chain(self.at(place).map(|_| Kind::Exists)).collect()
    }

    fn removing_fault(&self, op: &Op, id: u64) -> Option<Kind> {
        match op {
            Op::Unlink(_) if self.is_folder(id) => Some(Kind::IsADirectory),
            Op::Rmdir(_) if !self.is_folder(id) => Some(Kind::NotADirectory),
            Op::Rmdir(_) if !self.inodes[&id].entries.is_empty() => Some(Kind::NotEmpty),
            _ => None,
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

    /// Source: rename(2).
    fn rename_faults(&self, from: &Place, to: &Place, flags: RenameFlags) -> Vec<Kind> {
        let Some(source) = self.at(from) else { return vec![Kind::NotFound] };
        let mut faults = Vec::new();
        let target = self.at(to);
        faults.extend(self.is_gone(to.0).then_some(Kind::NotFound));
        if self.is_folder(source) && self.is_below(to.0, source) {
            faults.push(Kind::Invalid);
        }
        let holds_source = |target| self.is_folder(target) && self.is_below(from.0, target);
        match (flags, target) {
            (RenameFlags::NoReplace, Some(_)) => faults.push(Kind::Exists),
            (RenameFlags::Exchange, None) => faults.push(Kind::NotFound),
            (RenameFlags::Exchange, Some(target)) => {
                faults.extend(holds_source(target).then_some(Kind::Invalid));
            }
            (RenameFlags::Replace, Some(target)) if target != source => {
                faults.extend(self.replacing_fault(source, target));
                // Linux sees this before it looks at the kinds of both.
                faults.extend(holds_source(target).then_some(Kind::NotEmpty));
            }
            _ => {}
        }
        faults
    }

    /// Carries out what has no fault; what it makes gets the number `made`. Returns the node that it was about.
    pub fn apply(&mut self, op: &Op, made: u64) -> u64 {
        match op {
            Op::Make(place, inode) => {
                let mut inode = inode.clone();
                if inode.kind == NodeKind::Folder {
                    inode.mode |= self.inodes[&place.0].mode & SET_GID;
                }
                assert!(self.inodes.insert(made, inode).is_none(), "a number was used twice");
                self.add(place, made)
            }
            Op::Link(id, place) => self.add(place, *id),
            Op::Unlink(place) | Op::Rmdir(place) => self.take(place),
            Op::Rename(from, to, flags) => self.rename(from, to, *flags),
            Op::Find(place) => self.at(place).expect("no fault"),
        }
    }

    fn add(&mut self, (folder, name): &Place, id: u64) -> u64 {
        self.inodes.get_mut(folder).expect("a folder").entries.insert(name.clone(), id);
        self.inodes.get_mut(&id).expect("added before").names += 1;
        id
    }

    fn take(&mut self, (folder, name): &Place) -> u64 {
        let id = self.inodes.get_mut(folder).expect("a folder").entries.remove(name).expect("an entry");
        self.inodes.get_mut(&id).expect("named").names -= 1;
        id
    }

    fn rename(&mut self, from: &Place, to: &Place, flags: RenameFlags) -> u64 {
        // Two names of one file stay as they are.
        if self.at(from) == self.at(to) {
            return self.at(from).expect("no fault");
        }
        let source = self.take(from);
        let target = self.at(to).map(|_| self.take(to));
        self.add(to, source);
        if let Some(target) = target.filter(|_| flags == RenameFlags::Exchange) {
            self.add(from, target);
        }
        source
    }
}
