//! The main job on real input: the running Rust toolchain goes in through the mount, comes back over WebDAV, is
//! stored once however often it is copied, is worked in, and survives the death of the server.

mod support;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use support::process::{ok, run};
use support::server::{PASSWORD, Place, Server};

/// Bytes of new storage that one changed byte may cost.
const ONE_BYTE_COST_MAX: u64 = 3 << 20;
/// The longest that any single program may take.
const LIMIT_S: u64 = 500;
/// Programs that download at a time.
const RCLONES: usize = 6;

#[test]
fn toolchain_goes_in_comes_back_and_survives() {
    if let Some(why) = support::lacking(true, &["rsync", "rclone", "git", "cp", "stdbuf", "rustc", "cargo"]) {
        return support::skip(&why);
    }
    let place = Place::new().mounted(1500);
    let source = toolchain();
    println!("{} files", files_below(&source).len());
    let server = place.start();
    let mount = place.mount();

    timed("cp -a into the mount", || copy(&source, &mount.join("toolchain")));
    timed("rsync -anc --delete", || assert_same(&source, &mount.join("toolchain")));
    timed("rclone copy over WebDAV, and compare", || download(&server, &source, &place.path("download")));
    timed("the same under another name", || second_copy_is_free(&place, &source));
    timed("git clone, git fsck", || clone_repository(&mount));
    timed("cargo build in the mount", || build_crate(&mount.join("crate")));
    timed("one byte changed in the largest file", || one_byte_costs_little(&place));
    timed("kill -9 in the middle of a copy, start again", || survives_death(&place, server, &source));
    place.assert_no_panic();
}

/// The toolchain that runs this test.
fn toolchain() -> PathBuf {
    PathBuf::from(ok("rustc", &["--print", "sysroot"], 60).stdout.trim())
}

/// Prints how long a step took.
fn timed<T>(what: &str, step: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = step();
    println!("{:6.1} s  {what}", started.elapsed().as_secs_f64());
    result
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

fn copy(source: &Path, target: &Path) {
    ok("cp", &["-a", text(source), text(target)], LIMIT_S);
}

/// Lists what differs in bytes, mode, owner, time, or is there on one side only. Without `-i` rsync tells nothing.
fn differences(source: &Path, target: &Path, more: &[&str]) -> Vec<String> {
    let folders = [format!("{}/", source.display()), format!("{}/", target.display())];
    let mut command = Command::new("rsync");
    let done = run(command.args(["-ancHi"]).args(more).args(folders), LIMIT_S).ok();
    done.stdout.lines().map(str::to_string).collect()
}

#[track_caller]
fn assert_same(source: &Path, target: &Path) {
    let found = differences(source, target, &["--delete"]);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found[..found.len().min(40)].join("\n"));
}

/// rclone, told where the server is.
fn rclone(server: &Server, password: &str) -> Command {
    let mut command = Command::new("rclone");
    command.args(["--config", "/dev/null", "--transfers", "4", "--checkers", "4", "--retries", "1"]);
    command.env("RCLONE_WEBDAV_URL", format!("http://{}/dav/home", server.address()));
    command.env("RCLONE_WEBDAV_USER", "admin").env("RCLONE_WEBDAV_PASS", password);
    command.env("RCLONE_WEBDAV_VENDOR", "other");
    command
}

/// The letter by which files are shared out among the rclones: the last before the name's ending.
fn letter(path: &Path) -> char {
    let last = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.chars().last());
    last.filter(char::is_ascii_alphanumeric).unwrap_or('_')
}

/// Patterns of rclone that share out what is below `source`, each file to one.
fn shares(source: &Path) -> Vec<String> {
    let mut counts: BTreeMap<char, usize> = BTreeMap::new();
    files_below(source).iter().for_each(|(_, path)| *counts.entry(letter(path)).or_default() += 1);
    let mut letters: Vec<(char, usize)> = counts.into_iter().filter(|(letter, _)| *letter != '_').collect();
    letters.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut shares = vec![(0, String::new()); RCLONES];
    for (letter, count) in letters {
        let least = shares.iter_mut().min_by_key(|share| share.0).expect("some");
        least.0 += count;
        least.1.push(letter);
    }
    let named = |letters: &str| format!(r"{{{{(.*/)?([^/]*[{letters}]\.[^./]*|[^./]*[{letters}])}}}}");
    let mut patterns: Vec<String> =
        shares.iter().map(|(_, letters)| format!("+ {}", named(letters))).collect();
    // What no letter names.
    patterns.push(format!("- {}", named("0-9A-Za-z")));
    patterns
}

/// Debian's rclone waits 10 ms between any two requests: several share the files, or 50,000 took nine minutes.
fn download(server: &Server, source: &Path, target: &Path) {
    let password = ok("rclone", &["obscure", PASSWORD], 20).stdout.trim().to_string();
    std::thread::scope(|scope| {
        for share in shares(source) {
            let mut command = rclone(server, &password);
            command.args(["copy", ":webdav:toolchain"]).arg(target).args(["--filter", &share]);
            if share.starts_with('+') {
                command.args(["--filter", "- *"]);
            } else {
                command.arg("--create-empty-src-dirs");
            }
            scope.spawn(move || run(&mut command, LIMIT_S).ok());
        }
    });
    let folders = [format!("{}/", source.display()), format!("{}/", target.display())];
    let mut command = Command::new("rsync");
    // A download has no modes and owners.
    let done = run(command.args(["-rnci", "--delete"]).args(folders), LIMIT_S).ok();
    assert_eq!(done.stdout, "", "differences after the download");
    std::fs::remove_dir_all(target).expect("what was just written");
}

fn stored_bytes(place: &Place) -> u64 {
    let stats = place.json(&["stats"], 60);
    stats["stored_bytes"].as_u64().unwrap_or_else(|| panic!("no stored_bytes in {stats}"))
}

fn second_copy_is_free(place: &Place, source: &Path) {
    let before = stored_bytes(place);
    copy(source, &place.mount().join("again"));
    let grown = stored_bytes(place) - before;
    println!("          {before} bytes stored, {grown} more for the second copy");
    assert!(grown * 50 < before, "{grown} bytes more than {before}");
}

fn clone_repository(mount: &Path) {
    let target = mount.join("repository");
    ok("git", &["clone", "--quiet", env!("CARGO_MANIFEST_DIR"), text(&target)], LIMIT_S);
    assert_repository_is_sound(mount);
}

#[track_caller]
fn assert_repository_is_sound(mount: &Path) {
    let target = mount.join("repository");
    ok("git", &["-C", text(&target), "fsck", "--full", "--strict"], LIMIT_S);
    assert_eq!(ok("git", &["-C", text(&target), "status", "--porcelain"], LIMIT_S).stdout, "");
}

fn build_crate(folder: &Path) {
    std::fs::create_dir_all(folder.join("src")).expect("a folder in the mount");
    let manifest = "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    std::fs::write(folder.join("Cargo.toml"), manifest).expect("a file in the mount");
    let main = "mod part;\nfn main() { println!(\"{}\", part::answer(6)) }\n";
    std::fs::write(folder.join("src/main.rs"), main).expect("a file in the mount");
    std::fs::write(folder.join("src/part.rs"), "pub fn answer(n: u32) -> u32 { n * 7 }\n").expect("a file");
    let build = || {
        let mut command = Command::new(env!("CARGO"));
        for variable in ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
            command.env_remove(variable);
        }
        run(command.args(["build", "--offline"]).current_dir(folder), LIMIT_S).ok()
    };
    build();
    let program = folder.join("target/debug/small");
    assert_eq!(ok(text(&program), &[], 20).stdout, "42\n");
    // Cargo compares times: what it built is fresh when it looks again.
    let again = build().stderr;
    assert!(!again.contains("Compiling"), "built twice: {again}");
}

fn one_byte_costs_little(place: &Place) {
    let (size, path) = files_below(&place.mount().join("again")).into_iter().max().expect("files");
    let before = stored_bytes(place);
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("a file in the mount");
    let mut byte = [0];
    file.read_exact_at(&mut byte, size / 2).expect("its middle");
    file.write_all_at(&[!byte[0]], size / 2).expect("its middle");
    file.sync_all().expect("fsync");
    let grown = stored_bytes(place) - before;
    println!("          {size} bytes long, {grown} bytes more stored");
    assert!(grown < ONE_BYTE_COST_MAX, "{grown} bytes for one byte of {}", path.display());
}

/// Length and path of every file below `folder`.
fn files_below(folder: &Path) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|e| e.expect("an entry")) {
            match entry.metadata().expect("its attributes") {
                meta if meta.is_dir() => pending.push(entry.path()),
                meta => found.push((meta.len(), entry.path())),
            }
        }
    }
    found
}

/// Files that are open in the mount when the server dies.
struct OpenFiles {
    _synced: File,
    _unsynced: File,
}

fn open_files(mount: &Path) -> OpenFiles {
    let mut synced = File::create(mount.join("synced")).expect("a file in the mount");
    synced.write_all(b"kept").expect("write");
    synced.sync_all().expect("fsync");
    synced.write_all(b", and lost").expect("write");
    let mut unsynced = File::create(mount.join("unsynced")).expect("a file in the mount");
    unsynced.write_all(&vec![b'x'; 3 << 20]).expect("write");
    OpenFiles { _synced: synced, _unsynced: unsynced }
}

fn survives_death(place: &Place, server: Server, source: &Path) {
    let mount = place.mount();
    let files = files_below(source).len() / 2;
    let closed = copy_until_death(source, &mount, server, files);
    let started = Instant::now();
    let server = place.start();
    println!("          started again in {:.1} s", started.elapsed().as_secs_f64());

    assert_same(source, &mount.join("toolchain"));
    assert_repository_is_sound(&mount);
    assert_eq!(std::fs::read(mount.join("synced")).expect("fsynced"), b"kept");
    assert!(!mount.join("unsynced").exists(), "a file that was never closed nor fsynced is visible");
    let found = differences(source, &mount.join("third"), &[]);
    let wrong = |line: &&String| line.as_bytes()[1] == b'f' && !line.starts_with(">f+++++++++ ");
    assert_eq!(found.iter().find(wrong), None, "half-written");
    for path in &closed {
        assert!(!found.iter().any(|line| line.ends_with(path)), "{path} was closed and is not there");
    }
    server.stop();
}

/// Kills the server once `files` files of a copy are there; returns the files, by path in the source, that had been closed.
fn copy_until_death(source: &Path, mount: &Path, server: Server, files: usize) -> Vec<String> {
    // A line for each file before it is copied: those before the last line are closed.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "cp", "-av"]).args([source, &mount.join("third")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("cp");
    let prefix = format!("'{}/", source.display());
    let mut closed = Vec::new();
    let (mut server, mut open) = (Some(server), None);
    for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
        if closed.len() == files && server.is_some() {
            // Not before: a program that is started closes what it inherits, and close(2) publishes.
            open = Some(open_files(mount));
            server = None;
        }
        let path = line.strip_prefix(&prefix).and_then(|rest| rest.split_once("' -> "));
        if let (Some((path, _)), true) = (path, server.is_some())
            && source.join(path).is_file()
        {
            closed.push(path.to_string());
        }
    }
    assert!(server.is_none(), "the tree has fewer than {files} files");
    let _ = child.wait();
    drop(open);
    closed.pop();
    closed
}
