//! The servers side by side: how each is configured, started and stopped.
//!
//! Every server listens on loopback, keeps its files below the scratch folder and is told to be as fast as it can
//! be without giving up what it promises by default. Nothing outlives the value that started it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::machine::{free_port, wait_until};

/// A server that does not answer within this time has failed to start.
const START_LIMIT: Duration = Duration::from_secs(120);
/// A process that has not ended so long after SIGTERM is killed.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The password of `admin` at our server.
pub const PASSWORD: &str = "larder-bench";
/// `admin:larder-bench`, as Basic authentication spells it.
const ADMIN: &str = "Basic YWRtaW46bGFyZGVyLWJlbmNo";

/// Which program serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours: each answer to a PUT is durable, every request is authenticated, every body verified by its hash.
    Larder,
    /// dufs, the published crate.
    Dufs,
    /// Apache with mod_dav_fs and the event MPM.
    Apache,
    /// nginx with the dav and dav-ext modules.
    Nginx,
    /// `rclone serve webdav` of a local folder.
    Rclone,
}

/// Every server, ours first.
pub const ALL: [Kind; 5] = [Kind::Larder, Kind::Dufs, Kind::Apache, Kind::Nginx, Kind::Rclone];

impl Kind {
    /// Returns the name in tables and for `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Larder => "larder",
            Kind::Dufs => "dufs",
            Kind::Apache => "apache",
            Kind::Nginx => "nginx",
            Kind::Rclone => "rclone",
        }
    }

    /// Returns the program's name as a shell finds it.
    pub fn program(self) -> &'static str {
        if self == Kind::Apache { "apache2" } else { self.name() }
    }
}

/// A running program, ended when dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`, its output going to `log`; the kernel ends it should the bench die.
    pub fn start(mut command: Command, log: &Path) -> io::Result<Process> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // SAFETY: the closure makes only async-signal-safe calls and touches only the new process.
        unsafe { command.pre_exec(end_with_bench) };
        Ok(Process { child: command.spawn()? })
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says whether it has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it as `kill -9` does.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended() {
            // SAFETY: the child has not been waited for, so its id is still its own.
            unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
            if !wait_until(STOP_LIMIT, || self.ended()) {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

/// Asks the kernel for SIGTERM should the bench die, and lets in the signals that the bench holds back for itself.
fn end_with_bench() -> io::Result<()> {
    // SAFETY: the set is initialised by sigemptyset before it is read; both calls change only this process.
    let failed = unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM)
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A server that answers.
pub struct Server {
    /// Which one.
    pub kind: Kind,
    /// Its port on loopback.
    pub port: u16,
    /// What stands before every path: `/dav/home` for ours.
    pub url_prefix: String,
    /// The value of the Authorization field, for those that ask for it.
    pub authorization: Option<String>,
    /// Where its files lie as plain files; none for ours.
    pub files: Option<PathBuf>,
    /// The process; children included, it is what memory is measured of.
    pub process: Process,
}

impl Server {
    /// Starts `kind` with its state in `place`; `flags` are added to its command line.
    ///
    /// # Errors
    /// The program cannot be started or does not answer in time; the message names its log.
    pub fn start(kind: Kind, program: &Path, place: &Path, flags: &[String]) -> io::Result<Server> {
        let files = place.join("files");
        fs::create_dir_all(&files)?;
        let port = free_port()?;
        let mut command = Command::new(program);
        match kind {
            Kind::Larder => larder(&mut command, place, port),
            Kind::Dufs => {
                command.arg(&files).args(["-A", "-b", "127.0.0.1", "-p", &port.to_string()]);
                command.args(["--log-format", ""]);
            }
            Kind::Apache => apache(&mut command, place, port)?,
            Kind::Nginx => nginx(&mut command, place, port)?,
            Kind::Rclone => {
                command.args(["serve", "webdav"]).arg(&files);
                command.args(["--config", "/dev/null", "--addr", &format!("127.0.0.1:{port}")]);
            }
        }
        command.args(flags);
        let log = place.join("log");
        let ours = kind == Kind::Larder;
        let mut server = Server {
            kind,
            port,
            url_prefix: if ours { "/dav/home".into() } else { String::new() },
            authorization: ours.then(|| ADMIN.to_owned()),
            files: (!ours).then_some(files),
            process: Process::start(command, &log)?,
        };
        let mut gone = false;
        let answers = wait_until(START_LIMIT, || {
            gone = server.process.ended();
            gone || server.answers()
        });
        if gone || !answers {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = said.lines().rev().take(3).collect();
            return Err(io::Error::other(format!("{} did not start: {}", kind.name(), tail.join(" | "))));
        }
        Ok(server)
    }
}

/// Finds a program on the search path, in /usr/sbin or in `tools`.
pub fn find(program: &str, tools: &Path) -> Option<PathBuf> {
    let local = tools.join(program);
    if local.is_file() {
        return Some(local);
    }
    let script = format!("PATH=$PATH:/usr/sbin:$HOME/.cargo/bin command -v {program}");
    let answer = Command::new("sh").args(["-c", &script]).output().ok()?;
    let path = String::from_utf8(answer.stdout).ok()?;
    answer.status.success().then(|| PathBuf::from(path.trim()))
}

fn larder(command: &mut Command, place: &Path, port: u16) {
    command.arg("serve").arg("--data").arg(place.join("data"));
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    command.env("LARDER_ADMIN_PASSWORD", PASSWORD);
}

fn apache(command: &mut Command, place: &Path, port: u16) -> io::Result<()> {
    let modules = "/usr/lib/apache2/modules";
    let place_text = place.display();
    let mut text = format!("ServerRoot {place_text}\nServerName localhost\nListen 127.0.0.1:{port}\n");
    for (name, file) in
        [("mpm_event", "mpm_event"), ("authz_core", "authz_core"), ("dav", "dav"), ("dav_fs", "dav_fs")]
    {
        text += &format!("LoadModule {name}_module {modules}/mod_{file}.so\n");
    }
    text += &format!(
        "User www-data\nGroup www-data\nPidFile {place_text}/pid\nDocumentRoot {place_text}/files\n\
         DAVLockDB {place_text}/files/../locks/db\nErrorLog {place_text}/log\nLogLevel crit\nEnableSendfile On\n\
         KeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 600\nTimeout 600\nLimitRequestBody 0\n\
         LimitXMLRequestBody 0\n<Directory />\nDAV On\nRequire all granted\n</Directory>\n"
    );
    let file = place.join("apache.conf");
    File::create(&file)?.write_all(text.as_bytes())?;
    fs::create_dir_all(place.join("locks"))?;
    for folder in ["files", "locks"] {
        own("www-data", &place.join(folder))?;
    }
    command.arg("-DFOREGROUND").arg("-f").arg(file);
    Ok(())
}

fn nginx(command: &mut Command, place: &Path, port: u16) -> io::Result<()> {
    let place_text = place.display();
    let module = "/usr/lib/nginx/modules/ngx_http_dav_ext_module.so";
    let text = format!(
        "load_module {module};\ndaemon off;\nuser root;\nworker_processes 2;\npid {place_text}/pid;\n\
         error_log {place_text}/log crit;\nevents {{ worker_connections 512; }}\nhttp {{\n access_log off;\n\
         sendfile on;\n tcp_nopush on;\n keepalive_requests 1000000000;\n keepalive_timeout 600s;\n\
         client_max_body_size 0;\n client_body_temp_path {place_text}/staging;\n server {{\n\
         listen 127.0.0.1:{port};\n root {place_text}/files;\n location / {{\n\
         dav_methods PUT DELETE MKCOL COPY MOVE;\n dav_ext_methods PROPFIND OPTIONS;\n }}\n }}\n}}\n"
    );
    let file = place.join("nginx.conf");
    File::create(&file)?.write_all(text.as_bytes())?;
    command.arg("-c").arg(file).arg("-p").arg(place);
    command.arg("-e").arg(place.join("log"));
    Ok(())
}

fn own(user: &str, path: &Path) -> io::Result<()> {
    match Command::new("chown").arg(user).arg(path).status()?.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("chown {user} {} failed", path.display()))),
    }
}
