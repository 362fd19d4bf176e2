//! Data directories, before anybody opens what is in them.

use larder_core::{Error, Result};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a data directory. Nobody else looks into it: it holds everybody's files.
///
/// # Errors
/// Those of mkdir(2).
pub fn make_private(data: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|e| Error::io(format!("data directory {}", data.display()), e))
}

/// Says whether there is a drive in `data`; without its superblock it is one all the same.
pub fn holds_drive(data: &Path) -> bool {
    ["superblock", "segments"].iter().any(|name| data.join(name).exists())
}
