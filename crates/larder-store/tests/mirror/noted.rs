//! What is noted of conflicts.

use crate::device::Device;
use crate::server::Server;
use crate::{ROOT, commit};
use larder_core::Timestamp;
use larder_store::catalog::Table;
use larder_store::origin::Over;
use larder_store::{Catalog, Op};
use std::collections::BTreeSet;

#[test]
fn a_conflict_is_noted_as_long_as_both_sides_are_there() {
    let server = Server::new();
    let (one, two) = (Device::new(&server), Device::new(&server));
    let file = one.make(ROOT, "file", Some(0)).expect("made");
    one.settle();
    assert_eq!(two.look(ROOT, "file"), file);
    one.write(file, 1).expect("written");
    one.settle();
    two.write(file, 2).expect("written");
    let told = two.mirror.take(0, 9).expect("entries");
    two.write_at(file, 3, 7).expect("written");
    assert_eq!(told.len(), 1, "the second content is an entry of its own");
    assert!(two.push(1), "the first is refused");
    let [conflict] = two.mirror.conflicts().expect("notes")[..] else { panic!("one conflict") };
    assert_eq!((conflict.theirs, conflict.over), (file, Over::Content));
    // The copy has at once what was written last.
    let copy = two.mirror.node(conflict.ours).expect("a copy");
    assert_eq!((copy.size_bytes(), copy.mtime), (4, Timestamp(7)));
    two.settle();
    assert_eq!(two.mirror.conflicts().expect("notes"), [conflict]);
    assert_eq!(two.contents(), BTreeSet::from([2, 4]));
    two.remove(ROOT, "file (conflict)").expect("removed");
    assert_eq!(two.mirror.conflicts().expect("notes"), []);
}

#[test]
fn notes_of_conflicts_that_are_gone_make_room_for_new_ones() {
    let server = Server::new();
    let (one, two) = (Device::new(&server), Device::new(&server));
    // More than are noted, of which nothing is left.
    let old = |number: u64| {
        let key = (1000 + number).to_be_bytes().to_vec();
        let note = format!(r#"{{"theirs":{0},"ours":{0},"over":"Name","at":1}}"#, 1000 + number);
        Op::SetRecord { table: Table::Conflicts, key, value: Some(note.into_bytes()) }
    };
    commit(&two.kept, (0..10_000).map(old).collect()).expect("noted");
    for (device, content) in [(&one, 1), (&two, 2)] {
        for text in ["a", "b"] {
            device.make(ROOT, text, Some(content)).expect("made");
        }
        device.settle();
    }
    assert_eq!(two.mirror.conflicts().expect("notes").len(), 2);
    assert_eq!(two.kept.records(Table::Conflicts).expect("records").len(), 2);
}
