//! One function per command.

use crate::args::{Cli, Command, Common, DeviceCommand, UserCommand};
use crate::config::{Config, StoreSettings};
use crate::directory::holds_drive;
use crate::failure::exit_code;
use crate::limiting::Limiting;
use crate::login::Login;
use crate::request::Request;
use crate::show::{self, Bar, Look};
use crate::users::{PASSWORD_MAX_BYTES, made_password};
use crate::{client, doctor, logging, mounts, ordering, prompt, ruling, time, umounting, watch};
use clap::CommandFactory;
use larder_core::{Error, Kind, Result};
use larder_drive::Clock;
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Carries out a command line.
///
/// # Errors
/// Those of the command; [`crate::failure`] makes exit codes of them.
pub fn run(cli: Cli) -> Result<ExitCode> {
    let Cli { common, command } = cli;
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "larder", &mut script);
        show::print(&String::from_utf8_lossy(&script));
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(&common)?;
    logging::start(config.log(&common).as_deref())?;
    let here = Here { common, config };
    match command {
        Command::Up { dir, serving, mounting } => here.up(dir, &serving, mounting),
        Command::Serve { serving } => here.serve(&serving, None),
        Command::Mount { source, dir, mounting, ways, daemon } => {
            here.mount(source, dir, mounting, ways, daemon)
        }
        Command::Umount { dir } => {
            let dir = umounting::run(&dir, |data| here.store_in(Some(data)))?;
            if here.common.json {
                println!("{}", json!({ "dir": dir }));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Login { url, user, password_stdin, device, ca, insecure_http } => {
            let login = Login { url, user, device, ca, insecure_http };
            let (server, device) = login.run(|| prompt::password(password_stdin))?;
            here.say(
                &format!("Logged in at {server} as {device}"),
                &json!({ "server": server, "device": device }),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor => doctor::run(&here.store()?, here.common.json),
        Command::Completions { .. } => unreachable!("answered above"),
        Command::Status { watch: true, .. } => here.watch(command),
        Command::Status { line: true, path, .. } => here.status_line(path.as_deref()),
        Command::Events { path } => here.events(path.as_deref()),
        Command::Fetch { .. } | Command::Pause(_) | Command::Resume(_) | Command::Cancel(_) => {
            let data = here.common.data.clone();
            let told = ordering::run(command, data, |data| here.store_in(Some(data)))?;
            told.into_iter().for_each(|(line, value)| here.say(&line, &value));
            Ok(ExitCode::SUCCESS)
        }
        Command::Limit(limiting) => here.limit(limiting),
        Command::Rules { .. } | Command::Pin { .. } | Command::Unpin { .. } => {
            let (line, value) = ruling::run(command, here.common.data.clone(), |data| here.store_in(data))?;
            here.say(&line, &value);
            Ok(ExitCode::SUCCESS)
        }
        other => here.ask(Asked::of(other)?),
    }
}

/// The options that every command has.
pub struct Here {
    /// What the command line says of every command.
    pub common: Common,
    /// What files say.
    pub config: Config,
}

impl Here {
    pub fn store(&self) -> Result<StoreSettings> {
        self.config.store(&self.common)
    }

    /// Settings of the store in `data`, or of the usual one.
    pub fn store_in(&self, data: Option<PathBuf>) -> Result<StoreSettings> {
        self.config.store(&Common { data, ..self.common.clone() })
    }

    /// Says something to people, or to programs.
    pub fn say(&self, line: &str, value: &Value) {
        if self.common.json { println!("{value}") } else { println!("{line}") }
    }

    /// Shows the answer again and again while a server runs.
    fn watch(&self, command: Command) -> Result<ExitCode> {
        let asked = Asked::of(command)?;
        let store = self.store_in(asked.source.or_else(|| self.common.data.clone()))?;
        watch::run(&store, &asked.request, self.common.json).map(|()| ExitCode::SUCCESS)
    }

    /// Shows or changes limits of a drive, of a mount, or of all mounts of servers' projects.
    fn limit(&self, limiting: Limiting) -> Result<ExitCode> {
        let (mount, request) = limiting.request();
        let of_device = matches!(request, Request::Limit { link: Some(_), .. });
        let sources = match mount {
            Some(mount) => vec![ordering::remote(&mount)?.0],
            None => self.sources(of_device)?,
        };
        for source in sources {
            self.ask(Asked { source: Some(source), ..Asked::plain(request.clone()) })?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The drive that the user named, or all mounts of servers' projects; without either the usual drive, where there is one
    /// and not only `of_devices` are meant.
    fn sources(&self, of_devices: bool) -> Result<Vec<PathBuf>> {
        let usual = self.store()?.data;
        if self.common.data.is_some() || (holds_drive(&usual) && !of_devices) {
            return Ok(vec![usual]);
        }
        Ok(ordering::remotes()?.into_iter().map(|(data, _)| data).collect())
    }

    /// The drive that has `path`.
    fn source_of(&self, path: &Path) -> Result<(StoreSettings, Vec<u8>)> {
        let place = mounts::place(path)?;
        let store = self.store_in(place.source.clone().or_else(|| self.common.data.clone()))?;
        Ok((store, place.bytes()))
    }

    fn status_line(&self, path: Option<&Path>) -> Result<ExitCode> {
        let stores = match path {
            Some(path) => vec![self.source_of(path)?.0],
            None => {
                let sources = self.sources(true)?.into_iter();
                sources.map(|data| self.store_in(Some(data))).collect::<Result<_>>()?
            }
        };
        watch::line(&stores, self.common.json).map(|()| ExitCode::SUCCESS)
    }

    fn events(&self, path: Option<&Path>) -> Result<ExitCode> {
        let (store, path) = match path {
            Some(path) => self.source_of(path)?,
            None => (self.store()?, Vec::new()),
        };
        watch::events(&store, &Request::Events { path }, self.common.json).map(|()| ExitCode::SUCCESS)
    }

    /// Asks whoever has the drive open, and shows the answer.
    fn ask(&self, asked: Asked) -> Result<ExitCode> {
        let store = self.store_in(asked.source.or_else(|| self.common.data.clone()))?;
        let bar = Bar::default();
        let mut answer = client::ask(&store, asked.request, &|step| bar.show(&step))?;
        bar.end();
        if let Some(password) = asked.made_password {
            answer["password"] = Value::String(password);
        }
        show::answer(&answer, &asked.look, self.common.json);
        match answer["damaged"].as_array() {
            Some(damaged) if !damaged.is_empty() => {
                eprintln!("larder: stored bytes are not what was stored");
                eprintln!("hint: put these files again, or restore an earlier version of them");
                Ok(ExitCode::from(exit_code(Kind::Corrupt)))
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    }
}

/// What a command asks, and how its answer is shown.
struct Asked {
    request: Request,
    look: Look,
    /// The data directory of the mount that the command's path is in.
    source: Option<PathBuf>,
    /// A password that was made here, to be shown once.
    made_password: Option<String>,
}

impl Asked {
    fn of(command: Command) -> Result<Asked> {
        Ok(match command {
            Command::Status { path, why_fetched: true, .. } => {
                let of = |path| Request::WhyFetched { path };
                Asked::about(path.as_deref().unwrap_or(Path::new(".")), Look::Fetched, of)?
            }
            Command::Status { path: Some(path), .. } => {
                Asked::about(&path, Look::Status, |path| Request::Status { path: Some(path) })?
            }
            Command::Push { path, wait, timeout } => {
                let wait_ms = if wait { timeout.saturating_mul(1000) } else { 0 };
                Asked::about(&path, Look::Fields, |_| Request::Push { wait_ms })?
            }
            Command::Conflicts { path, keep: None } => {
                Asked::about(&path, Look::Conflicts, |path| Request::Conflicts { path, keep: None })?
            }
            Command::Conflicts { path, keep } => {
                let look = Look::Line(&["Kept ", "kept", " of ", "path"]);
                Asked::about(&path, look, |path| Request::Conflicts { path, keep })?
            }
            Command::Why { path } => Asked::about(&path, Look::Fields, |path| Request::Why { path })?,
            Command::Free { path } => Asked::about(&path, Look::Fields, |path| Request::Free { path })?,
            Command::Versions { path } => {
                Asked::about(&path, Look::Versions, |path| Request::Versions { path })?
            }
            Command::Restore { path, version, at } => {
                let now = Clock::system().now();
                let at_ns = at.map(|at| time::parse(&at, now)).transpose()?.map(|at| at.0);
                let look = Look::Line(&["Restored ", "path"]);
                Asked::about(&path, look, |path| Request::Restore { path, version, at_ns })?
            }
            Command::Status { path: None, .. } => {
                Asked { look: Look::Status, ..Asked::plain(Request::Status { path: None }) }
            }
            Command::Gc => Asked::plain(Request::Gc),
            Command::Scrub { rate } => Asked::plain(Request::Scrub { rate }),
            Command::Rebuild { accept_loss } => Asked::plain(Request::Rebuild { accept_loss }),
            Command::Stats => Asked::plain(Request::Stats),
            Command::User { command } => Asked::user(command)?,
            Command::Device { command: DeviceCommand::List } => {
                Asked { look: Look::Devices, ..Asked::plain(Request::DeviceList) }
            }
            Command::Device { command: DeviceCommand::Remove { id } } => {
                let look = Look::Line(&["Removed ", "id"]);
                Asked { look, ..Asked::plain(Request::DeviceRemove { id }) }
            }
            other => unreachable!("{other:?} has a function of its own"),
        })
    }

    fn plain(request: Request) -> Asked {
        Asked { request, look: Look::Fields, source: None, made_password: None }
    }

    fn about(argument: &Path, look: Look, request: impl FnOnce(Vec<u8>) -> Request) -> Result<Asked> {
        let place = mounts::place(argument)?;
        Ok(Asked { request: request(place.bytes()), look, source: place.source, made_password: None })
    }

    fn user(command: UserCommand) -> Result<Asked> {
        let (request, words, made_password): (_, &[&str], _) = match command {
            UserCommand::List => return Ok(Asked { look: Look::Users, ..Asked::plain(Request::UserList) }),
            UserCommand::Remove { name } => (Request::UserRemove { name }, &["Removed ", "name"], None),
            UserCommand::Add { name, role, password_stdin } => {
                let (password, made) = password(password_stdin)?;
                (Request::UserAdd { name, role: role.into(), password }, &["Added ", "name"], made)
            }
            UserCommand::Password { name, password_stdin } => {
                let (password, made) = password(password_stdin)?;
                (Request::UserPassword { name, password }, &["Changed the password of ", "name"], made)
            }
        };
        Ok(Asked { request, look: Look::Line(words), source: None, made_password })
    }
}

/// The password to set, and again if it was made here.
fn password(from_stdin: bool) -> Result<(String, Option<String>)> {
    if !from_stdin {
        let made = made_password();
        return Ok((made.clone(), Some(made)));
    }
    let mut text = String::new();
    let read = std::io::stdin().take(PASSWORD_MAX_BYTES as u64 + 2).read_to_string(&mut text);
    read.map_err(|e| Error::invalid("password from standard input").because(e))?;
    Ok((text.trim_end_matches(['\n', '\r']).to_string(), None))
}
