//! Holes, allocation, copies within the drive, and lengths.

use crate::support::mount::TestMount;
use crate::{errno, raw};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const MIB: u64 = 1 << 20;

fn make(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).expect("made")
}

fn bytes_at(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![1; len];
    file.read_exact_at(&mut bytes, offset).expect("read");
    bytes
}

#[test]
fn holes_read_as_zeros_and_take_no_space() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("sparse");
    let file = make(&path);
    file.write_all_at(b"start", 0).expect("written");
    file.write_all_at(b"end", 1 << 40).expect("written");
    assert_eq!(bytes_at(&file, 3 * MIB, 100), [0; 100]);
    drop(file);
    let stat = fs::metadata(&path).expect("stat");
    assert_eq!(stat.len(), (1 << 40) + 3);
    assert!(stat.blocks() < 10_000, "{} blocks", stat.blocks());
    let file = File::open(&path).expect("opens");
    assert_eq!((bytes_at(&file, 0, 5), bytes_at(&file, 1 << 40, 3)), (b"start".to_vec(), b"end".to_vec()));
}

#[test]
fn data_and_holes_are_found_by_lseek() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("seek");
    let file = make(&path);
    file.write_all_at(&[1; 1000], 8 * MIB).expect("written");
    file.set_len(16 * MIB).expect("extended");
    for state in ["open", "committed"] {
        let data = rustix::fs::seek(&file, SeekFrom::Data(0)).expect("there is data");
        assert!(data > 0 && data <= 8 * MIB, "{state}: data at {data}");
        assert_eq!(rustix::fs::seek(&file, SeekFrom::Hole(0)), Ok(0), "{state}");
        let hole = rustix::fs::seek(&file, SeekFrom::Hole(8 * MIB)).expect("the end is a hole");
        assert!((8 * MIB + 1000..16 * MIB).contains(&hole), "{state}: hole at {hole}");
        assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(hole)), Err(Errno::NXIO), "{state}");
        assert_eq!(rustix::fs::seek(&file, SeekFrom::Data(16 * MIB)), Err(Errno::NXIO), "{state}");
        file.sync_all().expect("synced");
    }
}

#[test]
fn fallocate_extends_punches_and_zeroes() {
    let Some(mount) = TestMount::new() else { return };
    let path = mount.path("allocated");
    let file = make(&path);
    let allocate = |mode, offset, len| rustix::fs::fallocate(&file, mode, offset, len);
    let len = || file.metadata().expect("stat").len();
    allocate(FallocateFlags::empty(), 0, MIB).expect("extended");
    assert_eq!((len(), bytes_at(&file, MIB - 10, 10)), (MIB, vec![0; 10]));
    allocate(FallocateFlags::KEEP_SIZE, MIB, MIB).expect("kept");
    assert_eq!(len(), MIB);
    file.write_all_at(&[7; 300_000], 0).expect("written");
    file.sync_all().expect("synced");
    allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 100_000, 50_000).expect("punched");
    assert_eq!(bytes_at(&file, 99_999, 50_002), [vec![7], vec![0; 50_000], vec![7]].concat());
    allocate(FallocateFlags::ZERO_RANGE, MIB - 5, 10).expect("zeroed");
    assert_eq!(len(), MIB + 5);
    allocate(FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, 10, 2 * MIB).expect("zeroed");
    assert_eq!((len(), bytes_at(&file, 9, 3)), (MIB + 5, vec![7, 0, 0]));
    for _ in 0..2 {
        assert_eq!(allocate(FallocateFlags::COLLAPSE_RANGE, 0, 4096), Err(Errno::OPNOTSUPP));
    }
    drop(file);
    assert_eq!(fs::metadata(&path).expect("stat").len(), MIB + 5);
}

#[test]
fn truncation_drops_bytes_for_good() {
    let Some(mount) = TestMount::new() else { return };
    let file = make(&mount.path("cut"));
    file.write_all_at(&[9; 10_000], 0).expect("written");
    file.set_len(100).expect("cut");
    file.set_len(10_000).expect("extended");
    assert_eq!(bytes_at(&file, 99, 3), [9, 0, 0]);
    assert_eq!(bytes_at(&file, 5000, 5000), [0; 5000]);
    let path = mount.path("cut");
    rustix::fs::ftruncate(&file, 50).expect("cut");
    file.sync_all().expect("synced");
    assert_eq!(fs::read(&path).expect("read"), [9; 50]);
    let before = fs::metadata(&path).expect("stat");
    File::create(&path).expect("emptied");
    let after = fs::metadata(&path).expect("stat");
    assert_eq!((after.len(), after.ino()), (0, before.ino()));
}

#[test]
fn ranges_are_copied_without_their_bytes_moving() {
    let Some(mount) = TestMount::new() else { return };
    let bytes: Vec<u8> = (0..4 * MIB).map(|i| (i * 7 + i / 4096) as u8).collect();
    fs::write(mount.path("from"), &bytes).expect("written");
    let from = File::open(mount.path("from")).expect("opens");
    let to = make(&mount.path("to"));
    let (mut read, mut written) = (0, 10);
    while read < bytes.len() as u64 {
        let left = bytes.len() - read as usize;
        let copied = rustix::fs::copy_file_range(&from, Some(&mut read), &to, Some(&mut written), left);
        assert!(copied.expect("copied") > 0);
    }
    drop(to);
    let copy = fs::read(mount.path("to")).expect("read");
    assert!(copy[..10] == [0; 10] && copy[10..] == bytes[..]);
    let end = rustix::fs::copy_file_range(&from, Some(&mut read), &from, Some(&mut 0), 10);
    assert!(matches!(end, Ok(0) | Err(Errno::BADF)), "{end:?}");
    let copied = fs::copy(mount.path("from"), mount.path("again")).expect("copied");
    assert_eq!(copied, bytes.len() as u64);
    assert!(fs::read(mount.path("again")).expect("read") == bytes);
}

#[test]
fn offsets_beyond_the_largest_file_are_refused() {
    let Some(mount) = TestMount::new() else { return };
    let file = make(&mount.path("huge"));
    let number = errno(file.write_at(b"x", i64::MAX as u64));
    assert!(number == raw(Errno::FBIG) || number == raw(Errno::INVAL), "{number}");
    assert_eq!(file.metadata().expect("stat").len(), 0);
}
