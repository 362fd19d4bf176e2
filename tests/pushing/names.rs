//! Names are bytes: those that differ in case or in Unicode form only are different files, at every door.

use super::world::{Device, World};
use crate::support::soon;
use std::collections::BTreeMap;
use std::fs;

/// Names that other systems take for one another: by case, composed and decomposed, and by compatibility.
const ALIKE: [&str; 10] = [
    "README",
    "Readme",
    "readme",
    "caf\u{e9}",
    "cafe\u{301}",
    "CAF\u{c9}",
    "\u{c5}",
    "A\u{30a}",
    "\u{212b}",
    "stra\u{df}e",
];

/// Names with their contents.
type Files = BTreeMap<String, Vec<u8>>;

/// A name as it stands in a URL, each byte by itself.
fn escaped(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().expect("at least one").as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("text")
}

/// The files that WebDAV shows in a folder.
fn at_the_server(world: &World, folder: &str) -> Files {
    let mut client = world.server().client();
    let prefix = format!("/dav/home/{folder}/");
    let listing = client.ok("PROPFIND", &prefix, &[("Depth", "1")], b"").text();
    let hrefs = listing.split("href>").filter_map(|part| part.split_once("</"));
    let names = hrefs.filter_map(|(href, _)| href.split_once(&prefix)).map(|(_, name)| unescaped(name));
    let names: Vec<String> = names.filter(|name| !name.is_empty() && !name.ends_with('/')).collect();
    let body = |name: &str| world.get(&format!("{folder}/{}", escaped(name)));
    names.into_iter().map(|name| (name.clone(), body(&name))).collect()
}

fn on(device: &Device, folder: &str) -> Files {
    let names = fs::read_dir(device.path(folder)).expect("listed");
    let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    // One that went since it was listed is seen at the next look.
    names.filter_map(|name| Some((name.clone(), fs::read(device.path(folder).join(&name)).ok()?))).collect()
}

#[track_caller]
fn all_have(world: &World, devices: &[&Device], folder: &str, expected: &Files) {
    devices.iter().for_each(|device| device.push());
    assert_eq!(at_the_server(world, folder), *expected, "over WebDAV");
    for (i, device) in devices.iter().enumerate() {
        assert!(
            soon(|| on(device, folder) == *expected),
            "device {i}: {:?} for {expected:?}",
            on(device, folder)
        );
    }
}

fn put(world: &World, path: &str, name: &str, body: &[u8]) {
    world.server().client().ok("PUT", &format!("/dav/home/{path}/{}", escaped(name)), &[], body);
}

fn rename_there(world: &World, folder: &str, from: &str, to: &str) {
    let (from, to) = (escaped(from), format!("/dav/home/{folder}/{}", escaped(to)));
    let headers = [("Destination", to.as_str()), ("Overwrite", "T")];
    world.server().client().ok("MOVE", &format!("/dav/home/{folder}/{from}"), &headers, b"");
}

#[test]
fn names_that_differ_in_case_or_unicode_form_do_not_clobber_one_another() {
    let Some(world) = World::new() else { return };
    world.server().client().ok("MKCOL", "/dav/home/alike", &[], b"");
    let (one, two) = (world.device(), world.device());
    assert!(soon(|| one.path("alike").exists()));
    let mut files = Files::new();
    for (i, name) in ALIKE.iter().enumerate() {
        let body = format!("{i}: {name}").into_bytes();
        match i % 2 {
            0 => one.write(&format!("alike/{name}"), &body),
            _ => put(&world, "alike", name, &body),
        }
        files.insert((*name).to_owned(), body);
    }
    assert_eq!(files.len(), ALIKE.len());
    all_have(&world, &[&one, &two], "alike", &files);
    // Who looks for a form that is not there finds none of the others.
    for name in ["ReadMe", "CAFE\u{301}", "STRASSE", "a\u{30a}"] {
        assert!(!one.path("alike").join(name).exists(), "{name}");
        let answer =
            world.server().client().send("GET", &format!("/dav/home/alike/{}", escaped(name)), &[], b"");
        assert_eq!(answer.expect("an answer").status, 404, "{name}");
    }
    // Changed, renamed over one another, and removed, from either side.
    let renamed = |files: &mut Files, from: &str, to: &str| {
        let body = files.remove(from).expect("there");
        files.insert(to.to_owned(), body);
    };
    let folder = one.path("alike");
    fs::rename(folder.join("README"), folder.join("ReadMe")).expect("renamed");
    renamed(&mut files, "README", "ReadMe");
    fs::rename(folder.join("caf\u{e9}"), folder.join("cafe\u{301}")).expect("renamed");
    renamed(&mut files, "caf\u{e9}", "cafe\u{301}");
    one.write("alike/readme", b"changed");
    files.insert("readme".to_owned(), b"changed".to_vec());
    all_have(&world, &[&one, &two], "alike", &files);
    rename_there(&world, "alike", "A\u{30a}", "\u{c5}");
    renamed(&mut files, "A\u{30a}", "\u{c5}");
    rename_there(&world, "alike", "Readme", "README");
    renamed(&mut files, "Readme", "README");
    fs::remove_file(folder.join("\u{212b}")).expect("removed");
    files.remove("\u{212b}");
    all_have(&world, &[&one, &two], "alike", &files);
    world.end(vec![one, two]);
}

#[test]
fn what_gets_another_form_of_its_name_on_each_side_is_two_files() {
    let Some(world) = World::new() else { return };
    world.server().client().ok("MKCOL", "/dav/home/both", &[], b"");
    put(&world, "both", "old", b"old");
    put(&world, "both", "Older", b"older");
    let (one, two) = (world.device(), world.device());
    assert!(soon(|| on(&one, "both").len() == 2 && on(&two, "both").len() == 2));
    world.cut();
    one.write("both/caf\u{e9}", b"of the device");
    one.write("both/notes", b"of the device");
    fs::create_dir(one.path("both/Folder")).expect("made");
    one.write("both/Folder/file", b"of the device");
    fs::rename(one.path("both/old"), one.path("both/OLD")).expect("renamed");
    fs::rename(one.path("both/Older"), one.path("both/older")).expect("renamed");
    put(&world, "both", "cafe\u{301}", b"of the server");
    put(&world, "both", "Notes", b"of the server");
    put(&world, "both", "folder", b"of the server");
    world.mend();
    let there = [
        ("caf\u{e9}", "of the device"),
        ("cafe\u{301}", "of the server"),
        ("notes", "of the device"),
        ("Notes", "of the server"),
        ("folder", "of the server"),
        ("OLD", "old"),
        ("older", "older"),
    ];
    let files: Files =
        there.iter().map(|(name, body)| ((*name).to_owned(), body.as_bytes().to_vec())).collect();
    one.push();
    assert_eq!(world.get("both/Folder/file"), b"of the device");
    assert_eq!(at_the_server(&world, "both"), files, "over WebDAV");
    for device in [&one, &two] {
        assert!(soon(|| on(device, "both") == files), "{:?}", on(device, "both"));
        assert!(
            soon(|| fs::read(device.path("both/Folder/file")).is_ok_and(|body| body == b"of the device"))
        );
    }
    world.end(vec![one, two]);
}
