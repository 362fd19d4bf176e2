//! Files with more attributes than one step brings: none is lost where the server refuses what was said of the file.

use crate::device::Device;
use crate::server::Server;
use crate::{ROOT, compare, name, tree};
use larder_core::{NodeId, Timestamp, XATTR_MAX_BYTES};
use larder_store::catalog::{CREATE_XATTRS_BYTES, Unlink, XattrMode};
use larder_store::{Catalog, Op};
use std::sync::Arc;

/// Attributes of a file, each of the greatest size: a few more than come with it.
const MANY: usize = CREATE_XATTRS_BYTES / XATTR_MAX_BYTES + 4;

/// A file with [`MANY`] attributes, which the server has.
fn file(device: &Device) -> NodeId {
    let file = device.make(ROOT, "file", Some(0)).expect("made");
    for number in 0..MANY {
        let (name, value) = (format!("user.{number:02}").into_bytes(), vec![number as u8; XATTR_MAX_BYTES]);
        let set = Op::SetXattr { node: file, name, value: Some(value), mode: XattrMode::Any };
        device.run(set).expect("set");
    }
    device.settle();
    file
}

#[track_caller]
fn assert_agreed(device: &Device, server: &Arc<Server>, files: &[&str]) {
    let there = tree(&server.catalog);
    assert_eq!(there.keys().map(String::as_str).collect::<Vec<_>>(), files);
    for (path, told) in &there {
        let values: Vec<_> = told.xattrs.iter().map(|(_, value)| (value[0] as usize, value.len())).collect();
        assert!(values.into_iter().eq((0..MANY).map(|number| (number, XATTR_MAX_BYTES))), "{path}");
    }
    assert!(tree(&device.mirror) == there, "the device shows something else");
}

#[test]
fn a_content_kept_beside_has_all_attributes_of_its_file() {
    let server = Server::new();
    let (one, two) = (Device::new(&server), Device::new(&server));
    let file = file(&one);
    assert_eq!(two.look(ROOT, "file"), file);
    one.write(file, 1).expect("written");
    two.write(file, 2).expect("written");
    for device in [&one, &two, &one] {
        device.settle();
    }
    for device in [&one, &two] {
        assert_agreed(device, &server, &["/file", "/file (conflict)"]);
    }
}

#[test]
fn a_file_that_the_server_forgot_is_made_again_with_all_attributes() {
    let server = Server::new();
    let device = Device::new(&server);
    let file = file(&device);
    server.run(Op::Unlink { parent: ROOT, name: name("file"), what: Unlink::File }).expect("removed");
    let forget = Op::PurgeHistory { before: Timestamp(99), interim_before: Timestamp(99), limit: 99 };
    server.run(forget).expect("purged");
    assert!(server.catalog.node(file).is_err(), "it is forgotten");
    device.write(file, 1).expect("written");
    device.settle();
    compare(&device.mirror, &device.kept);
    assert_agreed(&device, &server, &["/file"]);
}
