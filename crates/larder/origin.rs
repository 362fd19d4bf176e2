//! A remote project on this device: its address, its data directory, and what is put together to show it.

use crate::config::data_directory;
use crate::directory::{holds_drive, make_private};
use crate::limiter::{Limiter, Running};
use crate::limits::Set;
use crate::login::{Server, file_name, server_of};
use crate::pacing::Pacer;
use crate::{actor, time};
use larder_core::{Error, Result};
use larder_drive::{
    Clock, Conflicts, Drive, Fetch, Follower, Label, Parts, Pinner, Placed, Placements, Pusher, Settings,
    fetch,
};
use larder_policy::Rate;
use larder_store::origin::{Conflict, Free, HttpOrigin, Link, Mirror, Origin, Policy, Ruled};
use larder_store::{Catalog, ChunkStore};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

/// Says in a data directory that it mirrors a project.
const FILE: &str = "origin.json";

/// A project at a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    server: String,
    project: String,
}

impl Place {
    /// Reads `http(s)://host[:port]/PROJECT`; `None` for what is no address at all.
    ///
    /// # Errors
    /// `Invalid` for another address.
    pub fn parse(source: &Path) -> Result<Option<Self>> {
        let Some(text) = source.to_str().filter(|text| text.contains("://")) else { return Ok(None) };
        let wrong = || Error::invalid(format!("{text:?} is no address such as https://host:4918/home"));
        let (server, project) = text.trim_end_matches('/').rsplit_once('/').ok_or_else(wrong)?;
        let server = server_of(server).map_err(|_| wrong())?;
        let plain = |letter: char| letter.is_alphanumeric() || "._-".contains(letter);
        if project.is_empty() || project.starts_with('.') || !project.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Some(Self { server, project: project.to_owned() }))
    }

    /// What is mirrored in `data`, if anything.
    ///
    /// # Errors
    /// `Corrupt` for a file that says nothing.
    pub fn of(data: &Path) -> Result<Option<Self>> {
        let path = data.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| Error::corrupt(path.display().to_string()).because(e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(path.display().to_string(), e)),
        }
    }

    /// Makes the directory that mirrors it, `data` or the usual one, and returns it.
    ///
    /// # Errors
    /// `Denied` where this machine is no device of the server; `Conflict` where the directory holds something else; the first
    /// time those of reaching the server.
    pub fn prepare(&self, data: Option<PathBuf>) -> Result<PathBuf> {
        let server = Server::load(&self.server)?;
        let usual = || data_directory().map(|dir| dir.join(self.directory()));
        let data = data.or_else(usual);
        let data = data.ok_or_else(|| Error::invalid("--data is needed: this user has no home directory"))?;
        let data = std::path::absolute(&data).map_err(|e| Error::io(data.display().to_string(), e))?;
        match Self::of(&data)? {
            Some(there) if there == *self => return Ok(data),
            // Nothing is made for a project that is not there.
            None if !holds_drive(&data) => drop(server.origin(&self.project, Arc::new(Free))?.project()?),
            _ => return Err(Error::conflict(format!("{} holds another drive", data.display()))),
        }
        let failed = |e| Error::io(data.display().to_string(), e);
        make_private(&data)?;
        let bytes = serde_json::to_vec_pretty(self).expect("strings become JSON");
        let next = data.join(format!("{FILE}.new"));
        std::fs::write(&next, bytes)
            .and_then(|()| std::fs::rename(&next, data.join(FILE)))
            .map_err(failed)?;
        Ok(data)
    }

    fn directory(&self) -> String {
        format!("larder-devices/{}/{}", file_name(&self.server), self.project)
    }

    /// Opens the mirror over `parts`, which keep it; what is fetched is put in `fetched`.
    ///
    /// # Errors
    /// `Denied` where this machine is no device of the server; the first time those of reaching it.
    pub fn open(
        &self,
        parts: Parts,
        fetched: Arc<dyn ChunkStore>,
        tuning: Settings,
        (fetching, policy): (fetch::Settings, Policy),
    ) -> Result<(Arc<Drive>, Sync)> {
        let server = Server::load(&self.server)?;
        let set = Set::saved(&*parts.catalog)?;
        let link = set.link;
        let opened: Arc<OnceLock<Weak<Drive>>> = Arc::default();
        let of = opened.clone();
        let limiter = Limiter::with(set, move |file| {
            let drive = of.get()?.upgrade()?;
            drive.fetching()?.limit_of(file).map(Rate::new)
        });
        let running = limiter.spawn()?;
        let pacer = Pacer::new(limiter.tiers().clone(), limiter.payers().clone());
        let http = Arc::new(server.origin(&self.project, Arc::new(pacer))?);
        http.set_link(link);
        let origin: Arc<dyn Origin> = http.clone();
        let now = || Clock::system().now();
        let mut run = [0; 8];
        (parts.random)(&mut run);
        let run = u64::from_be_bytes(run);
        let mirror = Arc::new(Mirror::open(parts.catalog.clone(), origin.clone(), now, run)?);
        let placements = Arc::new(Placements::load(&*parts.catalog)?);
        let parts = Parts { catalog: Arc::new(Placed::new(mirror.clone(), placements.clone())), ..parts };
        let (catalog, clock) = (parts.catalog.clone(), parts.clock.clone());
        let for_fetch = Parts { chunks: fetched, catalog, clock, random: parts.random };
        let fetch = Fetch::start(origin.clone(), &for_fetch, fetching)?;
        let drive = Drive::open_remote(parts, tuning, fetch, placements)?;
        // Nobody else sets it.
        let _ = opened.set(Arc::downgrade(&drive));
        if let Some(fetch) = drive.fetching() {
            fetch.set_link(link);
        }
        let device = server.device.clone();
        let label: Label = Box::new(move |at| format!("conflict from {device}, {}", time::day(at)));
        let actor = actor::server();
        let follower = Follower::start(drive.clone(), mirror.clone(), origin.clone(), actor.clone())?;
        let conflicts = Conflicts { label, policy };
        let pusher = Pusher::start(drive.clone(), mirror.clone(), origin, actor, conflicts)?;
        let pinner = Pinner::start(drive.clone())?;
        let sync = Sync {
            device: server.device,
            mirror,
            origin: http,
            follower,
            pusher,
            pinner,
            limiter,
            _running: running,
        };
        Ok((drive, sync))
    }
}

/// What keeps a mirror and its server the same.
pub struct Sync {
    /// What the server calls this device.
    pub device: String,
    mirror: Arc<Mirror>,
    origin: Arc<HttpOrigin>,
    follower: Follower,
    /// Tells the server of changes.
    pub pusher: Pusher,
    /// Keeps what rules pin.
    pinner: Option<Pinner>,
    /// Has limits kept.
    pub limiter: Arc<Limiter>,
    _running: Running,
}

impl Sync {
    /// Says whether changes can be made on this device.
    pub fn is_writable(&self) -> bool {
        self.mirror.is_writable()
    }

    /// Conflicts of which both sides are there.
    ///
    /// # Errors
    /// Those of the index.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.mirror.conflicts()
    }

    /// How the way to the server is used.
    pub fn link(&self) -> Link {
        self.limiter.link()
    }

    /// Uses the way to the server so from now on.
    pub fn set_link(&self, drive: &Drive, link: Link) {
        // Cut before somebody else is told, and open before somebody tries.
        self.origin.set_link(link);
        if let Some(fetch) = drive.fetching() {
            fetch.set_link(link);
        }
        self.follower.try_now();
        self.pusher.try_now();
    }

    /// What the server told of the project, with what the rules hide.
    pub fn known(&self) -> &dyn Catalog {
        self.mirror.known_here()
    }

    /// The server.
    pub fn origin(&self) -> &dyn Origin {
        &*self.origin
    }

    /// Gives this device other rules than those of version `was`, here and at the server.
    ///
    /// # Errors
    /// Those of [`Origin::set_rules`] and of the index.
    pub fn set_rules(&self, drive: &Drive, was: u64, text: &str) -> Result<Ruled> {
        drive.adopt_rules(|| self.origin.set_rules(None, was, text), self.mirror.known_here())
    }

    /// Ends both directions.
    pub fn end(&self) {
        self.follower.end();
        self.pinner.iter().for_each(Pinner::end);
        self.pusher.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_with_a_project_or_a_directory() {
        let parse = |text: &str| Place::parse(Path::new(text));
        let place = parse("http://host:1/home/").expect("an address").expect("remote");
        assert_eq!(place, Place { server: "http://host:1".into(), project: "home".into() });
        assert_eq!(place.directory(), "larder-devices/host_1/home");
        assert_eq!(parse("/srv/data").expect("a directory"), None);
        for bad in
            ["http://host:1", "ftp://host/home", "http://host/a/b", "http://host/..", "https://u@h/home"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
