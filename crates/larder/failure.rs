//! How a command ends: one line on standard error, and the exit code of its kind.

use larder_core::{Error, Kind};
use std::process::ExitCode;

/// Exit code for "try again later". Source: sysexits.h, EX_TEMPFAIL.
const EX_TEMPFAIL: u8 = 75;

/// The exit code for a kind of error.
pub fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Invalid => 2,
        Kind::Unavailable => EX_TEMPFAIL,
        Kind::NotFound
        | Kind::Exists
        | Kind::NotADirectory
        | Kind::IsADirectory
        | Kind::NotEmpty
        | Kind::Denied
        | Kind::Conflict
        | Kind::NoSpace
        | Kind::Corrupt
        | Kind::Unsupported => 1,
    }
}

/// The name of a kind on the control socket and in JSON.
pub fn kind_name(kind: Kind) -> String {
    format!("{kind:?}")
}

/// The kind of a name from [`kind_name`]; what is unknown is `Unavailable`.
pub fn kind_named(name: &str) -> Kind {
    Kind::ALL.into_iter().find(|kind| kind_name(*kind) == name).unwrap_or(Kind::Unavailable)
}

/// Tells the user and returns the exit code.
pub fn report(error: &Error) -> ExitCode {
    eprintln!("larder: {error}");
    if let Some(hint) = error.hint()
        && !error.what().contains(hint)
    {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(exit_code(error.kind()))
}
