//! Every program in examples/ runs as its first line says.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::process::{ok, run};

/// Any example ends within this, or has said by then where it serves.
const LIMIT_S: u64 = 60;

/// Where cargo puts an example of the same build.
fn program(name: &str) -> PathBuf {
    let built = Path::new(support::server::LARDER).parent().expect("a folder").join("examples").join(name);
    assert!(built.exists(), "{} is not built: cargo build --examples", built.display());
    built
}

#[test]
fn every_example_has_a_test() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("examples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["chunk_a_file", "mount_drive", "serve_webdav", "store_and_read", "throttle", "versions"]
    );
}

#[test]
fn store_and_read_stores_the_second_file_for_little() {
    let done = run(&mut Command::new(program("store_and_read")), LIMIT_S).ok();
    let new_bytes = |line: &str| -> u64 {
        let text = line.split_once(": ").expect("a colon").1;
        text.split(' ').next().expect("a number").parse().expect("a number")
    };
    let lines: Vec<u64> = done.stdout.lines().map(new_bytes).collect();
    assert!(lines.len() == 2 && lines[1] * 4 < lines[0], "{done}");
}

#[test]
fn chunk_a_file_shows_that_few_chunks_change() {
    let done = run(&mut Command::new(program("chunk_a_file")), LIMIT_S).ok();
    let last = done.stdout.lines().last().expect("lines");
    let mut numbers = last.split(' ').filter_map(|word| word.parse::<usize>().ok());
    let (changed, all) = (numbers.next().expect("a number"), numbers.next().expect("a number"));
    assert!((1..=3).contains(&changed) && all > 8, "{done}");
}

#[test]
fn versions_brings_the_first_back() {
    let done = run(&mut Command::new(program("versions")), LIMIT_S).ok();
    assert_eq!(done.stdout, "version 1: 5 bytes\nversion 2: 6 bytes\nrestored: first\n");
}

#[test]
fn throttle_ends_well() {
    run(&mut Command::new(program("throttle")), LIMIT_S).ok();
}

#[test]
fn serve_webdav_serves() {
    if let Some(why) = support::lacking(false, &["curl"]) {
        return support::skip(&why);
    }
    let server = support::server::Speaking::start(&mut Command::new(program("serve_webdav")));
    let url = server.line(LIMIT_S);
    let file = format!("{url}hello");
    let limit = LIMIT_S.to_string();
    ok("curl", &["-fsS", "-m", &limit, "-T", "Cargo.toml", &file], LIMIT_S);
    let got = ok("curl", &["-fsS", "-m", &limit, &file], LIMIT_S);
    assert_eq!(got.stdout, std::fs::read_to_string("Cargo.toml").expect("the manifest"));
}

#[test]
fn mount_drive_mounts() {
    if let Some(why) = support::lacking(true, &[]) {
        return support::skip(&why);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let _watchdog = support::watchdog::Watchdog::start(folder.path(), LIMIT_S);
    let mut command = Command::new(program("mount_drive"));
    let done = run(command.env("TMPDIR", folder.path()), LIMIT_S).ok();
    assert!(done.stdout.contains("hello from a mount"), "{done}");
}
