//! A server and devices that mount its project.

use crate::support::proxy::Proxy;
use crate::support::random::Random;
use crate::support::server::{Place, Server};
use crate::support::{lacking, process, skip};
use serde_json::Value;
use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

/// A mebibyte.
pub const MIB: usize = 1 << 20;
/// All of a test takes no longer.
const LIMIT_S: u64 = 300;
/// Everything is sent within this.
const SENT_S: u64 = 120;

/// A server, and the way to it.
pub struct World {
    pub home: Place,
    pub server: Option<Server>,
    pub proxy: Proxy,
    random: RefCell<Random>,
}

/// A device that mounts the server's project.
pub struct Device {
    pub place: Place,
    pub running: Option<Server>,
}

impl World {
    pub fn new() -> Option<World> {
        if let Some(why) = lacking(true, &[]) {
            skip(&why);
            return None;
        }
        let home = Place::new();
        let server = home.start();
        let proxy = Proxy::start(server.address());
        Some(World { home, server: Some(server), proxy, random: RefCell::new(Random::seeded()) })
    }

    pub fn device(&self) -> Device {
        self.device_with(&[])
    }

    /// As [`World::device`], with more arguments for `larder mount`.
    pub fn device_with(&self, arguments: &[&str]) -> Device {
        let place = Place::new().mounted(LIMIT_S).with(&["--reader-deadline", "5"]).with(arguments);
        place.log_in(self.proxy.address());
        let mut device = Device { place, running: None };
        device.mount(self);
        // What is in the folder is known then, whatever comes.
        fs::read_dir(device.place.mount()).expect("listed").for_each(drop);
        device
    }

    /// A device of a user `guest` with this role.
    pub fn device_of(&self, role: &str) -> Device {
        let guest = ["user", "add", "guest", "--role", role, "--password-stdin"];
        process::start(&mut self.home.command(&guest)).feed(b"of the guest").finish(60).ok();
        let place = Place::new().mounted(LIMIT_S).with(&["--reader-deadline", "5"]);
        let address = format!("http://{}", self.proxy.address());
        let login = ["login", &address, "--user", "guest", "--password-stdin"];
        process::start(&mut place.command(&login)).feed(b"of the guest").finish(60).ok();
        let mut device = Device { place, running: None };
        device.mount(self);
        device
    }

    /// Bytes that occur nowhere else.
    pub fn noise(&self, len: usize) -> Vec<u8> {
        self.random.borrow_mut().bytes(len)
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// Nothing comes through from now on.
    pub fn cut(&self) {
        self.proxy.lead_to(None);
    }

    pub fn mend(&self) {
        self.proxy.lead_to(Some(self.server().address()));
    }

    pub fn server_dies(&mut self) {
        self.cut();
        self.server.take().expect("the server runs").kill();
        self.server = Some(self.home.start());
        self.mend();
    }

    pub fn get(&self, path: &str) -> Vec<u8> {
        self.server().client().ok("GET", &format!("/dav/home/{path}"), &[], b"").body
    }

    pub fn end(mut self, devices: Vec<Device>) {
        devices.into_iter().for_each(Device::stop);
        self.server.take().expect("the server runs").stop();
        self.home.assert_no_panic();
    }
}

impl Device {
    #[track_caller]
    pub fn mount(&mut self, world: &World) {
        let attached = self.place.attach(world.proxy.address());
        self.running = Some(attached.unwrap_or_else(|why| panic!("{why}\n{}", self.place.log())));
    }

    /// It ends in order.
    pub fn stop(mut self) {
        self.running.take().expect("the device runs").stop();
        self.place.assert_no_panic();
    }

    /// It dies as in a power cut of its process.
    pub fn dies(&mut self) {
        self.running.take().expect("the device runs").kill();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.mount().join(name)
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap_or_else(|e| panic!("{name}: {e}\n{}", self.place.log()));
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}\n{}", self.place.log()))
    }

    /// Waits until everything is sent.
    #[track_caller]
    pub fn push(&self) {
        let mount = self.place.mount().display().to_string();
        let pushed = self.place.run(&["push", &mount, "--wait", "--timeout", "100"], SENT_S);
        assert_eq!(pushed.code(), 0, "{pushed}\n{}", self.place.log());
    }

    /// What `larder push` says.
    pub fn not_sent(&self) -> Value {
        let mount = self.place.mount().display().to_string();
        self.place.json(&["push", &mount], 30)
    }

    pub fn waiting(&self) -> u64 {
        self.not_sent()["changes"].as_u64().expect("a number")
    }

    /// The names in its mount, in order.
    pub fn names(&self) -> Vec<String> {
        let listed = fs::read_dir(self.place.mount()).expect("listed");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<String> = listed.map(|e| name(e).into_string().expect("text")).collect();
        names.sort();
        names
    }
}
