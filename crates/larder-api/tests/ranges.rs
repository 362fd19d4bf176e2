//! Ranges of ids: each is given away once ever.

mod support;

use larder_store::Op;
use larder_store::catalog::Table;
use serde_json::json;
use std::collections::BTreeSet;
use support::World;

const JSON: &str = "application/json";
/// Callers at a time.
const CALLERS: usize = 8;
/// Ranges that each asks for.
const EACH: usize = 25;

fn last_is(world: &World, last: &[u8]) {
    let (table, key, value) = (Table::Settings, b"ranges".to_vec(), Some(last.to_vec()));
    world.commit(vec![Op::SetRecord { table, key, value }]);
}

#[test]
fn nobody_gets_a_range_that_somebody_else_has() {
    let world = World::new();
    let device = world.device("ed");
    let ask = || -> Vec<u64> {
        let answers = (0..EACH).map(|_| world.post(&device, "/ranges", JSON, b"{}").json());
        answers.map(|answer| answer["range"].as_u64().expect("a number")).collect()
    };
    let given: Vec<u64> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(ask)).collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("answered")).collect()
    });
    let all: BTreeSet<u64> = given.iter().copied().collect();
    assert_eq!((all.len(), all.last()), (given.len(), Some(&((CALLERS * EACH) as u64))));
    assert_eq!(all.first(), Some(&1));
}

#[test]
fn the_last_range_is_the_last() {
    let world = World::new();
    let device = world.device("ed");
    last_is(&world, b"16777214");
    assert_eq!(world.post(&device, "/ranges", JSON, b"{}").json(), json!({ "range": 16_777_215 }));
    world.post(&device, "/ranges", JSON, b"{}").is_problem(507, "no-space");
    last_is(&world, b"many");
    world.post(&device, "/ranges", JSON, b"{}").is_problem(500, "corrupt");
}

#[test]
fn a_wish_for_more_is_refused() {
    let world = World::new();
    let device = world.device("ed");
    for body in ["", "[", r#"{"count":2}"#] {
        let what =
            world.post(&device, "/ranges", JSON, body.as_bytes()).is_problem(400, "invalid")["what"].clone();
        assert!(what.as_str().expect("text").starts_with("body: "), "{what}");
    }
    world.post(&device, "/ranges", "text/plain", b"{}").is_problem(415, "invalid");
    world.post(&device, "/ranges", JSON, &[b' '; 8193]).is_problem(413, "invalid");
}
