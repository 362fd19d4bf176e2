//! POSIX, call by call, on a mount: what no third-party suite asks.

#![cfg(target_os = "linux")]

mod support;

mod posix {
    mod attributes;
    mod crowd;
    mod doors;
    mod files;
    mod folders;
    mod locks;
    mod names;
    mod sparse;
    mod xattrs;
}

use rustix::io::Errno;

/// The number of an error of std.
fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.expect_err("fails").raw_os_error().expect("the system's error")
}

/// Runs a shell script as the user `nobody`, with `mount` as its working directory; says whether it went well.
fn as_nobody(mount: &support::mount::TestMount, script: &str) -> bool {
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-ec", script])
        .current_dir(mount.path(""))
        .output()
        .expect("setpriv runs");
    println!("{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

/// As [`Errno`], to compare with what [`errno`] says.
const fn raw(errno: Errno) -> i32 {
    errno.raw_os_error()
}
