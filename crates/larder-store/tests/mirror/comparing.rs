//! What is in doubt after a refusal is compared piece by piece, while changes go on.

use crate::device::Device;
use crate::server::Server;
use crate::{ROOT, commit, name};
use larder_core::{NodeId, NodeKind};
use larder_store::Op;
use std::sync::Arc;

/// Folders that the device knows.
const FOLDERS: usize = 40;

/// A device in doubt, which shows a name in its last folder that the server does not have.
fn in_doubt() -> (Arc<Server>, Device, NodeId) {
    let server = Server::new();
    let (one, two) = (Device::new(&server), Device::new(&server));
    let file = one.make(ROOT, "file", Some(0)).expect("made");
    one.settle();
    let mut last = ROOT;
    for number in 0..FOLDERS {
        let text = format!("folder {number:02}");
        last = server.make(ROOT, &text, NodeKind::Folder);
        server.make(last, "kept", NodeKind::File);
        assert_eq!(two.look(ROOT, &text), last);
        two.look(last, "kept");
    }
    let gone = server.make(last, "gone", NodeKind::File);
    let told = server.named(last, &name("gone")).expect("an answer").expect("there");
    server
        .run(Op::Unlink { parent: last, name: name("gone"), what: larder_store::catalog::Unlink::File })
        .expect("removed");
    two.settle();
    let stale = Op::AdoptName { parent: last, name: name("gone"), node: Some(Box::new(told)) };
    commit(&two.kept, vec![stale]).expect("kept");
    assert_eq!(two.look(last, "gone"), gone);
    two.look(ROOT, "file");
    one.write(file, 1).expect("written");
    one.settle();
    two.write(file, 2).expect("written");
    (server, two, last)
}

fn doubts(device: &Device) -> bool {
    device.mirror.queue_len().expect("a state").in_doubt
}

#[test]
fn everything_is_compared_while_a_program_writes_all_the_time() {
    let (_server, device, last) = in_doubt();
    let mut rounds = 0;
    while rounds == 0 || doubts(&device) {
        device.make(ROOT, &format!("new {rounds}"), Some(3)).expect("made");
        device.make(ROOT, &format!("more {rounds}"), Some(3)).expect("made");
        assert!(device.push(1));
        rounds += 1;
        assert!(rounds < 4 * FOLDERS, "it does not end");
        assert!(device.mirror.queue_len().expect("a state").len > 0, "the queue is never empty");
    }
    assert!(rounds > FOLDERS / 2, "it was done in pieces: {rounds}");
    assert!(device.kept.lookup(last, &name("gone")).is_err());
}

#[test]
fn a_comparison_that_was_broken_off_goes_on_where_it_was() {
    let (server, device, last) = in_doubt();
    device.push_all();
    while !device.compare_some(1) && server.asked() == 0 {}
    let begun = server.asked();
    for _ in 0..FOLDERS / 2 {
        assert!(!device.compare_some(1), "there are more");
    }
    let half = server.asked() - begun;
    let device = Device::over(device.backup(), &server);
    let before = server.asked();
    while !device.compare_some(1) {}
    let rest = server.asked() - before;
    assert!(half >= FOLDERS / 2 && rest <= FOLDERS / 2 + 4, "{half} and {rest} questions");
    assert!(!doubts(&device));
    assert!(device.kept.lookup(last, &name("gone")).is_err());
}
