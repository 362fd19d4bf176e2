//! The tree: nodes, listings, paths, and who may ask.

mod support;

use larder_core::NodeId;
use larder_store::Op;
use larder_store::catalog::Unlink;
use serde_json::{Value, json};
use support::{World, name};

fn names(page: &Value) -> Vec<&str> {
    let entries = page["entries"].as_array().expect("entries").iter();
    entries.map(|entry| entry["name"].as_str().expect("a name")).collect()
}

#[test]
fn a_device_knows_its_project() {
    let world = World::new();
    for (user, role) in [("ann", "owner"), ("ed", "editor"), ("vic", "viewer")] {
        let project = world.get(&world.device(user), "").json();
        assert_eq!((&project["role"], &project["root"]["id"]), (&json!(role), &json!("1")));
        assert!(project["root"].get("name").is_none() && project["cursor"].is_string(), "{project}");
    }
    let ann = world.device("ann");
    world.send("GET", "/api/v1/projects/work", &[("Authorization", &ann)], b"").is_problem(404, "not-found");
}

#[test]
fn pages_end_and_go_on_where_asked() {
    let world = World::new();
    let vic = world.device("vic");
    for file in ["b", "a", "ä", "c", "50%"] {
        world.put(NodeId::ROOT, file, b"x");
    }
    world.drive.make_folder(&support::actor(), NodeId::ROOT, name(b"\xff\n"), 0o755).expect("a folder");
    let all = world.get(&vic, "/nodes/1/entries").json();
    assert_eq!(names(&all), ["50%25", "a", "b", "c", "ä", "%FF\n"]);
    assert_eq!(all["more"], false);
    let mut after = String::new();
    for (at, expected) in ["50%25", "a", "b", "c", "ä", "%FF\n"].iter().enumerate() {
        let page = world.get(&vic, &format!("/nodes/1/entries?limit=1{after}")).json();
        assert_eq!((names(&page), &page["more"]), (vec![*expected], &json!(at < 5)), "{after}");
        let encoded: String = expected.bytes().map(|byte| format!("%{byte:02x}")).collect();
        after = format!("&after={encoded}");
    }
    assert_eq!(names(&world.get(&vic, "/nodes/1/entries?after=b").json()), ["c", "ä", "%FF\n"]);
    assert_eq!(names(&world.get(&vic, "/nodes/1/entries?after=bb").json()), ["c", "ä", "%FF\n"]);
    let end = world.get(&vic, "/nodes/1/entries?after=%25FF%25FF").json();
    assert_eq!(end, json!({ "entries": [], "more": false }));
}

#[test]
fn drafts_are_not_told_and_end_no_page() {
    let world = World::new();
    let ann = world.device("ann");
    let drafts: Vec<NodeId> =
        ["a", "b", "c"].into_iter().map(|file| world.draft(NodeId::ROOT, file)).collect();
    world.put(NodeId::ROOT, "d", b"x");
    let page = world.get(&ann, "/nodes/1/entries?limit=2").json();
    assert_eq!((names(&page), &page["more"]), (vec!["d"], &json!(false)));
    world.get(&ann, &format!("/nodes/{}", drafts[0])).is_problem(404, "not-found");
    let path = world.get(&ann, "/nodes/1/lookup?path=a").json();
    assert_eq!(path, json!({ "entries": [], "complete": false }));
    let changes = world.get(&ann, "/changes?after=").json();
    assert!(!changes.to_string().contains("\"a\""), "{changes}");
}

#[test]
fn a_path_goes_as_far_as_it_exists() {
    let world = World::new();
    let ann = world.device("ann");
    let a = world.folder(NodeId::ROOT, "a");
    let b = world.folder(a.id, "b 1");
    world.put(b.id, "c", b"x");
    let look =
        |from: NodeId, path: &str| world.get(&ann, &format!("/nodes/{from}/lookup?path={path}")).json();
    let whole = look(NodeId::ROOT, "a/b%201/c");
    assert_eq!((names(&whole), &whole["complete"]), (vec!["a", "b 1", "c"], &json!(true)));
    assert_eq!(whole["entries"][2]["node"]["file"]["size"], "1");
    for (path, found) in [("a/x/c", 1), ("a/b%201/x", 2), ("a/b%201/c/d", 3), ("x", 0)] {
        let part = look(NodeId::ROOT, path);
        assert_eq!((names(&part).len(), &part["complete"]), (found, &json!(false)), "{path}");
    }
    assert_eq!(look(a.id, "b%201")["complete"], true);
    assert_eq!(look(a.id, ""), json!({ "entries": [], "complete": true }));
    world.get(&ann, "/nodes/4/lookup?path=x").is_problem(409, "not-a-directory");
}

#[test]
fn what_has_no_name_any_more_is_not_there() {
    let world = World::new();
    let ann = world.device("ann");
    let folder = world.folder(NodeId::ROOT, "folder");
    world.put(folder.id, "f", b"x");
    let (parent, name) = (NodeId::ROOT, name("folder"));
    world.commit(vec![Op::Unlink { parent, name, what: Unlink::Tree }]);
    for path in ["", "/entries", "/lookup?path=f"] {
        world.get(&ann, &format!("/nodes/{}{path}", folder.id)).is_problem(404, "not-found");
    }
}

#[test]
fn hostile_requests_are_refused_and_named() {
    let world = World::new();
    let ann = world.device("ann");
    world.put(NodeId::ROOT, "f", b"x");
    let long = format!("/nodes/1/entries?after={}", "x".repeat(256));
    let deep = format!("/nodes/1/lookup?path={}x", "x/".repeat(2048));
    for (path, field) in [
        ("/nodes/x", "node: "),
        ("/nodes/-1", "node: "),
        ("/nodes/99999999999999999999", "node: "),
        ("/nodes/1/entries?limit=0", "limit: "),
        ("/nodes/1/entries?limit=4097", "limit: "),
        ("/nodes/1/entries?limit=1&limit=2", "limit: "),
        ("/nodes/1/entries?after=..", "after: "),
        ("/nodes/1/entries?after=a%2Fb", "after: "),
        ("/nodes/1/entries?after=a%2500", "after: "),
        ("/nodes/1/entries?after=%2", "after: "),
        ("/nodes/1/entries?after=%FF", "after: "),
        (&long, "after: "),
        ("/nodes/1/lookup", "path: "),
        ("/nodes/1/lookup?path=a/../b", "path: "),
        ("/nodes/1/lookup?path=/a", "path: "),
        (&deep, "path: "),
        ("/changes", "after: "),
        ("/changes?after=!!", "after: "),
        ("/changes?after=AAAA", "after: "),
        ("/news", "after: "),
        ("/news?after=AAAA", "after: "),
        ("/news?after=AAAAAAAAAAAAAAAAAA==", "after: "),
    ] {
        let problem = world.get(&ann, path).is_problem(400, "invalid");
        assert!(problem["what"].as_str().expect("text").starts_with(field), "{path}: {problem}");
    }
    for path in ["/nodes/0", "/nodes/77", "/nodes/18446744073709551615", "/nodes", "/x", "/nodes/1/x"] {
        world.get(&ann, path).is_problem(404, "not-found");
    }
    world.get(&ann, "/nodes/2/entries").is_problem(409, "not-a-directory");
    for path in ["/api", "/api/", "/api/v2/devices", "/api/v1/project", "/api/v1/projects/home/nodes/1/../1"]
    {
        world.send("GET", path, &[("Authorization", &ann)], b"").is_problem(404, "not-found");
    }
}

#[test]
fn wrong_methods_hear_which_are_right() {
    let world = World::new();
    for (method, path, allow) in [
        ("PUT", "/api/v1/devices", "GET, HEAD, POST"),
        ("GET", "/api/v1/devices/1", "DELETE"),
        ("POST", "/api/v1/projects/home", "GET, HEAD"),
        ("GET", "/api/v1/projects/home/nodes/1/chunks", "POST"),
        ("HEAD", "/api/v1/projects/home/news", "GET"),
        ("PROPFIND", "/api/v1/projects/home/nodes/1", "GET, HEAD"),
    ] {
        let answer = world.send(method, path, &[], b"");
        answer.is_problem(405, "unsupported");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}
