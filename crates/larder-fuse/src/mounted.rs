//! A mount while it lasts.

use crate::adapter::Adapter;
use crate::helped::StandIn;
use crate::view::View;
use crate::{Options, aside, attach, mountinfo};
use larder_core::{Error, Result};
use larder_drive::{Drive, Subscription};
use larder_store::Catalog;
use parking_lot::{Condvar, Mutex};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long processes have to let go of a mount that ends before their requests are cut off.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// How long the threads have to come back once the connection is cut.
const CUT_WAIT: Duration = Duration::from_secs(30);
/// How long a change through another door waits for the kernel to hear of it: telling it takes some 20 µs, so one that
/// takes longer has processes that hold it up.
const HEARD_MAX: Duration = Duration::from_millis(100);
/// Names of the root that are dropped one by one when the kernel must forget everything.
const ROOT_NAMES_MAX: usize = 100_000;

/// A drive mounted in the file system; dropping it unmounts.
pub struct Mounted {
    mountpoint: PathBuf,
    device: (u32, u32),
    view: Arc<View>,
    ended: Arc<Ended>,
    threads: Vec<JoinHandle<()>>,
    subscription: Option<Subscription>,
}

/// Whether the connection ended, by us or by somebody's umount(8).
#[derive(Default)]
struct Ended {
    ended: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    fn set(&self) {
        *self.ended.lock() = true;
        self.changed.notify_all();
    }

    fn wait(&self, limit: Option<Duration>) -> bool {
        let mut ended = self.ended.lock();
        match limit {
            None => self.changed.wait_while(&mut ended, |ended| !*ended),
            Some(limit) => {
                self.changed.wait_while_for(&mut ended, |ended| !*ended, limit);
            }
        }
        *ended
    }
}

/// Mounts `drive` at the folder `mountpoint` and serves it from threads of its own.
///
/// # Errors
/// `Unsupported` where FUSE cannot be had (see [`crate::is_available`]); `Exists` where something is mounted there
/// that is alive; those of mount(2).
pub fn spawn(drive: &Arc<Drive>, mountpoint: &Path, options: &Options) -> Result<Mounted> {
    let failed = |e| Error::io(format!("mount point {}", mountpoint.display()), e);
    let mountpoint = mountinfo::absolute(mountpoint).map_err(failed)?;
    attach::clean_stale(&mountpoint)?;
    let mountpoint = mountpoint.canonicalize().map_err(failed)?;
    let connection = attach::mount(&mountpoint, options)?;
    let view = Arc::new(View::new(drive.clone()));
    let mounted = serve(connection, &view, mountpoint.clone(), options);
    if mounted.is_err() {
        let _ = attach::unmount(&mountpoint, true);
    }
    mounted
}

fn serve(
    connection: std::os::fd::OwnedFd,
    view: &Arc<View>,
    mountpoint: PathBuf,
    options: &Options,
) -> Result<Mounted> {
    let failed = |e| Error::io(format!("serve {}", mountpoint.display()), e);
    let mut config = fuser::Config::default();
    config.n_threads = Some(options.threads);
    config.clone_fd = true;
    // who may come in is the kernel's business
    let acl = fuser::SessionACL::All;
    let second = options.stand_in.then(|| connection.try_clone()).transpose().map_err(failed)?;
    let session = fuser::Session::from_fd(Adapter(view.clone()), connection, acl, config).map_err(failed)?;
    let session = session.spawn().map_err(failed)?;
    let notifier = session.notifier();
    view.outside.connect(&notifier);
    let entry = mountinfo::mounted_at(&mountpoint).map_err(failed)?;
    let device = entry.map_or((0, 0), |entry| entry.device);
    attach::widen_read_ahead(device);
    let (ended, ending) = (Arc::new(Ended::default()), view.clone());
    let end = ended.clone();
    let wait = move || {
        if let Err(error) = session.join() {
            tracing::error!(%error, "the mount ended");
        }
        ending.outside.end();
        if let Some((names, reads)) = &ending.aside {
            names.end();
            reads.end();
        }
        end.set();
    };
    let telling = view.clone();
    let mut threads =
        vec![thread("larder-mount", wait)?, thread("larder-notify", move || telling.tell(&notifier))?];
    if let Some(second) = second {
        let stand_in = StandIn::start(second, device.1, &mountpoint)?;
        let listening = view.clone();
        view.stand_in.get_or_init(|| stand_in);
        // what it says until somebody asks for more; asking tells it
        let _ = view.usage();
        threads.push(thread("larder-helped", move || {
            if let Some(stand_in) = listening.stand_in.get() {
                stand_in.listen(|id, handle| {
                    if let Err(errno) = listening.release(id, handle) {
                        tracing::error!(errno = i32::from(errno), "closing a file");
                    }
                });
            }
        })?);
    }
    if let Some((names, reads)) = &view.aside {
        let names = std::iter::repeat_n(names, aside::NAMES);
        for aside in names.chain(std::iter::repeat_n(reads, aside::READS)) {
            let aside = aside.clone();
            threads.push(thread("larder-aside", move || aside.serve())?);
        }
    }
    let (noting, settling) = (view.outside.clone(), view.outside.clone());
    let settle = move || {
        if !settling.settle(HEARD_MAX) {
            tracing::debug!("a change goes on before the kernel has heard of it");
        }
    };
    let subscription =
        view.drive.subscribe(Box::new(move |event| noting.note(event)), Some(Arc::new(settle)));
    probe_locks(view, device);
    Ok(Mounted { mountpoint, device, view: view.clone(), ended, threads, subscription: Some(subscription) })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map_err(|e| Error::io(format!("start thread {name}"), e))
}

/// Lets other doors know which files processes hold a lock on: the locks are the kernel's, and it tells of them.
fn probe_locks(view: &Arc<View>, device: (u32, u32)) {
    let outside = Arc::downgrade(&view.outside);
    view.drive.busy().add_probe(move |id| {
        outside.upgrade().is_some_and(|outside| outside.is_open(id) && mountinfo::is_locked(device, id.0))
    });
}

impl View {
    /// Tells the kernel of other doors' changes until the mount ends.
    fn tell(&self, notifier: &fuser::Notifier) {
        let catalog: &dyn Catalog = self.drive.catalog();
        let find = |id| catalog.node(id).ok();
        let entries = |id| {
            let listed = catalog.list(id, None, ROOT_NAMES_MAX).unwrap_or_default();
            listed.into_iter().map(|entry| entry.name).collect()
        };
        self.outside.send(notifier, find, entries);
    }
}

impl Mounted {
    /// Where it is mounted, without links.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// The minor device number: `/sys/fs/fuse/connections/<minor>/abort` cuts the connection.
    pub fn minor(&self) -> u32 {
        self.device.1
    }

    /// Returns once the mount ended, by [`Mounted::unmount`], umount(8) or an aborted connection; with `limit`, at
    /// the latest then. Says whether it ended.
    pub fn wait(&self, limit: Option<Duration>) -> bool {
        self.ended.wait(limit)
    }

    /// Returns once the kernel has heard of every change that other doors committed before; `false` after `limit`.
    pub fn settle(&self, limit: Duration) -> bool {
        self.view.outside.settle(limit)
    }

    /// Commits what was written so far.
    ///
    /// # Errors
    /// Those of committing.
    pub fn save(&self) -> Result<()> {
        self.view.mount.sync_all()
    }

    /// Unmounts. Where processes still use it, it disappears at once, they get a few seconds to let go, and then
    /// their requests fail. Everything written before is committed.
    ///
    /// # Errors
    /// Those of committing.
    pub fn unmount(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(subscription) = self.subscription.take() else { return Ok(()) };
        drop(subscription);
        if !self.ended.wait(Some(Duration::ZERO)) {
            self.detach();
        }
        if let Some(stand_in) = self.view.stand_in.get() {
            stand_in.end();
        }
        if self.ended.wait(Some(Duration::ZERO)) || self.ended.wait(Some(CUT_WAIT)) {
            for thread in self.threads.drain(..) {
                if thread.join().is_err() {
                    tracing::error!("a thread of the mount panicked");
                }
            }
        } else {
            tracing::error!(mountpoint = %self.mountpoint.display(), "threads of the mount are stuck");
        }
        self.view.mount.sync_all()
    }

    /// Takes the mount away: gently, then from under its users, then by cutting the connection.
    fn detach(&self) {
        let gentle = attach::unmount(&self.mountpoint, false);
        let Err(error) = gentle else { return };
        tracing::warn!(%error, "detaching the mount");
        let switch = attach::Switch::of(self.device.1);
        let detached = match switch {
            Some(_) => attach::unmount(&self.mountpoint, true),
            None => attach::unmount_by_force(&self.mountpoint),
        };
        if let Err(error) = detached {
            tracing::error!(%error, "not unmounted");
        }
        if !self.ended.wait(Some(BUSY_WAIT))
            && let Some(switch) = switch
        {
            switch.cut();
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "unmounting");
        }
    }
}
