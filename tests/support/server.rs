//! A running Larder: the program itself, as users start it.

use super::http::Client;
use super::namespace::Namespace;
use super::process::{self, Finished, reaped, signal};
use super::watchdog::Watchdog;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// The program under test.
pub const LARDER: &str = env!("CARGO_BIN_EXE_larder");
/// The password of `admin` in tests.
pub const PASSWORD: &str = "correct horse battery staple";
/// A server that is not ready after this long never will be.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A server that was told to stop and lives after this long hangs.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// A program whose lines are read while it runs; dropping it kills it.
pub struct Speaking {
    id: i32,
    ended: Option<Receiver<std::io::Result<ExitStatus>>>,
    lines: Receiver<String>,
}

impl Speaking {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Speaking {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let id = child.id() as i32;
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Speaking { id, ended: Some(reaped(child)), lines }
    }

    /// The process.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The next line, which must come within `limit_s` seconds.
    #[track_caller]
    pub fn line(&self, limit_s: u64) -> String {
        self.lines.recv_timeout(Duration::from_secs(limit_s)).expect("a line in time")
    }

    /// Returns how it ended, once it has.
    #[track_caller]
    pub fn ended(mut self) -> ExitStatus {
        let ended = self.ended.take().expect("taken once").recv_timeout(STOPPED_WITHIN);
        ended.expect("it ends when told to").expect("a child can be waited for")
    }

    fn end(&mut self) {
        if let Some(ended) = self.ended.take()
            && ended.try_recv().is_err()
        {
            signal(self.id, libc::SIGKILL);
            // A process stuck in the kernel is left to the watchdog.
            let _ = ended.recv_timeout(Duration::from_secs(20));
        }
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.end();
    }
}

/// A place for one drive: data directory, mount point, log of all its servers.
pub struct Place {
    folder: PathBuf,
    watchdog: Option<Watchdog>,
    arguments: Vec<String>,
    namespace: Option<Namespace>,
    variables: Vec<(&'static str, &'static str)>,
    _removed_last: tempfile::TempDir,
}

impl Place {
    /// A place in the system's temporary directory.
    pub fn new() -> Place {
        let folder =
            tempfile::Builder::new().prefix("larder-test-").tempdir().expect("a temporary directory");
        std::fs::create_dir(folder.path().join("home")).expect("a home directory");
        Place {
            folder: folder.path().to_path_buf(),
            watchdog: None,
            arguments: Vec::new(),
            namespace: None,
            variables: Vec::new(),
            _removed_last: folder,
        }
    }

    /// Adds arguments for servers.
    pub fn with(mut self, arguments: &[&str]) -> Place {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Sets a variable of the environment for all commands.
    pub fn with_variable(mut self, name: &'static str, value: &'static str) -> Place {
        self.variables.push((name, value));
        self
    }

    /// Gives servers a network of their own, where this user may make one.
    pub fn apart(mut self) -> Place {
        self.namespace = Namespace::new();
        self
    }

    /// Gives all commands a configuration file of this text.
    pub fn configured(self, toml: &str) -> Place {
        std::fs::write(self.configuration(), toml).expect("a configuration");
        self
    }

    fn configuration(&self) -> PathBuf {
        self.path("larder.toml")
    }

    /// Makes servers mount the drive too, for at most `limit_s` seconds in all.
    pub fn mounted(mut self, limit_s: u64) -> Place {
        let point = self.folder.join("mount");
        std::fs::create_dir(&point).expect("a mount point");
        self.watchdog = Some(Watchdog::start(&point, limit_s));
        self
    }

    /// A path in the place.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The mount point.
    pub fn mount(&self) -> PathBuf {
        self.path("mount")
    }

    /// `larder …` on this place's data directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LARDER);
        command.args(arguments).arg("--data").arg(self.data());
        command.env("HOME", self.path("home")).env("LARDER_ADMIN_PASSWORD", PASSWORD);
        if self.configuration().exists() {
            command.env("LARDER_CONFIG", self.configuration());
        }
        command.envs(self.variables.iter().copied());
        for variable in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs `larder …` to its end.
    pub fn run(&self, arguments: &[&str], limit_s: u64) -> Finished {
        process::run(&mut self.command(arguments), limit_s)
    }

    /// Runs `larder … --json`, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn json(&self, arguments: &[&str], limit_s: u64) -> serde_json::Value {
        let done = self.run(&[arguments, &["--json"]].concat(), limit_s).ok();
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {done}"))
    }

    /// Starts a server and returns once it is ready.
    #[track_caller]
    pub fn start(&self) -> Server {
        self.try_start().unwrap_or_else(|why| panic!("{why}\n{}", self.log()))
    }

    /// Starts a server and returns once it is ready.
    ///
    /// # Errors
    /// Why it is not, where it ends before or takes too long.
    pub fn try_start(&self) -> Result<Server, String> {
        let mut server = self.spawn();
        server.await_ready()?;
        Ok(server)
    }

    /// Starts a server and kills it after `life`, ready or not.
    pub fn start_and_kill(&self, life: Duration) {
        self.spawn().end_after(life);
    }

    /// Makes this place a device of the server at `address`.
    #[track_caller]
    pub fn log_in(&self, address: SocketAddr) {
        let login = &["login", &format!("http://{address}"), "--password-stdin"];
        process::start(&mut self.command(login)).feed(PASSWORD.as_bytes()).finish(60).ok();
    }

    /// Mounts `home` of the server at `address`, and returns once that is done.
    ///
    /// # Errors
    /// Why it is not, where it ends before or takes too long.
    pub fn attach(&self, address: SocketAddr) -> Result<Server, String> {
        self.attach_to(&format!("http://{address}/home"))
    }

    /// Mounts a project by its address, and returns once that is done.
    ///
    /// # Errors
    /// Why it is not, where it ends before or takes too long.
    pub fn attach_to(&self, project: &str) -> Result<Server, String> {
        let mut device = self.spawn_as(&mut self.mounting(project));
        device.await_ready()?;
        Ok(device)
    }

    /// Begins to mount `home` of the server at `address`, and kills that after `life`, mounted or not.
    pub fn attach_and_kill(&self, address: SocketAddr, life: Duration) {
        self.spawn_as(&mut self.mounting(&format!("http://{address}/home"))).end_after(life);
    }

    fn mounting(&self, project: &str) -> Command {
        let point = self.watchdog.as_ref().expect("made to be mounted").point();
        let mut command = self.command(&["mount", project]);
        command.arg(point).args(&self.arguments);
        command
    }

    fn spawn(&self) -> Server {
        let mut command = match &self.watchdog {
            Some(watchdog) => {
                let mut command = self.command(&["up"]);
                command.arg(watchdog.point());
                command
            }
            None => self.command(&["serve"]),
        };
        let Some(namespace) = &self.namespace else {
            return self.spawn_as(command.args(["--listen", "127.0.0.1:0"]).args(&self.arguments));
        };
        let listen = format!("{}:0", namespace.address());
        command.args(["--listen", &listen, "--insecure-http"]).args(&self.arguments);
        self.spawn_as(&mut namespace.enter(&command))
    }

    fn spawn_as(&self, command: &mut Command) -> Server {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log");
        Server { process: Speaking::start(command.stderr(log)), address: ([127, 0, 0, 1], 0).into() }
    }

    fn log_file(&self) -> PathBuf {
        self.path("larder.log")
    }

    /// All that servers of this place logged.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Panics where a server of this place did.
    #[track_caller]
    pub fn assert_no_panic(&self) {
        let log = self.log();
        assert!(!log.contains("panicked at"), "a server panicked:\n{log}");
    }
}

/// A server; dropping it kills it.
pub struct Server {
    process: Speaking,
    address: SocketAddr,
}

impl Server {
    fn await_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut said = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .process
                .lines
                .recv_timeout(left)
                .map_err(|_| format!("the server is not ready:\n{said}"))?;
            said += &format!("{line}\n");
            if let Some(address) = address_in(&line) {
                self.address = address;
            }
            if line.starts_with("Ready") {
                return Ok(());
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that is let in.
    pub fn client(&self) -> Client {
        Client::new(self.address, "admin", PASSWORD)
    }

    /// The process.
    pub fn id(&self) -> i32 {
        self.process.id
    }

    /// Says whether the process is there.
    pub fn lives(&self) -> bool {
        Path::new(&format!("/proc/{}", self.id())).exists()
    }

    /// Kills it after `life`, where it did not end before.
    fn end_after(mut self, life: Duration) {
        if let Some(ended) = self.process.ended.take()
            && ended.recv_timeout(life).is_err()
        {
            self.process.ended = Some(ended);
        }
    }

    /// Ends it as a power cut of the process would: SIGKILL.
    pub fn kill(self) {
        drop(self);
    }

    /// Ends it with SIGTERM and returns how it ended.
    #[track_caller]
    pub fn stop(self) -> ExitStatus {
        signal(self.id(), libc::SIGTERM);
        self.ended()
    }

    /// Returns how it ended, once it has.
    #[track_caller]
    pub fn ended(self) -> ExitStatus {
        let status = self.process.ended();
        assert!(status.success(), "the server ended with {status}");
        status
    }
}

/// The address in the first URL of a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let rest = line.split_once("http://").or_else(|| line.split_once("https://"))?.1;
    rest.split(['/', ' ', '\'', '"']).next()?.parse().ok()
}
