//! Other programs, each with a time limit.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended; `None` where it was killed at its time limit.
    pub status: Option<ExitStatus>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Returns the exit code; -1 for a program that a signal or the time limit ended.
    pub fn code(&self) -> i32 {
        self.status.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Panics unless the program succeeded, with all that it said.
    #[track_caller]
    pub fn ok(self) -> Finished {
        assert!(self.code() == 0, "{self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ended = self.status.map_or("did not end in time".to_string(), |status| status.to_string());
        write!(f, "{}: {ended}\n{}\n{}", self.command, tail(&self.stdout), tail(&self.stderr))
    }
}

/// The last lines of a long output.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A program that runs in the background, in a process group of its own.
pub struct Running {
    command: String,
    group: i32,
    input: Option<std::process::ChildStdin>,
    output: [Receiver<String>; 2],
    ended: Receiver<std::io::Result<ExitStatus>>,
}

/// Starts `command`.
pub fn start(command: &mut Command) -> Running {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
    let output = [collect(child.stdout.take()), collect(child.stderr.take())];
    Running {
        command: name,
        group: child.id() as i32,
        input: child.stdin.take(),
        output,
        ended: reaped(child),
    }
}

/// Runs `command` to its end, or kills it when `limit_s` seconds are over.
pub fn run(command: &mut Command, limit_s: u64) -> Finished {
    start(command).finish(limit_s)
}

/// Runs `program` with `arguments`, and panics unless it succeeds within `limit_s` seconds.
#[track_caller]
pub fn ok(program: &str, arguments: &[&str], limit_s: u64) -> Finished {
    run(Command::new(program).args(arguments), limit_s).ok()
}

impl Running {
    /// Gives the program its whole standard input.
    pub fn feed(mut self, input: &[u8]) -> Running {
        if let Some(mut stdin) = self.input.take() {
            // A program that ends without reading all of it is judged by how it ends.
            let _ = stdin.write_all(input);
        }
        self
    }

    /// Waits for the end, or kills the program when `limit_s` seconds are over.
    pub fn finish(mut self, limit_s: u64) -> Finished {
        self.input = None;
        let status = self.ended.recv_timeout(Duration::from_secs(limit_s)).ok();
        if status.is_none() {
            self.kill();
        }
        let status = status.map(|status| status.expect("a child can be waited for"));
        // A grandchild may hold the pipe open for ever.
        let text = |pipe: &Receiver<String>| pipe.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
        let [stdout, stderr] = [text(&self.output[0]), text(&self.output[1])];
        Finished { command: self.command, status, stdout, stderr }
    }

    /// Returns whether the program ended within `wait`.
    pub fn ended_within(&self, wait: Duration) -> bool {
        self.ended.recv_timeout(wait).is_ok()
    }

    /// Sends a signal to the program.
    pub fn signal(&self, number: i32) {
        signal(self.group, number);
    }

    /// Kills the program and everything that it started.
    pub fn kill(&self) {
        signal(-self.group, libc::SIGKILL);
    }
}

/// Sends `signal` to a process, or to a group where `id` is negative.
pub fn signal(id: i32, signal: i32) {
    // SAFETY: kill(2) touches no memory; the id is of a child of ours.
    unsafe { libc::kill(id, signal) };
}

/// Reaps `child` from a thread, so that waiting can have a time limit.
pub fn reaped(mut child: Child) -> Receiver<std::io::Result<ExitStatus>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait()));
    receiver
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came before an error is still worth showing.
            let _ = pipe.read_to_end(&mut bytes);
        }
        sender.send(String::from_utf8_lossy(&bytes).into_owned())
    });
    receiver
}
