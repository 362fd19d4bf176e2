//! Logging in: this machine becomes a device of a server, with a token of its own instead of a password.
//!
//! | file | what |
//! |---|---|
//! | `~/.config/larder/servers/HOST_PORT.json` | [`Server`], readable by its owner only |

use crate::config::config_directory;
use crate::users::PASSWORD_MAX_BYTES;
use larder_core::{Error, Result};
use larder_store::origin::{Connection, Credentials, HttpOrigin};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A server that knows this device.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `http(s)://host:port`.
    pub url: String,
    /// Whose device this is.
    pub user: String,
    /// What the server calls the device.
    pub device: String,
    /// What the device says to be let in.
    pub token: String,
    /// Certificates to trust instead of the system's, in PEM.
    pub ca: Option<String>,
}

/// What is needed to log in.
pub struct Login {
    /// The server.
    pub url: String,
    /// The user.
    pub user: String,
    /// The name of this device; `None` for that of the machine.
    pub device: Option<String>,
    /// A file of certificates to trust.
    pub ca: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Made {
    name: String,
    token: String,
}

impl Login {
    /// Makes the device and keeps its token; returns the server's address and the device's name.
    ///
    /// # Errors
    /// `Invalid` for an address that is none; `Denied` for a wrong password; those of reaching the server.
    pub fn run(self, password: String) -> Result<(String, String)> {
        let url = server_of(&self.url)?;
        let ca = self.ca.map(|file| {
            std::fs::read_to_string(&file)
                .map_err(|e| Error::invalid(format!("--ca: {}", file.display())).because(e))
        });
        let ca = ca.transpose()?;
        let name = self.device.unwrap_or_else(machine_name);
        let credentials = Credentials::Password(&self.user, &password);
        let connection = Connection::new(&url, &credentials, certificates(ca.as_deref())?)?;
        let body = serde_json::to_vec(&json!({ "name": name })).expect("a string becomes JSON");
        let made: Made = connection.json(http::Method::POST, "devices", body)?;
        let server =
            Server { url: url.clone(), user: self.user, device: made.name.clone(), token: made.token, ca };
        server.save()?;
        Ok((url, made.name))
    }
}

impl Server {
    fn path(url: &str) -> Result<PathBuf> {
        let directory = config_directory()
            .ok_or_else(|| Error::invalid("this user has no home directory to keep the token in"))?;
        Ok(directory.join("servers").join(format!("{}.json", file_name(url))))
    }

    /// Reads what is kept of the server at `url`.
    ///
    /// # Errors
    /// `Denied` where this machine has not logged in there.
    pub fn load(url: &str) -> Result<Self> {
        let path = Self::path(url)?;
        let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::denied(format!("this machine is no device of {url} yet: run `larder login {url}`"))
            }
            _ => Error::io(path.display().to_string(), e),
        })?;
        serde_json::from_slice(&bytes).map_err(|e| Error::corrupt(path.display().to_string()).because(e))
    }

    /// Keeps it, whole or not at all.
    fn save(&self) -> Result<()> {
        let path = Self::path(&self.url)?;
        let failed = |e| Error::io(path.display().to_string(), e);
        std::fs::create_dir_all(path.parent().expect("it was joined")).map_err(failed)?;
        let next = path.with_extension("new");
        let mut file = std::fs::OpenOptions::new();
        let mut file =
            file.create(true).truncate(true).write(true).mode(0o600).open(&next).map_err(failed)?;
        let bytes = serde_json::to_vec_pretty(self).expect("strings become JSON");
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&next, &path).map_err(failed)
    }

    /// Connects as this device to `project`.
    ///
    /// # Errors
    /// `Invalid` for certificates that are none; those of starting a thread.
    pub fn origin(&self, project: &str) -> Result<HttpOrigin> {
        let roots = certificates(self.ca.as_deref())?;
        let connection = Connection::new(&self.url, &Credentials::Token(&self.token), roots)?;
        Ok(HttpOrigin::new(connection, project))
    }
}

/// `http(s)://host[:port]` without anything behind it.
///
/// # Errors
/// `Invalid` where `url` is something else.
pub fn server_of(url: &str) -> Result<String> {
    let wrong = || Error::invalid(format!("{url:?} is no address such as https://host:4918"));
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme @ ("http" | "https")), Some(authority))
            if is_bare && !authority.as_str().contains('@') =>
        {
            Ok(format!("{scheme}://{authority}"))
        }
        _ => Err(wrong()),
    }
}

/// A server's address as the name of a file.
pub fn file_name(url: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    address.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect()
}

fn machine_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "device".into() } else { name }
}

fn certificates(pem: Option<&str>) -> Result<Vec<Vec<u8>>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let Some(pem) = pem else { return Ok(Vec::new()) };
    let wrong = |e| Error::invalid("--ca: no certificates in PEM").because(format!("{e}"));
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(wrong)?;
    match found.is_empty() {
        true => Err(Error::invalid("--ca: no certificates in PEM")),
        false => Ok(found.into_iter().map(|certificate| certificate.to_vec()).collect()),
    }
}

/// The password: from standard input, or asked for on the terminal, where it is not shown.
///
/// # Errors
/// `Invalid` where there is no terminal to ask on.
pub fn password(from_stdin: bool) -> Result<String> {
    let mut text = String::new();
    let failed = |e| Error::invalid("password from standard input").because(e);
    if from_stdin || !std::io::stdin().is_terminal() {
        let read = std::io::Read::take(std::io::stdin(), PASSWORD_MAX_BYTES as u64 + 2);
        std::io::Read::read_to_string(&mut { read }, &mut text).map_err(failed)?;
    } else {
        eprint!("Password: ");
        let _hidden = Hidden::start();
        std::io::stdin().lock().read_line(&mut text).map_err(failed)?;
        eprintln!();
    }
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that does not show what is typed; dropping it shows it again. Source: termios(3), ECHO.
struct Hidden(Option<rustix::termios::Termios>);

impl Hidden {
    fn start() -> Self {
        let before = rustix::termios::tcgetattr(std::io::stdin()).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_modes -= rustix::termios::LocalModes::ECHO;
            let _ =
                rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &quiet);
        }
        Hidden(before)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ =
                rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_address_is_a_server() {
        assert_eq!(server_of("https://host:1/").expect("an address"), "https://host:1");
        for bad in ["host", "ftp://host", "https://user@host", "https://host/home", "https://", "http://h?x"]
        {
            assert!(server_of(bad).is_err(), "{bad}");
        }
        assert_eq!(file_name("https://[::1]:80"), "___1__80");
    }
}
