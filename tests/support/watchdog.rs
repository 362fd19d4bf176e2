//! Mounts that cannot wedge the machine: whoever makes one says how long it may live.
//!
//! A process that waits for a dead FUSE server cannot be killed, and every `df` joins it. Hence: when the time is over, the
//! connection is aborted in the kernel, and at the end the mount is detached whatever state it is in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// Watches a mount point and everything below it; dropping it takes the mounts away.
pub struct Watchdog {
    point: PathBuf,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    barked: Arc<AtomicBool>,
}

impl Watchdog {
    /// Watches what is or will be mounted at `point`, for at most `limit_s` seconds.
    pub fn start(point: &Path, limit_s: u64) -> Watchdog {
        let (stop, stopped) = mpsc::channel();
        let barked = Arc::new(AtomicBool::new(false));
        let (seen, place) = (barked.clone(), point.to_path_buf());
        let thread = std::thread::spawn(move || {
            let mut wait = Duration::from_secs(limit_s);
            // Aborted again each second: the test may mount anew in the meantime.
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                seen.store(true, Ordering::SeqCst);
                eprintln!("watchdog: {} was mounted for {limit_s} s and is aborted", place.display());
                abort(&place);
                wait = Duration::from_secs(1);
            }
        });
        Watchdog { point: point.to_path_buf(), stop: Some(stop), thread: Some(thread), barked }
    }

    /// The mount point.
    pub fn point(&self) -> &Path {
        &self.point
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        while let Some((minor, place)) = mounts_below(&self.point).pop() {
            abort_connection(minor);
            detach(&place);
            if mounts_below(&self.point).last() == Some(&(minor, place)) {
                break;
            }
        }
        if self.barked.load(Ordering::SeqCst) && !std::thread::panicking() {
            panic!("the watchdog had to abort the mount at {}", self.point.display());
        }
    }
}

/// Takes the topmost mount at `point` away without waiting for its server.
pub fn detach(point: &Path) {
    let programs: [(&str, &[&str]); 2] = [("umount", &["-l"]), ("fusermount3", &["-u", "-z", "-q"])];
    for (program, arguments) in programs {
        let mut command = std::process::Command::new(program);
        if super::process::run(command.args(arguments).arg(point), 10).code() == 0 {
            return;
        }
    }
}

/// Says whether something is mounted at `point`; asks the mount table, never the mount.
pub fn is_mounted(point: &Path) -> bool {
    mounts_below(point).iter().any(|(_, place)| place == point)
}

/// What is mounted at `point` and below, the newest last, by minor device number; a FUSE connection bears the same.
fn mounts_below(point: &Path) -> Vec<(u32, PathBuf)> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc/self/mountinfo");
    let mounted = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let place = PathBuf::from(fields.get(4)?.replace("\\040", " "));
        let minor = fields.get(2)?.split_once(':')?.1.parse().ok()?;
        place.starts_with(point).then_some((minor, place))
    };
    table.lines().filter_map(mounted).collect()
}

fn abort(point: &Path) {
    mounts_below(point).into_iter().for_each(|(minor, _)| abort_connection(minor));
    if !Path::new("/sys/fs/fuse/connections").read_dir().is_ok_and(|mut dir| dir.next().is_some()) {
        // Nobody mounted fusectl here: umount(2) with MNT_FORCE aborts the connection too.
        super::process::run(std::process::Command::new("umount").arg("-f").arg(point), 10);
    }
}

fn abort_connection(minor: u32) {
    // Gone already, or no FUSE mount: then there is nothing to abort.
    let _ = std::fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1");
}
