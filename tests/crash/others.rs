//! What others have at the server: they put files and delete them, and a program reads those through the mount of a device
//! that dies.

use crate::support::http::Client;
use crate::support::random::Random;
use crate::support::remote::{World, names};
use crate::support::soon;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Their folder.
const FOLDER: &str = "others";
/// Files that they keep; all of them are more than the device does.
const FILES: usize = 20;
/// Bytes of the longest.
const LONGEST: u64 = 8 << 20;
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(20);
/// What a program sees of a mount whose process died.
const GONE: [i32; 3] = [libc::ENOTCONN, libc::ECONNABORTED, libc::EIO];

/// Files by name, each written once.
type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// Others, and what they have.
pub struct Others {
    files: Mutex<Files>,
    made: AtomicU64,
    /// The device may have no server, and hear of nothing.
    late: AtomicBool,
}

impl Others {
    /// They begin with a few files.
    pub fn new(world: &World) -> Others {
        world.send("MKCOL", FOLDER, &[]);
        let others =
            Others { files: Mutex::default(), made: AtomicU64::new(0), late: AtomicBool::new(false) };
        let mut client = world.server().client();
        (0..4).for_each(|_| others.put(&mut client, &world.noise(LONGEST / 2)));
        others
    }

    /// Whether the device may be without its server.
    pub fn may_be_late(&self, late: bool) {
        self.late.store(late, Ordering::SeqCst);
    }

    fn put(&self, client: &mut Client, body: &[u8]) {
        let name = format!("o{}", self.made.fetch_add(1, Ordering::SeqCst));
        client.ok("PUT", &format!("/dav/home/{FOLDER}/{name}"), &[], body);
        self.files.lock().insert(name, Arc::new(body.to_vec()));
    }

    /// Puts and deletes files until `stopped`.
    pub fn change(&self, client: &mut Client, mut random: Random, stopped: &Receiver<()>) {
        while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
            let length = random.below(LONGEST);
            self.put(client, &random.bytes(length as usize));
            if self.files.lock().len() > FILES {
                let at = random.below(FILES as u64) as usize;
                let name = self.files.lock().keys().nth(at).expect("one of many").clone();
                self.files.lock().remove(&name);
                client.ok("DELETE", &format!("/dav/home/{FOLDER}/{name}"), &[], b"");
            }
        }
    }

    /// Reads pieces of files until the device is gone; returns how many were read. Each is right, or was deleted.
    pub fn read_until_death(&self, mount: &Path, mut random: Random) -> usize {
        let Ok(top) = File::open(mount) else { return 0 };
        let below = mount.parent().expect("a mount point in a folder").metadata().expect("there").dev();
        if top.metadata().map_or(below, |top| top.dev()) == below {
            return 0;
        }
        let folder = PathBuf::from(format!("/proc/self/fd/{}", top.as_raw_fd())).join(FOLDER);
        let mut count = 0;
        loop {
            let files = self.files.lock().clone();
            let (name, body) = files.iter().nth(random.below(files.len() as u64) as usize).expect("some");
            match read_piece(&folder.join(name), body, &mut random) {
                Ok(true) => count += 1,
                Ok(false) => panic!("wrong bytes in {name}"),
                Err(error) if GONE.contains(&error.raw_os_error().unwrap_or_default()) => return count,
                Err(error) if self.explains(name, &error) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }

    /// Says whether a read of `name` may fail so.
    fn explains(&self, name: &str, error: &Error) -> bool {
        let is_late = self.late.load(Ordering::SeqCst);
        match error.raw_os_error() {
            // Deleted since, or so new that the device has not heard of it.
            Some(libc::ENOENT | libc::ESTALE) => is_late || self.is_new_or_gone(name),
            Some(libc::ETIMEDOUT) => is_late,
            _ => false,
        }
    }

    fn is_new_or_gone(&self, name: &str) -> bool {
        let number: u64 = name[1..].parse().expect("a number");
        !self.files.lock().contains_key(name) || number + 8 > self.made.load(Ordering::SeqCst)
    }

    /// Reads everything through the mount of a device that hears of it all.
    #[track_caller]
    pub fn verify(&self, mount: &Path) {
        let (folder, files) = (mount.join(FOLDER), self.files.lock().clone());
        let wanted: Vec<String> = files.keys().cloned().collect();
        assert!(soon(|| names(&folder) == wanted), "{:?} instead of {wanted:?}", names(&folder));
        for (name, body) in files {
            assert!(std::fs::read(folder.join(&name)).expect("read") == *body, "{name} at the end");
        }
    }
}

/// Reads a piece of the file that holds `body`; says whether it is right.
fn read_piece(path: &Path, body: &[u8], random: &mut Random) -> Result<bool> {
    let file = File::open(path)?;
    if random.below(4) == 0 {
        // From the device's own store, not from the kernel's memory.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    let at = random.below(body.len() as u64 + 1) as usize;
    let wanted = &body[at..body.len().min(at + random.below(2 << 20) as usize)];
    let mut found = vec![0; wanted.len()];
    let mut filled = 0;
    while filled < found.len() {
        match file.read_at(&mut found[filled..], (at + filled) as u64)? {
            0 => return Ok(false),
            len => filled += len,
        }
    }
    Ok(found == wanted)
}
