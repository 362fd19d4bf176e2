//! Many threads change a tree of folders at once, through the drive and through the kernel, over either backend: their
//! results and the tree they leave are those of some order of all calls in which no call comes before one that had
//! ended when it began.
//!
//! Source: Herlihy, Wing, "Linearizability", 1990; the search: Wing, Gong, "Testing and verifying concurrent objects", 1993.

#![cfg(target_os = "linux")]

mod support;
#[path = "../crates/larder-drive/tests/mount/tree_model.rs"]
mod tree_model;

mod tree {
    pub mod door;
    pub mod drive;
    pub mod kernel;
    pub mod machine;
    pub mod order;
}

use proptest::prelude::*;
use support::mount::{TestMount, drive_in, drive_in_memory};
use tree::door::Door;
use tree::drive::Plain;
use tree::machine::{history, rounds};

/// Histories of a test: 10 to 20 s on two cores. `PROPTEST_CASES` sets another number.
const THROUGH_DRIVE: u32 = 1500;
const THROUGH_KERNEL: u32 = 700;

/// How long a mount is left alone: `PROPTEST_CASES` may ask for many.
const LASTS_S: u64 = 3600;

fn check(door: &impl Door, cases: u32) {
    let config = ProptestConfig { cases, max_shrink_iters: 300, ..ProptestConfig::default() };
    proptest!(config, |(rounds in rounds())| history(door, &rounds));
}

#[test]
fn calls_of_the_drive_have_an_order_over_memory() {
    check(&Plain::new(&drive_in_memory()), THROUGH_DRIVE);
}

#[test]
fn calls_of_the_drive_have_an_order_over_the_log() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    check(&Plain::new(&drive_in(folder.path())), THROUGH_DRIVE);
}

#[test]
fn system_calls_have_an_order_over_memory() {
    let Some(mount) = TestMount::lasting(LASTS_S) else { return };
    check(&mount, THROUGH_KERNEL);
}

#[test]
fn system_calls_have_an_order_over_the_log() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mount) = TestMount::of(drive_in(folder.path()), LASTS_S, |_| ()) else { return };
    check(&mount, THROUGH_KERNEL);
}
