//! Pausing, resuming, being off-line, and ends that come by themselves.

use crate::world::{DOWN, UP, World, number, requested, wish};
use larder_core::Kind;
use larder_policy::plan::{Action, Event, JobId, Outcome, RequestId, Scope, Settings, State, Urgency, Wish};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn state(world: &World, job: u64) -> State {
    world.planner.progress(JobId(job), world.now).expect("a job").state
}

#[test]
fn paused_job_stands_still_and_goes_on_where_it_was() {
    let mut world = World::new();
    world.wish(1, requested(5), 0..6);
    world.wish(2, requested(5), 10..12);
    let started = world.started();
    world.tell(Event::Arrived(started[0].id));
    world.tell(Event::Pause(Scope::Job(JobId(1))));
    let actions = world.actions();
    let starts: Vec<u32> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Start(request) => Some(number(request.chunk)),
            _ => None,
        })
        .collect();
    assert_eq!(actions[..2], [Action::Abandon(started[1].id), Action::Abandon(started[2].id)]);
    assert_eq!((starts, state(&world, 1), state(&world, 2)), (vec![10, 11], State::Paused, State::Active));
    (4..6).for_each(|request| world.tell(Event::Arrived(RequestId(request))));
    assert_eq!(world.ended(), [(2, Outcome::Done)]);
    assert_eq!(world.planner.wake_at(), None);
    world.tell(Event::Resume(Scope::Job(JobId(1))));
    assert_eq!(world.run_down(), [1, 2, 3, 4, 5]);
}

#[test]
fn chunk_of_a_paused_job_moves_if_another_wants_it() {
    let mut world = World::new();
    world.wish(1, requested(9), [1, 2]);
    world.tell(Event::Pause(Scope::Job(JobId(1))));
    world.wish(2, Urgency::Pin, [2, 3]);
    assert_eq!(world.run_down(), [2, 3]);
    assert_eq!(world.planner.progress(JobId(1), world.now).expect("paused").done.chunks, 1);
}

#[test]
fn pausing_all_lets_readers_go_on_unless_set() {
    for holds in [false, true] {
        let mut world = World::with(Settings { pause_holds_readers: holds, ..Settings::default() });
        world.wish(1, Urgency::Opener, [1]);
        world.tell(Event::Pause(Scope::All));
        world.wish(2, Urgency::Reader, [2]);
        assert_eq!(world.numbers(), if holds { vec![] } else { vec![2] });
        assert_eq!(state(&world, 2), if holds { State::Paused } else { State::Active });
        world.tell(Event::Set(Settings { pause_holds_readers: !holds, ..Settings::default() }));
        let changed = world.actions();
        assert!(
            matches!((holds, &changed[..]), (true, [Action::Start(_)]) | (false, [Action::Abandon(_)])),
            "{changed:?}"
        );
    }
}

#[test]
fn paused_reader_goes_on_unless_set() {
    let mut world = World::with(Settings { pause_holds_readers: true, ..Settings::default() });
    world.wish(1, Urgency::Reader, [1]);
    world.tell(Event::Pause(Scope::Job(JobId(1))));
    assert_eq!(world.numbers(), []);
    world.tell(Event::Set(Settings::default()));
    assert_eq!(world.numbers(), [1]);
}

#[test]
fn each_pause_is_a_switch_of_its_own() {
    let mut world = World::new();
    world.wish(1, requested(5), [1]);
    world.tell(Event::Wish(Wish { direction: UP, ..wish(2, requested(5), [2]) }));
    world.wish(3, requested(5), [3]);
    for scope in [Scope::Job(JobId(1)), Scope::Direction(DOWN), Scope::All] {
        world.tell(Event::Pause(scope));
    }
    assert_eq!(world.numbers(), []);
    world.tell(Event::Resume(Scope::All));
    assert_eq!(world.numbers(), [2]);
    world.tell(Event::Resume(Scope::Direction(DOWN)));
    assert_eq!(world.numbers(), [3]);
    world.tell(Event::Resume(Scope::Job(JobId(1))));
    assert_eq!(world.numbers(), [1]);
}

#[test]
fn offline_nothing_starts_and_readers_end_at_their_deadline() {
    let mut world = World::new();
    world.wish(1, Urgency::Reader, [1]);
    world.wish(2, Urgency::Pin, [2]);
    assert_eq!(world.started().len(), 2);
    world.tell(Event::Offline);
    assert_eq!(world.actions(), [Action::Abandon(RequestId(2)), Action::Abandon(RequestId(1))]);
    assert_eq!(world.planner.wake_at(), Some(world.now.after(30 * SECOND)));
    world.pass(30 * SECOND);
    assert_eq!(world.ended(), [(1, Outcome::TimedOut)]);
    assert_eq!(Outcome::TimedOut.kind(), Some(Kind::Unavailable));
    assert_eq!(world.planner.wake_at(), None);
    world.tell(Event::Online);
    assert_eq!(world.numbers(), [2]);
}

#[test]
fn reader_ends_at_its_deadline_and_its_chunk_stays_for_others() {
    let mut world = World::new();
    let deadline = Some(world.now.after(SECOND));
    world.wish(1, Urgency::Pin, [1]);
    world.tell(Event::Wish(Wish { deadline, ..wish(2, Urgency::Reader, [1, 2]) }));
    assert_eq!(world.started().len(), 2);
    assert_eq!(world.planner.wake_at(), deadline);
    world.pass(SECOND);
    assert_eq!(
        world.actions(),
        [
            Action::Abandon(RequestId(2)),
            Action::Ended(JobId(2), Outcome::TimedOut),
            Action::Reclass(RequestId(1), Urgency::Pin),
        ]
    );
}

#[test]
fn job_that_moves_nothing_for_its_ttl_expires() {
    let mut world = World::new();
    world.tell(Event::Wish(Wish { ttl: Some(10 * SECOND), ..wish(1, requested(5), [1, 2]) }));
    world.started();
    world.pass(9 * SECOND);
    world.tell(Event::Moved(RequestId(1), 1));
    world.pass(9 * SECOND);
    world.tell(Event::Arrived(RequestId(2)));
    world.tell(Event::Pause(Scope::All));
    assert_eq!(world.actions(), [Action::Abandon(RequestId(1))]);
    assert_eq!(world.planner.wake_at(), Some(world.now.after(10 * SECOND)));
    world.pass(10 * SECOND);
    assert_eq!(world.ended(), [(1, Outcome::Expired)]);
}

#[test]
fn body_without_an_end_is_no_sign_of_life() {
    let mut world = World::new();
    world.tell(Event::Wish(Wish { ttl: Some(10 * SECOND), ..wish(1, requested(5), [1]) }));
    world.started();
    world.tell(Event::Moved(RequestId(1), u32::MAX));
    world.pass(5 * SECOND);
    world.tell(Event::Moved(RequestId(1), u32::MAX));
    world.pass(5 * SECOND);
    assert_eq!(world.ended(), [(1, Outcome::Expired)]);
}
