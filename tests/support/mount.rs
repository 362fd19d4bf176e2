//! A drive, mounted for one test.

use larder_core::{DrivePath, Name, Node, NodeId};
use larder_drive::{Actor, Clock, Door, Drive, Parts, Settings, Target};
use larder_fuse::{Mounted, Options};
use larder_store::KvCatalog;
use larder_store::log::{self, LogStore};
use larder_store::memory::{MemoryChunks, MemoryKv};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// How long a test may use its mount.
pub const LIMIT_S: u64 = 300;
/// Cuts the mount off at the limit. A test that ended by itself may have left its number of connection to another
/// mount, so then only what is still mounted at the same place is cut off.
const GUARD: &str = r#"
second=0
while [ $second -lt $3 ] && kill -0 $4 2>/dev/null; do sleep 1; second=$((second + 1)); done
kill -0 $4 2>/dev/null || grep -q " 0:$1 / $2 " /proc/self/mountinfo || exit 0
echo "guard: cutting off $2" >&2
switch=/sys/fs/fuse/connections/$1/abort
if [ -e $switch ]; then echo 1 >$switch; else umount -f "$2"; fi
umount -l "$2"
"#;

/// A drive, usually in memory, mounted at a temporary folder until it is dropped.
pub struct TestMount {
    drive: Arc<Drive>,
    mounted: Option<Mounted>,
    folder: TempDir,
    guard: Child,
}

impl TestMount {
    /// Mounts; `None` where this machine cannot, which is said, and which continuous integration does not accept.
    pub fn new() -> Option<Self> {
        Self::lasting(LIMIT_S)
    }

    /// As [`TestMount::new`], for a test that takes up to `limit_s` seconds.
    pub fn lasting(limit_s: u64) -> Option<Self> {
        Self::with(limit_s, |_| ())
    }

    /// As [`TestMount::lasting`], with other options.
    pub fn with(limit_s: u64, change: impl FnOnce(&mut Options)) -> Option<Self> {
        Self::of(drive_in_memory(), limit_s, change)
    }

    /// As [`TestMount::with`], for a drive of the test's own.
    pub fn of(drive: Arc<Drive>, limit_s: u64, change: impl FnOnce(&mut Options)) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let mut options = Options::new("larder-test");
        change(&mut options);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mounted = larder_fuse::spawn(&drive, folder.path(), &options).expect("mounts");
        let guard = guard(&mounted, limit_s);
        let mount = Self { drive, mounted: Some(mounted), folder, guard };
        // other users come in as far as the folder inside lets them
        if !options.read_only {
            open_to_all(mount.folder.path());
        }
        Some(mount)
    }

    /// The path of `name` in the mount; "" for its root.
    pub fn path(&self, name: &str) -> PathBuf {
        let root = self.folder.path().canonicalize().expect("the mount answers");
        if name.is_empty() { root } else { root.join(name) }
    }

    /// The drive.
    pub fn drive(&self) -> &Arc<Drive> {
        &self.drive
    }

    /// The mount itself.
    pub fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().expect("mounted until dropped")
    }

    /// Stores a file as a WebDAV PUT does.
    pub fn upload(&self, path: &str, bytes: &[u8]) -> Node {
        self.upload_as(&dav(), path, bytes)
    }

    /// As [`TestMount::upload`]; the kernel does not hear of what comes through [`unheard`].
    pub fn upload_as(&self, actor: &Actor, path: &str, bytes: &[u8]) -> Node {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.drive.resolve(&drive_path(folder)).expect("the folder is there").id;
        let mut upload = self.drive.upload();
        upload.write(bytes).expect("bytes are taken");
        let name = Name::new(name).expect("a name");
        let target = Target { parent, name, expect: Vec::new(), mtime: None, mode: 0o644 };
        let published = upload.finish(actor, target).expect("published");
        self.drive.node(published.id).expect("just published")
    }

    /// What other doors read of a file.
    pub fn download(&self, path: &str) -> larder_core::Result<Vec<u8>> {
        let reader = self.drive.reader(&self.drive.resolve(&drive_path(path))?)?;
        let mut bytes = Vec::new();
        loop {
            let piece = reader.read(bytes.len() as u64, usize::MAX)?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&piece);
        }
    }

    /// Waits until the kernel heard of what other doors changed.
    pub fn settle(&self) {
        assert!(self.mounted().settle(Duration::from_secs(10)), "the kernel does not take notifications");
    }

    /// Waits until nobody writes to a file.
    pub fn until_closed(&self, path: &str) {
        // The server hears of the last close after close(2) returned.
        assert!(super::soon(|| !self.drive.busy().is_busy(self.node(path))), "{path} is still being written");
    }

    /// The node at `path`.
    pub fn node(&self, path: &str) -> NodeId {
        self.drive.resolve(&drive_path(path)).expect("is there").id
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.mounted.take().map(Mounted::unmount) {
            eprintln!("unmount: {error}");
        }
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// Whoever acts through WebDAV.
pub fn dav() -> Actor {
    Actor::new(Door::Dav, 0, 0, "ann")
}

/// Whoever changes what the kernel has not heard of yet.
pub fn unheard() -> Actor {
    Actor::new(Door::Mount, 0, 0, "")
}

/// A path in the drive.
pub fn drive_path(path: &str) -> DrivePath {
    DrivePath::parse(path).expect("a path")
}

/// A drive that lives in memory.
pub fn drive_in_memory() -> Arc<Drive> {
    let clock = Clock::system();
    let catalog = KvCatalog::open(MemoryKv::default(), clock.now(), (0, 0)).expect("an empty index");
    let chunks = Arc::new(MemoryChunks::default());
    let parts = Parts { chunks, catalog: Arc::new(catalog), clock, random };
    Drive::open(parts, Settings::default()).expect("opens")
}

/// A drive that lives in `folder`.
pub fn drive_in(folder: &Path) -> Arc<Drive> {
    let clock = Clock::system();
    let parts = log::Parts { boot_id: "test".to_owned(), random, key: None, tape: None };
    let store = LogStore::open(folder, log::Settings::default(), &parts).expect("an empty store");
    let catalog = KvCatalog::open(store.kv(), clock.now(), (0, 0)).expect("an empty index");
    let parts = Parts { chunks: store, catalog: Arc::new(catalog), clock, random };
    Drive::open(parts, Settings { data: Some(folder.to_owned()), ..Settings::default() }).expect("opens")
}

fn random(bytes: &mut [u8]) {
    bytes.fill(7);
}

/// Watches a mount of this very process, which cannot help itself once it waits for the kernel or was killed.
fn guard(mounted: &Mounted, limit_s: u64) -> Child {
    let child = Command::new("setsid")
        .args(["sh", "-c", GUARD, "guard", &mounted.minor().to_string()])
        .arg(mounted.mountpoint())
        .args([limit_s.to_string(), std::process::id().to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    child.expect("setsid and sh are everywhere")
}

/// Says whether this machine can mount; says why not.
pub fn can_mount() -> bool {
    larder_fuse::is_available().map_err(|reason| super::skip(&reason.to_string())).is_ok()
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).expect("own folder");
}
