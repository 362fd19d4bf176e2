//! Going to the background: the command starts itself again, waits until that says it is ready, and returns.
//!
//! The child's standard output is a pipe to the parent. The child says there what a foreground server says, and then
//! lets go of it; that is how the parent knows. A child that ends before that fails the command with its exit code.

use larder_core::{Error, Result};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Set for the child.
const MARK: &str = "LARDER_DAEMON_CHILD";

/// Says whether this process is the child.
#[expect(clippy::disallowed_methods, reason = "the binary is where the environment is read")]
pub fn is_child() -> bool {
    std::env::var_os(MARK).as_deref() == Some(OsStr::new("1"))
}

/// Starts the child and waits until it is ready or ended.
///
/// # Errors
/// Those of starting a process.
pub fn start() -> Result<ExitCode> {
    let failed = |e| Error::io("going to the background", e);
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).map_err(failed)?;
    }
    let _ = std::io::stdout().write_all(said.as_bytes());
    // What a server says when it is ready, to people or in JSON, where quotes inside of a text are escaped.
    let ready = |line: &str| line.starts_with("Ready") || line.contains("\"ready\":true");
    if said.lines().any(ready) {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait().map_err(failed)?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// In the child, before anything else: a session of its own, so that no terminal ends it.
pub fn detach() {
    // It fails only for a process group leader, which a child never is.
    let _ = rustix::process::setsid();
}

/// In the child, once ready: lets the parent go. From then on logs go to `log`.
///
/// # Errors
/// Those of opening the log.
pub fn let_go(log: &Path) -> Result<()> {
    let failed = |e| Error::io(format!("log {}", log.display()), e);
    let file = File::options().create(true).append(true).open(log).map_err(failed)?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stderr(file.as_fd()).map_err(|e| failed(e.into()))?;
    rustix::stdio::dup2_stdout(null.as_fd()).map_err(|e| failed(e.into()))
}
