//! A process that answers for a server that is stopped, so that `df` on the machine does not wait for it.
//!
//! `df` asks every file system, the kernel passes the question on and caches no answer, and a server that got SIGSTOP
//! says nothing. So the mounting process starts itself once more, under another name, with a second descriptor of the
//! same connection. It only looks on: as long as the server runs it takes no request. Once the server is stopped and
//! requests stay unanswered, it takes them: statfs(2) gets the last known numbers, stat(2) of the root an answer that
//! the kernel does not keep, closing is passed on to the server for when it goes on, and everything else gets ETIMEDOUT.
//! Such a request was not carried out.
//!
//! When the server dies, it takes the dead mount away. Its end of the socket may stay open then: the kernel lets a thread that
//! invalidates a page wait, whatever kills it, for a read that this very server would have to answer, and as long as one
//! thread is there the kernel keeps the connection. So the state of the process counts, and the connection is cut.
//!
//! Requests and replies, little endian on every machine that we build for (`include/uapi/linux/fuse.h`):
//!
//! | request | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of all |
//! | 4 | 4 | operation |
//! | 8 | 8 | number, which the reply repeats |
//! | 16 | 8 | node |
//! | 40 | 8 | of a release: the handle |
//!
//! A reply is its length (4), a negative errno or 0 (4), the number (8), and what the operation says.

use crate::statfs::{STATFS_BLOCK_BYTES, statfs_numbers};
use crate::{attach, mountinfo};
use larder_drive::Usage;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the process is called by its first argument.
pub(crate) const NAME: &str = "larder-mount-stands-in";
/// How often it looks whether requests wait.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// How often in a row it must find the server stopped and requests waiting.
const LOOKS: u32 = 2;
/// The kernel hands out no request to a smaller buffer: the longest write and its headers.
const REQUEST_MAX_BYTES: usize = (1 << 20) + 4096;
/// FUSE_DEV_IOC_CLONE, `_IOR(229, 0, u32)`.
const CLONE: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(229, 0);

const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

/// Does the work of the process that stands in, if this process is it. A program that sets
/// [`crate::Options::stand_in`] calls this before anything else and ends with what it returns.
pub fn stand_in() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.next()? != NAME {
        return None;
    }
    let mut number = || arguments.next()?.to_str()?.parse::<u32>().ok();
    let (server, minor) = (number()?, number()?);
    let mountpoint = PathBuf::from(arguments.next()?);
    let _ = rustix::thread::set_name(c"mount-stand-in");
    Some(match look_on(server, minor, &mountpoint) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// Looks on until the server is gone or the connection ends. The server is at the other end of standard input;
/// standard output is the connection.
fn look_on(server: u32, minor: u32, mountpoint: &Path) -> rustix::io::Result<()> {
    let device = second_descriptor(rustix::stdio::stdout())?;
    let nothing = rustix::fs::open("/dev/null", OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdout(&nothing)?;
    let mut usage = Usage::default();
    let mut buffer = vec![0; REQUEST_MAX_BYTES];
    let mut found = 0;
    loop {
        if !hear(&mut usage)? || is_dead(server) {
            drop(device);
            clean_up(minor, mountpoint);
            return Ok(());
        }
        if !waiting(&device)? || !is_stopped(server) {
            found = 0;
            continue;
        }
        found += 1;
        if found >= LOOKS {
            while let Some(len) = take(&device, &mut buffer)? {
                answer(&device, &buffer[..len], &usage)?;
            }
        }
    }
}

/// Opens the connection once more, for reading without waiting: descriptors made by dup(2) would share that flag.
fn second_descriptor(connection: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/fuse", flags, rustix::fs::Mode::empty())?;
    let mut number = u32::try_from(connection.as_raw_fd()).map_err(|_| Errno::BADF)?;
    // SAFETY: the call reads one u32, the descriptor of a connection, and attaches `device` to it
    unsafe { rustix::ioctl::ioctl(&device, rustix::ioctl::Updater::<CLONE, u32>::new(&mut number)) }?;
    Ok(device)
}

/// Waits for news of the server, at most for [`LOOK`]; `false` says that it is gone.
fn hear(usage: &mut Usage) -> rustix::io::Result<bool> {
    let server = rustix::stdio::stdin();
    let mut events = [PollFd::new(&server, PollFlags::IN)];
    if poll(&mut events, Some(&LOOK))? == 0 {
        return Ok(true);
    }
    let mut record = [0; 24];
    match rustix::io::read(server, &mut record) {
        Ok(24) => {
            let number = |i: usize| u64::from_le_bytes(record[i..i + 8].try_into().expect("8 of 24 bytes"));
            *usage = Usage { used_bytes: number(0), available_bytes: number(8), nodes: number(16) };
            Ok(true)
        }
        Ok(0) | Err(Errno::CONNRESET) => Ok(false),
        Ok(_) | Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error),
    }
}

fn waiting(device: &OwnedFd) -> rustix::io::Result<bool> {
    let mut events = [PollFd::new(device, PollFlags::IN)];
    poll(&mut events, Some(&Timespec::default()))?;
    if events[0].revents().contains(PollFlags::ERR) {
        return Err(Errno::NODEV);
    }
    Ok(events[0].revents().contains(PollFlags::IN))
}

/// Says whether the process got SIGSTOP; one that a debugger holds is left alone. Source: proc_pid_stat(5).
fn is_stopped(process: u32) -> bool {
    state(process) == Some(b'T')
}

/// Says whether the process has ended but for threads that wait in the kernel.
fn is_dead(process: u32) -> bool {
    matches!(state(process), Some(b'Z' | b'X'))
}

fn state(process: u32) -> Option<u8> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(name_end + 2).copied()
}

fn take(device: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<Option<usize>> {
    match rustix::io::read(device, buffer) {
        Ok(len) => Ok(Some(len)),
        Err(Errno::AGAIN | Errno::INTR | Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn answer(device: &OwnedFd, request: &[u8], usage: &Usage) -> rustix::io::Result<()> {
    let number =
        |at: usize| request.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes")));
    let (Some(head), Some(unique), Some(node)) = (number(0), number(8), number(16)) else { return Ok(()) };
    let (error, body) = match (head >> 32) as u32 {
        FORGET | BATCH_FORGET | INTERRUPT => return Ok(()),
        STATFS => (0, statfs_reply(usage)),
        // df asks for the root's attributes before it asks how full it is
        GETATTR if node == 1 => (0, root_reply()),
        RELEASE => {
            let handle = number(40).unwrap_or_default();
            pass_on(node, handle);
            (0, Vec::new())
        }
        RELEASEDIR | DESTROY => (0, Vec::new()),
        _ => (-libc::ETIMEDOUT, Vec::new()),
    };
    let len = 16 + body.len() as u32;
    let reply = [&len.to_le_bytes()[..], &error.to_le_bytes(), &unique.to_le_bytes(), &body].concat();
    match rustix::io::write(device, &reply) {
        // it was interrupted meanwhile
        Err(Errno::NOENT) => Ok(()),
        done => done.map(drop),
    }
}

/// `struct fuse_statfs_out`.
fn statfs_reply(usage: &Usage) -> Vec<u8> {
    let mut body = Vec::with_capacity(80);
    statfs_numbers(usage).iter().for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
    for number in [STATFS_BLOCK_BYTES, 255, STATFS_BLOCK_BYTES] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.resize(80, 0);
    body
}

/// `struct fuse_attr_out` of a folder that its owner may change and all may read, for this one time.
fn root_reply() -> Vec<u8> {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut body = vec![0; 16];
    body.extend_from_slice(&1_u64.to_le_bytes());
    // size, blocks, three times and their nanoseconds
    body.resize(body.len() + 5 * 8 + 3 * 4, 0);
    for number in [libc::S_IFDIR | 0o755, 2, user, group, 0, STATFS_BLOCK_BYTES, 0] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body
}

/// Lets the server close a handle once it goes on: nobody will ask it again.
fn pass_on(node: u64, handle: u64) {
    let message = [node.to_le_bytes(), handle.to_le_bytes()].concat();
    // a full socket means hundreds of them; those files stay open until the unmount
    let _ = rustix::net::send(rustix::stdio::stdin(), &message, rustix::net::SendFlags::DONTWAIT);
}

/// Cuts the connection of a server that died, and takes its mount away.
fn clean_up(minor: u32, mountpoint: &Path) {
    let on_top = mountinfo::mounted_at(mountpoint).ok().flatten();
    if on_top.is_none_or(|entry| entry.device != (0, minor)) || attach::unmount_by_force(mountpoint).is_ok() {
        return;
    }
    // Only root may use force.
    if let Some(switch) = attach::Switch::of(minor) {
        switch.cut();
    }
    let _ = attach::unmount(mountpoint, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_does_not_stand_in() {
        assert!(stand_in().is_none());
        assert!(!is_stopped(std::process::id()) && !is_dead(std::process::id()));
    }

    #[test]
    fn statfs_is_answered_as_the_kernel_wants_it() {
        let usage = Usage { used_bytes: 4096, available_bytes: 8192, nodes: 5 };
        let body = statfs_reply(&usage);
        assert_eq!(body.len(), 80);
        assert_eq!(body[..24], [3_u64.to_le_bytes(), 2_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat());
        assert_eq!(
            body[40..52],
            [4096_u32.to_le_bytes(), 255_u32.to_le_bytes(), 4096_u32.to_le_bytes()].concat()
        );
    }
}
