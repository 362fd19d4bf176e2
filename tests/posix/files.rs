//! Open flags, offsets, memory maps, and files that lose their names while open.

use crate::support::mount::TestMount;
use crate::support::soon;
use crate::{errno, raw};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

const RW: Mode = Mode::from_raw_mode(0o644);

#[test]
fn open_flags_do_what_open_2_says() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("f");
    fs::write(&path, "content").expect("written");
    let open = |flags| rustix::fs::open(&path, flags, RW);
    assert_eq!(open(OFlags::CREATE | OFlags::EXCL | OFlags::RDWR).err(), Some(Errno::EXIST));
    assert_eq!(open(OFlags::DIRECTORY).err(), Some(Errno::NOTDIR));
    assert_eq!(rustix::fs::open(mount.path(""), OFlags::WRONLY, RW).err(), Some(Errno::ISDIR));
    let read_only = File::from(open(OFlags::RDONLY).expect("opens"));
    assert_eq!(errno(read_only.write_at(b"x", 0)), raw(Errno::BADF));
    let write_only = File::from(open(OFlags::WRONLY).expect("opens"));
    assert_eq!(errno(write_only.read_at(&mut [0], 0)), raw(Errno::BADF));
    drop(open(OFlags::RDWR | OFlags::TRUNC).expect("opens"));
    assert_eq!(fs::metadata(&path).expect("is there").len(), 0);
    std::os::unix::fs::symlink("f", mount.path("link")).expect("made");
    let followed = rustix::fs::open(mount.path("link"), OFlags::NOFOLLOW | OFlags::RDONLY, RW);
    assert_eq!(followed.err(), Some(Errno::LOOP));
    assert_eq!(rustix::fs::open(mount.path("none"), OFlags::RDONLY, RW).err(), Some(Errno::NOENT));
}

#[test]
fn nothing_changes_a_program_that_runs() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("program");
    fs::copy("/bin/sleep", &path).expect("copied");
    let before = fs::read(&path).expect("read");
    let mut running = Command::new(&path).arg("100").spawn().expect("starts");
    let open = |flags| rustix::fs::open(&path, flags, RW).err();
    for access in [OFlags::WRONLY, OFlags::RDWR] {
        assert_eq!(open(access), Some(Errno::TXTBSY));
        assert_eq!(open(access | OFlags::TRUNC), Some(Errno::TXTBSY));
    }
    // POSIX leaves this one open; here it is what ext4 does.
    assert_eq!(open(OFlags::RDONLY | OFlags::TRUNC), Some(Errno::TXTBSY));
    assert_eq!(open(OFlags::RDONLY), None);
    assert!(fs::read(&path).expect("read") == before);
    assert!(running.try_wait().expect("our child").is_none());
    running.kill().expect("killed");
    running.wait().expect("ended");
    assert_eq!(open(OFlags::WRONLY), None);
    assert!(soon(|| open(OFlags::RDONLY | OFlags::TRUNC).is_none()));
    assert_eq!(fs::metadata(&path).expect("is there").len(), 0);
}

#[test]
fn a_file_without_a_name_is_refused_cleanly() {
    let Some(mount) = TestMount::new() else { return };
    for _ in 0..2 {
        let made = rustix::fs::open(mount.path(""), OFlags::TMPFILE | OFlags::RDWR, RW);
        assert_eq!(made.err(), Some(Errno::OPNOTSUPP));
    }
    // which programs take as the sign to make a named one
    fs::write(mount.path("named"), "x").expect("written");
}

#[test]
fn appending_handles_never_overwrite_one_another() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("log");
    let open = || OpenOptions::new().append(true).create(true).open(&path).expect("opens");
    let (mut a, mut b) = (open(), open());
    for i in 0..100 {
        write!(a, "a{i:03}").expect("written");
        write!(b, "b{i:03}").expect("written");
    }
    let expected: String = (0..100).map(|i| format!("a{i:03}b{i:03}")).collect();
    assert_eq!(fs::read_to_string(&path).expect("read"), expected);
}

#[test]
fn an_append_past_the_cache_arrives_in_order() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("log");
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND | OFlags::DIRECT;
    let bytes: Vec<u8> = (0..4_u32 << 20).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut file = File::from(rustix::fs::open(&path, flags, RW).expect("opens"));
    for _ in 0..3 {
        file.write_all(&bytes).expect("written");
    }
    drop(file);
    assert!(fs::read(&path).expect("read") == bytes.repeat(3));
}

#[test]
fn a_handle_that_no_longer_appends_writes_where_it_is_told() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("f");
    fs::write(&path, "0123456789").expect("written");
    let file = OpenOptions::new().append(true).open(&path).expect("opens");
    rustix::fs::fcntl_setfl(&file, OFlags::empty()).expect("set");
    file.write_all_at(b"ab", 3).expect("written");
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND).expect("set");
    file.write_all_at(b"!", 0).expect("written");
    assert_eq!(fs::read(&path).expect("read"), b"012ab56789!");
}

#[test]
fn every_handle_sees_every_write_at_once() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("shared");
    let writer = File::create(&path).expect("made");
    let reader = File::open(&path).expect("opens");
    let mut bytes = [0; 4];
    for i in 0..200_u32 {
        writer.write_all_at(&i.to_le_bytes(), u64::from(i % 7) * 4).expect("written");
        reader.read_exact_at(&mut bytes, u64::from(i % 7) * 4).expect("read");
        assert_eq!(u32::from_le_bytes(bytes), i);
    }
    assert_eq!(reader.metadata().expect("stat").len(), 28);
}

#[test]
fn an_unlinked_open_file_lives_on() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("doomed");
    fs::write(&path, "before").expect("written");
    let mut file = OpenOptions::new().read(true).write(true).open(&path).expect("opens");
    fs::remove_file(&path).expect("removed");
    assert_eq!(errno(fs::metadata(&path)), raw(Errno::NOENT));
    assert_eq!(file.metadata().expect("stat").nlink(), 0);
    file.seek(SeekFrom::End(0)).expect("seeks");
    file.write_all(b" and after").expect("written");
    file.sync_all().expect("synced");
    file.rewind().expect("seeks");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    assert_eq!(text, "before and after");
    file.set_len(3).expect("truncated");
    assert_eq!(file.metadata().expect("stat").len(), 3);
    // the name is free for another file meanwhile
    fs::write(&path, "new").expect("written");
    assert_ne!(fs::metadata(&path).expect("stat").ino(), file.metadata().expect("stat").ino());
}

#[test]
fn a_new_file_unlinked_before_its_first_close_works() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("scratch");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("made");
    fs::remove_file(&path).expect("removed");
    file.write_all_at(&[7; 100_000], 5).expect("written");
    let mut bytes = vec![0; 100_005];
    file.read_exact_at(&mut bytes, 0).expect("read");
    assert!(bytes[..5].iter().all(|b| *b == 0) && bytes[5..].iter().all(|b| *b == 7));
    assert_eq!(file.metadata().expect("stat").nlink(), 0);
}

#[test]
fn a_replaced_open_file_lives_on() {
    let Some(mount) = TestMount::new() else { return };
    fs::write(mount.path("old"), "old").expect("written");
    fs::write(mount.path("new"), "new").expect("written");
    let mut old = File::open(mount.path("old")).expect("opens");
    fs::rename(mount.path("new"), mount.path("old")).expect("renamed");
    let mut text = String::new();
    old.read_to_string(&mut text).expect("read");
    assert_eq!((text.as_str(), old.metadata().expect("stat").nlink()), ("old", 0));
    assert_eq!(fs::read_to_string(mount.path("old")).expect("read"), "new");
}

/// Names the file to a process that this test starts.
const MAPPED: &str = "LARDER_TEST_MAPPED";

#[test]
#[expect(clippy::disallowed_methods, reason = "a test talks to the process that it starts")]
fn shared_maps_and_calls_see_one_another() {
    if let Some(path) = std::env::var_os(MAPPED) {
        return map_and_call(path.as_ref());
    }
    let Some(mount) = TestMount::new() else { return };
    // In a process of its own: a page fault holds a lock on the memory of its process until it is answered, and a
    // thread of the same process that answers may need that lock to allocate.
    let this = "posix::files::shared_maps_and_calls_see_one_another";
    let program = std::env::current_exe().expect("this program");
    let mut command = std::process::Command::new(program);
    let status = command.args(["--exact", this]).env(MAPPED, mount.path("mapped")).status().expect("runs");
    assert!(status.success(), "{status}");
    assert!(mount.path("mapped").exists(), "the other process ran no test");
}

fn map_and_call(path: &std::path::Path) {
    const LEN: usize = 3 * 4096 + 100;
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).expect("made");
    file.set_len(LEN as u64).expect("extended");
    let (prot, flags) =
        (rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE, rustix::mm::MapFlags::SHARED);
    // SAFETY: a fresh map of LEN bytes of a file of that length, used through one slice until it is unmapped
    let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), LEN, prot, flags, &file, 0) }.expect("mapped");
    // SAFETY: as above
    let map = unsafe { std::slice::from_raw_parts_mut(at.cast::<u8>(), LEN) };
    map[5000..5005].copy_from_slice(b"by it");
    // SAFETY: the map is there
    unsafe { rustix::mm::msync(at, LEN, rustix::mm::MsyncFlags::SYNC) }.expect("synced");
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, 5000).expect("read");
    assert_eq!(&bytes, b"by it");
    file.write_all_at(b"by us", 9000).expect("written");
    assert_eq!(&map[9000..9005], b"by us");
    map[LEN - 1] = 9;
    // SAFETY: nothing uses the slice from here on
    unsafe { rustix::mm::munmap(at, LEN) }.expect("unmapped");
    drop(file);
    let whole = fs::read(path).expect("read");
    assert_eq!((whole.len(), whole[LEN - 1], &whole[5000..5005]), (LEN, 9, &b"by it"[..]));
    map_and_append(&path.with_extension("log"));
}

/// A page goes back to its place though calls of the same handle append.
fn map_and_append(path: &std::path::Path) {
    fs::write(path, "0123456789").expect("written");
    let file = OpenOptions::new().read(true).append(true).open(path).expect("opens");
    let (prot, flags) =
        (rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE, rustix::mm::MapFlags::SHARED);
    // SAFETY: a fresh map of the 10 bytes of the file, used through one slice until it is unmapped
    let at = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 10, prot, flags, &file, 0) }.expect("mapped");
    // SAFETY: as above
    let map = unsafe { std::slice::from_raw_parts_mut(at.cast::<u8>(), 10) };
    map[3] = b'x';
    // SAFETY: the map is there
    unsafe { rustix::mm::msync(at, 10, rustix::mm::MsyncFlags::SYNC) }.expect("synced");
    // SAFETY: nothing uses the slice from here on
    unsafe { rustix::mm::munmap(at, 10) }.expect("unmapped");
    drop(file);
    assert_eq!(fs::read(path).expect("read"), b"012x456789");
}

#[test]
fn large_reads_and_writes_of_odd_sizes_arrive_whole() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("large");
    let bytes: Vec<u8> = (0..5_000_011_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut file = File::create(&path).expect("made");
    for piece in bytes.chunks(77_777) {
        file.write_all(piece).expect("written");
    }
    drop(file);
    assert!(fs::read(&path).expect("read") == bytes);
    let direct = rustix::fs::open(&path, OFlags::RDONLY | OFlags::DIRECT, RW).expect("opens past the cache");
    let mut read = Vec::new();
    File::from(direct).read_to_end(&mut read).expect("read");
    assert!(read == bytes);
}

#[test]
fn other_calls_fail_as_on_a_disk() {
    let Some(mount) = TestMount::new() else { return };
    fs::write(mount.path("f"), "x").expect("written");
    let file = File::open(mount.path("f")).expect("opens");
    // SAFETY: TIOCGWINSZ fills a winsize, which this is
    let asked =
        unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::TIOCGWINSZ, &mut [0_u16; 4]) };
    assert_eq!((asked, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::ENOTTY)));
    let mut ready = [rustix::event::PollFd::new(&file, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut ready, None), Ok(1));
    let usage = rustix::fs::statvfs(mount.path("f")).expect("statvfs");
    assert!(usage.f_bavail > 0 && usage.f_namemax == 255);
    rustix::fs::syncfs(&file).expect("synced");
    File::open(mount.path("")).expect("opens").sync_all().expect("a folder can be synced");
}
