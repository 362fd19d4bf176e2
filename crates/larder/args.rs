//! The command line, exactly as `larder --help` tells it.

use crate::limiting::Limiting;
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use larder_policy::Rate;
use larder_store::origin::Policy;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::subcommands::{DeviceCommand, RoleArg, RulesCommand, UserCommand};

/// A self-hosted network drive: WebDAV and a Linux mount over one safe store.
#[derive(Parser, Debug)]
#[command(name = "larder", version, about, max_term_width = 100)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Debug, Clone, Default)]
pub struct Common {
    /// Directory that holds the drive [default: $XDG_DATA_HOME/larder]
    #[arg(long, global = true, env = "LARDER_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Configuration file (TOML) instead of ~/.config/larder/larder.toml or /etc/larder/larder.toml
    #[arg(long, global = true, env = "LARDER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, trace, or a filter such as larder=debug
    #[arg(long, global = true, env = "LARDER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Key file (64 hex digits) of a drive that is encrypted; a new drive is encrypted with it
    #[arg(long, global = true, env = "LARDER_ENCRYPTION_KEY", value_name = "FILE")]
    pub encryption_key: Option<PathBuf>,
    /// How many days old versions and deleted files are kept [default: 30]
    #[arg(long, global = true, env = "LARDER_HISTORY_DAYS", value_name = "DAYS")]
    pub history_days: Option<u32>,
    /// Memory for chunks that were read, in MiB [default: 64]
    #[arg(long, global = true, env = "LARDER_CACHE_MIB", value_name = "MIB")]
    pub cache_mib: Option<u32>,
    /// How many seconds a read waits for bytes that are at a server [default: 30]
    #[arg(long, global = true, env = "LARDER_READER_DEADLINE", value_name = "SECONDS")]
    pub reader_deadline: Option<u32>,
    /// How much of a server's files a mount keeps on this machine, such as 10GiB [default: a tenth of the disk, at least 1GiB]
    #[arg(long, global = true, env = "LARDER_CACHE_SIZE", value_name = "SIZE")]
    pub cache_size: Option<String>,
    /// Programs that sweep through files, such as indexers: they read what a mount has on this machine, and have nothing fetched
    /// [default: updatedb, those of GNOME and KDE, and thumbnailers]
    #[arg(long, global = true, env = "LARDER_INDEXERS", value_name = "NAMES", value_delimiter = ',')]
    pub indexers: Option<Vec<String>>,
    /// Print JSON; a process that stays prints one line of it when it is ready
    #[arg(long, global = true)]
    pub json: bool,
}

/// Options of a server.
#[derive(Args, Debug, Clone, Default)]
pub struct Serving {
    /// Address to listen on [default: 127.0.0.1:4918]
    #[arg(long, env = "LARDER_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Certificate chain (PEM); read again on SIGHUP
    #[arg(long, env = "LARDER_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, env = "LARDER_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond this machine without TLS: everybody on the way can read passwords and files
    #[arg(long, env = "LARDER_INSECURE_HTTP", value_parser = BoolishValueParser::new())]
    pub insecure_http: bool,
    /// Limit of what the server sends, such as 2MiB/s, or off
    #[arg(long, env = "LARDER_LIMIT_DOWN", value_name = "RATE")]
    pub limit_down: Option<String>,
    /// Limit of what the server receives, such as 500KiB/s, or off
    #[arg(long, env = "LARDER_LIMIT_UP", value_name = "RATE")]
    pub limit_up: Option<String>,
    /// Go to the background once ready
    #[arg(long)]
    pub daemon: bool,
}

/// How a mount is made.
#[derive(Args, Debug, Clone, Default)]
pub struct Mounting {
    /// Mount options, as mount(8) has them: ro, allow_other, noexec, nosuid, nodev, sync
    #[arg(short = 'o', long = "options", value_name = "OPTIONS", value_delimiter = ',')]
    pub options: Vec<String>,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve and mount, all in one: the way to start
    Up {
        /// Where to mount [default: ~/Larder]
        dir: Option<PathBuf>,
        #[command(flatten)]
        serving: Serving,
        #[command(flatten)]
        mounting: Mounting,
    },
    /// Serve WebDAV only
    Serve {
        #[command(flatten)]
        serving: Serving,
    },
    /// Make this machine a device of a server, which `mount` can then show
    Login {
        /// The server, such as https://host:4918
        url: String,
        /// User [default: admin]
        #[arg(long, default_value = "admin")]
        user: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        /// What to call this device [default: the name of the machine]
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
        /// Trust only the certificates in this file (PEM), for a server that made its own
        #[arg(long, value_name = "FILE")]
        ca: Option<PathBuf>,
        /// Speak plain HTTP with another machine: everybody on the way can read passwords and files
        #[arg(long)]
        insecure_http: bool,
    },
    /// Mount a server's project, or a data directory
    Mount {
        /// Such as https://host:4918/home, or a data directory
        source: PathBuf,
        /// Where to mount it
        dir: PathBuf,
        #[command(flatten)]
        mounting: Mounting,
        #[command(flatten)]
        ways: Ways,
        /// Go to the background once mounted
        #[arg(long)]
        daemon: bool,
    },
    /// Take a mount away
    Umount {
        /// The mount
        dir: PathBuf,
    },
    /// Fetch a file, or all files in a folder, from a server; returns once they are queued
    Fetch {
        /// The file or folder, in a mount of a server's project
        path: PathBuf,
        /// From 1 to 10, the most urgent
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=10))]
        priority: u8,
        /// Give a file up when nothing of it came for so long, such as 30m, 2h or 7d
        #[arg(long, value_name = "TIME", value_parser = larder_policy::parse_span)]
        ttl: Option<Duration>,
        /// Move each file no faster than this, such as 2MiB/s; what programs read of it goes before
        #[arg(long, value_name = "RATE")]
        limit: Option<Rate>,
    },
    /// Keep a file or folder on this device, whatever changes: a rule `pin`
    Pin {
        /// The file or folder, in a mount of a server's project
        path: PathBuf,
    },
    /// Take the rule away that keeps a file or folder on this device
    Unpin {
        /// The file or folder
        path: PathBuf,
    },
    /// Free up space: drop what is on this device of a file or folder; the server has it, and it is fetched again when it is opened
    Free {
        /// The file or folder
        path: PathBuf,
    },
    /// Say which rule decides about a file or folder, whose it is, and what another would cost
    Why {
        /// The file or folder, which may be hidden
        path: PathBuf,
    },
    /// Show or change which files a device keeps, shows, or hides; the last rule that matches a path decides
    Rules {
        /// A mount of a server's project, or something in it [default: where you are, or the only one]
        #[arg(long = "in", global = true, value_name = "PATH")]
        place: Option<PathBuf>,
        /// Another device, as `larder device list` shows it
        #[arg(long, global = true, value_name = "ID")]
        device: Option<String>,
        #[command(subcommand)]
        command: Option<RulesCommand>,
    },
    /// Have nothing fetched until it is resumed; programs may still read
    Pause(Whole),
    /// Go on with what is paused
    Resume(Whole),
    /// Fetch no more of it; what came stays, and is not fetched again
    Cancel(Whole),
    /// Show what runs, or what is known of a file, and what is being fetched
    Status {
        /// A file, in a mount or in the drive
        path: Option<PathBuf>,
        /// Show it again each second while the server runs
        #[arg(long)]
        watch: bool,
        /// One short line of what moves, for bars and prompts; without PATH of all mounts of servers' projects
        #[arg(long, conflicts_with = "watch")]
        line: bool,
        /// Say which processes and orders had files fetched to this device, the newest first
        #[arg(long, conflicts_with = "watch")]
        why_fetched: bool,
    },
    /// Tell of changes and of what is fetched and sent, as it happens; with --json one value a line
    Events {
        /// At a path in a mount or in the drive, and below it [default: everything in the drive]
        path: Option<PathBuf>,
    },
    /// Say what was changed in a mount of a server's project and not sent there yet
    Push {
        /// The mount, or something in it
        #[arg(default_value = ".")]
        path: PathBuf,
        /// Wait until everything is sent
        #[arg(long)]
        wait: bool,
        /// Wait no longer than so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "wait")]
        timeout: u64,
    },
    /// List what was changed here and at the server, of which both sides were kept, or end one such conflict
    Conflicts {
        /// A folder in a mount of a server's project; with --keep one of the two files
        #[arg(default_value = ".")]
        path: PathBuf,
        /// End it: with the content of the server, of this device, or with two files as they are
        #[arg(long, value_enum, requires = "path")]
        keep: Option<Keep>,
    },
    /// List the versions of a file or folder, deleted ones too
    Versions {
        /// The file, in a mount or in the drive
        path: PathBuf,
    },
    /// Bring an earlier version, or what was deleted, back
    Restore {
        /// The file, in a mount or in the drive
        path: PathBuf,
        /// The version with this number
        #[arg(long, value_name = "N", conflicts_with = "at")]
        version: Option<u64>,
        /// The version of this time, such as 2026-11-20T18:00:00Z or 2h
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Drop history that is older than its setting, and chunks that nothing refers to
    Gc,
    /// Check every stored byte, and list the files that lost some
    Scrub {
        /// Read no faster than this
        #[arg(long, value_name = "RATE")]
        rate: Option<String>,
    },
    /// Make the index again from the log
    Rebuild {
        /// Go on without what damaged records of the log said, where no index has it either
        #[arg(long)]
        accept_loss: bool,
    },
    /// Show how much is stored
    Stats,
    /// Look for what keeps Larder from working here
    Doctor,
    /// Show or change how fast a running server, or a mount of a server's project, may move bytes
    Limit(Limiting),
    /// Who may come in
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Which devices may come in; they log in themselves
    Device {
        #[command(subcommand)]
        command: DeviceCommand,
    },
    /// Print a completion script
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What of all that is fetched or sent.
#[derive(Args, Debug, Clone)]
#[group(required = true, multiple = false)]
pub struct Whole {
    /// A file or folder, in a mount of a server's project
    pub path: Option<PathBuf>,
    /// Everything
    #[arg(long)]
    pub all: bool,
    /// All that is fetched
    #[arg(long)]
    pub down: bool,
    /// All that is sent
    #[arg(long)]
    pub up: bool,
}

/// The ways of a mount of a server's project; where nobody says anything, what was said before holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct Ways {
    /// Whether programs may still read what is at the server of a file whose fetch is paused (go, if nobody said so), or wait
    #[arg(long, value_enum, env = "LARDER_PAUSED_READS")]
    pub paused_reads: Option<PausedReads>,
    /// Which content a file gets that was changed here and at the server (keep-both, if nobody said so); the other one is in its
    /// history
    #[arg(long, value_enum, env = "LARDER_CONFLICTS")]
    pub conflicts: Option<Conflicts>,
}

/// What becomes of reads while a fetch is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PausedReads {
    /// They are fetched all the same
    Go,
    /// They wait for the end of the pause, up to --reader-deadline
    Wait,
}

/// Which content a file gets that both sides changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conflicts {
    /// The server's; this device's stays beside it as a file of its own
    #[default]
    #[value(name = "keep-both", alias = "keep_both")]
    Both,
    /// The one that was modified last
    #[value(name = "keep-newest", alias = "keep_newest")]
    Newest,
    /// This device's
    #[value(name = "keep-local", alias = "keep_local")]
    Local,
    /// The server's
    #[value(name = "keep-server", alias = "keep_server")]
    Server,
}

/// How a conflict ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The server's content, in one file
    Server,
    /// This device's content, in one file
    Local,
    /// Two files
    Both,
}

impl From<Conflicts> for Policy {
    fn from(conflicts: Conflicts) -> Self {
        match conflicts {
            Conflicts::Both => Policy::KeepBoth,
            Conflicts::Newest => Policy::KeepNewest,
            Conflicts::Local => Policy::KeepLocal,
            Conflicts::Server => Policy::KeepServer,
        }
    }
}
