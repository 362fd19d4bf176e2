//! Locks between processes, and what other doors hear of them.

use crate::support::mount::TestMount;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Starts a process that waits for an exclusive lock on `f`.
fn waiting(mount: &TestMount) -> Child {
    Command::new("flock")
        .args(["f", "true"])
        .current_dir(mount.path(""))
        .stdin(Stdio::null())
        .spawn()
        .expect("flock runs")
}

#[test]
fn a_lock_excludes_other_processes_and_a_waiter_can_be_killed() {
    let Some(mount) = TestMount::new() else { return };
    fs::write(mount.path("f"), "x").expect("written");
    let file = File::open(mount.path("f")).expect("opens");
    flock(&file, FlockOperation::LockExclusive).expect("locked");
    let other = File::open(mount.path("f")).expect("opens");
    assert_eq!(flock(&other, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK));
    let mut killed = waiting(&mount);
    let still = Command::new("flock").args(["-w", "0.2", "f", "true"]).current_dir(mount.path("")).status();
    assert_eq!(still.expect("flock runs").code(), Some(1), "the lock holds");
    killed.kill().expect("killed");
    assert!(!killed.wait().expect("a waiter dies at once").success());
    let mut waiter = waiting(&mount);
    flock(&file, FlockOperation::Unlock).expect("unlocked");
    assert!(waiter.wait().expect("ends").success());
    rustix::fs::fcntl_lock(
        File::options().write(true).open(mount.path("f")).expect("opens"),
        FlockOperation::NonBlockingLockExclusive,
    )
    .expect("locks of fcntl(2) work too");
}

#[test]
fn other_doors_know_of_locks_and_writers() {
    let Some(mount) = TestMount::new() else { return };
    fs::write(mount.path("f"), "x").expect("written");
    let id = mount.node("f");
    let busy = || mount.drive().busy().is_busy(id);
    // the last close is told to the server after close(2) returns
    let calm = || {
        (0..1000).any(|_| {
            !busy() || std::sync::mpsc::channel::<()>().1.recv_timeout(Duration::from_millis(5)).is_ok()
        })
    };
    assert!(calm());
    let file = File::open(mount.path("f")).expect("opens");
    assert!(!busy(), "reading is no reason");
    flock(&file, FlockOperation::LockShared).expect("locked");
    assert!(busy(), "locked");
    flock(&file, FlockOperation::Unlock).expect("unlocked");
    assert!(!busy());
    let writer = File::options().write(true).open(mount.path("f")).expect("opens");
    assert!(busy(), "open for writing");
    drop(writer);
    assert!(calm());
}
