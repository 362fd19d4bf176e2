//! Mounts that this process serves.

use larder_core::{Error, Result};
use larder_drive::Drive;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The mounts of a process; dropping it unmounts them.
#[derive(Default)]
pub struct Mounts(Mutex<Vec<(PathBuf, larder_fuse::Mounted)>>);

impl Mounts {
    /// Mounts `drive` at `dir`, shown as coming from `source`.
    ///
    /// # Errors
    /// `Invalid` for an unknown option; `Unsupported` where FUSE cannot be had; those of mount(2).
    pub fn add(&self, drive: &Arc<Drive>, source: &Path, dir: &Path, options: &[String]) -> Result<()> {
        let options = parsed(source, options)?;
        let mounted = larder_fuse::spawn(drive, dir, &options)?;
        let mut mounts = self.0.lock();
        mounts.retain(|(_, mounted)| !mounted.wait(Some(std::time::Duration::ZERO)));
        mounts.push((dir.to_path_buf(), mounted));
        Ok(())
    }

    /// Where they are.
    pub fn list(&self) -> Vec<PathBuf> {
        let mut mounts = self.0.lock();
        mounts.retain(|(_, mounted)| !mounted.wait(Some(std::time::Duration::ZERO)));
        mounts.iter().map(|(dir, _)| dir.clone()).collect()
    }

    /// Unmounts the one at `dir`; says whether there was one.
    ///
    /// # Errors
    /// Those of committing what was written.
    pub fn remove(&self, dir: &Path) -> Result<bool> {
        let mut mounts = self.0.lock();
        let Some(index) = mounts.iter().position(|(mounted_at, _)| mounted_at == dir) else {
            return Ok(false);
        };
        let (_, mounted) = mounts.remove(index);
        // Not under the lock: it may take a while, and `status` should answer meanwhile.
        drop(mounts);
        mounted.unmount().map(|()| true)
    }

    /// Unmounts all of them; what was written is committed.
    pub fn end(&self) {
        let mounts = std::mem::take(&mut *self.0.lock());
        for (dir, mounted) in mounts {
            if let Err(error) = mounted.unmount() {
                tracing::error!(dir = %dir.display(), %error, "unmounting");
            }
        }
    }
}

/// Reads options as mount(8) passes them on; what concerns mount(8) itself is skipped.
///
/// # Errors
/// `Invalid` for an unknown one.
pub fn parsed(source: &Path, options: &[String]) -> Result<larder_fuse::Options> {
    let mut parsed =
        larder_fuse::Options { source: source.display().to_string(), stand_in: true, ..Default::default() };
    for option in options.iter().map(|option| option.trim()).filter(|option| !option.is_empty()) {
        match option {
            "allow_other" => parsed.allow_other = true,
            "ro" => parsed.read_only = true,
            "suid" | "dev" => parsed.trusted = true,
            "nosuid" | "nodev" => parsed.trusted = false,
            "rw"
            | "defaults"
            | "auto"
            | "noauto"
            | "user"
            | "users"
            | "nouser"
            | "_netdev"
            | "nofail"
            | "exec"
            | "async"
            | "relatime"
            | "noatime"
            | "default_permissions" => {}
            other if other.starts_with("x-") || other.starts_with("comment=") => {}
            other => return Err(Error::invalid(format!("unknown mount option {other}"))),
        }
    }
    Ok(parsed)
}
