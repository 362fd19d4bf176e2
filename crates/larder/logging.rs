//! Logs: lines on standard error.

use larder_core::{Error, Result};
use std::io::IsTerminal;
use std::str::FromStr;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging what `filter` asks for, such as `info` or `warn,larder=debug`; by default warnings.
///
/// # Errors
/// `Invalid` for a filter that is none.
pub fn start(filter: Option<&str>) -> Result<()> {
    let wrong = |e| Error::invalid(format!("log filter {:?}", filter.unwrap_or_default())).because(e);
    let targets = match filter {
        None => Targets::new().with_default(LevelFilter::WARN),
        Some(filter) => Targets::from_str(filter).map_err(wrong)?,
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start in one process changes nothing; there is none.
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
    Ok(())
}

use tracing_subscriber::Layer;
