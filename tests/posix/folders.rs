//! Listings: long ones, ones that change while they are read, and going back to a place in one.

use crate::support::mount::TestMount;
use rustix::fs::Dir;
use std::collections::BTreeSet;
use std::fs::{self, File};

/// Names; enough for several replies of the kernel's largest size, each way of asking.
const NAMES: usize = 20_000;

fn fill(mount: &TestMount, count: usize) -> BTreeSet<String> {
    fs::create_dir(mount.path("d")).expect("made");
    let names = (0..count).map(|i| format!("{:07}-{}", i * 7919 % count, "n".repeat(i % 40)));
    names.inspect(|name| drop(File::create(mount.path(&format!("d/{name}"))).expect("made"))).collect()
}

fn open(mount: &TestMount) -> Dir {
    Dir::new(File::open(mount.path("d")).expect("opens")).expect("listed")
}

/// The next name that is neither `.` nor `..`, and the place behind it.
fn next(folder: &mut Dir) -> Option<(String, i64)> {
    loop {
        let entry = folder.read()?.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            return Some((name, entry.offset()));
        }
    }
}

#[test]
fn a_long_folder_is_listed_whole() {
    let Some(mount) = TestMount::new() else { return };
    let names = fill(&mount, NAMES);
    let mut folder = open(&mount);
    let listed: Vec<String> = std::iter::from_fn(|| next(&mut folder)).map(|(name, _)| name).collect();
    assert_eq!(listed.len(), names.len());
    assert_eq!(BTreeSet::from_iter(listed), names);
    folder.rewind();
    let dots: Vec<_> = (0..2).filter_map(|_| folder.read()).map(|e| e.expect("an entry").ino()).collect();
    assert_eq!(
        dots,
        [fs::metadata(mount.path("d")).map(|s| std::os::unix::fs::MetadataExt::ino(&s)).expect("stat"), 1]
    );
    assert_eq!(std::iter::from_fn(|| next(&mut folder)).count(), names.len());
}

#[test]
fn entries_that_stay_are_told_once_while_others_come_and_go() {
    let Some(mount) = TestMount::new() else { return };
    let names: Vec<String> = fill(&mount, NAMES).into_iter().collect();
    let mut folder = open(&mount);
    let mut seen = Vec::new();
    while let Some((name, _)) = next(&mut folder) {
        seen.push(name);
        let at = seen.len();
        if at % 50 == 0 {
            // one goes that was told, one that was not, and one comes on either side
            let gone = [at / 3 * 2, NAMES - at / 3].map(|i| &names[i.min(NAMES - 1)]);
            gone.iter().for_each(|name| drop(fs::remove_file(mount.path(&format!("d/{name}")))));
            for new in [format!("d/0000000-{at}-new"), format!("d/9999999-{at}-new")] {
                File::create(mount.path(&new)).expect("made");
            }
        }
    }
    let unique: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "told twice");
    let left: Vec<&String> = names.iter().filter(|n| mount.path(&format!("d/{n}")).exists()).collect();
    assert!(left.len() > NAMES / 2);
    assert!(left.iter().all(|name| unique.contains(*name)), "an entry that stayed was not told");
}

#[test]
fn nothing_is_skipped_where_the_kernel_loses_a_listing_half_way() {
    let Some(mount) = TestMount::new() else { return };
    let names = fill(&mount, NAMES);
    for removes in [true, false] {
        // The kernel has all of it from this one, and gives it to the next.
        let mut whole = open(&mount);
        let listed: BTreeSet<String> =
            std::iter::from_fn(|| next(&mut whole)).map(|(name, _)| name).collect();
        let mut folder = open(&mount);
        let mut seen: Vec<String> =
            (0..9000).map_while(|_| next(&mut folder)).map(|(name, _)| name).collect();
        if removes {
            let remove = |name: &String| fs::remove_file(mount.path(&format!("d/{name}"))).expect("removed");
            seen.iter().for_each(remove);
        }
        File::create(mount.path("d/another")).expect("made");
        // It opens the folder anew, and that drops what the kernel had.
        assert!(open(&mount).read().is_some());
        seen.extend(std::iter::from_fn(|| next(&mut folder)).map(|(name, _)| name));
        let count = seen.len();
        let told = BTreeSet::from_iter(seen);
        assert!(told.is_superset(&listed), "{} of {}", told.len(), listed.len());
        assert!(count <= told.len() + 1, "{} were told twice", count - told.len());
    }
    assert_eq!(names.len(), NAMES);
}

#[test]
fn every_place_in_a_listing_can_be_gone_back_to() {
    let Some(mount) = TestMount::new() else { return };
    fill(&mount, 3000);
    let mut folder = open(&mount);
    let entries: Vec<(String, i64)> = std::iter::from_fn(|| next(&mut folder)).collect();
    let step = 37;
    for i in (0..entries.len() - 1).rev().step_by(step) {
        folder.seek(entries[i].1).expect("the place is known");
        assert_eq!(next(&mut folder).map(|(name, _)| name).as_ref(), Some(&entries[i + 1].0));
    }
    // and what was removed on the way there does not move the place
    entries[..1000]
        .iter()
        .for_each(|(name, _)| fs::remove_file(mount.path(&format!("d/{name}"))).expect("removed"));
    for i in (1000..entries.len() - 1).step_by(step) {
        folder.seek(entries[i].1).expect("the place is known");
        assert_eq!(next(&mut folder).map(|(name, _)| name).as_ref(), Some(&entries[i + 1].0));
    }
}

#[test]
fn a_listing_tells_the_same_as_stat() {
    use std::os::unix::fs::{DirEntryExt, MetadataExt};
    let Some(mount) = TestMount::new() else { return };
    fill(&mount, 300);
    fs::write(mount.path("d/written"), "some bytes").expect("written");
    fs::create_dir(mount.path("d/folder")).expect("made");
    for entry in fs::read_dir(mount.path("d")).expect("listed") {
        let entry = entry.expect("an entry");
        let stat = entry.metadata().expect("stat");
        assert_eq!(entry.ino(), stat.ino());
        assert_eq!(entry.file_type().expect("told"), stat.file_type());
    }
    assert_eq!(fs::metadata(mount.path("d/written")).expect("stat").len(), 10);
}
