//! The change feed tells what is there now, and the news that it goes on.

mod support;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt;
use larder_core::NodeId;
use larder_drive::{Clock, Drive, Parts};
use larder_store::KvCatalog;
use larder_store::Op;
use larder_store::catalog::{Attrs, Replace, Unlink, XATTR_MAX_BYTES, XattrMode};
use larder_store::log::{self, LogStore};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{World, name};

/// The changes behind a cursor, shortened: `name=id`, `name=-`, `node id`, `gone id`; and the whole answer.
fn changes(world: &World, device: &str, after: &str, more: &str) -> (Vec<String>, Value) {
    let answer = world.get(device, &format!("/changes?after={after}{more}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let shorten = |change: &Value| {
        if let Some(id) = change.get("gone") {
            return format!("gone {}", text(id));
        }
        if let Some(node) = change.get("node") {
            return format!("node {}", text(&node["id"]));
        }
        let named = &change["name"];
        let node = named["node"].get("id").map_or("-".to_owned(), text);
        format!("{}/{}={node}", text(&named["parent"]), text(&named["name"]))
    };
    let short = answer["changes"].as_array().expect("a list").iter().map(shorten).collect();
    (short, answer)
}

#[test]
fn changes_tell_what_is_there_now() {
    let world = World::new();
    let ann = world.device("ann");
    let start = world.cursor(&ann);
    assert_eq!(changes(&world, &ann, &start, "").0, Vec::<String>::new());
    let a = world.put(NodeId::ROOT, "a", b"1").id;
    world.put(NodeId::ROOT, "a", b"2");
    let d = world.folder(NodeId::ROOT, "d").id;
    let (short, answer) = changes(&world, &ann, &start, "");
    assert_eq!(short, [format!("1/a={a}"), format!("1/d={d}"), "node 1".into()]);
    assert_eq!(answer["more"], false);
    let head = &answer["changes"][0]["name"]["node"]["file"];
    assert_eq!(head["size"], "1");

    let next = answer["cursor"].as_str().expect("a cursor").to_owned();
    let (from, to) = ((NodeId::ROOT, name("a")), (d, name("b")));
    world.commit(vec![Op::Rename { from, to, replace: Replace::Nothing }]);
    let attrs = Attrs { mode: Some(0o600), ..Attrs::default() };
    world.commit(vec![Op::SetAttrs { node: d, attrs }]);
    let (short, answer) = changes(&world, &ann, &next, "");
    assert_eq!(short, ["1/a=-".to_owned(), "node 1".into(), format!("{d}/b={a}"), format!("node {d}")]);

    let next = answer["cursor"].as_str().expect("a cursor").to_owned();
    world.commit(vec![Op::Unlink { parent: NodeId::ROOT, name: name("d"), what: Unlink::Tree }]);
    assert_eq!(
        changes(&world, &ann, &next, "").0,
        ["1/d=-".to_owned(), format!("gone {d}"), "node 1".into()]
    );
    // Read from the start it is the same in the end.
    let (late, _) = changes(&world, &ann, &start, "");
    assert!(late.contains(&format!("gone {d}")) && late.contains(&format!("{d}/b={a}")), "{late:?}");
}

#[test]
fn a_feed_is_read_in_pieces() {
    let world = World::new();
    let ann = world.device("ann");
    for file in 0..20 {
        world.put(NodeId::ROOT, &format!("f{file:02}"), b"x");
    }
    let (mut after, mut seen) = (String::new(), Vec::new());
    for _ in 0..100 {
        let (short, answer) = changes(&world, &ann, &after, "&limit=3");
        seen.extend(short.into_iter().filter(|change| change.contains("/f")));
        after = answer["cursor"].as_str().expect("a cursor").to_owned();
        if answer["more"] == false {
            break;
        }
    }
    seen.dedup();
    let expected: Vec<String> = (0..20).map(|file| format!("1/f{file:02}={}", file + 2)).collect();
    assert_eq!(seen, expected);
    assert_eq!(after, world.cursor(&ann));
}

/// Gives `node` so many attributes of 64 KiB.
fn burden(world: &World, node: NodeId, attributes: usize) {
    for number in 0..attributes {
        let (name, mode) = (format!("user.{number:04}").into_bytes(), XattrMode::Any);
        world.commit(vec![Op::SetXattr { node, name, value: Some(vec![7; XATTR_MAX_BYTES]), mode }]);
    }
}

#[test]
fn a_long_answer_ends_early_and_goes_on() {
    let world = World::new();
    let ann = world.device("ann");
    let mut expected = Vec::new();
    for file in 0..40 {
        let id = world.put(NodeId::ROOT, &format!("f{file:02}"), b"x").id;
        burden(&world, id, 4);
        expected.push(format!("1/f{file:02}={id}"));
    }
    let (mut after, mut seen, mut answers) = (String::new(), Vec::new(), 0);
    loop {
        let (short, answer) = changes(&world, &ann, &after, "&limit=4096");
        assert!(answer.to_string().len() < 6 << 20, "an answer of {} bytes", answer.to_string().len());
        answers += 1;
        seen.extend(short.into_iter().filter(|change| change.contains("/f")));
        after = answer["cursor"].as_str().expect("a cursor").to_owned();
        if answer["more"] == false {
            break;
        }
    }
    assert_eq!(seen, expected);
    assert_eq!(after, world.cursor(&ann));
    assert!((3..=40).contains(&answers), "{answers} answers");
}

#[test]
fn a_node_of_many_attributes_stops_nobody() {
    let world = World::new();
    let ann = world.device("ann");
    let start = world.cursor(&ann);
    let id = world.folder(NodeId::ROOT, "f").id;
    burden(&world, id, 1000);
    let told = |node: &Value| node["xattrs"].as_object().expect("attributes").keys().cloned().collect();
    let first: Vec<String> = (0..15).map(|number| format!("user.{number:04}")).collect();
    let (_, answer) = changes(&world, &ann, &start, "");
    let names: Vec<String> = told(&answer["changes"][0]["name"]["node"]);
    assert_eq!(names, first, "the first that fit");
    let names: Vec<String> = told(&world.get(&ann, &format!("/nodes/{id}")).json());
    assert_eq!(names, first, "the same everywhere");

    let mut at = id;
    for _ in 0..5 {
        at = world.folder(at, "f").id;
        burden(&world, at, 15);
    }
    world.get(&ann, "/nodes/1/lookup?path=f/f/f/f/f/f").is_problem(400, "invalid");
    assert_eq!(world.get(&ann, "/nodes/1/lookup?path=f/f").json()["complete"], true);
}

#[test]
fn a_draft_is_told_once_it_is_published() {
    let world = World::new();
    let ann = world.device("ann");
    let start = world.cursor(&ann);
    let file = world.put(NodeId::ROOT, "f", b"x");
    world.commit(vec![Op::Unlink { parent: NodeId::ROOT, name: name("f"), what: Unlink::File }]);
    let draft = world.draft(NodeId::ROOT, "f");
    let other = world.draft(NodeId::ROOT, "g");
    let (short, _) = changes(&world, &ann, &start, "");
    assert_eq!(short, [format!("gone {}", file.id), "1/f=-".into(), "node 1".into()]);
    let head = file.head().expect("a file").clone();
    let mtime = world.drive.now();
    world.commit(vec![Op::SetContent { node: draft, head, mtime, interim: None, base: None }]);
    let (short, _) = changes(&world, &ann, &start, "");
    assert!(short.contains(&format!("1/f={draft}")), "{short:?}");
    assert!(!short.iter().any(|change| change.contains(&other.to_string())), "{short:?}");
}

#[test]
fn cursors_of_nowhere_mean_a_new_start() {
    let world = World::new();
    let ann = world.device("ann");
    let now = URL_SAFE_NO_PAD.decode(world.cursor(&ann)).expect("base64");
    let (mut beyond, mut of_another) = (now.clone(), now);
    // The first byte of the epoch, and the first of the place in it.
    (beyond[8], of_another[0]) = (beyond[8] ^ 0x80, of_another[0] ^ 0x80);
    for cursor in [beyond, of_another] {
        let path = format!("/changes?after={}", URL_SAFE_NO_PAD.encode(cursor));
        world.get(&ann, &path).is_problem(409, "conflict");
    }
}

#[test]
fn places_in_a_log_are_cursors_and_any_other_bytes_do_no_harm() {
    let folder = tempfile::tempdir().expect("a directory");
    let parts = log::Parts { boot_id: "test".to_owned(), random: support::noise, key: None, tape: None };
    let store = LogStore::open(folder.path(), log::Settings::default(), &parts).expect("opens");
    let clock = Clock::system();
    let catalog = KvCatalog::open(store.kv(), clock.now(), (0, 0)).expect("opens");
    let parts = Parts { chunks: store.clone(), catalog: Arc::new(catalog), clock, random: support::noise };
    let world = World::over(Drive::open(parts, Default::default()).expect("opens"), |settings| settings);
    let ann = world.device("ann");
    for file in 0..20 {
        world.put(NodeId::ROOT, &format!("f{file}"), &support::random(3000));
    }
    let (short, answer) = changes(&world, &ann, "", "");
    assert!(short.iter().filter(|change| change.starts_with("1/f")).count() == 20, "{short:?}");
    assert_eq!(answer["cursor"], world.cursor(&ann));
    let now = world.cursor(&ann);
    let epoch = URL_SAFE_NO_PAD.decode(&now).expect("base64")[..8].to_vec();
    let cursor = |position: u64, skip: u32| {
        let bytes = [&epoch[..], &position.to_be_bytes(), &skip.to_be_bytes()].concat();
        URL_SAFE_NO_PAD.encode(bytes)
    };
    world.drive.upload().write(&support::random(3 << 20)).expect("stored");
    world.device("ed");
    assert_ne!(now, world.cursor(&ann), "the log is longer");
    let path = format!("/api/v1/projects/home/news?after={now}");
    let mut news = world.open("GET", &path, &[("Authorization", &ann)], b"").into_body();
    let waiting = async { tokio::time::timeout(Duration::from_millis(200), news.frame()).await };
    assert!(world.runtime.block_on(waiting).is_err(), "bytes that nobody published are no news");
    for at in (0..70_000u64).step_by(37) {
        let after = cursor((1 << 32) + at, at as u32 % 3);
        let status = world.get(&ann, &format!("/changes?after={after}")).status;
        assert!(matches!(status, 200 | 409), "{at}: {status}");
    }
    for position in [0, 1, u64::MAX, u64::from(u32::MAX), 2 << 32, 9 << 32] {
        for skip in [0, 1, u32::MAX] {
            let status = world.get(&ann, &format!("/changes?after={}", cursor(position, skip))).status;
            assert!(matches!(status, 200 | 409), "{position} {skip}: {status}");
        }
    }
    store.close().expect("closed");
}

#[test]
fn news_come_at_once_and_after_each_commit() {
    let world = World::new();
    let ann = world.device("ann");
    let now = world.cursor(&ann);
    let open = |after: &str| {
        let path = format!("/api/v1/projects/home/news?after={after}");
        let answer = world.open("GET", &path, &[("Authorization", &ann)], b"");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        answer.into_body()
    };
    let told = |cursor: &str| format!("event: news\ndata: {cursor}\n\n");
    let mut stream = open(&now);
    let waiting = async { tokio::time::timeout(Duration::from_millis(200), stream.frame()).await };
    assert!(world.runtime.block_on(waiting).is_err(), "nothing happened");
    let started = Instant::now();
    for file in ["a", "b"] {
        world.put(NodeId::ROOT, file, b"x");
        assert_eq!(world.next(&mut stream).expect("news"), told(&world.cursor(&ann)));
    }
    assert!(started.elapsed() >= Duration::from_millis(50), "two events in a row");
    assert_eq!(world.next(&mut open(&now)).expect("news at once"), told(&world.cursor(&ann)));

    // Many commits are few events, and the last one tells the newest cursor.
    for file in 0..200 {
        world.put(NodeId::ROOT, &format!("f{file}"), b"x");
    }
    let (last, mut events) = (told(&world.cursor(&ann)), 0);
    while world.next(&mut stream).expect("news") != last {
        events += 1;
        assert!(events < 100, "an event a commit");
    }
    world.api.end_streams();
    assert_eq!(world.next(&mut stream), None);
    assert!(world.next(&mut open(&world.cursor(&ann))).is_none(), "a stream that begins after the end");
}

#[test]
fn streams_live_are_counted_and_end_with_their_device() {
    let heartbeat = Duration::from_millis(20);
    let world = World::with(|settings| larder_api::Settings { streams: 2, heartbeat, ..settings });
    let (ann, vic) = (world.device("ann"), world.device("vic"));
    let open = |device: &str| {
        let path = format!("/api/v1/projects/home/news?after={}", world.cursor(device));
        world.open("GET", &path, &[("Authorization", device)], b"")
    };
    let (mut first, second) = (open(&ann).into_body(), open(&ann));
    for _ in 0..3 {
        assert_eq!(world.next(&mut first).expect("a sign of life"), ":\n\n");
    }
    let third = world.answer(open(&ann));
    third.is_problem(429, "unavailable");
    assert!(third.header("retry-after").is_some());
    assert_eq!(open(&vic).status(), 200, "others may");
    drop(second);
    assert_eq!(open(&ann).status(), 200, "a place is free again");
    world.commit(larder_api::devices::removal_of(&world.drive, "ann").expect("devices"));
    while world.next(&mut first).is_some() {}
    assert_eq!(json!(larder_api::devices::list(&world.drive).expect("devices").len()), 1);
}
