//! Looks for what keeps Larder from working here, and says how to mend it.

use crate::config::StoreSettings;
use crate::control::socket_path;
use crate::directory::holds_drive;
use crate::show::{self, size};
use larder_core::Result;
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

/// Open files below which a busy server runs out of them.
const OPEN_FILES_MIN: u64 = 4096;
/// Free space below which a store soon refuses writes.
const FREE_MIN_BYTES: u64 = 1 << 30;

/// One thing looked at: its name, whether it is well, and what was found or what to do.
struct Finding {
    about: &'static str,
    well: bool,
    what: String,
}

/// Looks at everything and prints what it found; the exit code is 1 where something is wrong.
///
/// # Errors
/// None; the signature is that of the other commands.
pub fn run(settings: &StoreSettings, as_json: bool) -> Result<ExitCode> {
    let findings =
        [directory(&settings.data), space(&settings.data), server(&settings.data), fuse(), open_files()];
    if as_json {
        let all: Vec<Value> =
            findings.iter().map(|f| json!({ "about": f.about, "well": f.well, "what": f.what })).collect();
        show::print(&format!("{:#}\n", Value::Array(all)));
    } else {
        for Finding { about, well, what } in &findings {
            show::print(&format!("{} {about:10}  {what}\n", if *well { "ok   " } else { "WRONG" }));
        }
    }
    let well = findings.iter().all(|finding| finding.well);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn directory(data: &Path) -> Finding {
    let about = "data";
    let shown = data.display();
    let nearest = data.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    let writable = nearest.is_dir() && rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK).is_ok();
    let what = match (writable, holds_drive(data)) {
        (true, true) => format!("{shown} holds a drive"),
        (true, false) => format!("{shown} holds no drive yet; the first start makes one"),
        (false, _) => {
            format!(
                "{} is no directory that may be written: choose another --data, or change its owner",
                nearest.display()
            )
        }
    };
    Finding { about, well: writable, what }
}

fn space(data: &Path) -> Finding {
    let about = "space";
    let nearest = data.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(nearest) {
        Ok(disk) => {
            let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
            let well = free_bytes >= FREE_MIN_BYTES;
            let advice = if well { "" } else { ": free some, or run `larder gc`" };
            Finding { about, well, what: format!("{} free{advice}", size(free_bytes)) }
        }
        Err(e) => Finding { about, well: false, what: format!("{}: {e}", nearest.display()) },
    }
}

fn server(data: &Path) -> Finding {
    let about = "server";
    let path = socket_path(data);
    match UnixStream::connect(&path) {
        Ok(_) => Finding { about, well: true, what: "runs".into() },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Finding { about, well: true, what: "does not run".into() }
        }
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            Finding { about, well: true, what: "does not run; it ended without saying so".into() }
        }
        Err(e) => Finding { about, well: false, what: format!("{}: {e}", path.display()) },
    }
}

fn fuse() -> Finding {
    match larder_fuse::is_available() {
        Ok(()) => Finding { about: "mount", well: true, what: "FUSE can be used".into() },
        Err(error) => Finding { about: "mount", well: false, what: error.to_string() },
    }
}

fn open_files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let well = limit >= OPEN_FILES_MIN;
    let advice = if well { "" } else { ": raise it with `ulimit -n 65536` or LimitNOFILE=" };
    Finding { about: "open files", well, what: format!("at most {limit}{advice}") }
}
