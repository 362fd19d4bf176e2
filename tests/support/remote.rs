//! A server, a device that mounts its drive, and the way between them.

use super::proxy::Proxy;
use super::random::Random;
use super::server::{Place, Server};
use super::{lacking, skip};
use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// A mebibyte.
pub const MIB: u64 = 1 << 20;
/// All of a long story takes no longer.
const STORY_LIMIT_S: u64 = 900;
/// What is on its way moves again within this.
const SETTLED: Duration = Duration::from_millis(100);
/// How long reads wait in these tests, in seconds.
const DEADLINE_S: &str = "5";

/// A server, a device, and the way between them.
pub struct World {
    /// The device.
    pub device: Place,
    /// The server's place.
    pub home: Place,
    server: Option<Server>,
    /// The way.
    pub proxy: Proxy,
    random: RefCell<Random>,
}

impl World {
    /// A server that runs, and a device that is logged in; nothing where this machine cannot mount.
    pub fn new() -> Option<World> {
        Self::with(&[])
    }

    /// As [`World::new`], with more arguments for `larder mount`.
    pub fn with(arguments: &[&str]) -> Option<World> {
        Self::of(Place::new, arguments)
    }

    /// A server that mounts its drive too, in a network of its own where that is allowed, and a device.
    pub fn apart() -> Option<World> {
        Self::of(|| Place::new().mounted(STORY_LIMIT_S).apart(), &[])
    }

    fn of(home: impl FnOnce() -> Place, arguments: &[&str]) -> Option<World> {
        if let Some(why) = lacking(true, &[]) {
            skip(&why);
            return None;
        }
        let home = home();
        let server = home.start();
        let proxy = Proxy::start(server.address());
        let device =
            Place::new().mounted(STORY_LIMIT_S).with(&["--reader-deadline", DEADLINE_S]).with(arguments);
        device.log_in(proxy.address());
        let random = RefCell::new(Random::seeded());
        Some(World { device, home, server: Some(server), proxy, random })
    }

    /// Mounts the server's drive on the device.
    #[track_caller]
    pub fn mount(&self) -> Server {
        self.device.attach(self.proxy.address()).unwrap_or_else(|why| panic!("{why}\n{}", self.device.log()))
    }

    /// Bytes that occur nowhere else.
    pub fn noise(&self, len: u64) -> Vec<u8> {
        self.random.borrow_mut().bytes(len as usize)
    }

    /// Puts a file at the server.
    pub fn put(&self, path: &str, body: &[u8]) {
        self.server().client().ok("PUT", &format!("/dav/home/{path}"), &[], body);
    }

    /// Sends a request without a body to the server.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) {
        self.server().client().ok(method, &format!("/dav/home/{path}"), headers, b"");
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// The server dies as in a power cut of its process, and comes back.
    pub fn server_dies(&mut self) {
        self.proxy.lead_to(None);
        self.server.take().expect("the server runs").kill();
        let server = self.home.start();
        self.proxy.lead_to(Some(server.address()));
        self.server = Some(server);
    }

    /// The bytes that went to the device by the time when no more of those come that are on their way.
    pub fn settled(&self) -> u64 {
        let (_sender, never) = mpsc::channel::<()>();
        loop {
            let before = self.proxy.moved();
            let _ = never.recv_timeout(SETTLED);
            if self.proxy.moved() == before {
                return before;
            }
        }
    }

    /// A path in the mount.
    pub fn file(&self, name: &str) -> PathBuf {
        self.device.mount().join(name)
    }

    /// Reads a file through the mount.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.file(name))
    }

    /// Ends both in order.
    pub fn end(mut self, device: Server) {
        device.stop();
        self.server.take().expect("the server runs").stop();
        self.device.assert_no_panic();
        self.home.assert_no_panic();
    }
}

/// The names in a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let listed = fs::read_dir(folder).expect("listed");
    let mut names: Vec<String> =
        listed.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// The error number of a failure.
pub fn errno<T>(outcome: io::Result<T>) -> Option<i32> {
    outcome.err().and_then(|error| error.raw_os_error())
}
