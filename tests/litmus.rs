//! litmus, the WebDAV server compliance suite, against the program itself with authentication on.

mod support;

use std::process::Command;
use support::server::{PASSWORD, Place};
use support::{lacking, process, skip};

/// The five suites, and how many tests each has in litmus 0.13.
const SUITES: [(&str, usize); 5] =
    [("basic", 16), ("copymove", 13), ("props", 30), ("locks", 41), ("http", 4)];

#[test]
fn every_suite_passes_without_a_warning() {
    if let Some(why) = lacking(false, &["litmus"]) {
        return skip(&why);
    }
    let place = Place::new();
    let server = place.start();
    let url = format!("http://{}/dav/home/", server.address());
    let mut command = Command::new("litmus");
    // litmus writes its logs where it runs, and goes on after a suite that failed with -k.
    command.args(["-k", &url, "admin", PASSWORD]).current_dir(place.path("home"));
    let done = process::run(&mut command, 300);
    for (suite, tests) in SUITES {
        let summary = format!("summary for `{suite}': of {tests} tests run: {tests} passed, 0 failed");
        assert!(done.stdout.contains(&summary), "{suite}\n{}", done.stdout);
    }
    assert!(!done.stdout.contains("WARNING"), "{}", done.stdout);
    assert_eq!(done.code(), 0, "{done}");
    server.stop();
    place.assert_no_panic();
}
