//! Mounts as the kernel lists them, and which drive path a file in one has. Source: proc_pid_mounts(5).

use larder_core::{DrivePath, Error, Result};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// What /proc/mounts shows as the type of a mount of ours.
pub const KIND: &str = "fuse.larder";

/// One mount of a drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The data directory, as it was given.
    pub source: PathBuf,
    /// Where it is.
    pub dir: PathBuf,
}

/// Returns the mounts of drives, the newest last.
///
/// # Errors
/// Those of reading /proc/self/mounts.
pub fn list() -> Result<Vec<Mounted>> {
    let table = std::fs::read("/proc/self/mounts").map_err(|e| Error::io("/proc/self/mounts", e))?;
    Ok(parse(&table))
}

/// Finds the newest mount at `dir`, which may lead there through links.
///
/// # Errors
/// Those of reading the mounts.
pub fn at(dir: &Path) -> Result<Option<Mounted>> {
    let mut listed = list()?;
    listed.reverse();
    let find = |dir: &Path| listed.iter().find(|mount| mount.dir == dir).cloned();
    // The table has it without links. A mount point itself is not asked: its server may not answer.
    Ok(find(dir).or_else(|| find(&dir.canonicalize().ok()?)))
}

fn parse(table: &[u8]) -> Vec<Mounted> {
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (source, dir, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == KIND.as_bytes()).then(|| Mounted { source: unescaped(source), dir: unescaped(dir) })
    };
    table.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// Space, tab, newline and backslash are octal there.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// What a PATH argument means.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// The data directory of the mount it is in; `None` for a path of the drive itself.
    pub source: Option<PathBuf>,
    /// The path in the drive.
    pub path: DrivePath,
}

impl Place {
    /// The path in the drive as requests have it.
    pub fn bytes(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self.path.names().iter().map(|name| name.as_bytes()).collect();
        names.join(&b'/')
    }
}

/// Finds out what `argument` means: a file in a mount, which need not be there any more, or else a path of the drive.
///
/// # Errors
/// `Invalid` for what is no path; those of reading the mounts.
pub fn place(argument: &Path) -> Result<Place> {
    let absolute = std::path::absolute(argument).map_err(|e| Error::io(argument.display().to_string(), e))?;
    place_in(&list()?, argument, &lexical(&absolute))
}

fn place_in(mounts: &[Mounted], argument: &Path, absolute: &Path) -> Result<Place> {
    let inside = |mount: &&Mounted| absolute.starts_with(&mount.dir);
    let nearest = mounts.iter().filter(inside).max_by_key(|mount| mount.dir.as_os_str().len());
    let (source, inner) = match nearest {
        Some(mount) => {
            let inner =
                absolute.strip_prefix(&mount.dir).map_err(|_| Error::invalid("not below its mount"))?;
            (Some(mount.source.clone()), inner)
        }
        None => (None, argument),
    };
    Ok(Place { source, path: DrivePath::parse(inner.as_os_str().as_bytes())? })
}

/// The path without `.` and `..`; nothing is looked up, as what it names may be gone.
fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"/dev/vda / ext4 rw 0 0\n/my\\040data /mnt/a\\134b fuse.larder rw,nosuid 0 0\n\
                           /other /mnt/a\\134b/deep fuse.larder rw 0 0\nx /y fuse.other rw 0 0\n";

    #[test]
    fn own_mounts_are_found_whatever_their_names() {
        let mounts = parse(TABLE);
        assert_eq!(mounts[0], Mounted { source: "/my data".into(), dir: "/mnt/a\\b".into() });
        assert_eq!(mounts.len(), 2);
    }

    #[test]
    fn nearest_mount_decides_and_the_rest_are_drive_paths() {
        let find = |path: &str| {
            let path = Path::new(path);
            place_in(&parse(TABLE), path, &lexical(path)).expect("a path")
        };
        assert_eq!(find("/mnt/a\\b/x/../y").path.to_string(), "/y");
        assert_eq!(find("/mnt/a\\b/deep/x").source, Some("/other".into()));
        assert_eq!(find("/docs/a").source, None);
        assert_eq!(find("/docs/a").path.to_string(), "/docs/a");
    }
}
