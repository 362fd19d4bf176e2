//! The command: reads arguments and configuration, puts the crates together, and runs them.
//!
//! The only place that reads the environment and asks the system for randomness. What a drive does is below, in
//! larder-drive; this crate must not know it better.

mod actor;
mod args;
mod attempts;
mod auth;
mod client;
mod clock;
mod commands;
mod config;
mod conflicts;
mod control;
mod daemon;
mod data;
mod devices;
mod directory;
mod doctor;
mod events;
mod evicting;
mod failure;
mod fetching;
mod framing;
mod joined;
mod keeping;
mod limiter;
mod limiting;
mod limits;
mod listen;
mod logging;
mod login;
mod maintenance;
mod metrics;
mod mounting;
mod mounts;
mod notify;
mod operator;
mod ordering;
mod origin;
mod pace;
mod pacing;
mod pages;
mod payers;
mod placing;
mod prompt;
mod random;
mod ready;
mod request;
mod ruling;
mod run;
mod shaping;
mod show;
mod status_line;
mod staying;
mod stream;
mod subcommands;
mod time;
mod tls;
mod umounting;
mod users;
mod views;
mod watch;
mod web;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Started by a mount of this very program, to answer while that one is stopped.
    if let Some(code) = larder_fuse::stand_in() {
        return code;
    }
    let cli = args::Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
