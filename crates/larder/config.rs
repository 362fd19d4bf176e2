//! Settings: flags first, then `LARDER_*` variables, then the configuration file, then defaults.
//!
//! Whatever is wrong is told in one line that names the key and the file, or the flag. Only commands call this.

use crate::args::{Common, Serving};
use crate::limits::Limits;
use larder_core::{Error, Result};
use larder_drive::fetch;
use larder_policy::{Direction, Timetable, parse_size};
use larder_store::origin::Policy;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The port, after RFC 4918.
pub const PORT: u16 = 4918;
/// The file for all users of the machine.
const SYSTEM_FILE: &str = "/etc/larder/larder.toml";
/// How long a read waits for what is at a server, in seconds.
const READER_DEADLINE_S: u32 = 30;
/// The longest that it can be told to.
const READER_DEADLINE_MAX_S: u32 = 3600;
/// The least that a mount of a server's project can be told to keep, in bytes: much less would not hold what is read ahead.
const CACHE_SIZE_MIN_BYTES: u64 = 64 << 20;
/// The longest history that can be asked for: a hundred years.
const HISTORY_DAYS_MAX: u32 = 36_500;

/// The configuration file; every key is also a flag.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    data: Option<PathBuf>,
    log: Option<String>,
    listen: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    insecure_http: Option<bool>,
    limit_down: Option<String>,
    limit_up: Option<String>,
    encryption_key: Option<PathBuf>,
    history_days: Option<u32>,
    cache_mib: Option<u32>,
    reader_deadline: Option<u32>,
    cache_size: Option<String>,
    indexers: Option<Vec<String>>,
}

/// The file that was read, if any.
#[derive(Debug, Default)]
pub struct Config {
    file: File,
    path: Option<PathBuf>,
}

/// How a server is to run.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Certificate and key.
    pub tls: Option<TlsFiles>,
    /// Limits; what they leave open is what was set last while running.
    pub limits: Limits,
}

/// Where certificate and key are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
    /// How a message about the chain starts.
    pub cert_origin: String,
    /// How a message about the key starts.
    pub key_origin: String,
}

/// How a store is to be opened.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The data directory.
    pub data: PathBuf,
    /// The key file, outside the data directory.
    pub encryption_key: Option<PathBuf>,
    /// How long history is kept.
    pub history_ns: i64,
    /// Bound of the chunk cache.
    pub cache_bytes: usize,
    /// How what is at a server is fetched.
    pub fetching: fetch::Settings,
    /// What becomes of a file that was changed here and at a server.
    pub conflicts: Policy,
    /// How much of it is kept; `None` for what fits the disk.
    pub kept_bytes: Option<u64>,
    /// Programs that have nothing fetched; `None` for the usual ones.
    pub indexers: Option<Vec<String>>,
}

impl Config {
    /// Reads the file that `common` names, else the user's, else the system's.
    ///
    /// # Errors
    /// `Invalid` for what is wrong in it; `NotFound` where it was named and is missing.
    pub fn load(common: &Common) -> Result<Config> {
        let candidates = match &common.config {
            Some(path) => vec![path.clone()],
            None => user_file().into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect(),
        };
        for path in candidates {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Config::parse(&text, path),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && common.config.is_none() => {}
                Err(e) => {
                    let what = format!("configuration file {}", path.display());
                    return Err(Error::invalid(what).because(e));
                }
            }
        }
        Ok(Config::default())
    }

    fn parse(text: &str, path: PathBuf) -> Result<Config> {
        let file = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map_or(String::new(), |line| format!(":{line}"));
            Error::invalid(format!("{}{line}: {}", path.display(), error.message().replace('\n', " ")))
        })?;
        Ok(Config { file, path: Some(path) })
    }

    /// How the key of the file is named in messages.
    fn origin(&self, flag: bool, key: &str) -> String {
        match &self.path {
            Some(path) if !flag => format!("{}: key `{key}`", path.display()),
            _ => format!("--{key}"),
        }
    }

    /// What to log.
    pub fn log(&self, common: &Common) -> Option<String> {
        common.log.clone().or_else(|| self.file.log.clone())
    }

    /// Settings of the store.
    ///
    /// # Errors
    /// `Invalid` where there is no home directory to default to, or a number is out of bounds.
    pub fn store(&self, common: &Common) -> Result<StoreSettings> {
        let data = common.data.clone().or_else(|| self.file.data.clone()).or_else(default_data);
        let data = data.ok_or_else(|| Error::invalid("--data is needed: this user has no home directory"))?;
        let data = std::path::absolute(&data).map_err(|e| Error::io(data.display().to_string(), e))?;
        let days = common.history_days.or(self.file.history_days).unwrap_or(30);
        if days > HISTORY_DAYS_MAX {
            let origin = self.origin(common.history_days.is_some(), "history-days");
            return Err(Error::invalid(format!("{origin}: at most {HISTORY_DAYS_MAX}")));
        }
        let cache_mib = common.cache_mib.or(self.file.cache_mib).unwrap_or(64);
        if !(8..=1 << 20).contains(&cache_mib) {
            let origin = self.origin(common.cache_mib.is_some(), "cache-mib");
            return Err(Error::invalid(format!("{origin}: 8 to 1048576")));
        }
        let deadline_s = common.reader_deadline.or(self.file.reader_deadline).unwrap_or(READER_DEADLINE_S);
        if !(1..=READER_DEADLINE_MAX_S).contains(&deadline_s) {
            let origin = self.origin(common.reader_deadline.is_some(), "reader-deadline");
            return Err(Error::invalid(format!("{origin}: 1 to {READER_DEADLINE_MAX_S}")));
        }
        Ok(StoreSettings {
            data,
            kept_bytes: self.cache_size(common)?,
            indexers: common.indexers.clone().or_else(|| self.file.indexers.clone()),
            fetching: fetch::Settings {
                deadline: Duration::from_secs(deadline_s.into()),
                pause_holds_readers: false,
            },
            conflicts: Policy::default(),
            encryption_key: common.encryption_key.clone().or_else(|| self.file.encryption_key.clone()),
            history_ns: i64::from(days) * 24 * 3600 * 1_000_000_000,
            cache_bytes: cache_mib as usize * (1 << 20),
        })
    }

    fn cache_size(&self, common: &Common) -> Result<Option<u64>> {
        let Some(text) = common.cache_size.as_ref().or(self.file.cache_size.as_ref()) else {
            return Ok(None);
        };
        let too_small = || Error::invalid(format!("{text:?} is less than 64MiB"));
        let size = parse_size(text);
        let size =
            size.and_then(|size| if size < CACHE_SIZE_MIN_BYTES { Err(too_small()) } else { Ok(size) });
        size.map(Some).map_err(|error| {
            let origin = self.origin(common.cache_size.is_some(), "cache-size");
            Error::invalid(format!("{origin}: {error}"))
        })
    }

    /// Settings of a server.
    ///
    /// # Errors
    /// `Invalid`, naming key and file or the flag.
    pub fn server(&self, serving: &Serving) -> Result<ServerSettings> {
        let listen = match (&serving.listen, &self.file.listen) {
            (Some(address), _) => *address,
            (None, None) => (Ipv4Addr::LOCALHOST, PORT).into(),
            (None, Some(text)) => text.parse().map_err(|_| {
                let origin = self.origin(false, "listen");
                Error::invalid(format!("{origin}: {text:?} is no address such as 127.0.0.1:{PORT}"))
            })?,
        };
        let tls = self.tls(serving)?;
        let insecure = serving.insecure_http || self.file.insecure_http.unwrap_or(false);
        if !listen.ip().is_loopback() && tls.is_none() && !insecure {
            return Err(Error::invalid(format!(
                "{listen} can be reached from other machines and there is no certificate: give --tls-cert and \
                 --tls-key, or --insecure-http to send passwords and files readable for everybody on the way"
            )));
        }
        Ok(ServerSettings {
            listen,
            tls,
            limits: Limits {
                down: self.limit(
                    "limit-down",
                    (&serving.limit_down, &self.file.limit_down),
                    Direction::Down,
                )?,
                up: self.limit("limit-up", (&serving.limit_up, &self.file.limit_up), Direction::Up)?,
                total: None,
            },
        })
    }

    fn limit(
        &self,
        key: &str,
        (flag, in_file): (&Option<String>, &Option<String>),
        direction: Direction,
    ) -> Result<Option<Timetable>> {
        let Some(text) = flag.as_ref().or(in_file.as_ref()) else { return Ok(None) };
        Timetable::parse(text, direction).map(Some).map_err(|error| {
            let origin = self.origin(flag.is_some(), key);
            Error::invalid(format!("{origin}: {error}"))
        })
    }

    fn tls(&self, serving: &Serving) -> Result<Option<TlsFiles>> {
        let cert = serving.tls_cert.as_ref().or(self.file.tls_cert.as_ref());
        let key = serving.tls_key.as_ref().or(self.file.tls_key.as_ref());
        let cert_origin = self.origin(serving.tls_cert.is_some(), "tls-cert");
        let key_origin = self.origin(serving.tls_key.is_some(), "tls-key");
        let (cert, key) = match (cert, key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            (Some(_), None) => return Err(Error::invalid(format!("{cert_origin} needs tls-key beside it"))),
            (None, Some(_)) => return Err(Error::invalid(format!("{key_origin} needs tls-cert beside it"))),
        };
        for (path, origin) in [(&cert, &cert_origin), (&key, &key_origin)] {
            std::fs::metadata(path)
                .map_err(|e| Error::invalid(format!("{origin}: {}", path.display())).because(e))?;
        }
        Ok(Some(TlsFiles { cert, key, cert_origin, key_origin }))
    }
}

/// The user's directory of the kind that `variable` names, or `below_home` in the home directory.
#[expect(clippy::disallowed_methods, reason = "the binary is where the environment is read")]
fn user_directory(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let set = std::env::var_os(variable).map(PathBuf::from).and_then(absolute);
    set.or_else(|| home().map(|home| home.join(below_home)))
}

/// The home directory.
pub fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home != Path::new(""))
}

/// Where the user's settings of this program are.
pub fn config_directory() -> Option<PathBuf> {
    Some(user_directory("XDG_CONFIG_HOME", ".config")?.join("larder"))
}

fn user_file() -> Option<PathBuf> {
    Some(config_directory()?.join("larder.toml"))
}

/// Where programs keep the user's data.
pub fn data_directory() -> Option<PathBuf> {
    user_directory("XDG_DATA_HOME", ".local/share")
}

fn default_data() -> Option<PathBuf> {
    Some(data_directory()?.join("larder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, "/etc/larder/larder.toml".into())
    }

    #[test]
    fn unknown_key_is_named_with_file_and_line() {
        let error = parse("data = \"/x\"\nlisen = \"y\"\n").expect_err("unknown").to_string();
        assert!(error.starts_with("/etc/larder/larder.toml:2: ") && error.contains("`lisen`"), "{error}");
    }

    #[test]
    fn readme_shows_keys_that_exist() {
        let readme = include_str!("../../README.md");
        let example = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        let config = parse(example.expect("an example")).expect("every key is known");
        assert_eq!(config.file.cache_mib, Some(256));
        config.store(&Common::default()).expect("within bounds");
    }

    #[test]
    fn bad_rate_names_its_key() {
        let config = parse("limit-down = \"fast\"").expect("syntax is fine");
        let error = config.server(&Serving::default()).expect_err("no rate").to_string();
        assert!(error.starts_with("/etc/larder/larder.toml: key `limit-down`: rate \"fast\""), "{error}");
    }

    #[test]
    fn flag_wins_over_file() {
        let config = parse("limit-up = \"1MiB/s\"\nlisten = \"127.0.0.1:1\"").expect("fine");
        let serving = Serving { limit_up: Some("off".into()), ..Serving::default() };
        let settings = config.server(&serving).expect("fine");
        assert_eq!((settings.limits.up, settings.listen.port()), (Some(Timetable::always(None)), 1));
    }

    #[test]
    fn other_machines_need_tls_or_plain_words() {
        let open = Serving { listen: Some(([0, 0, 0, 0], 1).into()), ..Serving::default() };
        let config = Config::default();
        assert!(config.server(&open).expect_err("no TLS").to_string().contains("--insecure-http"));
        assert!(config.server(&Serving { insecure_http: true, ..open }).is_ok());
    }
}
