//! What an operator does to a drive, and what happens to its files on the disk, while others read and write.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use support::http::Client;
use support::random::Random;
use support::server::{PASSWORD, Place};

/// Files in a drive that is looked after.
const FILES: u64 = 60;
/// The longest file.
const FILE_MAX_BYTES: u64 = 1_500_000;
/// Every command on a drive of this size takes less.
const LIMIT_S: u64 = 120;

/// Contents by path in the drive.
type Files = BTreeMap<String, Vec<u8>>;

fn url(path: &str) -> String {
    format!("/dav/home/{path}")
}

fn put_files(client: &mut Client, random: &mut Random, folder: &str) -> Files {
    client.ok("MKCOL", &url(folder), &[], b"");
    let mut files = Files::new();
    for number in 0..FILES {
        let length = random.below(if number % 2 == 0 { 5000 } else { FILE_MAX_BYTES }) as usize;
        let (path, content) = (format!("{folder}/f{number}"), random.bytes(length));
        client.ok("PUT", &url(&path), &[], &content);
        files.insert(path, content);
    }
    files
}

#[track_caller]
fn assert_files(client: &mut Client, files: &Files) {
    for (path, content) in files {
        assert!(client.ok("GET", &url(path), &[], b"").body == *content, "{path} is not as it was put");
    }
}

#[test]
fn maintenance_under_load_fails_no_read() {
    let place = Place::new().configured("history-days = 0\n");
    let server = place.start();
    let seed = Random::seeded().next();
    let files = put_files(&mut server.client(), &mut Random::new(seed), "kept");
    let (stop, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = server.address();
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (files, stop, reads) = (&files, &stop, &reads);
            scope.spawn(move || read_all_the_time(address, files, stop, reads));
            scope.spawn(move || churn(address, seed + number, stop));
        }
        let tasks = || {
            for round in 0..support::number("LARDER_MAINTENANCE_ROUNDS", 3) {
                for command in ["gc", "scrub", "rebuild", "gc", "stats"] {
                    let done = place.run(&[command], LIMIT_S);
                    if done.code() != 0 {
                        return Some(format!("round {round}: {done}"));
                    }
                }
            }
            None
        };
        let failed = tasks();
        stop.store(true, Ordering::SeqCst);
        assert!(failed.is_none(), "{}", failed.unwrap_or_default());
    });
    println!("{} reads meanwhile", reads.load(Ordering::SeqCst));
    assert_files(&mut server.client(), &files);
    place.run(&["scrub"], LIMIT_S).ok();
    server.stop();
    place.assert_no_panic();
}

fn read_all_the_time(address: SocketAddr, files: &Files, stop: &AtomicBool, reads: &AtomicUsize) {
    let mut client = Client::new(address, "admin", PASSWORD);
    while !stop.load(Ordering::SeqCst) {
        for (path, content) in files {
            assert!(client.ok("GET", &url(path), &[], b"").body == *content, "{path}");
            reads.fetch_add(1, Ordering::SeqCst);
            if stop.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// Makes garbage: overwrites and deletes files, and reads each at once.
fn churn(address: SocketAddr, seed: u64, stop: &AtomicBool) {
    let (mut client, mut random) = (Client::new(address, "admin", PASSWORD), Random::new(seed));
    client.ok("MKCOL", &url(&format!("churn{seed}")), &[], b"");
    while !stop.load(Ordering::SeqCst) {
        let path = url(&format!("churn{seed}/{}", random.below(10)));
        let length = random.below(FILE_MAX_BYTES) as usize;
        let content = random.bytes(length);
        client.ok("PUT", &path, &[], &content);
        assert!(client.ok("GET", &path, &[], b"").body == content, "{path}");
        if random.below(3) == 0 {
            client.ok("DELETE", &path, &[], b"");
        }
    }
}

/// The files of the index, longest first.
fn index_files(place: &Place) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![place.data().join("index")];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).expect("the index").map(|entry| entry.expect("an entry")) {
            match entry.metadata().expect("its attributes") {
                meta if meta.is_dir() => pending.push(entry.path()),
                meta => found.push((meta.len(), entry.path())),
            }
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

fn scribble(path: &Path, random: &mut Random) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("a file of the index");
    let length = file.metadata().expect("its length").len();
    for _ in 0..20 {
        let at = random.below(length.saturating_sub(4096));
        file.write_all_at(&random.bytes(4096), at).expect("write");
    }
}

#[test]
fn index_is_made_again_whatever_happened_to_it() {
    let place = Place::new();
    let mut random = Random::seeded();
    let server = place.start();
    let files = put_files(&mut server.client(), &mut random, "kept");
    let listing = |client: &mut Client| client.ok("PROPFIND", &url("kept"), &[("Depth", "1")], b"").text();
    let listed = listing(&mut server.client());
    server.stop();
    type Harm = fn(&Place, &mut Random);
    let harms: [(&str, Harm); 5] = [
        ("deleted", |place, _| std::fs::remove_dir_all(place.data().join("index")).expect("the index")),
        ("emptied", |place, _| {
            index_files(place).iter().for_each(|path| drop(std::fs::File::create(path).expect("its file")))
        }),
        ("cut", |place, _| {
            let path = index_files(place).remove(0);
            let file = std::fs::OpenOptions::new().write(true).open(path).expect("its file");
            let length = file.metadata().expect("its length").len();
            file.set_len(length / 2).expect("cut");
        }),
        ("scribbled over", |place, random| scribble(&index_files(place)[0], random)),
        ("deleted with the superblock", |place, _| {
            std::fs::remove_dir_all(place.data().join("index")).expect("the index");
            std::fs::remove_file(place.data().join("superblock")).expect("the superblock");
        }),
    ];
    for (what, harm) in harms {
        harm(&place, &mut random);
        let server = place.try_start().unwrap_or_else(|e| panic!("index {what}: {e}\n{}", place.log()));
        assert_files(&mut server.client(), &files);
        assert_eq!(listing(&mut server.client()), listed, "index {what}");
        place.run(&["scrub"], LIMIT_S).ok();
        server.stop();
    }
    place.assert_no_panic();
}

/// Flips one bit inside `content` where it rests in the log.
fn flip_bit_of(place: &Place, content: &[u8]) {
    let needle = &content[content.len() / 2..][..64];
    for entry in std::fs::read_dir(place.data().join("segments")).expect("the log").flatten() {
        let segment = std::fs::read(entry.path()).expect("a segment");
        if let Some(at) = segment.windows(needle.len()).position(|window| window == needle) {
            let file = std::fs::OpenOptions::new().write(true).open(entry.path()).expect("a segment");
            return file.write_all_at(&[segment[at] ^ 1], at as u64).expect("write");
        }
    }
    panic!("random bytes are stored as they are");
}

#[test]
fn flipped_bit_is_found_named_and_harms_no_other_file() {
    let place = Place::new();
    let server = place.start();
    let mut files = put_files(&mut server.client(), &mut Random::seeded(), "kept");
    server.stop();
    let (path, content) = files.pop_last().expect("files");
    assert!(content.len() > 1000, "the last file is a long one");
    flip_bit_of(&place, &content);

    let server = place.start();
    let answer = server.client().send("GET", &url(&path), &[], b"");
    let served = answer.is_ok_and(|answer| answer.is_success());
    assert!(!served, "what is not what was put is served");
    assert_files(&mut server.client(), &files);
    let scrubbed = place.run(&["scrub"], LIMIT_S);
    assert_eq!(scrubbed.code(), 1, "{scrubbed}");
    assert!(scrubbed.to_string().contains(&path), "{scrubbed}");
    assert!(scrubbed.stderr.contains("put these files again") && !scrubbed.stderr.contains("larder scrub"));
    assert_files(&mut server.client(), &files);
    // Put again, it is whole again.
    server.client().ok("PUT", &url(&path), &[], &content);
    files.insert(path, content);
    assert_files(&mut server.client(), &files);
    server.stop();
    place.assert_no_panic();
}

/// Takes the segments of the log out of the kernel's memory.
fn chill(data: &Path) {
    for segment in std::fs::read_dir(data.join("segments")).expect("the log") {
        let file = std::fs::File::open(segment.expect("a segment").path()).expect("a segment");
        file.sync_data().expect("clean pages can go");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
    }
}

#[test]
fn downloads_from_a_cold_disk_are_whole() {
    let place = Place::new();
    let server = place.start();
    let mut random = Random::seeded();
    // Chunks as they are, chunks that are compressed, and both ends in the middle of some.
    let mut content = random.bytes(24 << 20);
    content[5 << 20..9 << 20].fill(b'x');
    let mut client = server.client();
    client.ok("PUT", &url("file"), &[], &content);
    for range in [0..content.len(), 0..1, 3_000_000..21_000_001, content.len() - 10..content.len()] {
        chill(&place.data());
        let asked = format!("bytes={}-{}", range.start, range.end - 1);
        let answer = client.ok("GET", &url("file"), &[("Range", &asked)], b"");
        assert!(answer.body == content[range.clone()], "{range:?}");
    }
    chill(&place.data());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = server.client();
            let content = &content;
            scope.spawn(move || assert!(client.ok("GET", &url("file"), &[], b"").body == *content));
        }
    });
    server.stop();
    place.assert_no_panic();
}
