//! A server that is stopped holds nobody up: not `df`, not a listing elsewhere, not `umount -l`.

#![cfg(target_os = "linux")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::process::{self, signal};
use support::remote::{MIB, World, errno, names};
use support::server::Place;
use support::{lacking, skip};

/// How long a mount may live in these tests.
const LIMIT_S: u64 = 280;
/// What ends at all ends within this; what hangs does not. The stand-in takes 2 to 3 s to be sure.
const RETURNS_S: u64 = 60;

/// Runs a command that has to return, whatever it says.
#[track_caller]
fn returns(program: &str, arguments: &[&str]) -> i32 {
    let done = process::run(Command::new(program).args(arguments).current_dir("/"), RETURNS_S);
    assert!(done.status.is_some(), "{program} hangs: {done}");
    done.code()
}

/// Stops a server; returns once each of its threads has stopped: until then one may still take a request, which then
/// waits for it.
fn stop(server: i32) {
    signal(server, libc::SIGSTOP);
    let threads = || std::fs::read_dir(format!("/proc/{server}/task")).expect("it lives");
    let runs = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.expect("listed").path().join("stat")).unwrap_or_default();
        !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    let mut looks = 0;
    while threads().any(runs) {
        assert!(looks < RETURNS_S * 10, "does not stop");
        looks += 1;
        assert_eq!(returns("sleep", &["0.1"]), 0);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}

#[test]
fn a_stopped_server_holds_nobody_up_and_goes_on_later() {
    if let Some(why) = lacking(true, &["df", "umount"]) {
        return skip(&why);
    }
    let place = Place::new().mounted(LIMIT_S);
    let server = place.start();
    let file = place.mount().join("f");
    std::fs::write(&file, "before").expect("written");
    stop(server.id());
    assert_eq!(returns("df", &[text(&place.mount())]), 0, "df gets the last known numbers");
    returns("df", &[]);
    assert_eq!(returns("ls", &[text(&place.data())]), 0);
    returns("cat", &[text(&place.mount().join("none"))]);
    signal(server.id(), libc::SIGCONT);
    assert_eq!(std::fs::read_to_string(&file).expect("it goes on"), "before");
    std::fs::write(&file, "after").expect("written");
    assert_eq!(std::fs::read_to_string(&file).expect("read"), "after");
}

#[test]
fn a_stopped_server_can_be_unmounted() {
    if let Some(why) = lacking(true, &["umount"]) {
        return skip(&why);
    }
    if !support::is_root() {
        return skip("umount(8) needs root");
    }
    let place = Place::new().mounted(LIMIT_S);
    let server = place.start();
    std::fs::write(place.mount().join("f"), "before").expect("written");
    stop(server.id());
    assert_eq!(returns("umount", &["-l", text(&place.mount())]), 0);
    assert!(!support::watchdog::is_mounted(&place.mount()));
    returns("df", &[]);
    signal(server.id(), libc::SIGCONT);
}

#[test]
fn the_mount_of_a_killed_server_goes_with_it() {
    if let Some(why) = lacking(true, &[]) {
        return skip(&why);
    }
    let place = Place::new().mounted(LIMIT_S);
    let server = place.start();
    std::fs::write(place.mount().join("f"), "x").expect("written");
    signal(server.id(), libc::SIGKILL);
    let mut looks = 0;
    while support::watchdog::is_mounted(&place.mount()) {
        assert!(looks < RETURNS_S * 10, "still mounted");
        looks += 1;
        assert_eq!(returns("sleep", &["0.1"]), 0);
    }
    let again = place.start();
    assert_eq!(std::fs::read_to_string(place.mount().join("f")).expect("kept"), "x");
    drop(again);
}

/// Says whether the thread of this name waits in the kernel, whatever kills it.
fn is_stuck(process: i32, name: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it lives");
    threads.flatten().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.contains(&format!("({name}) D"))
    })
}

#[test]
fn the_mount_goes_of_a_device_that_is_killed_while_the_kernel_holds_one_of_its_threads() {
    let Some(world) = World::with(&["--paused-reads", "wait"]) else { return };
    let body = world.noise(MIB);
    world.put("f", &body);
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["f"]);
    // A read waits, and with it the kernel's page; then telling the kernel that the file is another waits for the page.
    world.device.run(&["pause", "--all"], 30).ok();
    let path = world.file("f");
    let reader = std::thread::spawn(move || while errno(std::fs::read(&path)) == Some(libc::ETIMEDOUT) {});
    let is_held = || {
        world.put("f", &world.noise(MIB));
        is_stuck(device.id(), "larder-notify")
    };
    assert!(support::soon(is_held), "nothing waits for the page: {}", world.device.log());
    signal(device.id(), libc::SIGKILL);
    let point = world.device.mount();
    assert!(support::soon(|| !support::watchdog::is_mounted(&point) && reader.is_finished()), "it hangs");
    drop(device);
    let device = world.mount();
    assert_eq!(names(&point), ["f"]);
    world.end(device);
}

/// An ext4 in a file that its own disk, a small tmpfs, has no room for; dropping it takes both away.
struct FailingDisk {
    host: PathBuf,
    point: PathBuf,
}

impl FailingDisk {
    fn mount(host: PathBuf, point: PathBuf) -> FailingDisk {
        let image = host.join("image");
        [&host, &point]
            .into_iter()
            .for_each(|folder| std::fs::create_dir_all(folder).expect("a mount point"));
        process::ok("mount", &["-t", "tmpfs", "-o", "size=96m", "tmpfs", text(&host)], RETURNS_S);
        let disk = FailingDisk { host, point };
        std::fs::File::create(&image).and_then(|file| file.set_len(256 << 20)).expect("an image");
        process::ok("mkfs.ext4", &["-q", "-F", text(&image)], RETURNS_S);
        process::ok("mount", &["-o", "loop", text(&image), text(&disk.point)], RETURNS_S);
        disk
    }

    /// From now on every block that was never written before fails.
    fn fail(&self) {
        let mut filler = std::fs::File::create(self.host.join("filler")).expect("a file");
        while filler.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        for point in [&self.point, &self.host] {
            let _ = process::run(Command::new("umount").arg("-l").arg(point), RETURNS_S);
        }
    }
}

#[test]
fn a_failing_disk_holds_nobody_up_and_is_told() {
    if let Some(why) = lacking(true, &["mkfs.ext4", "mount", "umount", "df", "ls"]) {
        return skip(&why);
    }
    if !support::is_root() {
        return skip("only root can mount a disk that fails");
    }
    let place = Place::new().mounted(LIMIT_S);
    let disk = FailingDisk::mount(place.path("host"), place.data());
    let server = place.start();
    std::fs::write(place.mount().join("before"), "kept").expect("written");
    disk.fail();
    // The first writes may still fit the kernel's memory; none may be called durable once the disk has said no.
    let synced = |number: u32| {
        let mut file = std::fs::File::create(place.mount().join(format!("f{number}")))?;
        file.write_all(&[7; 100_000])?;
        file.sync_all()
    };
    assert!((0..1000).any(|number| synced(number).is_err()), "a disk that is gone takes everything");
    assert!(synced(1000).is_err(), "durable on a disk that failed");
    let put = server.client().send("PUT", "/dav/home/put", &[], b"x").expect("an answer");
    assert!(matches!(put.status, 500..=599), "{} {}", put.status, put.text());
    returns("df", &[text(&place.mount())]);
    returns("df", &[]);
    returns("ls", &["-l", text(&place.mount())]);
    assert_eq!(returns("ls", &["/"]), 0);
    assert_eq!(returns("umount", &["-l", text(&place.mount())]), 0);
    server.kill();
    place.assert_no_panic();
}
