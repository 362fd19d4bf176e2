//! What to run and where: the command line of the bench.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::{MIB, drop_caches, settle};

/// Size that the rows of the table speak of.
const FULL_BYTES: u64 = 1024 * MIB;
/// Memory for everything but the bulk.
const READY_BYTES: u64 = 512 * MIB;
/// No count shrinks below this, however small `--size` is.
const LEAST_COUNT: usize = 64;

/// How to call the bench.
pub const USAGE: &str = "larder-bench [all|webdav|mount|remote|memory|start|throttle]…
  --rounds N      rounds of the interleaved parts (default 3)
  --size SIZE     what stands for 1 GiB, e.g. 64MiB; counts shrink with it (default 1GiB)
  --only NAME     only this contender; may be repeated
  --work NAME     only this work: put, get, small, propfind, copy, sequential, files, random,
                  crowd, read, line, git, push, fetch; may be repeated
  --json          print JSON lines instead of the table
  --scratch DIR   where everything is kept until the end (default below the system's temporary folder)
  --larder FILE   this larder instead of building one
  --tools DIR     look for the peers' programs here first";

/// The parsed command line.
pub struct Options {
    /// Parts to run, in order.
    pub parts: Vec<String>,
    /// Rounds of the interleaved parts.
    pub rounds: usize,
    /// What stands for 1 GiB.
    pub size_bytes: u64,
    /// Print JSON lines.
    pub json: bool,
    /// The folder that holds everything and goes away.
    pub scratch: PathBuf,
    /// Our program.
    pub larder: PathBuf,
    /// Where the peers' programs may be.
    pub tools: PathBuf,
    only: Vec<String>,
    work: Vec<String>,
}

impl Options {
    /// Parses the command line.
    ///
    /// # Errors
    /// An unknown word or a missing value, named.
    pub fn parse(mut words: impl Iterator<Item = String>) -> io::Result<Options> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut options = Options {
            parts: Vec::new(),
            rounds: 3,
            size_bytes: FULL_BYTES,
            json: false,
            scratch: std::env::temp_dir().join(format!("larder-bench-{}", std::process::id())),
            larder: PathBuf::new(),
            tools: PathBuf::new(),
            only: Vec::new(),
            work: Vec::new(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| invalid(&format!("{word} needs a value")));
            match word.as_str() {
                "all" => options
                    .parts
                    .extend(["webdav", "mount", "remote", "memory", "start", "throttle"].map(String::from)),
                "webdav" | "mount" | "remote" | "memory" | "start" | "throttle" => options.parts.push(word),
                "--rounds" => {
                    options.rounds = value()?.parse().map_err(|_| invalid("--rounds needs a number"))?
                }
                "--size" => options.size_bytes = parse_size(&value()?)?,
                "--only" => options.only.push(value()?),
                "--work" => options.work.push(value()?),
                "--json" => options.json = true,
                "--scratch" => {
                    options.scratch = PathBuf::from(value()?).join(format!("bench-{}", std::process::id()))
                }
                "--larder" => options.larder = PathBuf::from(value()?),
                "--tools" => options.tools = PathBuf::from(value()?),
                _ => return Err(invalid(&format!("unknown argument {word}\n{USAGE}"))),
            }
        }
        if options.parts.is_empty() {
            return Err(invalid(USAGE));
        }
        if options.larder.as_os_str().is_empty() && options.takes("larder") {
            options.larder = build(&root)?;
        }
        Ok(options)
    }

    /// Says whether the contender `name` takes part.
    pub fn takes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Says whether the work `name` is done.
    pub fn wants(&self, name: &str) -> bool {
        self.work.is_empty() || self.work.iter().any(|work| work == name)
    }

    /// Makes the machine ready for a timed step: nothing dirty, and memory for twice `--size` at hand.
    pub fn settle(&self) -> io::Result<()> {
        settle(&self.scratch, 2 * self.size_bytes + READY_BYTES)
    }

    /// Empties the kernel's caches, then makes the machine ready.
    ///
    /// # Errors
    /// Only root may: the caller then leaves the cold rows out.
    pub fn chill(&self) -> io::Result<()> {
        drop_caches(&self.scratch)?;
        self.settle()
    }

    /// Scales a count of the table to `--size`.
    pub fn count(&self, full: usize) -> usize {
        let scaled = full as u64 * self.size_bytes.min(FULL_BYTES) / FULL_BYTES;
        (scaled as usize).max(LEAST_COUNT)
    }
}

fn build(root: &Path) -> io::Result<PathBuf> {
    let built =
        Command::new("cargo").current_dir(root).args(["build", "--release", "--bin", "larder"]).status()?;
    match built.success() {
        // Cargo puts it beside the bench.
        true => std::env::current_exe()?.with_file_name("larder").canonicalize(),
        false => Err(io::Error::other("cargo build --release --bin larder failed")),
    }
}

fn parse_size(text: &str) -> io::Result<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit {
        "MiB" | "M" => MIB,
        "GiB" | "G" => 1024 * MIB,
        _ => return Err(invalid("--size needs a number with MiB or GiB")),
    };
    Ok(digits.parse::<u64>().map_err(|_| invalid("--size needs a number with MiB or GiB"))? * unit)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
