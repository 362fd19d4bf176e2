//! The disk as a power cut may leave it, made from the tape of what was done to it.
//!
//! fdatasync makes what was written to one file durable, a folder's fsync its names. Of everything else any part may
//! be there: of writes any 512-byte sectors, of creations, renames and removals any.

use larder_store::log::Event;
use std::collections::BTreeMap;
use std::path::Path;

const SECTOR: usize = 512;

/// How much of what was not synced survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    Nothing,
    Everything,
    /// What came first, up to somewhere.
    Beginning,
    /// Any sectors, any names.
    Anything,
}

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// Names that change together: gone, and given to an inode.
struct Naming {
    gone: Option<String>,
    given: Option<(String, usize)>,
}

/// Everything that was done to the files, as far as it is durable.
#[derive(Default)]
pub struct Image {
    inodes: Vec<Inode>,
    now: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<Naming>,
}

impl Image {
    /// Carries out `event`.
    pub fn play(&mut self, event: &Event) {
        match event {
            Event::Create(name) => self.create(name),
            Event::Write(name, at, bytes) => self.file(name).pending.push(Change::Write(*at, bytes.clone())),
            Event::Truncate(name, len) => self.file(name).pending.push(Change::Truncate(*len)),
            Event::Sync(name) => {
                let file = self.file(name);
                let pending = std::mem::take(&mut file.pending);
                pending.iter().for_each(|change| apply(&mut file.durable, change, |_| true));
            }
            Event::SyncFolder(folder) => self.sync_names(folder),
            Event::Rename(from, to) => {
                let inode = self.now.remove(from).expect("a file");
                self.now.insert(to.clone(), inode);
                self.pending.push(Naming { gone: Some(from.clone()), given: Some((to.clone(), inode)) });
            }
            Event::Remove(name) => {
                self.now.remove(name);
                self.pending.push(Naming { gone: Some(name.clone()), given: None });
            }
            Event::Mark(_) => {}
        }
    }

    /// Writes below `root` what is there after the power was cut now.
    pub fn cut(&self, root: &Path, survives: Survives, random: &mut Random) {
        let mut names = self.durable.clone();
        let mut keep = Keep::new(survives, self.pending.len(), random);
        for naming in &self.pending {
            if keep.next(random) {
                rename(&mut names, naming);
            }
        }
        for folder in ["segments", "staging"] {
            std::fs::create_dir_all(root.join(folder)).expect("a folder");
        }
        for (name, inode) in names {
            let inode = &self.inodes[inode];
            let mut bytes = inode.durable.clone();
            let mut keep = Keep::new(survives, inode.pending.len(), random);
            for change in &inode.pending {
                match survives {
                    Survives::Anything => apply(&mut bytes, change, |_| random.below(2) == 0),
                    _ if keep.next(random) => apply(&mut bytes, change, |_| true),
                    _ => {}
                }
            }
            std::fs::write(root.join(name), bytes).expect("written");
        }
    }

    fn create(&mut self, name: &str) {
        match self.now.get(name) {
            Some(inode) => self.inodes[*inode].pending.push(Change::Truncate(0)),
            None => {
                self.inodes.push(Inode::default());
                let inode = self.inodes.len() - 1;
                self.now.insert(name.to_owned(), inode);
                self.pending.push(Naming { gone: None, given: Some((name.to_owned(), inode)) });
            }
        }
    }

    fn file(&mut self, name: &str) -> &mut Inode {
        &mut self.inodes[self.now[name]]
    }

    fn sync_names(&mut self, folder: &str) {
        let inside = |name: &String| name.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
        for naming in std::mem::take(&mut self.pending) {
            let name = naming.gone.as_ref().or(naming.given.as_ref().map(|given| &given.0));
            if name.is_some_and(inside) {
                rename(&mut self.durable, &naming);
            } else {
                self.pending.push(naming);
            }
        }
    }
}

fn rename(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    if let Some(name) = &naming.gone {
        names.remove(name);
    }
    names.extend(naming.given.clone());
}

/// Carries out the sectors of `change` that `keep` wants.
fn apply(bytes: &mut Vec<u8>, change: &Change, mut keep: impl FnMut(u64) -> bool) {
    match change {
        Change::Truncate(len) => {
            if keep(*len) {
                bytes.resize(*len as usize, 0);
            }
        }
        Change::Write(at, written) => {
            let mut from = *at as usize;
            let end = from + written.len();
            while from < end {
                let to = ((from / SECTOR + 1) * SECTOR).min(end);
                if keep(from as u64) {
                    bytes.resize(bytes.len().max(to), 0);
                    bytes[from..to].copy_from_slice(&written[from - *at as usize..to - *at as usize]);
                }
                from = to;
            }
        }
    }
}

struct Keep {
    survives: Survives,
    left: usize,
}

impl Keep {
    fn new(survives: Survives, changes: usize, random: &mut Random) -> Self {
        Self { survives, left: random.below(changes as u64 + 1) as usize }
    }

    fn next(&mut self, random: &mut Random) -> bool {
        let before = self.left > 0;
        self.left = self.left.saturating_sub(1);
        match self.survives {
            Survives::Nothing => false,
            Survives::Everything => true,
            Survives::Beginning => before,
            Survives::Anything => random.below(2) == 0,
        }
    }
}

/// Numbers from a seed. Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}
