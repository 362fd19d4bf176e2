//! A worker that comes in through the mount.

use super::dav::new_content;
use super::folder::{Files, Folder, Worker};
use crate::support::random::Random;
use crate::support::server::{Place, Server};
use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names in a folder.
const NAMES: u64 = 12;

/// Writes, appends, changes, renames and deletes files.
pub struct MountWorker {
    folder: Folder,
    random: Random,
    mount: PathBuf,
    /// Its folder as it is reached during one life of the server.
    path: PathBuf,
    made: bool,
}

/// Closes a file and tells whether that worked; dropping it would not.
fn close(file: File) -> Result<()> {
    // SAFETY: the descriptor was ours alone and is not used again.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

impl MountWorker {
    /// A worker in folder `name` of the mount.
    pub fn new(name: &str, seed: u64, mount: &Path) -> MountWorker {
        MountWorker {
            folder: Folder::new(name),
            random: Random::new(seed),
            mount: mount.to_path_buf(),
            path: PathBuf::new(),
            made: false,
        }
    }

    /// Opens the top folder of the mount, to go on from there: once a dead mount is taken away, its path leads to the
    /// folder below it, where nobody promised anything. Nothing where that is so already.
    fn reach(&self) -> Option<File> {
        let top = File::open(&self.mount).ok()?;
        let below = self.mount.parent().expect("a mount point in a folder").metadata().ok()?;
        (top.metadata().ok()?.dev() != below.dev()).then_some(top)
    }

    fn step(&mut self) -> Result<()> {
        let name = format!("m{}", self.random.below(NAMES));
        let path = self.path.join(&name);
        match (self.random.below(10), self.folder.files().get(&name).cloned()) {
            (0, Some(_)) => {
                self.folder.may(|files| drop(files.remove(&name)));
                std::fs::remove_file(path)?;
            }
            (1, Some(content)) => {
                let other = format!("m{}", NAMES + self.random.below(4));
                self.folder.may(|files| {
                    files.remove(&name);
                    files.insert(other.clone(), content);
                });
                std::fs::rename(path, self.path.join(other))?;
            }
            (2 | 3, Some(content)) => self.append(&name, &content)?,
            (4 | 5, Some(content)) if !content.is_empty() => self.change_in_place(&name, &content)?,
            (6 | 7, _) => self.write_and_sync(&name)?,
            _ => {
                let content = Arc::new(new_content(&mut self.random));
                self.folder.may(|files| drop(files.insert(name, content.clone())));
                let mut file = File::create(path)?;
                content.chunks(50_000).try_for_each(|piece| file.write_all(piece))?;
                close(file)?;
            }
        }
        self.folder.settled();
        Ok(())
    }

    fn append(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let more = new_content(&mut self.random);
        let whole = Arc::new([content, &more].concat());
        self.folder.may(|files| drop(files.insert(name.to_string(), whole)));
        let mut file = OpenOptions::new().append(true).open(self.path.join(name))?;
        file.write_all(&more)?;
        close(file)
    }

    fn change_in_place(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut changed = content.to_vec();
        let at = self.random.below(content.len() as u64) as usize;
        let length = (content.len() - at).min(5000);
        changed[at..at + length].copy_from_slice(&self.random.bytes(length));
        let piece = changed[at..at + length].to_vec();
        self.folder.may(|files| drop(files.insert(name.to_string(), Arc::new(changed))));
        let file = OpenOptions::new().write(true).open(self.path.join(name))?;
        file.write_all_at(&piece, at as u64)?;
        close(file)
    }

    /// What fsync returned for is there, whether the file is closed or not.
    fn write_and_sync(&mut self, name: &str) -> Result<()> {
        let first = Arc::new(new_content(&mut self.random));
        let second = new_content(&mut self.random);
        self.folder.may(|files| drop(files.insert(name.to_string(), first.clone())));
        let mut file = File::create(self.path.join(name))?;
        file.write_all(&first)?;
        file.sync_all()?;
        self.folder.settled();
        let whole = Arc::new([&first[..], &second].concat());
        self.folder.may(|files| drop(files.insert(name.to_string(), whole)));
        file.write_all(&second)?;
        close(file)
    }
}

impl Worker for MountWorker {
    fn work(&mut self, _: SocketAddr) -> usize {
        let Some(top) = self.reach() else { return 0 };
        self.path = PathBuf::from(format!("/proc/self/fd/{}", top.as_raw_fd())).join(&self.folder.name);
        if !self.made
            && std::fs::create_dir(&self.path).is_err_and(|e| e.kind() != std::io::ErrorKind::AlreadyExists)
        {
            return 0;
        }
        self.made = true;
        let gone = [libc::ENOTCONN, libc::ECONNABORTED, libc::EIO];
        let mut count = 0;
        loop {
            match self.step() {
                Ok(()) => count += 1,
                Err(e) if gone.contains(&e.raw_os_error().unwrap_or_default()) => return count,
                Err(e) => panic!("{}: {e}", self.path.display()),
            }
        }
    }

    fn verify(&mut self, server: &Server, _: &Place, round: u64) -> std::result::Result<(), String> {
        if !self.made {
            return Ok(());
        }
        let found = match round % 2 {
            0 => over_mount(&self.mount.join(&self.folder.name)),
            _ => super::dav::over_dav(server, &self.folder.name),
        };
        self.folder.accept(found?)
    }
}

/// Reads a folder whole through the mount.
///
/// # Errors
/// What failed.
pub fn over_mount(folder: &Path) -> std::result::Result<Files, String> {
    let told = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder).map_err(told)? {
        let entry = entry.map_err(told)?;
        let content = std::fs::read(entry.path()).map_err(told)?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), Arc::new(content));
    }
    Ok(files)
}
