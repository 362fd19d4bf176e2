//! Measures Larder beside its peers: `cargo run --release -p larder-bench -- all`.
//!
//! One run starts every contender, gives each the same work in turn, several rounds interleaved, and prints a
//! Markdown table with medians, ratios and the goals. Development only: nothing depends on this package.

mod contender;
mod device;
mod http;
mod link;
mod machine;
mod memory;
mod mounting;
mod options;
mod start;
mod table;
mod throttle;
mod work_mount;
mod work_remote;
mod work_webdav;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use options::Options;
use table::Table;

/// What each contender promises while it is measured.
const TERMS: &str = "\
| contender | an answer means | authentication | configuration |
|---|---|---|---|
| larder | durable (fdatasync), hashed, deduplicated; mount: durable at fsync | Basic on every request | defaults |
| dufs | in the page cache | none | `-A` |
| apache | in the page cache | none | event MPM, mod_dav_fs, sendfile on |
| nginx | in the page cache | none | dav + dav-ext, 2 workers, sendfile on |
| rclone | in the page cache | none | `serve webdav` of a local folder |
| local mount | as larder's mount | – | `larder mount` of a data directory |
| curl | – | Basic | GET of the same file to /dev/null |
| ext4 | durable at fsync | – | a plain folder |
| rclone mount | in its cache; uploaded later | – | local folder, `--vfs-cache-mode full` |
| davfs2 | in its cache; uploaded at close | none | over Apache, `delay_upload 0` |
";

/// The scratch folder: made here, detached and removed when dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        clean(&self.0);
    }
}

fn clean(scratch: &Path) {
    machine::detach_mounts(scratch);
    if let Err(error) = std::fs::remove_dir_all(scratch) {
        eprintln!("{}: not removed: {error}", scratch.display());
    }
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> io::Result<()> {
    std::fs::create_dir_all(&options.scratch)?;
    let scratch = Scratch(options.scratch.canonicalize()?);
    clean_on_signal(&scratch.0)?;
    let mut table = Table::default();
    let before = machine::describe();
    for part in &options.parts {
        eprintln!("{part}: {}", machine::describe());
        let done = match part.as_str() {
            "webdav" => work_webdav::run(options, &mut table),
            "mount" => work_mount::run(options, &mut table),
            "remote" => work_remote::run(options, &mut table),
            "memory" => memory::run(options, &mut table),
            "start" => start::run(options, &mut table),
            _ => throttle::run(options, &mut table),
        };
        if let Err(error) = done {
            table.note(format!("{part} ended early: {error}"));
        }
        // The next part starts with the disk space of this one.
        clean(&scratch.0);
        std::fs::create_dir_all(&scratch.0)?;
    }
    if options.json {
        print!("{}", table.json());
    } else {
        println!("Before: {before}\nAfter: {}\n", machine::describe());
        println!(
            "{} rounds, {} MiB stand for 1 GiB.\n\n{TERMS}",
            options.rounds,
            options.size_bytes / machine::MIB
        );
        println!("{}", table.markdown());
    }
    Ok(())
}

/// Cleans up and ends the bench at SIGINT and SIGTERM; its children end with it.
fn clean_on_signal(scratch: &Path) -> io::Result<()> {
    let scratch = scratch.to_owned();
    // SAFETY: the set is initialised by sigemptyset before it is read; threads started later inherit the mask.
    let set = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut signal = 0;
        // SAFETY: both pointers are valid for the call.
        unsafe { libc::sigwait(&raw const set, &raw mut signal) };
        clean(&scratch);
        std::process::exit(130);
    })?;
    Ok(())
}
