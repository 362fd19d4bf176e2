//! `larder umount`: by the process that serves the mount, or without it.

use crate::config::StoreSettings;
use crate::request::Request;
use crate::{client, mounts};
use larder_core::{Error, Kind, Result};
use std::path::{Path, PathBuf};

/// Takes the mount at `dir` away, and returns where that is; `store` reads the settings of a data directory.
///
/// # Errors
/// `NotFound` for what is no mount; those of committing what was written.
pub fn run(dir: &Path, store: impl Fn(PathBuf) -> Result<StoreSettings>) -> Result<PathBuf> {
    let dir = std::path::absolute(dir).map_err(|e| Error::io(dir.display().to_string(), e))?;
    let mount = mounts::at(&dir)?
        .ok_or_else(|| Error::not_found(format!("{} is no mount of Larder", dir.display())))?;
    let store = store(mount.source.clone())?;
    // The process that serves it knows when the last write is committed.
    match client::ask_running(&store, &Request::Umount { dir: mount.dir.clone() }) {
        Ok(Some(_)) => {}
        Ok(None) => {
            let done = larder_fuse::unmount(&mount.dir);
            // A process that ends may have been faster.
            if done.is_err() && mounts::at(&mount.dir)?.as_ref() == Some(&mount) {
                return done.map(|()| dir);
            }
            client::await_end(&store)?;
        }
        // What has the drive open now did not make this mount.
        Err(error) if error.kind() == Kind::NotFound => larder_fuse::unmount(&mount.dir)?,
        Err(error) => {
            if mounts::at(&mount.dir)?.as_ref() == Some(&mount) {
                larder_fuse::unmount(&mount.dir)?;
            }
            return Err(error);
        }
    }
    Ok(dir)
}
