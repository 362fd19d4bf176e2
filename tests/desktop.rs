//! What is installed for who logs in: the unit of a server's project, and emblems for GNOME Files. And that no mount that died
//! stands in the way of the next.

#![cfg(target_os = "linux")]

mod support;

use rustix::io::Errno;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::process::{run, signal};
use support::remote::{MIB, World, errno, names};
use support::server::{LARDER, Speaking};
use support::watchdog::Watchdog;
use support::{lacking, skip, soon};

/// The longest that a test here takes.
const LIMIT_S: u64 = 120;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The processes whose parent is `id`.
fn children(id: i32) -> Vec<i32> {
    let of = |entry: fs::DirEntry| {
        let child: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // Behind the name, which may hold anything: state, parent. Source: proc_pid_stat(5).
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<i32>().ok()?;
        (parent == id).then_some(child)
    };
    fs::read_dir("/proc").expect("listed").filter_map(|entry| of(entry.expect("an entry"))).collect()
}

/// Kills a mount's process, and the one that stands in for it, so that nobody takes the mount away.
fn kill_all(id: i32) {
    let helpers = children(id);
    assert!(!helpers.is_empty(), "a stand-in");
    // Stopped it cannot see its parent die.
    helpers.iter().for_each(|helper| signal(*helper, libc::SIGSTOP));
    signal(id, libc::SIGKILL);
    helpers.iter().for_each(|helper| signal(*helper, libc::SIGKILL));
}

fn is_mounted(dir: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mounts").expect("mounts");
    table.lines().any(|line| line.split(' ').nth(1) == dir.to_str())
}

#[test]
fn a_mount_that_died_is_taken_away_at_the_next_start() {
    let Some(world) = World::new() else { return };
    world.put("file", b"content");
    let dir = world.device.mount();
    let dies = || {
        let device = world.mount();
        assert_eq!(world.read("file").expect("read"), b"content");
        kill_all(device.id());
        assert!(soon(|| errno(fs::read(dir.join("none"))) == Some(Errno::NOTCONN.raw_os_error())));
        drop(device);
    };
    dies();
    // A mount at the same place.
    let device = world.mount();
    assert_eq!(names(&dir), ["file"]);
    device.stop();
    dies();
    // A mount of the same project somewhere else.
    let elsewhere = world.device.path("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    let _watchdog = Watchdog::start(&elsewhere, LIMIT_S);
    let url = format!("http://{}/home", world.proxy.address());
    let mount = ["mount", &url, elsewhere.to_str().expect("plain")];
    let device = Speaking::start(&mut world.device.command(&mount));
    assert!(soon(|| fs::read(elsewhere.join("file")).is_ok_and(|bytes| bytes == b"content")));
    assert!(!is_mounted(&dir), "the old place is a folder again");
    assert!(names(&dir).is_empty());
    signal(device.id(), libc::SIGTERM);
    assert!(device.ended().success());
    dies();
    // And without a start.
    world.device.run(&["umount", dir.to_str().expect("plain")], 30).ok();
    assert!(!is_mounted(&dir));
    let device = world.mount();
    world.end(device);
}

#[test]
fn the_unit_of_a_project_mounts_it() {
    let Some(world) = World::new() else { return };
    world.put("file", b"content");
    let home = world.device.path("home");
    let folder = home.join("Shared");
    let settings = home.join(".config/larder/mounts/Shared.env");
    fs::create_dir_all(settings.parent().expect("a folder")).expect("folders");
    fs::write(&settings, format!("LARDER_PROJECT=http://{}/home\n", world.proxy.address())).expect("written");
    let told = UnixDatagram::bind(world.device.path("notify")).expect("a socket");
    told.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    let unit = fs::read_to_string(shipped("systemd/larder@.service")).expect("a unit");
    let line = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        let line = line.expect("there").trim_start_matches('-');
        let text = line.replace("%h", home.to_str().expect("plain")).replace("%I", "Shared");
        text.replace("%i", "Shared").replace("/usr/local/bin/larder", LARDER)
    };
    // As systemd does it: variables of the file, words at spaces, and these replaced.
    let variables = fs::read_to_string(line("EnvironmentFile")).expect("read");
    let (name, project) = variables.trim().split_once('=').expect("a variable");
    let words = |text: String| -> Vec<String> {
        let replaced = text.replace(&format!("${{{name}}}"), project);
        replaced.split(' ').map(str::to_owned).collect()
    };
    let command = |words: Vec<String>| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env("HOME", &home).env("NOTIFY_SOCKET", world.device.path("notify"));
        ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "LARDER_DATA", "WATCHDOG_PID"].iter().for_each(|name| {
            command.env_remove(name);
        });
        command
    };
    run(&mut command(words(line("ExecStartPre"))), 30).ok();
    let _watchdog = Watchdog::start(&folder, LIMIT_S);
    let service = Speaking::start(&mut command(words(line("ExecStart"))));
    let mut message = [0; 4096];
    let len = told.recv(&mut message).expect("told in time");
    assert!(message[..len].starts_with(b"READY=1"), "{}", String::from_utf8_lossy(&message[..len]));
    assert_eq!(fs::read(folder.join("file")).expect("read"), b"content");
    signal(service.id(), libc::SIGTERM);
    assert!(service.ended().success());
    assert!(!is_mounted(&folder));
    let device = world.mount();
    world.end(device);
}

/// Stands for the parts of GNOME that the extension uses.
const GNOME: &str = "
class GObject:
    class GObject:
        pass

class GLib:
    @staticmethod
    def idle_add(call, *arguments):
        call(*arguments)

class Nautilus:
    class InfoProvider:
        pass
    class ColumnProvider:
        pass
    class Column:
        def __init__(self, **fields):
            self.fields = fields
";

/// Shows files to the extension as Nautilus does.
const SHOWN: &str = "
import json, os, sys, time
import larder_nautilus

class File:
    def __init__(self, path):
        self.path, self.emblems, self.words, self.again = path, [], {}, False
    def get_location(self):
        return self
    def get_path(self):
        return self.path
    def is_directory(self):
        return os.path.isdir(self.path)
    def is_gone(self):
        return not os.path.exists(self.path)
    def add_emblem(self, name):
        self.emblems.append(name)
    def add_string_attribute(self, name, text):
        self.words[name] = text
    def invalidate_extension_info(self):
        self.again = True

extension = larder_nautilus.LarderExtension()
assert extension.get_columns()[0].fields['attribute'] == 'larder_state'
files = [File(path) for path in sys.argv[1:]]
for file in files:
    extension.update_file_info(file)
print(json.dumps([[file.emblems, file.words.get('larder_state')] for file in files]), flush=True)
# Whoever runs this changes the first file now, until it is told.
while not files[0].again:
    time.sleep(0.01)
print('told', flush=True)
";

#[test]
fn gnome_files_shows_emblems() {
    if let Some(why) = lacking(false, &["python3"]) {
        return skip(&why);
    }
    let Some(world) = World::new() else { return };
    world.put("big", &world.noise(16 * MIB));
    world.put("pinned", b"stays");
    world.put("read", b"content");
    let device = world.mount();
    assert_eq!(names(&world.device.mount()), ["big", "pinned", "read"]);
    world.device.run(&["pin", &world.file("pinned").display().to_string()], 30).ok();
    world.read("pinned").expect("read");
    world.read("read").expect("read");
    world.proxy.lead_to(None);
    fs::write(world.file("new"), b"waits").expect("written");
    fs::create_dir(world.file("folder")).expect("made");

    let place = world.device.path("python");
    let repository = place.join("gi/repository");
    fs::create_dir_all(&repository).expect("folders");
    fs::write(place.join("gi/__init__.py"), "").expect("written");
    fs::write(repository.join("__init__.py"), GNOME).expect("written");
    fs::copy(shipped("desktop/larder_nautilus.py"), place.join("larder_nautilus.py")).expect("copied");
    fs::write(place.join("shown.py"), SHOWN).expect("written");
    let outside = world.device.path("outside");
    fs::write(&outside, b"not ours").expect("written");
    let larder = Path::new(LARDER).parent().expect("a folder").display().to_string();
    let mut command = Command::new("python3");
    command
        .arg("-B")
        .arg(place.join("shown.py"))
        .env("PYTHONPATH", &place)
        .env("HOME", world.device.path("home"));
    let path = support::setting("PATH").unwrap_or_default();
    command.env("PATH", format!("{larder}:{path}")).env_remove("LARDER_DATA");
    command.args(["big", "read", "pinned", "new", "folder"].map(|name| world.file(name))).arg(&outside);
    let python = Speaking::start(&mut command);
    let said: serde_json::Value = serde_json::from_str(&python.line(30)).expect("JSON");
    let shown = serde_json::json!([
        [["emblem-web"], "Online-only"],
        [["emblem-default"], "Available on this device"],
        [["emblem-favorite"], "Always keep on this device"],
        [["emblem-synchronizing"], "Not sent yet"],
        [[], null],
        [[], null],
    ]);
    assert_eq!(said, shown);
    world.proxy.lead_to(Some(world.server().address()));
    // It listens by itself, from a moment that nobody tells.
    let told = std::thread::spawn(move || python.line(60));
    let changed = || {
        world.put("big", b"other");
        told.is_finished()
    };
    assert!(soon(changed), "the emblem is asked for again");
    assert_eq!(told.join().expect("no panic"), "told");
    world.end(device);
}
