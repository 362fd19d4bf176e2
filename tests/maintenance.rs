//! What an operator does to a drive, and what happens to its files on the disk, while others read and write.

mod support;

use std::collections::BTreeMap;
use std::io::Read;
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
/// More than a segment of the log, together.
const LITTER_FILES: usize = 36;
const LITTER_FILE_BYTES: usize = 8 << 20;

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
    if let Some(why) = support::lacking(true, &["fusermount3"]) {
        return support::skip(&why);
    }
    let rounds = support::number("LARDER_MAINTENANCE_ROUNDS", 3);
    let place = Place::new().configured("history-days = 0\n").mounted(300 + rounds * 5 * LIMIT_S);
    let server = place.start();
    let mut random = Random::seeded();
    let seed = random.next();
    let files = put_files(&mut server.client(), &mut random, "kept");
    let (stop, reads) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    let (address, mount) = (server.address(), place.mount());
    std::thread::scope(|scope| {
        let (files, stop, [over_webdav, in_mount]) = (&files, &stop, &reads);
        for number in 0..2 {
            scope.spawn(move || read_all_the_time(files, stop, over_webdav, webdav(address)));
            scope.spawn(move || churn(address, seed + number, stop));
        }
        scope.spawn(|| read_all_the_time(files, stop, in_mount, |path| read_anew(&mount.join(path))));
        // Whatever goes wrong here ends the others, and then the test.
        let _stop = Stop(stop);
        for round in 0..rounds {
            maintain(&place, &mut server.client(), &mut random, round);
        }
    });
    println!("{reads:?} reads meanwhile, over WebDAV and in the mount");
    assert!(reads.iter().all(|reads| reads.load(Ordering::SeqCst) > files.len()), "{reads:?}");
    assert_files(&mut server.client(), &files);
    place.run(&["scrub"], LIMIT_S).ok();
    server.stop();
    place.assert_no_panic();
}

/// Ends those who work all the time when it goes.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Everything an operator does once; the collection has something to move and to free each time.
fn maintain(place: &Place, client: &mut Client, random: &mut Random, round: u64) {
    litter(client, random);
    let number = |of: &serde_json::Value, key: &str| {
        of[key].as_u64().unwrap_or_else(|| panic!("round {round}: no {key} in {of}"))
    };
    let before = place.json(&["stats"], LIMIT_S);
    let gone = place.json(&["gc"], LIMIT_S);
    for key in ["chunks", "chunk_bytes", "segments", "moved_bytes", "freed_bytes"] {
        assert!(number(&gone, key) > 0, "round {round}: the collection left {key} alone: {gone}");
    }
    for command in ["scrub", "rebuild", "gc"] {
        place.run(&[command], LIMIT_S).ok();
    }
    let after = place.json(&["stats"], LIMIT_S);
    println!("round {round}: {gone}");
    assert!(number(&after, "checkpoints") > number(&before, "checkpoints"), "{before} {after}");
}

/// Fills the rest of the segment that is written to, and more, with what nobody needs any more: a collection leaves
/// that one alone.
fn litter(client: &mut Client, random: &mut Random) {
    for _ in 0..LITTER_FILES {
        client.ok("PUT", &url("litter"), &[], &random.bytes(LITTER_FILE_BYTES));
    }
    client.ok("DELETE", &url("litter"), &[], b"");
}

/// Reads through the mount what the kernel does not have in its memory.
fn read_anew(path: &Path) -> Vec<u8> {
    let file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a hint");
    let mut bytes = Vec::new();
    (&file).read_to_end(&mut bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    bytes
}

/// Reads over WebDAV.
fn webdav(address: SocketAddr) -> impl FnMut(&str) -> Vec<u8> {
    let mut client = Client::new(address, "admin", PASSWORD);
    move |path| client.ok("GET", &url(path), &[], b"").body
}

fn read_all_the_time(
    files: &Files,
    stop: &AtomicBool,
    reads: &AtomicUsize,
    mut read: impl FnMut(&str) -> Vec<u8>,
) {
    while !stop.load(Ordering::SeqCst) {
        for (path, content) in files {
            assert!(read(path) == *content, "{path}");
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
