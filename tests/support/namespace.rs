//! A network of its own for a server: a namespace that a pair of interfaces joins to ours. Source: ip-netns(8), veth(4).

use super::process;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Programs that are not done after so many seconds hang.
const LIMIT_S: u64 = 30;

/// A namespace; it goes when this is dropped.
pub struct Namespace {
    name: String,
    address: IpAddr,
}

impl Namespace {
    /// Makes one; nothing where this user may not.
    pub fn new() -> Option<Namespace> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let name = format!("larder-{id}-{number}");
        // Interfaces have names of up to 15 bytes.
        let (ours, theirs) = (format!("ld{id}-{number}"), format!("le{id}-{number}"));
        if !ip(&["netns", "add", &name]) {
            return None;
        }
        // 198.18.0.0/15 is for measurements between networks. Source: RFC 2544 § C.2.2.
        let slot = (id.wrapping_mul(16) + number) % (1 << 15);
        let net = format!("198.{}.{}", 18 + (slot >> 14), (slot >> 6) & 255);
        let (here, there) = ((slot & 63) * 4 + 1, (slot & 63) * 4 + 2);
        let namespace = Namespace { address: format!("{net}.{there}").parse().expect("an address"), name };
        let name = &namespace.name;
        let (here, there) = (format!("{net}.{here}/30"), format!("{net}.{there}/30"));
        let commands: [&[&str]; 6] = [
            &["link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", name],
            &["addr", "add", &here, "dev", &ours],
            &["link", "set", &ours, "up"],
            &["-n", name, "addr", "add", &there, "dev", &theirs],
            &["-n", name, "link", "set", &theirs, "up"],
            &["-n", name, "link", "set", "lo", "up"],
        ];
        commands.iter().all(|arguments| ip(arguments)).then_some(namespace)
    }

    /// The address of whoever runs in it.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// `command`, run in it: it has our files and mounts, and its own network.
    pub fn enter(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(command.get_program());
        inside.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.name]);
    }
}

fn ip<A: AsRef<OsStr>>(arguments: &[A]) -> bool {
    process::run(Command::new("ip").args(arguments), LIMIT_S).code() == 0
}
