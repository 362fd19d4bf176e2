//! Carries out requests on an open drive, whether a server has it or a command alone.

use crate::args::Ways;
use crate::auth::Auth;
use crate::data::Opened;
use crate::limiter::Limiter;
use crate::limits::{Change, Limits, Set, Written};
use crate::mounting::Mounts;
use crate::payers::Who;
use crate::request::{Progress, Request, RulesChange};
use crate::{actor, conflicts, devices, fetching, keeping, placing, users};
use larder_core::{DrivePath, Error, Node, NodeId, NodeKind, Result, Timestamp};
use larder_drive::{Drive, VersionEntry, Which};
use larder_store::origin::Link;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a server has besides the drive.
pub struct Serving {
    /// The URL, where there is one.
    pub url: Option<String>,
    /// Who is who, where there is a listener.
    pub auth: Option<Arc<Auth>>,
    /// Limits, where there is a listener.
    pub limiter: Option<Arc<Limiter>>,
    /// Mounts of this process.
    pub mounts: Mounts,
}

/// Carries out requests.
pub struct Operator {
    opened: Opened,
    serving: Option<Serving>,
}

impl Operator {
    /// For a command that opened the drive itself.
    pub fn alone(opened: Opened) -> Self {
        Self { opened, serving: None }
    }

    /// For a server.
    pub fn serving(opened: Opened, serving: Serving) -> Self {
        Self { opened, serving: Some(serving) }
    }

    /// Mounts of the server.
    pub fn mounts(&self) -> Option<&Mounts> {
        self.serving.as_ref().map(|serving| &serving.mounts)
    }

    /// What is open.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    fn drive(&self) -> &Drive {
        &self.opened.drive
    }

    /// Carries out `request`; blocks.
    ///
    /// # Errors
    /// Those of the request.
    pub fn execute(&self, request: Request, progress: &dyn Fn(Progress)) -> Result<Value> {
        match request {
            Request::Status { path: None } => self.status(),
            Request::Status { path: Some(path) } => self.status_of(&DrivePath::parse(path)?),
            Request::Push { wait_ms } => self.push(Duration::from_millis(wait_ms)),
            Request::Fetch { path, priority, ttl_ms, limit_bytes_per_s } => {
                let path = DrivePath::parse(path)?;
                let asked = fetching::fetch(self.drive(), &path, priority, (ttl_ms, limit_bytes_per_s))?;
                if let Some(limiter) = self.limiter() {
                    limiter.payers().apply();
                }
                Ok(asked)
            }
            Request::Order { order, scope } => {
                let done = fetching::order(self.drive(), order, scope);
                // What was paused may be sent again.
                self.opened.sync().into_iter().for_each(|sync| sync.pusher.try_now());
                done
            }
            Request::Conflicts { path, keep: None } => {
                conflicts::list(&self.opened, &DrivePath::parse(path)?)
            }
            Request::Conflicts { path, keep: Some(keep) } => {
                conflicts::settle(&self.opened, &DrivePath::parse(path)?, keep)
            }
            Request::Events { .. } => {
                Err(Error::unavailable("nothing happens where no server or mount runs"))
            }
            Request::Rules { device, change } => {
                let book = placing::Book::of(self.drive(), self.opened.sync(), device.as_deref())?;
                change.map_or_else(|| book.shown(), |change| book.change(&change))
            }
            Request::Pin { path } => self.pin(path, RulesChange::Add),
            Request::Unpin { path } => self.pin(path, RulesChange::Remove),
            Request::WhyFetched { path } => fetching::causes(self.drive(), &DrivePath::parse(path)?),
            Request::Why { path } => keeping::why(&self.opened, &DrivePath::parse(path)?),
            Request::Free { path } => keeping::free(&self.opened, &DrivePath::parse(path)?),
            Request::Versions { path } => self.versions(&DrivePath::parse(path)?),
            Request::Restore { path, version, at_ns } => {
                self.restore(&DrivePath::parse(path)?, version, at_ns)
            }
            Request::Gc => self.opened.collect(progress),
            Request::Scrub { rate } => self.opened.scrub(rate.as_deref(), progress),
            Request::Rebuild { accept_loss } => self.opened.rebuild(accept_loss, progress),
            Request::Stats => self.opened.stats(),
            Request::Limit { who, limits, link } => self.limit(who, &limits, link),
            Request::UserAdd { name, role, password } => users::add(self.drive(), &name, role, &password)
                .map(|()| json!({ "name": name, "role": role })),
            Request::UserList => Ok(json!(users::list(self.drive())?)),
            Request::UserPassword { name, password } => {
                self.changed(users::change_password(self.drive(), &name, &password), &name)
            }
            Request::UserRemove { name } => {
                let removed = self.changed(users::remove(self.drive(), &name), &name)?;
                self.forget_gone_limits().map(|()| removed)
            }
            Request::DeviceList => devices::shown(self.drive()),
            Request::DeviceRemove { id } => {
                larder_api::devices::remove(self.drive(), &id, None)?;
                self.forget_gone_limits().map(|()| json!({ "id": id }))
            }
            Request::Mount { source, dir, options, ways } => self.mount(source, dir, &options, ways),
            Request::Umount { dir } => {
                let gone = || Error::not_found(format!("{} is not a mount of this process", dir.display()));
                let mounts = self.mounts().ok_or_else(gone)?;
                mounts.remove(&dir)?.then(|| json!({ "dir": dir })).ok_or_else(gone)
            }
        }
    }

    fn pin(&self, path: Vec<u8>, change: fn(String) -> RulesChange) -> Result<Value> {
        let path = DrivePath::parse(path)?;
        self.drive().resolve(&path)?;
        let book = placing::Book::of(self.drive(), self.opened.sync(), None)?;
        book.change(&change(placing::pinning(&path)?))
    }

    fn changed(&self, outcome: Result<()>, name: &str) -> Result<Value> {
        if let Some(auth) = self.serving.as_ref().and_then(|serving| serving.auth.as_ref()) {
            auth.forget();
        }
        outcome.map(|()| json!({ "name": name }))
    }

    fn status(&self) -> Result<Value> {
        let usage = self.drive().usage()?;
        let serving = self.serving.as_ref();
        let mounts = serving.map(|serving| serving.mounts.list()).unwrap_or_default();
        let mut shown = json!({
            "running": serving.is_some(),
            "pid": serving.map(|_| std::process::id()),
            "url": serving.and_then(|serving| serving.url.clone()),
            "mounts": mounts,
            "data": self.opened.data(),
            "used_bytes": usage.used_bytes,
            "available_bytes": usage.available_bytes,
            "nodes": usage.nodes,
            "not_sent": self.not_sent()?,
            "limits": self.limits_shown(None)?,
        });
        fetching::show(self.drive(), NodeId::ROOT, &mut shown)?;
        Ok(shown)
    }

    /// What waits to be sent to the server of a mirror.
    fn not_sent(&self) -> Result<Option<Value>> {
        let Some(sync) = self.opened.sync() else { return Ok(None) };
        let status = sync.pusher.status()?;
        Ok(Some(json!({
            "changes": status.entries,
            "trouble": status.trouble,
            "sent_bytes": status.sent_bytes,
            "conflicts": status.resolved,
        })))
    }

    fn push(&self, wait: Duration) -> Result<Value> {
        let sync =
            self.opened.sync().ok_or_else(|| Error::invalid("this is no mount of a server's project"))?;
        if !wait.is_zero() && !sync.pusher.wait(wait)? {
            let status = sync.pusher.status()?;
            let why = status.trouble.unwrap_or_else(|| "there was not time enough".into());
            return Err(Error::unavailable(format!("{} changes are not sent: {why}", status.entries)));
        }
        Ok(self.not_sent()?.unwrap_or_default())
    }

    fn status_of(&self, path: &DrivePath) -> Result<Value> {
        let node = self.drive().resolve(path)?;
        let locks: Vec<Value> = self
            .drive()
            .locks()
            .covering(self.drive(), node.id)?
            .into_iter()
            .map(|lock| json!({ "user": lock.user, "shared": lock.shared, "until": time(lock.expires) }))
            .collect();
        let mut shown = described(&node);
        shown["path"] = json!(path.to_string());
        let here = self.drive().here(&node)?;
        let is_whole = here.bytes == node.size_bytes() || !node.is_file();
        shown["state"] = json!(if is_whole { "Available on this device" } else { "Online-only" });
        if node.is_file() {
            shown["here_bytes"] = json!(here.bytes);
            shown["here_percent"] = json!(fetching::percent(here.bytes, node.size_bytes()));
            shown["here_ranges"] = json!(here.ranges);
        }
        shown["versions"] = json!(if path.is_root() { 1 } else { self.drive().versions(path)?.len() });
        shown["locks"] = json!(locks);
        fetching::show(self.drive(), node.id, &mut shown)?;
        Ok(shown)
    }

    fn versions(&self, path: &DrivePath) -> Result<Value> {
        let entries = self.drive().versions(path)?;
        Ok(Value::Array(entries.iter().map(version).collect()))
    }

    fn restore(&self, path: &DrivePath, number: Option<u64>, at_ns: Option<i64>) -> Result<Value> {
        let which = match (number, at_ns) {
            (Some(number), _) => Which::Version(number),
            (None, Some(at_ns)) => Which::At(Timestamp(at_ns)),
            (None, None) => Which::Latest,
        };
        let node = self.drive().restore(&actor::server(), path, which)?;
        let mut shown = described(&node);
        shown["path"] = json!(path.to_string());
        Ok(shown)
    }

    fn limiter(&self) -> Option<&Arc<Limiter>> {
        let of_server = self.serving.as_ref().and_then(|serving| serving.limiter.as_ref());
        of_server.or_else(|| self.opened.sync().map(|sync| &sync.limiter))
    }

    fn limits_shown(&self, who: Option<&Who>) -> Result<Value> {
        let mut shown = match self.limiter() {
            Some(limiter) => limiter.shown(who),
            None => Set::saved(self.drive().catalog())?.shown(who),
        };
        if let Some(sync) = self.opened.sync() {
            shown["link"] = json!(sync.link());
        }
        Ok(shown)
    }

    fn limit(&self, who: Option<Who>, limits: &Written, link: Option<Link>) -> Result<Value> {
        if let Some(who) = &who {
            self.check_known(who)?;
        }
        self.forget_gone_limits()?;
        let change = Change { who: who.clone(), limits: Limits::parse(limits)?, link };
        match self.limiter() {
            Some(limiter) => limiter.change(self.drive(), change)?,
            None => {
                let before = Set::saved(self.drive().catalog())?;
                before.changed(change)?.save(self.drive(), &before)?;
            }
        }
        if let (Some(link), Some(sync)) = (link, self.opened.sync()) {
            sync.set_link(self.drive(), link);
        }
        self.limits_shown(who.as_ref())
    }

    /// Limits of somebody who is not there would hold for whoever comes by that name.
    fn check_known(&self, who: &Who) -> Result<()> {
        if self.opened.sync().is_some() {
            let what = "users and devices have limits at their server: `larder limit` there, without a mount";
            return Err(Error::invalid(what));
        }
        let is_known = match who {
            Who::File(_) | Who::Fetch(_) => true,
            Who::User(name) => users::find(self.drive(), name)?.is_some(),
            Who::Device(id) => larder_api::devices::list(self.drive())?.iter().any(|device| device.id == *id),
        };
        match (is_known, who) {
            (true, _) => Ok(()),
            (false, Who::User(name)) => Err(Error::not_found(format!("there is no user {name}"))),
            (false, Who::Device(id)) => Err(Error::not_found(format!("there is no device {id}"))),
            (false, Who::File(_) | Who::Fetch(_)) => Ok(()),
        }
    }

    /// Whoever a device itself or its user removed through the server is gone, too.
    fn forget_gone_limits(&self) -> Result<()> {
        match self.limiter() {
            Some(limiter) => limiter.forget_gone(self.drive()),
            None => {
                let before = Set::saved(self.drive().catalog())?;
                before.without_gone(self.drive())?.save(self.drive(), &before)
            }
        }
    }

    fn mount(&self, source: PathBuf, dir: PathBuf, options: &[String], ways: Ways) -> Result<Value> {
        let alone = || Error::unsupported("a mount needs a process that stays");
        let mounts = self.mounts().ok_or_else(alone)?;
        self.opened.set_ways(ways);
        mounts.add(&self.opened.drive, &source, &dir, &self.opened.mount_options(options))?;
        Ok(json!({ "dir": dir }))
    }
}

fn version(entry: &VersionEntry) -> Value {
    let mut shown = described(&entry.node);
    shown["version"] = json!(entry.number);
    shown["until"] = json!(entry.until.map(time));
    shown["deleted"] = json!(entry.deleted);
    shown["current"] = json!(entry.until.is_none());
    shown
}

fn described(node: &Node) -> Value {
    json!({
        "id": node.id.0,
        "kind": kind(node.kind),
        "size_bytes": node.size_bytes(),
        "mode": format!("{:04o}", node.mode),
        "modified": time(node.mtime),
        "changed": time(node.ctime),
    })
}

fn kind(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Folder => "folder",
        NodeKind::Symlink => "symlink",
        NodeKind::CharDevice => "character device",
        NodeKind::BlockDevice => "block device",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
    }
}

fn time(at: Timestamp) -> String {
    crate::time::rfc3339(at)
}
