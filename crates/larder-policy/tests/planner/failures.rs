//! What is tried again, when, and what ends.

use crate::world::{World, requested};
use larder_core::Kind;
use larder_policy::plan::{Action, Event, Failure, JobId, Outcome, RequestId, Urgency, WRONG_BODIES_MAX};
use larder_policy::retry;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const DOWN: Failure = Failure::Unavailable { retry_after: None };

#[test]
fn failed_chunk_is_tried_again_before_those_behind_it() {
    let mut world = World::new();
    world.wish(1, requested(5), 0..9);
    assert_eq!(world.numbers(), [0, 1, 2]);
    world.fail(RequestId(1), DOWN, u32::MAX);
    assert_eq!(world.numbers(), [], "the server is left alone");
    assert_eq!(world.planner.wake_at(), Some(world.now.after(retry::BASE)));
    world.pass(retry::BASE);
    assert_eq!(world.numbers(), [], "the window is halved");
    world.tell(Event::Arrived(RequestId(2)));
    world.tell(Event::Arrived(RequestId(3)));
    assert_eq!(world.numbers(), [0], "one of two places is kept");
}

#[test]
fn many_failures_at_once_are_one_trouble() {
    let mut world = World::new();
    world.wish(1, requested(5), 0..9);
    let mut waited = Duration::ZERO;
    for round in 0..5 {
        let started = world.started();
        assert_eq!(started.len(), if round == 0 { 3 } else { 1 });
        let begun = world.now;
        started.iter().for_each(|request| world.fail(request.id, DOWN, u32::MAX));
        assert_eq!(world.started(), []);
        world.now = world.planner.wake_at().expect("a next try");
        // A chunk whose own wait is over wakes the planner, too, and waits on for the server.
        while world.now.since(begun) < retry::BASE * (1 << round) {
            assert_eq!(world.started(), []);
            world.now = world.planner.wake_at().expect("a next try");
        }
        waited += world.now.since(begun);
    }
    assert_eq!(waited, retry::BASE * 31);
}

#[test]
fn retry_after_holds_readers_too_and_backing_off_holds_them_two_seconds() {
    let mut world = World::new();
    for job in 0..20 {
        world.wish(job, Urgency::Pin, [job as u32]);
        for request in world.started() {
            world.fail(request.id, DOWN, u32::MAX);
        }
        world.pass(retry::CEILING);
        for request in world.started() {
            world.fail(request.id, DOWN, u32::MAX);
        }
    }
    world.wish(100, Urgency::Reader, [100]);
    assert_eq!(world.planner.wake_at(), Some(world.now.after(retry::URGENT_CEILING)));
    world.pass(retry::URGENT_CEILING);
    let request = world.started()[0];
    world.fail(request.id, Failure::Unavailable { retry_after: Some(20 * SECOND) }, 0);
    world.pass(19 * SECOND);
    assert_eq!(world.started(), []);
    world.pass(SECOND);
    assert_eq!(world.started()[0].urgency, Urgency::Reader);
}

#[test]
fn chunk_that_waits_long_is_tried_soon_once_a_reader_wants_it() {
    let mut world = World::new();
    world.wish(1, Urgency::Pin, [1]);
    for _ in 0..WRONG_BODIES_MAX - 1 {
        let request = world.started()[0];
        world.fail(request.id, Failure::WrongBody, u32::MAX);
        world.actions();
        world.now = world.planner.wake_at().expect("a next try");
    }
    let request = world.started()[0];
    world.fail(request.id, DOWN, u32::MAX);
    world.wish(2, Urgency::Reader, [1]);
    assert_eq!(world.started(), []);
    assert!(world.planner.wake_at().expect("a next try") <= world.now.after(retry::URGENT_CEILING));
}

#[test]
fn network_that_is_back_ends_all_waits() {
    let mut world = World::new();
    world.wish(1, requested(5), 0..3);
    for request in world.started() {
        world.fail(request.id, DOWN, u32::MAX);
    }
    assert_eq!(world.started(), []);
    world.tell(Event::Online);
    assert_eq!(world.run_down(), [0, 1, 2]);
}

#[test]
fn wrong_body_is_asked_again_and_counted_and_given_up_in_the_end() {
    let mut world = World::new();
    world.wish(1, requested(5), [1, 2]);
    world.wish(2, Urgency::Pin, [1]);
    let started = world.started();
    world.tell(Event::Arrived(started[1].id));
    let mut request = started[0].id;
    for time in 1..WRONG_BODIES_MAX {
        world.fail(request, Failure::WrongBody, 0);
        assert_eq!(world.planner.census().wrong_bodies, u64::from(time));
        request = world.started()[0].id;
    }
    world.fail(request, Failure::WrongBody, 0);
    assert_eq!(world.ended(), [(1, Outcome::Corrupt), (2, Outcome::Corrupt)]);
    assert_eq!(world.planner.census().chunks, 0);
}

#[test]
fn refused_chunk_ends_the_jobs_that_want_it_and_no_other() {
    let mut world = World::new();
    world.wish(1, requested(5), [1, 2, 3]);
    world.wish(2, requested(5), [2]);
    world.wish(3, Urgency::Pin, [3]);
    assert_eq!(world.started().len(), 3);
    world.fail(RequestId(2), Failure::Refused(Kind::Denied), 0);
    let refused = Outcome::Refused(Kind::Denied);
    assert_eq!(
        world.actions(),
        [
            Action::Abandon(RequestId(1)),
            Action::Ended(JobId(1), refused),
            Action::Ended(JobId(2), refused),
            Action::Reclass(RequestId(3), Urgency::Pin),
        ]
    );
    assert_eq!(refused.kind(), Some(Kind::Denied));
}
