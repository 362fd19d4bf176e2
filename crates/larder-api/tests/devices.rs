//! Devices: made with a password, known by a token, gone when removed.

mod support;

use larder_api::{Caller, Proof, Refusal, Role, devices};
use larder_store::catalog::Table;
use serde_json::{Value, json};
use support::{Answer, World};

const ANN: &str = "Basic YW5uOnNlY3JldA==";
const VIC: &str = "Basic dmljOnNlY3JldA==";
const DEVICES: &str = "/api/v1/devices";

fn make(world: &World, authorization: &str, body: &str) -> Answer {
    let headers = [("Authorization", authorization), ("Content-Type", "application/json")];
    world.send("POST", DEVICES, &headers, body.as_bytes())
}

fn list(world: &World, authorization: &str) -> Vec<Value> {
    let answer = world.send("GET", DEVICES, &[("Authorization", authorization)], b"");
    answer.json()["devices"].as_array().expect("a list").clone()
}

fn remove(world: &World, authorization: &str, id: &str) -> Answer {
    world.send("DELETE", &format!("{DEVICES}/{id}"), &[("Authorization", authorization)], b"")
}

#[test]
fn a_device_lives_until_it_is_removed() {
    let world = World::new();
    let made = make(&world, VIC, r#"{"name":"laptop"}"#);
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    assert_eq!((&made["name"], &made["user"], token.len()), (&json!("laptop"), &json!("vic"), 43));
    let stored = world.drive.catalog().records(Table::Devices).expect("records");
    assert!(stored.iter().all(|(_, value)| !String::from_utf8_lossy(value).contains(token)));

    let bearer = format!("Bearer {token}");
    assert_eq!(world.get(&bearer, "").status, 200, "a viewer may read");
    let shown = list(&world, &bearer);
    let made = (support::START_S * 1_000_000_000).to_string();
    assert_eq!(shown, [json!({ "id": id, "name": "laptop", "user": "vic", "made": made, "current": true })]);
    assert_eq!(list(&world, VIC)[0]["current"], false);
    assert_eq!((remove(&world, &bearer, id).status, remove(&world, VIC, id).status), (204, 404));
    let refused = world.get(&bearer, "");
    refused.is_problem(401, "denied");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"Larder\""));
}

#[test]
fn others_devices_are_seen_and_removed_by_owners_only() {
    let world = World::new();
    let of_ann = make(&world, ANN, r#"{"name":"a"}"#).json();
    let of_vic = make(&world, VIC, r#"{"name":"v"}"#).json();
    let id = |device: &Value| device["id"].as_str().expect("an id").to_owned();
    assert_eq!((list(&world, ANN).len(), list(&world, VIC).len()), (2, 1));
    remove(&world, VIC, &id(&of_ann)).is_problem(404, "not-found");
    assert_eq!(remove(&world, ANN, &id(&of_vic)).status, 204);
    for strange in ["", "x", "%2e", "0000000000000000"] {
        remove(&world, ANN, strange).is_problem(404, "not-found");
    }
    // Whoever removes a user removes the devices with them.
    let ops = devices::removal_of(&world.drive, "ann").expect("devices");
    assert_eq!(ops.len(), 2, "the device and its rules");
    world.commit(ops);
    assert!(list(&world, ANN).is_empty());
}

#[test]
fn each_call_takes_its_own_proof() {
    let world = World::new();
    let bearer = world.device("ann");
    let refused = make(&world, &bearer, r#"{"name":"more"}"#);
    refused.is_problem(401, "denied");
    assert!(refused.header("www-authenticate").is_some_and(|value| value.starts_with("Basic ")));
    world.get(ANN, "").is_problem(401, "denied");
    let nobody = world.send("GET", DEVICES, &[], b"");
    nobody.is_problem(401, "denied");
    assert_eq!(nobody.headers.get_all("www-authenticate").iter().count(), 2);
    for wrong in ["Bearer", "Bearer x", "Bearer !!!", &"Bearer ".repeat(7), "Digest x", &format!("{bearer}A")]
    {
        world.get(wrong, "").is_problem(401, "denied");
    }
}

#[test]
fn whoever_is_told_to_wait_hears_how_long() {
    let world = World::new();
    for (refusal, status, wait) in [(Refusal::TooMany(7), 429, "7"), (Refusal::Busy(2), 503, "2")] {
        let request = http::Request::get(DEVICES).body(http_body_util::Empty::new()).expect("a request");
        let answer = world.runtime.block_on(world.api.handle(request, Err(refusal)));
        let answer = world.answer(answer);
        answer.is_problem(status, "unavailable");
        assert_eq!(answer.header("retry-after"), Some(wait));
    }
}

#[test]
fn bodies_that_are_no_wish_are_refused() {
    let world = World::new();
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(65));
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "{\"name\":1}",
        "{\"name\":\"\"}",
        "{\"name\":\" \"}",
        "{\"name\":\"a/b\"}",
        "{\"name\":\"a\\u0000\"}",
        "{\"name\":\"a\\n\"}",
        "{\"name\":\"a\",\"role\":\"owner\"}",
        "{\"name\":\"a\"",
        "\u{fffd}",
        &long,
        &"[".repeat(8192),
    ] {
        make(&world, ANN, body).is_problem(400, "invalid");
    }
    make(&world, ANN, &" ".repeat(8193)).is_problem(413, "invalid");
    let form = [("Authorization", ANN), ("Content-Type", "application/x-www-form-urlencoded")];
    world.send("POST", DEVICES, &form, br#"{"name":"a"}"#).is_problem(415, "invalid");
    assert!(list(&world, ANN).is_empty());
}

#[test]
fn a_user_has_so_many_devices() {
    let world = World::new();
    for _ in 0..256 {
        world.device("vic");
    }
    make(&world, VIC, r#"{"name":"a"}"#).is_problem(403, "denied");
    assert_eq!(make(&world, ANN, r#"{"name":"a"}"#).status, 201, "others may");
}

#[test]
fn a_removed_device_does_not_come_back_with_its_caller() {
    let world = World::new();
    let (device, token) = devices::make(&world.drive, support::noise, "ed", "x").expect("a device");
    let caller = Caller { user: "ed".into(), role: Role::Editor, proof: Proof::Token(device.clone()) };
    assert_eq!(caller.device(), Some(&device));
    assert_eq!(devices::find(&world.drive, &token).expect("a look"), Some(device.clone()));
    devices::remove(&world.drive, &device.id, Some("vic")).expect_err("not vic's");
    devices::remove(&world.drive, &device.id, Some("ed")).expect("removed");
    assert_eq!(devices::find(&world.drive, &token).expect("a look"), None);
}
