//! The commands that have commands of their own.

use clap::{Subcommand, ValueEnum};
use std::path::PathBuf;

/// What to do about users.
#[derive(Subcommand, Debug)]
pub enum UserCommand {
    /// Let somebody in
    Add {
        /// The name
        name: String,
        /// What they may do in `home`
        #[arg(long, value_enum, default_value_t = RoleArg::Editor)]
        role: RoleArg,
        /// Read the password from standard input; else one is made and shown
        #[arg(long)]
        password_stdin: bool,
    },
    /// List users
    List,
    /// Give a user another password
    Password {
        /// The name
        name: String,
        /// Read the password from standard input; else one is made and shown
        #[arg(long)]
        password_stdin: bool,
    },
    /// Let somebody in no more
    Remove {
        /// The name
        name: String,
    },
}

/// What to do about rules.
#[derive(Subcommand, Debug)]
pub enum RulesCommand {
    /// Show them
    List,
    /// Add one at the end, such as `exclude Videos`, `pin "My Photos"` or `on-demand "*.iso"`
    Add {
        /// pin, on-demand or exclude, and a folder or a pattern
        #[arg(required = true, value_name = "RULE")]
        rule: Vec<String>,
        /// For that folder and the files directly in it only
        #[arg(long)]
        no_subfolders: bool,
    },
    /// Remove one
    Remove {
        /// Its number, or the rule itself
        #[arg(required = true, value_name = "RULE")]
        rule: Vec<String>,
        /// As it was added
        #[arg(long)]
        no_subfolders: bool,
    },
    /// Have those in a file instead, one a line
    Set {
        /// The file; - for standard input
        file: PathBuf,
    },
}

/// What to do about devices.
#[derive(Subcommand, Debug)]
pub enum DeviceCommand {
    /// List devices
    List,
    /// Let a device in no more
    Remove {
        /// The id, as `larder device list` shows it
        id: String,
    },
}

/// What a user may do in `home`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Everything, members too
    Owner,
    /// Read and write
    Editor,
    /// Read
    Viewer,
}
