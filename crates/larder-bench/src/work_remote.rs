//! A server's project on a device: how soon it is there, how fast it is read, changed and fetched, and what that takes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::contender::{Kind, PASSWORD, Server, find};
use crate::device::{Device, Prepared, rclone};
use crate::http::{Body, Http};
use crate::link::{Link, Loss};
use crate::machine::{MIB, fill, fresh_bytes, fresh_seed, memory, reset_peak, wait_until};
use crate::mounting::Mounted;
use crate::options::Options;
use crate::table::Table;
use crate::work_webdav::start;

/// Files of the crowd.
const CROWD: usize = 1_000_000;
/// Files of one of its folders.
const FOLDER_FILES: usize = 1000;
/// The round trip of the far server.
const RTT: Duration = Duration::from_millis(40);
/// 100 Mbit/s.
const LINE_BYTES_S: f64 = 12_500_000.0;
/// Bytes read over the line.
const LINE_BYTES: u64 = 64 * MIB;
/// Files of the repository.
const REPOSITORY: usize = 10_000;
/// Files that are fetched at once, and their bytes.
const FETCHED: (usize, u64) = (100, 16 * MIB);
/// The watchdog's limit for one kind of work.
const WORK_LIMIT: Duration = Duration::from_secs(300);
/// Bytes of one `read`.
const BLOCK_BYTES: usize = 1 << 20;

/// One kind of work, in a round.
type Work = fn(&Options, &Server, &mut Table, usize) -> io::Result<()>;

/// Runs the remote part.
pub fn run(options: &Options, table: &mut Table) -> io::Result<()> {
    let Some(server) = start(options, Kind::Larder, &[], table)? else { return Ok(()) };
    let works: [(&str, Work); 6] = [
        ("read", read),
        ("line", line),
        ("git", git),
        ("push", push),
        ("fetch", fetch),
        // Last: the others have small projects.
        ("crowd", crowd),
    ];
    for (name, work) in works {
        let rounds = if options.wants(name) { options.rounds } else { 0 };
        for round in 0..rounds {
            eprintln!("remote: {name}, round {} of {rounds}", round + 1);
            if let Err(error) = work(options, &server, table, round) {
                table.note(format!("remote: {name}: a round ended early: {error}"));
            }
        }
    }
    Ok(())
}

/// Puts `len` fresh bytes at the server.
fn put(server: &Server, path: &str, len: u64) -> io::Result<()> {
    let body = Body::Made { length: len, make: &mut |block| fill(fresh_seed(), block) };
    Http::connect(server)?.ask("PUT", path, "", body)?.success("PUT").map(drop)
}

fn make_folder(server: &Server, path: &str) -> io::Result<()> {
    Http::connect(server)?.ask("MKCOL", path, "", Body::Empty)?.success("MKCOL").map(drop)
}

/// Reads a file to its end, and returns the seconds.
fn read_through(path: &Path, expected_bytes: u64) -> io::Result<f64> {
    let mut block = vec![0; BLOCK_BYTES];
    let start = Instant::now();
    let (mut file, mut bytes) = (File::open(path)?, 0);
    loop {
        match file.read(&mut block)? {
            0 if bytes == expected_bytes => return Ok(start.elapsed().as_secs_f64()),
            0 => return Err(io::Error::other(format!("{}: {bytes} bytes only", path.display()))),
            read => bytes += read as u64,
        }
    }
}

/// Has the kernel forget the pages of a file, so that it asks the mount again.
fn forget(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // SAFETY: the descriptor is open; the call changes no memory of ours.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn read(options: &Options, server: &Server, table: &mut Table, round: usize) -> io::Result<()> {
    let (name, mib) = (format!("read-{round}"), options.size_bytes as f64 / MIB as f64);
    put(server, &format!("/{name}"), options.size_bytes)?;
    if let Some(curl) = find("curl", &options.tools) {
        options.settle()?;
        let url = format!("http://127.0.0.1:{}/dav/home/{name}", server.port);
        let start = Instant::now();
        let user = format!("admin:{PASSWORD}");
        let got = Command::new(curl).args(["-sf", "-u", &user, "-o", "/dev/null", &url]).status()?;
        if got.success() {
            table.record("remote_cold", "curl", mib / start.elapsed().as_secs_f64());
        }
    }
    if let Some(peer) = rclone(options, &format!("rclone-{round}"), server.port)? {
        options.settle()?;
        peer.allow(WORK_LIMIT);
        let seconds = read_through(&peer.folder.join(&name), options.size_bytes)?;
        table.record("remote_cold", "rclone mount", mib / seconds);
        peer.rest();
    }
    let device = Device::start(options, &format!("device-read-{round}"), server.port)?;
    options.settle()?;
    device.mounted.allow(WORK_LIMIT);
    let file = device.mounted.folder.join(&name);
    table.record("remote_cold", "larder", mib / read_through(&file, options.size_bytes)?);
    forget(&file)?;
    table.record("remote_again", "larder", mib / read_through(&file, options.size_bytes)?);
    drop(device);
    if let Some(local) = Mounted::start(options, "larder")? {
        local.allow(WORK_LIMIT);
        let file = local.folder.join(&name);
        let mut made = File::create(&file)?;
        fresh_bytes(options.size_bytes).chunks(BLOCK_BYTES).try_for_each(|block| made.write_all(block))?;
        made.sync_all()?;
        forget(&file)?;
        read_through(&file, options.size_bytes)?;
        forget(&file)?;
        table.record("remote_again", "local mount", mib / read_through(&file, options.size_bytes)?);
        fs::remove_file(&file)?;
    }
    Ok(())
}

fn line(options: &Options, server: &Server, table: &mut Table, round: usize) -> io::Result<()> {
    let (name, far) = (format!("line-{round}"), format!("far-{round}"));
    put(server, &format!("/{name}"), LINE_BYTES)?;
    put(server, &format!("/{far}"), options.size_bytes)?;
    let link = Link::start(server.port, RTT, Some(LINE_BYTES_S))?;
    let device = Device::start(options, &format!("device-line-{round}"), link.port)?;
    device.mounted.allow(WORK_LIMIT);
    let loss = Loss::start(link.port);
    if let Err(error) = &loss {
        table.note(format!("nothing was lost on the line: nft: {error}"));
    }
    let seconds = read_through(&device.mounted.folder.join(&name), LINE_BYTES)?;
    table.record("line_read", "larder", LINE_BYTES as f64 / seconds / LINE_BYTES_S);
    drop(loss);
    drop(device);
    // Nothing but the way: the rate of the line would count as well.
    let link = Link::start(server.port, RTT, None)?;
    let device = Device::start(options, &format!("device-far-{round}"), link.port)?;
    device.mounted.allow(WORK_LIMIT);
    let file = device.mounted.folder.join(&far);
    fs::metadata(&file)?;
    // What a device asks for when it begins is over then.
    options.settle()?;
    let start = Instant::now();
    File::open(&file)?.read_exact_at(&mut [0], 0)?;
    table.record("first_byte", "larder", start.elapsed().as_secs_f64() / RTT.as_secs_f64());
    Ok(())
}

fn git(options: &Options, server: &Server, table: &mut Table, round: usize) -> io::Result<()> {
    let Some(git) = find("git", &options.tools) else {
        table.note("git is not installed: its row is left out".into());
        return Ok(());
    };
    let run = |folder: &Path, arguments: &[&str]| {
        let mut command = Command::new(&git);
        command
            .current_dir(folder)
            .args(["-c", "user.name=b", "-c", "user.email=b@localhost"])
            .args(arguments);
        match command.env("HOME", &options.scratch).stdout(Stdio::null()).stderr(Stdio::null()).status()? {
            status if status.success() => Ok(()),
            _ => Err(io::Error::other(format!("git {} failed", arguments.join(" ")))),
        }
    };
    let origin = options.scratch.join(format!("repository-{round}"));
    for n in 0..options.count(REPOSITORY) {
        let folder = origin.join(format!("folder-{}", n / 100));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("file-{n}")), format!("{n} {}", fresh_seed()))?;
    }
    run(&origin, &["init", "-q"])?;
    // Else the commit of so many files begins to pack them behind our back, while they are cloned.
    run(&origin, &["config", "gc.auto", "0"])?;
    run(&origin, &["add", "."])?;
    run(&origin, &["commit", "-qm", "all"])?;
    let device = Device::start(options, &format!("device-git-{round}"), server.port)?;
    device.mounted.allow(WORK_LIMIT);
    let plain = options.scratch.join(format!("clones-{round}"));
    fs::create_dir_all(&plain)?;
    for (name, folder) in [("ext4", &plain), ("larder", &device.mounted.folder)] {
        let clone = format!("clone-{round}");
        run(folder, &["clone", "-q", "--no-hardlinks", &origin.display().to_string(), &clone])?;
        if name == "larder" {
            device.run(&["push", &device.folder(), "--wait"])?;
        }
        let clone = folder.join(clone);
        // The first one writes down what it has seen of each file.
        run(&clone, &["status"])?;
        let start = Instant::now();
        run(&clone, &["status"])?;
        table.record("git_status", name, start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(())
}

fn push(options: &Options, server: &Server, table: &mut Table, round: usize) -> io::Result<()> {
    let device = Device::start(options, &format!("device-push-{round}"), server.port)?;
    device.mounted.allow(WORK_LIMIT);
    for (row, megabytes) in [("push_5", 5), ("push_50", 50)] {
        let bytes = fresh_bytes(megabytes * 1_000_000);
        options.settle()?;
        let start = Instant::now();
        fs::write(device.mounted.folder.join(format!("{row}-{round}")), &bytes)?;
        device.run(&["push", &device.folder(), "--wait"])?;
        table.record(row, "larder", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn fetch(options: &Options, server: &Server, table: &mut Table, round: usize) -> io::Result<()> {
    let (files, bytes) = FETCHED;
    make_folder(server, &format!("/fetch-{round}/"))?;
    (0..files).try_for_each(|n| put(server, &format!("/fetch-{round}/{n}"), bytes))?;
    let device = Device::start(options, &format!("device-fetch-{round}"), server.port)?;
    device.mounted.allow(WORK_LIMIT);
    let folder = device.mounted.folder.join(format!("fetch-{round}"));
    fs::read_dir(&folder)?.for_each(drop);
    reset_peak(device.mounted.pid());
    let start = Instant::now();
    device.run(&["fetch", &folder.display().to_string()])?;
    let path = folder.display().to_string();
    let is_done = || {
        let status = device.run(&["status", &path, "--json"]).unwrap_or_default();
        !["\"active\"", "\"queued\""].iter().any(|state| status.contains(state))
    };
    if !wait_until(WORK_LIMIT, is_done) {
        return Err(io::Error::other("the files are not fetched in time"));
    }
    let rate = (files as u64 * bytes / MIB) as f64 / start.elapsed().as_secs_f64();
    table.record("fetch_rss", "larder", memory(device.mounted.pid()).peak_mib);
    table.note(format!("fetch: {files} files at {rate:.0} MiB/s"));
    Ok(())
}

fn crowd(options: &Options, server: &Server, table: &mut Table, round: usize) -> io::Result<()> {
    let folders = options.count(CROWD).div_ceil(FOLDER_FILES);
    if round == 0 {
        make_folder(server, "/crowd/")?;
        make_folder(server, "/crowd/0/")?;
        for n in 0..FOLDER_FILES {
            Http::connect(server)?.put(&format!("/crowd/0/file-{n}"), b"one of many")?.success("PUT")?;
        }
        (1..folders).try_for_each(|n| {
            Http::connect(server)?.transplant("COPY", "/crowd/0/", &format!("/crowd/{n}/"))
        })?;
    }
    let prepared = Prepared::start(options, &format!("device-crowd-{round}"), server.port)?;
    let start = Instant::now();
    let device = prepared.mount(options, server.port)?;
    device.mounted.allow(WORK_LIMIT);
    let listed = fs::read_dir(device.mounted.folder.join("crowd"))?.count();
    table.record("crowd_listed", "larder", start.elapsed().as_secs_f64());
    table.record("crowd_rss", "larder", memory(device.mounted.pid()).peak_mib);
    if listed != folders {
        return Err(io::Error::other(format!("{listed} of {folders} folders")));
    }
    let start = Instant::now();
    for n in 0..folders {
        let listed = fs::read_dir(device.mounted.folder.join(format!("crowd/{n}")))?.count();
        if listed != FOLDER_FILES {
            return Err(io::Error::other(format!("{listed} of {FOLDER_FILES} files")));
        }
    }
    table.record("crowd_known", "larder", memory(device.mounted.pid()).peak_mib);
    let files = folders * FOLDER_FILES;
    table.note(format!("crowd: {files} names listed in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}
