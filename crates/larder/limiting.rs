//! The arguments of `larder limit`.

use clap::Args;
use std::path::PathBuf;

/// Limits of a server or of a mount.
#[derive(Args, Debug, Clone)]
pub struct Limiting {
    /// A mount of a server's project [default: the drive in --data; without one, all mounts of servers' projects]
    pub mount: Option<PathBuf>,
    /// What goes from the server to devices: 2MiB/s, off, or by the clock "08:00,2M 18:00,off"
    #[arg(long, value_name = "RATE")]
    pub down: Option<String>,
    /// What goes from devices to the server, likewise
    #[arg(long, value_name = "RATE")]
    pub up: Option<String>,
    /// Both together, likewise
    #[arg(long, value_name = "RATE", conflicts_with_all = ["user", "device"])]
    pub total: Option<String>,
    /// When that holds, such as "mon-fri 08:00-18:00" in local time; always otherwise
    #[arg(long, value_name = "TIMES")]
    pub window: Option<String>,
    /// Of this user at the server, on all devices together
    #[arg(long, value_name = "NAME", conflicts_with_all = ["mount", "device"])]
    pub user: Option<String>,
    /// Of this device at the server: its id, as `larder device list` shows it
    #[arg(long, value_name = "ID", conflicts_with = "mount")]
    pub device: Option<String>,
    /// Ask the server for nothing and send it nothing: programs read what is here, changes wait
    #[arg(long, conflicts_with_all = ["metered", "online", "user", "device"])]
    pub offline: bool,
    /// Move what programs read, and nothing that can wait
    #[arg(long, conflicts_with_all = ["online", "user", "device"])]
    pub metered: bool,
    /// End of that
    #[arg(long, conflicts_with_all = ["user", "device"])]
    pub online: bool,
}
