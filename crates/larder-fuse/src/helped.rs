//! The server's side of the process that stands in for it.

use crate::stand_in::NAME;
use larder_core::{Error, Result};
use larder_drive::Usage;
use parking_lot::Mutex;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The process that stands in, and the socket to it.
pub(crate) struct StandIn {
    socket: OwnedFd,
    child: Mutex<Child>,
}

impl StandIn {
    /// Starts this program once more for the connection of `minor` at `mountpoint`.
    pub(crate) fn start(connection: OwnedFd, minor: u32, mountpoint: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("start the process that stands in", e);
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| failed(e.into()))?;
        // its name is not the server's, so that stopping the server by name does not stop it too
        let child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .args([std::process::id().to_string(), minor.to_string()])
            .arg(mountpoint)
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(connection))
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Ok(Self { socket: ours, child: Mutex::new(child.map_err(failed)?) })
    }

    /// Lets it know what statfs(2) says, for when it has to.
    pub(crate) fn tell(&self, usage: &Usage) {
        let numbers = [usage.used_bytes, usage.available_bytes, usage.nodes];
        let record: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        // where it does not listen, older numbers do as well
        let _ = rustix::net::send(&self.socket, &record, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }

    /// Hands on the nodes and handles to be closed that it was told of while the server was stopped; returns once it is
    /// gone.
    pub(crate) fn listen(&self, release: impl Fn(u64, u64)) {
        let mut message = [0; 16];
        while let Ok((_, 16)) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.socket, &mut message[..], RecvFlags::empty())
        }) {
            let number = |i: usize| u64::from_le_bytes(message[i..i + 8].try_into().expect("8 of 16 bytes"));
            release(number(0), number(8));
        }
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        let _ = self.child.lock().wait();
    }
}
