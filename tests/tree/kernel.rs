//! System calls on a mounted drive, each relative to descriptors of folders.

use crate::support::mount::TestMount;
use crate::tree::door::{Door, Seen};
use crate::tree_model::{Inode, Op, Place};
use larder_core::{Kind, Name, NodeKind};
use larder_drive::RenameFlags;
use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A descriptor that nobody needs a permission for, of a symlink itself too.
const HOLD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags = OFlags::CREATE.union(OFlags::EXCL).union(OFlags::WRONLY).union(OFlags::CLOEXEC);
const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn kind_of(errno: Errno) -> Kind {
    match errno {
        Errno::NOENT => Kind::NotFound,
        Errno::EXIST => Kind::Exists,
        Errno::NOTDIR => Kind::NotADirectory,
        Errno::ISDIR => Kind::IsADirectory,
        Errno::NOTEMPTY => Kind::NotEmpty,
        Errno::INVAL => Kind::Invalid,
        Errno::PERM | Errno::ACCESS => Kind::Denied,
        Errno::STALE | Errno::BUSY => Kind::Conflict,
        other => panic!("no call may fail so: {other}"),
    }
}

fn seen(stat: &Stat) -> Seen {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Folder,
        FileType::Symlink => NodeKind::Symlink,
        FileType::Fifo => NodeKind::Fifo,
        other => panic!("nobody made a {other:?}"),
    };
    Seen { number: stat.st_ino, kind, nlink: stat.st_nlink as u32, size_bytes: stat.st_size as u64 }
}

/// A file is closed after its bytes were written; only of a file the call that makes it tells more than that it went well.
fn make(folder: &OwnedFd, name: &[u8], inode: &Inode) -> Result<Option<u64>, Errno> {
    let mode = Mode::RWXU;
    match inode.kind {
        NodeKind::File => {
            let file = fs::openat(folder, name, NEW_FILE, mode)?;
            let number = fs::fstat(&file)?.st_ino;
            rustix::io::write(&file, &inode.bytes)?;
            return Ok(Some(number));
        }
        NodeKind::Folder => fs::mkdirat(folder, name, mode)?,
        NodeKind::Symlink => fs::symlinkat("target", folder, name)?,
        _ => fs::mknodat(folder, name, FileType::Fifo, mode, 0)?,
    }
    Ok(None)
}

/// Not by a path: finding what is at its end and giving that a name are two things.
///
/// The kernel refuses what has no name by a count of its own, and takes one too many off it where a call on another name
/// of the file looks that up while one is removed: fuse_entry_unlinked counts down what the lookup's reply has counted
/// already. Measured: 1744 of 20,000 links right after such two. So it is made to ask, and to try again.
fn link(node: &OwnedFd, folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", node.as_raw_fd());
    let link = || fs::linkat(CWD, &path, folder, name, AtFlags::SYMLINK_FOLLOW);
    match link() {
        Err(Errno::NOENT) => {
            fs::fstat(node)?;
            link()
        }
        done => done,
    }
}

impl Door for TestMount {
    type Held = OwnedFd;

    fn folder(&self) -> OwnedFd {
        let root = fs::open(self.path(""), HOLD, Mode::empty()).expect("the mount");
        let name = format!("history {}", fs::fstat(&root).expect("the mount").st_nlink);
        fs::mkdirat(&root, &name, Mode::RWXU).expect("made");
        fs::openat(&root, &name, HOLD, Mode::empty()).expect("just made")
    }

    fn hold(&self, folder: &OwnedFd, name: &Name) -> OwnedFd {
        fs::openat(folder, name.as_bytes(), HOLD, Mode::empty()).expect("listed")
    }

    fn look(&self, node: &OwnedFd) -> Seen {
        seen(&fs::fstat(node).expect("held"))
    }

    fn names(&self, folder: &OwnedFd) -> BTreeMap<Name, u64> {
        let listed = fs::openat(folder, ".", LIST, Mode::empty()).expect("a folder");
        let entries = fs::Dir::new(listed).expect("a folder").map(|entry| entry.expect("listed"));
        let own = entries.filter(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."));
        own.map(|entry| (Name::new(entry.file_name().to_bytes()).expect("a name"), entry.ino())).collect()
    }

    fn call(&self, held: &BTreeMap<u64, OwnedFd>, op: &Op) -> Result<Option<u64>, Kind> {
        let at = |(folder, name): &Place| (held[folder].as_fd(), name.as_bytes().to_vec());
        let done = match op {
            Op::Make((folder, name), inode) => make(&held[folder], name.as_bytes(), inode),
            Op::Link(id, to) => {
                let (folder, name) = at(to);
                link(&held[id], folder, &name).map(|()| None)
            }
            Op::Unlink(place) | Op::Rmdir(place) => {
                let (folder, name) = at(place);
                let folders = matches!(op, Op::Rmdir(_));
                let flags = if folders { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                fs::unlinkat(folder, name, flags).map(|()| None)
            }
            Op::Rename(from, to, flags) => {
                let ((from, old), (to, new)) = (at(from), at(to));
                let flags = match flags {
                    RenameFlags::Replace => fs::RenameFlags::empty(),
                    RenameFlags::NoReplace => fs::RenameFlags::NOREPLACE,
                    RenameFlags::Exchange => fs::RenameFlags::EXCHANGE,
                };
                fs::renameat_with(from, old, to, new, flags).map(|()| None)
            }
            Op::Find(place) => {
                let (folder, name) = at(place);
                fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| Some(stat.st_ino))
            }
        };
        done.map_err(kind_of)
    }
}
