//! A disk that gets full, and larger.

use super::process::{ok, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the disk holds at first: less than a segment of a larger one.
pub const DISK_MIB: u64 = 160;
/// What the disk holds once it was made larger.
pub const LARGER_MIB: u64 = 224;

/// A small disk; dropping it takes it away.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `path`; only root may.
    pub fn mount(path: PathBuf) -> SmallDisk {
        std::fs::create_dir_all(&path).expect("a mount point");
        let options = format!("size={DISK_MIB}m,mode=0700");
        ok("mount", &["-t", "tmpfs", "-o", &options, "larder-small-disk", text(&path)], 20);
        SmallDisk(path)
    }

    /// Makes it larger.
    pub fn grow(&self) {
        ok("mount", &["-o", &format!("remount,size={LARGER_MIB}m"), text(&self.0)], 20);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0), 20);
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}
