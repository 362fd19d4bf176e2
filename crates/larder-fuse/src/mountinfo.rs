//! What the kernel's tables say about mounts and locks: `/proc/self/mountinfo` and `/proc/locks`.
//!
//! Asking the tables instead of the mount point never sends a request to a file system that may not answer.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) device: (u32, u32),
    pub(crate) mountpoint: PathBuf,
    pub(crate) kind: String,
}

/// The mount on top at `path`, if `path` is a mount point.
pub(crate) fn mounted_at(path: &Path) -> std::io::Result<Option<Entry>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|b| *b == b'\n').filter_map(parse).rfind(|entry| entry.mountpoint == path))
}

/// Reads one line. Source: proc_pid_mountinfo(5).
fn parse(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|b| *b == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let device = (device.0.parse().ok()?, device.1.parse().ok()?);
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Entry { device, mountpoint, kind: String::from_utf8_lossy(kind).into_owned() })
}

/// Turns `\040` into a space, and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *byte == b'\\').and_then(|digits| {
            digits
                .iter()
                .try_fold(0u32, |n, d| (b'0'..=b'7').contains(d).then(|| n * 8 + u32::from(d - b'0')))
        });
        match octal.and_then(|n| u8::try_from(n).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// Says whether a process holds or waits for a lock of flock(2) or fcntl(2) on inode `inode` of `device`.
pub(crate) fn is_locked(device: (u32, u32), inode: u64) -> bool {
    std::fs::read_to_string("/proc/locks").is_ok_and(|table| locks(&table, device, inode))
}

/// Reads `1: FLOCK  ADVISORY  WRITE 708 00:2f:1234 0 EOF`; waiters have `->` behind the number. Source: proc_locks(5).
fn locks(table: &str, (major, minor): (u32, u32), inode: u64) -> bool {
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1).skip_while(|field| *field == "->");
        fields.next().is_some_and(|kind| matches!(kind, "FLOCK" | "POSIX" | "OFDLCK"))
            && fields.any(|field| field == place)
    })
}

/// The mount point as the table has it: its folder resolved, itself not touched.
pub(crate) fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if name.as_bytes() != b".." => Ok(parent.canonicalize()?.join(name)),
        _ => path.canonicalize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read() {
        let line = b"36 35 0:47 / /mnt/my\\040drive rw,nosuid shared:1 - fuse.larder /data rw,user_id=0";
        let expected =
            Entry { device: (0, 47), mountpoint: PathBuf::from("/mnt/my drive"), kind: "fuse.larder".into() };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn locks_are_found_by_device_and_inode() {
        let table = "1: FLOCK  ADVISORY  WRITE 708 00:2f:1234 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 709 00:2f:1234 0 EOF\n\
                     2: POSIX  ADVISORY  READ 5433 00:2f:77 128 128\n\
                     3: LEASE  ACTIVE    WRITE 99 00:2f:88 0 EOF\n";
        assert!(locks(table, (0, 0x2f), 1234));
        assert!(locks(table, (0, 0x2f), 77));
        assert!(
            !locks(table, (0, 0x2f), 88) && !locks(table, (0, 0x2e), 77) && !locks(table, (0, 0x2f), 123)
        );
    }
}
