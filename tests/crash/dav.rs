//! A worker that comes in through WebDAV.

use super::folder::{Files, Folder, Worker};
use crate::support::http::{Answer, Client};
use crate::support::random::Random;
use crate::support::server::{PASSWORD, Place, Server};
use std::net::SocketAddr;
use std::sync::Arc;

/// Names in a folder.
const NAMES: u64 = 12;

/// Puts, moves, copies and deletes files.
pub struct DavWorker {
    folder: Folder,
    random: Random,
    made: bool,
}

impl DavWorker {
    /// A worker in folder `name`.
    pub fn new(name: &str, seed: u64) -> DavWorker {
        DavWorker { folder: Folder::new(name), random: Random::new(seed), made: false }
    }

    fn url(&self, name: &str) -> String {
        format!("/dav/home/{}/{name}", self.folder.name)
    }

    /// One operation; `None` once the server is gone.
    fn step(&mut self, client: &mut Client) -> Option<()> {
        let pick = |random: &mut Random| format!("f{}", random.below(NAMES));
        let (name, other) = (pick(&mut self.random), pick(&mut self.random));
        let (url, destination) = (self.url(&name), self.url(&other));
        let exists = self.folder.files().get(&name).cloned();
        let answer = match (self.random.below(10), exists) {
            (0, Some(_)) => {
                self.folder.may(|files| drop(files.remove(&name)));
                client.send("DELETE", &url, &[], b"")
            }
            (1, Some(content)) if name != other => {
                self.folder.may(|files| {
                    files.remove(&name);
                    files.insert(other, content);
                });
                client.send("MOVE", &url, &[("Destination", &destination)], b"")
            }
            (2, Some(content)) if name != other => {
                self.folder.may(|files| drop(files.insert(other, content)));
                client.send("COPY", &url, &[("Destination", &destination)], b"")
            }
            _ => {
                let content = Arc::new(new_content(&mut self.random));
                self.folder.may(|files| drop(files.insert(name, content.clone())));
                client.send("PUT", &url, &[], &content)
            }
        };
        accepted(&url, answer)?;
        self.folder.settled();
        Some(())
    }
}

/// Content of a random length: mostly small, at times several chunks.
pub fn new_content(random: &mut Random) -> Vec<u8> {
    let bound = [100, 4096, 60_000, 700_000, 2_500_000][random.below(9).saturating_sub(4) as usize];
    let length = random.below(bound) as usize;
    random.bytes(length)
}

/// `None` where the connection broke; panics at a refusal.
fn accepted(url: &str, answer: std::io::Result<Answer>) -> Option<()> {
    let answer = answer.ok()?;
    assert!(answer.is_success(), "{url}: {} {}", answer.status, answer.text());
    Some(())
}

impl Worker for DavWorker {
    fn work(&mut self, address: SocketAddr) -> usize {
        let mut client = Client::new(address, "admin", PASSWORD);
        if !self.made {
            let Ok(answer) = client.send("MKCOL", &self.url(""), &[], b"") else { return 0 };
            assert!(answer.is_success() || answer.status == 405, "MKCOL: {}", answer.status);
            self.made = true;
        }
        std::iter::from_fn(|| self.step(&mut client)).count()
    }

    fn verify(&mut self, server: &Server, place: &Place, round: u64) -> Result<(), String> {
        if !self.made {
            return Ok(());
        }
        let found = match round % 2 {
            0 => over_dav(server, &self.folder.name),
            _ => super::mount::over_mount(&place.mount().join(&self.folder.name)),
        };
        self.folder.accept(found?)
    }
}

/// Reads a folder whole over WebDAV.
///
/// # Errors
/// What was answered instead.
pub fn over_dav(server: &Server, folder: &str) -> Result<Files, String> {
    let mut client = server.client();
    let mut send = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let answer = client.send(method, path, headers, b"").map_err(|e| format!("{method} {path}: {e}"))?;
        if answer.is_success() { Ok(answer) } else { Err(format!("{method} {path}: {}", answer.status)) }
    };
    let prefix = format!("/dav/home/{folder}/");
    let listing = send("PROPFIND", &prefix, &[("Depth", "1")])?.text();
    let mut files = Files::new();
    for part in listing.split("href>").filter_map(|part| part.split_once("</")) {
        let Some((_, name)) = part.0.split_once(&prefix).filter(|(_, name)| !name.is_empty()) else {
            continue;
        };
        let content = send("GET", &format!("{prefix}{name}"), &[])?.body;
        files.insert(name.to_string(), Arc::new(content));
    }
    Ok(files)
}
