//! Rules of devices: who may write them, what is refused, and that the device hears of them.

mod support;

use larder_api::{devices, rules};
use larder_store::catalog::Table;
use serde_json::{Value, json};
use support::{Answer, World};

const ANN: &str = "Basic YW5uOnNlY3JldA==";
const ED: &str = "Basic ZWQ6c2VjcmV0";

fn path(id: &str) -> String {
    format!("/api/v1/devices/{id}/rules")
}

fn read(world: &World, authorization: &str, id: &str) -> Answer {
    world.send("GET", &path(id), &[("Authorization", authorization)], b"")
}

fn write(world: &World, authorization: &str, id: &str, version: u64, text: &str) -> Answer {
    let headers = [("Authorization", authorization), ("Content-Type", "application/json")];
    world.send("PUT", &path(id), &headers, json!({ "version": version, "text": text }).to_string().as_bytes())
}

/// The id of the newest device.
fn newest(world: &World) -> String {
    devices::list(&world.drive).expect("devices").pop().expect("one").id
}

#[test]
fn rules_are_written_by_their_device_its_user_and_owners() {
    let world = World::new();
    let ann = world.device("ann");
    world.clock.advance(1);
    let first = world.device("ed");
    let id = newest(&world);
    world.clock.advance(1);
    let (second, vic) = (world.device("ed"), world.device("vic"));
    let nothing = json!({ "version": 0, "text": "", "by": "", "on": "", "changed": "" });
    for name in ["current", &id] {
        assert_eq!(read(&world, &first, name).json(), nothing);
    }
    for (version, (who, name)) in
        [(&*first, "current"), (&second, &id), (ED, &id), (&ann, &id), (ANN, &id)].into_iter().enumerate()
    {
        let text = format!("exclude {version}\n");
        let answer = write(&world, who, name, version as u64, &text);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = read(&world, &first, "current").json();
        assert_eq!((&told["version"], &told["text"]), (&json!(version + 1), &json!(text)));
        let user = if version < 3 { "ed" } else { "ann" };
        let on = if who.starts_with("Bearer") { "test" } else { "" };
        assert_eq!((&told["by"], &told["on"]), (&json!(user), &json!(on)));
    }
    write(&world, &vic, &id, 5, "").is_problem(404, "not-found");
    read(&world, &vic, &id).is_problem(404, "not-found");
    read(&world, ED, "current").is_problem(404, "not-found");
    assert_eq!(write(&world, &vic, "current", 0, "pin a\n").status, 200, "a viewer's device has rules, too");
    read(&world, "Bearer x", "current").is_problem(401, "denied");
}

#[test]
fn rules_that_somebody_changed_or_that_are_none_are_refused() {
    let world = World::new();
    let ann = world.device("ann");
    write(&world, &ann, "current", 1, "").is_problem(412, "conflict");
    assert_eq!(write(&world, &ann, "current", 0, "pin a").status, 200);
    write(&world, &ann, "current", 0, "pin b").is_problem(412, "conflict");
    let problem = write(&world, &ann, "current", 1, "pin a\nexlude b").is_problem(400, "invalid");
    let what = problem["what"].as_str().expect("text");
    assert!(what.starts_with("line 2:") && what.ends_with("\n  exlude b\n  ^^^^^^"), "{what}");
    let long = "# x\n".repeat(20_000);
    write(&world, &ann, "current", 1, &long).is_problem(400, "invalid");
    write(&world, &ann, "current", 1, &long.repeat(4)).is_problem(413, "invalid");
    assert_eq!(read(&world, &ann, "current").json()["text"], "pin a");
}

#[test]
fn rules_go_with_their_device() {
    let world = World::new();
    let ann = world.device("ann");
    write(&world, &ann, "current", 0, "pin a");
    let id = newest(&world);
    assert_eq!(rules::of(&world.drive, &id).expect("rules").version, 1);
    devices::remove(&world.drive, &id, None).expect("removed");
    assert!(world.drive.catalog().records(Table::Rules).expect("records").is_empty());
}

#[test]
fn device_hears_of_its_rules_and_of_no_others() {
    let world = World::new();
    let (ann, ed) = (world.device("ann"), world.device("ed"));
    let open = |device: &str, version: u64| {
        let news = format!("/api/v1/projects/home/news?after={}&rules={version}", world.cursor(device));
        world.open("GET", &news, &[("Authorization", device)], b"").into_body()
    };
    let mut stream = open(&ann, 0);
    write(&world, &ed, "current", 0, "pin a");
    write(&world, &ann, "current", 0, "pin b");
    assert_eq!(world.next(&mut stream).expect("news"), "event: rules\ndata: 1\n\n");
    write(&world, &ann, "current", 1, "pin c");
    assert_eq!(world.next(&mut stream).expect("news"), "event: rules\ndata: 2\n\n");
    assert_eq!(world.next(&mut open(&ann, 1)).expect("news at once"), "event: rules\ndata: 2\n\n");
    let refused = world.get(&ann, &format!("/news?after={}&rules=x", world.cursor(&ann)));
    let problem: Value = refused.is_problem(400, "invalid");
    assert!(problem["what"].as_str().is_some_and(|what| what.starts_with("rules")), "{problem}");
}
