//! What the bench asks of the machine: caches, memory of a process tree, fresh bytes, free ports.
//!
//! Never measures anything itself; the works call it between and around their clocks.

use std::ffi::CString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// Pause between two looks at a process that gives no sign of its own.
const POLL: Duration = Duration::from_millis(2);

static NEXT_SEED: AtomicU64 = AtomicU64::new(1);

/// Returns a seed that no other call of this run returns.
pub fn fresh_seed() -> u64 {
    NEXT_SEED.fetch_add(1, Ordering::Relaxed)
}

/// Fills `out` with bytes that do not compress and repeat for equal seeds only (splitmix64, about 6 GiB/s).
pub fn fill(seed: u64, out: &mut [u8]) {
    let mut state = seed.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    for piece in out.chunks_mut(8) {
        let word = next().to_le_bytes();
        piece.copy_from_slice(&word[..piece.len()]);
    }
}

/// Returns `length` fresh bytes that were never seen before in this run.
pub fn fresh_bytes(length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    fill(fresh_seed(), &mut bytes);
    bytes
}

/// Draws pseudo-random numbers below a bound: offsets of random reads and writes.
pub struct Draw(u64);

impl Draw {
    /// Starts a sequence; equal seeds draw equal numbers.
    pub fn new(seed: u64) -> Draw {
        Draw(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// Writes everything dirty on the file system of `path` to its disk.
pub fn sync_disk(path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let folder = fs::File::open(path)?;
    // SAFETY: the descriptor is open for the length of the call.
    match unsafe { libc::syncfs(folder.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Syncs the disk of `path` and has the machine's memory ready: `bytes` of it are touched and freed again.
///
/// A virtual machine gives free pages back to its host within seconds (free page reporting); whoever touches them
/// next pays 2 s per GiB instead of 0.2 s, which would decide a row by what ran before it.
pub fn settle(path: &Path, bytes: u64) -> io::Result<()> {
    sync_disk(path)?;
    let (length, protection) = (bytes as usize, libc::PROT_READ | libc::PROT_WRITE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a fresh mapping that nothing refers to, unmapped whole before anybody could.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0);
        if memory == libc::MAP_FAILED || libc::munmap(memory, length) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Empties the kernel's page, name and inode caches.
///
/// # Errors
/// Only root may: the caller then leaves the cold rows out.
pub fn drop_caches(path: &Path) -> io::Result<()> {
    sync_disk(path)?;
    fs::write("/proc/sys/vm/drop_caches", "3")
}

/// Returns a port of the loopback interface that nothing listens on.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Asks `done` again and again until it says yes or `limit` has passed; says whether it did.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if done() {
            return true;
        }
        pause(POLL);
    }
    done()
}

/// Lets `time` pass.
pub fn pause(time: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "another program's start, stop or progress sends us no event"
    )]
    std::thread::sleep(time);
}

/// Memory of a process and its descendants, in MiB.
pub struct Memory {
    /// Resident now.
    pub now_mib: f64,
    /// Highest since [`reset_peak`]; for several processes the sum of their peaks.
    pub peak_mib: f64,
}

/// Reads the resident memory of `root` and of every process below it.
pub fn memory(root: u32) -> Memory {
    let mut sum = Memory { now_mib: 0.0, peak_mib: 0.0 };
    for pid in family(root) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        sum.now_mib += field_mib(&status, "VmRSS:");
        sum.peak_mib += field_mib(&status, "VmHWM:");
    }
    sum
}

/// Starts the peak of `root` and its descendants anew from what is resident now.
pub fn reset_peak(root: u32) {
    for pid in family(root) {
        // A process that has just ended has no peak to reset.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

fn field_mib(status: &str, field: &str) -> f64 {
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    let kib: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
    kib / 1024.0
}

/// Lists `root` and its descendants.
fn family(root: u32) -> Vec<u32> {
    let mut pairs = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The command name may hold spaces: the fields start behind its closing bracket (proc(5)).
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        pairs.push((pid, parent.unwrap_or(0)));
    }
    let mut all = vec![root];
    let mut at = 0;
    while at < all.len() {
        let parent = all[at];
        all.extend(pairs.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    all
}

/// Detaches every mount at or below `folder`, whatever state it is in.
pub fn detach_mounts(folder: &Path) {
    for (point, _) in mounts() {
        if Path::new(&point).starts_with(folder)
            && let Ok(point) = CString::new(Path::new(&point).as_os_str().as_bytes())
        {
            // SAFETY: `point` is a NUL-terminated string; a failure leaves the mount as it was.
            unsafe { libc::umount2(point.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// Lists mount points with the minor number of their device.
pub fn mounts() -> Vec<(String, u32)> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let parse = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let minor = fields.next()?.split_once(':')?.1.parse().ok()?;
        Some((fields.nth(1)?.to_owned(), minor))
    };
    table.lines().filter_map(parse).collect()
}

/// Returns a folder in which the kernel shows its FUSE connections, mounting one below `scratch` where there is none.
pub fn fuse_control(scratch: &Path) -> io::Result<PathBuf> {
    let usual = Path::new("/sys/fs/fuse/connections");
    if mounts().iter().any(|(point, _)| Path::new(point) == usual) {
        return Ok(usual.to_owned());
    }
    let own = scratch.join("fuse-connections");
    if !own.is_dir() {
        fs::create_dir(&own)?;
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::other);
        let (kind, point) = (text(b"fusectl")?, text(own.as_os_str().as_bytes())?);
        // SAFETY: all pointers are NUL-terminated strings that live through the call; no data is passed.
        if unsafe { libc::mount(kind.as_ptr(), point.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(own)
}

/// Describes the machine and how busy it is, for the head of the report.
pub fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown processor");
    format!(
        "{} × {}, {:.0} GiB, Linux {}, load {}",
        info.matches("processor\t").count(),
        model.trim_start_matches([' ', '\t', ':']).trim(),
        field_mib(&read("/proc/meminfo"), "MemTotal:") / 1024.0,
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
    )
}
