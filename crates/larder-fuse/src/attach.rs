//! Getting a connection to the kernel and ending it: mount(2) where we may, else Debian's setuid `fusermount3`.
//!
//! fuser could mount by itself; it does not tell a busy mount point from a gone one, and it takes the name of the
//! source into an option string where a comma ends it.

use crate::Options;
use crate::mountinfo;
use larder_core::{Error, Kind, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};
use std::ffi::CString;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The setuid program that mounts for users.
const FUSERMOUNT: &str = "fusermount3";
/// How long a mount point that may be dead has to answer.
const STALE_WAIT: Duration = Duration::from_secs(2);
/// CAP_SYS_ADMIN in the mask of `/proc/self/status`. Source: capabilities(7).
const SYS_ADMIN_BIT: u32 = 21;

/// Says whether this process can mount through FUSE; the error is one line that names the fix.
///
/// # Errors
/// `Unsupported`.
pub fn is_available() -> Result<()> {
    match rustix::fs::open("/dev/fuse", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()) {
        Ok(_) => {}
        Err(Errno::ACCESS | Errno::PERM) => {
            return Err(Error::unsupported("/dev/fuse may not be opened: run `chmod 666 /dev/fuse` as root"));
        }
        Err(_) => {
            return Err(Error::unsupported(
                "there is no /dev/fuse: run `modprobe fuse` as root, or start the container with \
                 `--device /dev/fuse --cap-add SYS_ADMIN`",
            ));
        }
    }
    if may_mount() {
        return Ok(());
    }
    if rustix::process::geteuid().is_root() {
        let what =
            "root here may not mount: start the container with `--cap-add SYS_ADMIN --device /dev/fuse`";
        return Err(Error::unsupported(what));
    }
    match Command::new(FUSERMOUNT).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Error::unsupported("fusermount3 is missing: run `apt-get install fuse3` as root")),
    }
}

fn may_mount() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .is_some_and(|mask| mask >> SYS_ADMIN_BIT & 1 == 1)
}

/// Mounts at `mountpoint` and returns the connection.
pub(crate) fn mount(mountpoint: &Path, options: &Options) -> Result<OwnedFd> {
    is_available()?;
    let kind = std::fs::metadata(mountpoint)
        .map_err(|e| Error::io(format!("mount point {}", mountpoint.display()), e))?;
    if !kind.is_dir() {
        return Err(Error::new(Kind::NotADirectory, format!("mount point {}", mountpoint.display())));
    }
    if may_mount() { mount_directly(mountpoint, options) } else { mount_by_program(mountpoint, options) }
}

fn mount_directly(mountpoint: &Path, options: &Options) -> Result<OwnedFd> {
    let what = || format!("mount at {}", mountpoint.display());
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/fuse", flags, rustix::fs::Mode::empty())
        .map_err(|e| Error::io("open /dev/fuse", e.into()))?;
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let fd = device.as_raw_fd();
    let mut data = format!("fd={fd},rootmode=40000,user_id={user},group_id={group},default_permissions");
    if options.allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data).expect("numbers and words have no NUL");
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NOSUID, !options.suid);
    flags.set(MountFlags::NODEV, !options.dev);
    flags.set(MountFlags::NOEXEC, !options.exec);
    flags.set(MountFlags::SYNCHRONOUS, options.sync);
    rustix::mount::mount(options.source.as_str(), mountpoint, "fuse.larder", flags, data.as_c_str())
        .map_err(|e| Error::io(what(), e.into()))?;
    Ok(device)
}

/// Lets `fusermount3` mount; it sends the connection back over a socket. Source: fuse3's util/fusermount.c.
fn mount_by_program(mountpoint: &Path, options: &Options) -> Result<OwnedFd> {
    let failed = |e: Errno| Error::io("socket for fusermount3", e.into());
    // not close-on-exec: the program inherits its end by number
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
            .map_err(failed)?;
    let mut list = format!("fsname={},subtype=larder,default_permissions", escaped(&options.source));
    // set-id bits and device nodes it never lets a user have
    let words = [
        ("allow_other", options.allow_other),
        ("ro", options.read_only),
        ("noexec", !options.exec),
        ("sync", options.sync),
    ];
    for (word, wanted) in words {
        if wanted {
            list.push(',');
            list.push_str(word);
        }
    }
    let child = Command::new(FUSERMOUNT)
        .args(["-o", &list, "--"])
        .arg(mountpoint)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::io("run fusermount3", e))?;
    drop(theirs);
    let received = receive(&ours);
    let output = child.wait_with_output().map_err(|e| Error::io("run fusermount3", e))?;
    match received.map_err(failed)? {
        Some(device) => Ok(device),
        None => Err(Error::denied(format!("mount at {}: {}", mountpoint.display(), complaint(&output)))),
    }
}

fn escaped(source: &str) -> String {
    source.replace('\\', "\\\\").replace(',', "\\,")
}

fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match text.contains("user_allow_other") {
        true => format!("{text}; add the line user_allow_other to /etc/fuse.conf"),
        false => text,
    }
}

fn receive(socket: &OwnedFd) -> rustix::io::Result<Option<OwnedFd>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let device = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(device)
}

/// Takes away what a mount that died has left at `mountpoint`.
///
/// # Errors
/// `Exists` where something is mounted there that lives, or does not answer; those of unmounting.
pub fn clean_stale(mountpoint: &Path) -> Result<()> {
    let what = || format!("mount point {}", mountpoint.display());
    let entry = mountinfo::mounted_at(mountpoint).map_err(|e| Error::io(what(), e))?;
    if !entry.is_some_and(|entry| entry.kind.starts_with("fuse")) {
        return Ok(());
    }
    let (send, answer) = std::sync::mpsc::channel();
    let path = mountpoint.to_owned();
    // a mount whose server is stopped never answers; then the thread waits for it instead of us. Not stat(2): the kernel
    // may answer that from its cache when the server is long dead
    let asked = std::thread::Builder::new().name("larder-stale".into()).spawn(move || {
        let _ = send.send(rustix::fs::statfs(&path).err().map(rustix::io::Errno::raw_os_error));
    });
    asked.map_err(|e| Error::io(what(), e))?;
    match answer.recv_timeout(STALE_WAIT) {
        Ok(Some(libc::ENOTCONN | libc::ECONNABORTED)) => unmount(mountpoint, true),
        Ok(_) => Err(Error::exists(format!("{} has something mounted already", mountpoint.display()))),
        Err(_) => {
            let fix = format!("end its server, or run `umount -l {}`", mountpoint.display());
            Err(Error::exists(format!("{} holds a mount that does not answer: {fix}", mountpoint.display())))
        }
    }
}

/// Unmounts; with `lazily` also where it is in use, and what uses it keeps it until it ends.
///
/// # Errors
/// `Conflict` where it is in use.
pub(crate) fn unmount(mountpoint: &Path, lazily: bool) -> Result<()> {
    let mut flags = UnmountFlags::NOFOLLOW;
    flags.set(UnmountFlags::DETACH, lazily);
    match rustix::mount::unmount(mountpoint, flags) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => unmount_by_program(mountpoint, lazily),
        Err(Errno::BUSY) => Err(Error::conflict(format!("{} is in use", mountpoint.display()))),
        Err(errno) => Err(Error::io(format!("unmount {}", mountpoint.display()), errno.into())),
    }
}

fn unmount_by_program(mountpoint: &Path, lazily: bool) -> Result<()> {
    let mut command = Command::new(FUSERMOUNT);
    command.arg("-u");
    if lazily {
        command.arg("-z");
    }
    let output = command.arg("--").arg(mountpoint).output().map_err(|e| Error::io("run fusermount3", e))?;
    if output.status.success() {
        return Ok(());
    }
    let what = format!("unmount {}: {}", mountpoint.display(), complaint(&output));
    Err(if what.contains("busy") { Error::conflict(what) } else { Error::denied(what) })
}

/// The switch that cuts a connection: every request that waits fails, and the mount answers ENOTCONN from then on.
/// It is there where the system mounts `fusectl`, as systemd does.
pub(crate) struct Switch(PathBuf);

impl Switch {
    /// The switch of connection `minor`, where there is one.
    pub(crate) fn of(minor: u32) -> Option<Self> {
        let path = PathBuf::from(format!("/sys/fs/fuse/connections/{minor}/abort"));
        path.exists().then_some(Self(path))
    }

    pub(crate) fn cut(&self) {
        if let Err(error) = std::fs::write(&self.0, "1") {
            tracing::warn!(%error, switch = %self.0.display(), "connection not cut");
        }
    }
}

/// Cuts the connection of what is mounted at `mountpoint`, and unmounts it; needs no switch, but root.
pub(crate) fn unmount_by_force(mountpoint: &Path) -> Result<()> {
    let flags = UnmountFlags::NOFOLLOW | UnmountFlags::FORCE | UnmountFlags::DETACH;
    let forced = rustix::mount::unmount(mountpoint, flags);
    forced.map_err(|errno| Error::io(format!("unmount {}", mountpoint.display()), errno.into()))
}

/// Lets the kernel read as far ahead as one reply holds; only root may.
pub(crate) fn widen_read_ahead((major, minor): (u32, u32)) {
    let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&setting, crate::kernel::READ_AHEAD_KB.to_string()) {
        tracing::debug!(%error, setting, "read-ahead stays at the kernel's 128 KiB");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_the_source_does_not_end_the_option() {
        assert_eq!(escaped(r"a,b\c"), r"a\,b\\c");
    }

    #[test]
    fn a_plain_folder_has_nothing_stale() {
        let folder = tempfile::tempdir().expect("a folder");
        clean_stale(folder.path()).expect("nothing to clean");
    }
}
