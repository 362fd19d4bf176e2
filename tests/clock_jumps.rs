//! A clock that is set, by days or years, in the middle of everything: what is fetched and sent goes on, and nothing is lost.
//!
//! The programs are the real ones; a small library that is loaded before the system's answers `clock_gettime(2)`.

#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::remote::{MIB, World, names};
use support::server::Place;
use support::{lacking, process, skip, soon, within};

/// Adds to the time of day what a file says, in seconds. The call is the kernel's, as the C library's is replaced.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int done = syscall(SYS_clock_gettime, clock, time);
    const char *path = getenv("LARDER_TEST_CLOCK");
    if (done != 0 || path == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return done;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    char text[32] = {0};
    if (file < 0) return done;
    if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atoll(text);
    close(file);
    return done;
}
"#;

const DAY_S: i64 = 86_400;
/// Where the clock goes, one after another, from now.
const JUMPS_S: [i64; 5] = [-DAY_S, 400 * DAY_S, -3 * 365 * DAY_S, 10 * 365 * DAY_S, 0];

/// The clock of one machine.
struct Machine(PathBuf);

impl Machine {
    /// Gives a place a clock of its own.
    fn of(place: Place, library: &Path) -> (Machine, Place) {
        let file = place.path("clock");
        fs::write(&file, "0").expect("written");
        // Variables of a place live as long as the test program.
        let text = |path: &Path| -> &'static str { Box::leak(path.display().to_string().into_boxed_str()) };
        let place = place.with_variable("LD_PRELOAD", text(library));
        let place = place.with_variable("LARDER_TEST_CLOCK", text(&file));
        (Machine(file), place)
    }

    /// Sets it, so many seconds from the true time.
    fn set(&self, offset_s: i64) {
        let new = self.0.with_extension("new");
        fs::write(&new, offset_s.to_string()).and_then(|()| fs::rename(&new, &self.0)).expect("set");
    }
}

fn compiled(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, LIBRARY).expect("written");
    let files = [&source, &library].map(|path| path.display().to_string());
    process::ok("cc", &["-shared", "-fPIC", "-O1", "-o", &files[1], &files[0]], 60);
    library
}

/// Seconds from now until the mtime of a file in the mount.
fn age_of(world: &World, name: &str) -> i64 {
    use std::os::unix::fs::MetadataExt;
    let now = fs::metadata("/proc/self").expect("there").mtime();
    fs::metadata(world.file(name)).expect("there").mtime() - now
}

#[test]
fn a_clock_that_jumps_holds_up_no_fetch_and_no_push() {
    if let Some(why) = lacking(true, &["cc"]) {
        return skip(&why);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let library = compiled(folder.path());
    let Some(mut world) = World::new() else { return };
    let (machine, device) = Machine::of(std::mem::replace(&mut world.device, Place::new()), &library);
    world.device = device;
    let device = world.mount();
    let mut written = Vec::new();
    for (i, jump) in JUMPS_S.into_iter().enumerate() {
        let (big, mine) = (world.noise(16 * MIB), world.noise(4 * MIB));
        let name = format!("big{i}");
        world.put(&name, &big);
        assert!(soon(|| names(&world.device.mount()).contains(&name)), "heard of before {jump} s");
        world.proxy.hold_at(Some(world.proxy.moved() + 4 * MIB));
        let path = world.file(&name).display().to_string();
        world.device.run(&["fetch", &path], 30).ok();
        assert!(soon(|| world.proxy.is_holding()));
        let mine_name = format!("mine{i}");
        fs::write(world.file(&mine_name), &mine).expect("written");
        machine.set(jump);
        world.proxy.hold_at(None);
        let state = || world.device.json(&["status", &path], 30)["fetches"][0]["state"].clone();
        assert!(within(Duration::from_secs(30), || state() == "done"), "{jump} s: {}", state());
        assert!(world.read(&name).expect("read") == big, "{name}");
        fs::write(world.file("now"), format!("{jump}")).expect("written");
        let off = age_of(&world, "now") - jump;
        assert!(off.abs() < 600, "the clock of the device did not jump by {jump} s: {off} s off");
        world.device.run(&["push", &path, "--wait", "--timeout", "60"], 90).ok();
        written.push((mine_name, mine));
        for (name, body) in &written {
            let sent = world.server().client().ok("GET", &format!("/dav/home/{name}"), &[], b"").body;
            assert!(sent == *body, "{name} after {jump} s");
        }
        // What others change is heard of at once.
        world.put("theirs", format!("{jump}").as_bytes());
        let is_heard = || world.read("theirs").is_ok_and(|body| body == format!("{jump}").as_bytes());
        assert!(soon(is_heard), "after {jump} s");
    }
    world.end(device);
}
