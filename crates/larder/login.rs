//! Logging in: this machine becomes a device of a server, with a token of its own instead of a password.
//!
//! | file | what |
//! |---|---|
//! | `~/.config/larder/servers/SCHEME-HOST_3APORT.json` | [`Server`], readable by its owner only |

use crate::config::config_directory;
use larder_core::{Error, Result};
use larder_store::origin::{Connection, Credentials, HttpOrigin, Pace};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    /// The user said that everybody on the way may read the token and the files.
    #[serde(default)]
    pub insecure_http: bool,
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
    /// Everybody on the way may read the password and the files.
    pub insecure_http: bool,
}

#[derive(Deserialize)]
struct Made {
    name: String,
    token: String,
}

impl Login {
    /// Makes the device and keeps its token; returns the server's address and the device's name. `password` is asked for
    /// once it may be sent.
    ///
    /// # Errors
    /// `Invalid` for an address that is none, or that everybody on the way could listen to; `Denied` for a wrong password;
    /// those of reaching the server.
    pub fn run(self, password: impl FnOnce() -> Result<String>) -> Result<(String, String)> {
        let url = server_of(&self.url)?;
        if !self.insecure_http && is_open(&url) {
            return Err(open_way(&url, "--insecure-http"));
        }
        let ca = self.ca.map(|file| {
            std::fs::read_to_string(&file)
                .map_err(|e| Error::invalid(format!("--ca: {}", file.display())).because(e))
        });
        let ca = ca.transpose()?;
        let name = self.device.unwrap_or_else(machine_name);
        let password = password()?;
        let credentials = Credentials::Password(&self.user, &password);
        let connection = Connection::new(&url, &credentials, certificates(ca.as_deref())?)?;
        let body = serde_json::to_vec(&json!({ "name": name })).expect("a string becomes JSON");
        let made: Made = connection.json(http::Method::POST, "devices", body)?;
        let server = Server {
            url: url.clone(),
            user: self.user,
            device: made.name.clone(),
            token: made.token,
            ca,
            insecure_http: self.insecure_http,
        };
        server.save(&Server::path(&url)?)?;
        Ok((url, made.name))
    }
}

impl Server {
    fn path(url: &str) -> Result<PathBuf> {
        let directory = config_directory()
            .ok_or_else(|| Error::invalid("this user has no home directory to keep the token in"))?;
        Ok(directory.join("servers").join(format!("{}.json", kept_as(url))))
    }

    /// Reads what is kept of the server at `url`.
    ///
    /// # Errors
    /// `Denied` where this machine has not logged in there; `Invalid` where everybody on the way could listen, and the user
    /// did not say that they may.
    pub fn load(url: &str) -> Result<Self> {
        Self::read(&Self::path(url)?, url)
    }

    fn read(path: &Path, url: &str) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::denied(format!("this machine is no device of {url} yet: run `larder login {url}`"))
            }
            _ => Error::io(path.display().to_string(), e),
        })?;
        let wrong = || Error::corrupt(path.display().to_string());
        let server: Self = serde_json::from_slice(&bytes).map_err(|e| wrong().because(e))?;
        if server.url != url {
            return Err(wrong().because(format!("it is of {}, not of {url}", server.url)));
        }
        if !server.insecure_http && is_open(url) {
            return Err(open_way(url, &format!("log in with `larder login --insecure-http {url}`")));
        }
        Ok(server)
    }

    /// Keeps it, whole or not at all.
    fn save(&self, path: &Path) -> Result<()> {
        let failed = |e| Error::io(path.display().to_string(), e);
        std::fs::create_dir_all(path.parent().expect("it was joined")).map_err(failed)?;
        let next = path.with_extension("new");
        // What lies there may be open to others, and would stay so.
        match std::fs::remove_file(&next) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.create_new(true).write(true).mode(0o600).open(&next).map_err(failed)?;
        let bytes = serde_json::to_vec_pretty(self).expect("strings become JSON");
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&next, path).map_err(failed)
    }

    /// Connects as this device to `project`.
    ///
    /// # Errors
    /// `Invalid` for certificates that are none; those of starting a thread.
    pub fn origin(&self, project: &str, pace: Arc<dyn Pace>) -> Result<HttpOrigin> {
        let roots = certificates(self.ca.as_deref())?;
        let connection = Connection::new(&self.url, &Credentials::Token(&self.token), roots)?;
        let url = self.url.clone();
        let again = move || Self::load(&url).ok().map(|server| server.token);
        Ok(HttpOrigin::new(connection.paced(pace).renewed(Box::new(again)), project))
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

/// Whether others than this machine could read what is sent to `url`.
fn is_open(url: &str) -> bool {
    let Some(authority) = url.strip_prefix("http://") else { return false };
    let authority: Option<http::uri::Authority> = authority.parse().ok();
    let host = authority.as_ref().map_or("", |authority| authority.host());
    let ip: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    host != "localhost" && !ip.is_some_and(|ip| ip.is_loopback())
}

fn open_way(url: &str, how: &str) -> Error {
    Error::invalid(format!(
        "{url} is another machine and has no certificate: use https://, or {how} to send passwords and files readable \
         for everybody on the way"
    ))
}

/// A server's address as the name of the file that is kept of it: different for each.
fn kept_as(url: &str) -> String {
    let (scheme, address) = url.split_once("://").unwrap_or(("", url));
    let mut name = format!("{scheme}-");
    for byte in address.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => name.push(char::from(byte)),
            byte => name.push_str(&format!("_{byte:02X}")),
        }
    }
    name
}

/// A server's address as the name of a directory, for people; others may share it.
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

    fn server(url: &str) -> Server {
        let text = || "x".to_owned();
        Server {
            url: url.into(),
            user: text(),
            device: text(),
            token: text(),
            ca: None,
            insecure_http: false,
        }
    }

    #[test]
    fn each_server_has_a_file_of_its_own() {
        let urls =
            ["http://h:1", "https://h:1", "https://h_1", "https://h_3A1", "https://h", "https://[::1]:1"];
        let names: std::collections::BTreeSet<String> = urls.iter().map(|url| kept_as(url)).collect();
        assert_eq!(names.len(), urls.len(), "{names:?}");
        assert_eq!(kept_as("https://[::1]:80"), "https-_5B_3A_3A1_5D_3A80");
        assert!(names.iter().all(|name| !name.contains('/')));

        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("h.json");
        server("https://h").save(&path).expect("kept");
        assert_eq!(Server::read(&path, "https://h").expect("read").url, "https://h");
        let error = Server::read(&path, "https://other").expect_err("of another server");
        assert_eq!(error.kind(), larder_core::Kind::Corrupt);
    }

    #[test]
    fn a_token_is_for_its_owner_whatever_lay_there() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().expect("a directory");
        let (path, next) = (place.path().join("h.json"), place.path().join("h.new"));
        let mode = |file: &Path| std::fs::metadata(file).expect("there").permissions().mode() & 0o777;
        std::fs::write(&next, "left behind").expect("written");
        std::fs::set_permissions(&next, PermissionsExt::from_mode(0o666)).expect("opened to all");
        server("https://h").save(&path).expect("kept");
        assert_eq!(mode(&path), 0o600);
        let other = place.path().join("other");
        std::fs::write(&other, "mine").expect("written");
        std::os::unix::fs::symlink(&other, &next).expect("a symlink");
        server("https://h").save(&path).expect("kept");
        assert_eq!(std::fs::read(&other).expect("there"), b"mine");
    }

    #[test]
    fn an_open_way_takes_plain_words() {
        for own in
            ["http://127.0.0.1:1", "http://127.9.9.9", "http://localhost:1", "http://[::1]:1", "https://h"]
        {
            assert!(!is_open(own), "{own}");
        }
        for open in
            ["http://h", "http://192.0.2.1:1", "http://localhost.h", "http://[::2]:1", "http://127.0.0.1.h"]
        {
            assert!(is_open(open), "{open}");
            let place = tempfile::tempdir().expect("a directory");
            let path = place.path().join("h.json");
            server(open).save(&path).expect("kept");
            let error = Server::read(&path, open).expect_err("nobody said so").to_string();
            assert!(error.contains("--insecure-http"), "{error}");
            Server { insecure_http: true, ..server(open) }.save(&path).expect("kept");
            Server::read(&path, open).expect("the user said so");
        }
    }
}
