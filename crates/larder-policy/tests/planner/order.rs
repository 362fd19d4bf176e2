//! Who is served when, how many at once, and what is counted.

use crate::world::{DOWN, SIZE_BYTES, UP, World, chunk, number, requested, wish};
use larder_core::{ChunkId, Kind, NodeId};
use larder_policy::Tick;
use larder_policy::plan::{
    Action, Amount, CHUNKS_MAX, Event, IN_FLIGHT_MAX, JobId, Outcome, Planner, RequestId, Scope, Settings,
    State, URGENT_ROOM, Urgency, Wish,
};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn more_urgent_goes_first_and_equals_in_their_order() {
    let mut world = World::new();
    world.tell(Event::Pause(Scope::All));
    world.tell(Event::Set(Settings { pause_holds_readers: true, ..Settings::default() }));
    world.wish(1, Urgency::Pin, 0..3);
    world.wish(2, requested(1), 10..13);
    world.wish(3, requested(10), 20..23);
    world.wish(4, requested(10), 30..33);
    world.wish(5, Urgency::Readahead, 40..43);
    world.wish(6, Urgency::Opener, 50..53);
    world.wish(7, Urgency::Reader, 60..63);
    assert_eq!(world.numbers(), []);
    world.tell(Event::Resume(Scope::All));
    let tens = [60, 50, 40, 20, 30, 10, 0];
    assert_eq!(world.run_down(), tens.map(|ten| [ten, ten + 1, ten + 2]).concat());
    assert_eq!(world.planner.census().chunks, 0);
}

#[test]
fn chunk_that_many_want_moves_once_for_the_most_urgent_of_them() {
    let mut world = World::new();
    world.wish(1, Urgency::Pin, 0..9);
    assert_eq!(world.numbers(), [0, 1, 2], "one of four places is kept");
    world.wish(2, requested(5), [8, 1]);
    world.wish(3, Urgency::Reader, [7, 8]);
    let actions = world.actions();
    let raised = Action::Reclass(RequestId(2), requested(5));
    assert_eq!(actions[0], raised, "what is in flight already is raised");
    let Action::Start(request) = actions[1] else { panic!("{actions:?}") };
    assert_eq!((number(request.chunk), request.urgency), (7, Urgency::Reader));
    (1..=3).for_each(|request| world.tell(Event::Arrived(RequestId(request))));
    assert_eq!(world.run_down(), [8, 3, 4, 5, 6], "each once");
}

#[test]
fn chunk_falls_back_when_its_most_urgent_wish_ends() {
    let mut world = World::new();
    world.tell(Event::Offline);
    world.wish(1, Urgency::Pin, [1]);
    world.wish(2, requested(3), [2]);
    world.wish(3, Urgency::Opener, [1]);
    world.tell(Event::Cancel(Scope::Job(JobId(3))));
    assert_eq!(world.ended(), [(3, Outcome::Cancelled)]);
    world.tell(Event::Online);
    assert_eq!(world.numbers(), [2, 1]);
}

#[test]
fn one_place_is_kept_for_those_who_wait() {
    let mut world = World::new();
    world.wish(1, requested(10), 0..100);
    assert_eq!(world.numbers(), [0, 1, 2]);
    world.wish(2, Urgency::Opener, 200..204);
    assert_eq!(world.numbers(), [200]);
    // Trouble halves the window below what is in flight: the place is there all the same.
    world.wish(3, Urgency::Reader, [201]);
    world.tell(Event::Arrived(RequestId(4)));
    world.fail(RequestId(1), larder_policy::plan::Failure::Unavailable { retry_after: None }, 0);
    assert_eq!(world.numbers(), [201], "behind the opener's first, before its others and all bulk work");
}

/// Lets chunks arrive one after the other over a path of 100 ms until nothing has changed for a while.
fn run_long_path(world: &mut World) -> Vec<RequestId> {
    let mut in_flight: Vec<RequestId> = world.started().iter().map(|request| request.id).collect();
    for _ in 0..1000 {
        world.pass(Duration::from_millis(100) / in_flight.len() as u32);
        world.tell(Event::Arrived(in_flight.remove(0)));
        in_flight.extend(world.started().iter().map(|request| request.id));
    }
    in_flight
}

#[test]
fn chunks_of_one_file_share_a_call_and_its_place() {
    let mut world = World::with(Settings { batch: 3, ..Settings::default() });
    let of = |job: u64, chunks| Event::Wish(Wish { of: NodeId(job), ..wish(job, requested(5), chunks) });
    world.tell(of(1, 0..5));
    world.tell(of(2, 10..20));
    let started = world.started();
    let calls: Vec<Vec<u32>> = started
        .chunk_by(|a, b| a.with == b.with)
        .map(|call| call.iter().map(|request| number(request.chunk)).collect())
        .collect();
    assert_eq!(calls, [vec![0, 1, 2], vec![3, 4], vec![10, 11, 12]], "three of four places");
    assert!(started.iter().all(|request| request.of.0 == 1 + u64::from(number(request.chunk) / 10)));
    started[..2].iter().for_each(|request| world.tell(Event::Arrived(request.id)));
    assert_eq!(world.numbers(), [], "a part of a call is under way");
    world.wish(3, Urgency::Reader, [30]);
    assert_eq!(world.numbers(), [30]);
    world.tell(Event::Arrived(started[2].id));
    assert_eq!(world.numbers(), [13, 14, 15]);
}

#[test]
fn place_is_kept_when_what_readers_wanted_becomes_bulk_work() {
    let mut world = World::new();
    world.wish(1, Urgency::Pin, 0..5000);
    let in_flight = run_long_path(&mut world);
    assert_eq!(in_flight.len(), IN_FLIGHT_MAX - 1, "all places of a path that pays for them");
    // Requests are numbered from 1, chunks from 0.
    world.wish(2, Urgency::Reader, in_flight[0].0 as u32 - 1..5000);
    assert_eq!(world.planner.census().in_flight, IN_FLIGHT_MAX - 1);
    world.actions();
    assert_eq!(world.planner.census().in_flight, IN_FLIGHT_MAX);
    world.tell(Event::Cancel(Scope::Job(JobId(2))));
    let actions = world.actions();
    assert!(matches!(actions[..2], [Action::Abandon(_), Action::Ended(..)]), "{actions:?}");
    world.wish(3, Urgency::Reader, [9000]);
    assert_eq!(world.numbers(), [9000]);
}

#[test]
fn directions_do_not_wait_for_one_another() {
    let mut world = World::new();
    world.wish(1, requested(5), 0..50);
    world.tell(Event::Wish(Wish { direction: UP, ..wish(2, Urgency::Pin, 0..50) }));
    let started = world.started();
    for direction in [UP, DOWN] {
        assert_eq!(started.iter().filter(|request| request.direction == direction).count(), 3);
    }
    assert_eq!(world.planner.census().in_flight, 6);
}

#[test]
fn cancelled_job_leaves_only_what_others_want() {
    let mut world = World::new();
    world.wish(1, requested(5), 0..10);
    world.wish(2, Urgency::Pin, 5..15);
    let started = world.started();
    world.tell(Event::Cancel(Scope::Job(JobId(1))));
    let dropped: Vec<Action> = started.iter().map(|request| Action::Abandon(request.id)).collect();
    let actions = world.actions();
    assert_eq!(actions[..3], dropped, "dropped before anything starts");
    assert_eq!(actions[3], Action::Ended(JobId(1), Outcome::Cancelled));
    assert_eq!(world.planner.census().chunks, 10);
    // What still comes of a dropped request counts for nothing.
    world.tell(Event::Arrived(started[0].id));
    world.tell(Event::Cancel(Scope::All));
    assert_eq!(world.ended(), [(2, Outcome::Cancelled)]);
    assert_eq!(world.planner.census(), Default::default());
    assert_eq!(world.planner.wake_at(), None);
}

#[test]
fn cancelling_all_spares_readers() {
    let mut world = World::new();
    world.wish(1, Urgency::Reader, [1]);
    world.wish(2, Urgency::Readahead, [2]);
    world.tell(Event::Wish(Wish { direction: UP, ..wish(3, requested(1), [3]) }));
    world.actions();
    world.tell(Event::Cancel(Scope::Direction(DOWN)));
    assert_eq!(world.ended(), [(2, Outcome::Cancelled)]);
    world.tell(Event::Cancel(Scope::All));
    assert_eq!(world.ended(), [(3, Outcome::Cancelled)]);
    world.tell(Event::Cancel(Scope::Job(JobId(1))));
    assert_eq!(world.ended(), [(1, Outcome::Cancelled)]);
}

#[test]
fn progress_counts_what_was_here_and_tells_speed_and_time() {
    let mut world = World::new();
    let here = Amount { bytes: 3 << 20, chunks: 9 };
    world.tell(Event::Wish(Wish { here, ..wish(1, requested(5), [1, 2, 2, 3, 4]) }));
    world.wish(2, Urgency::Pin, [4]);
    world.tell(Event::Wish(Wish { chunks: vec![(ChunkId::HOLE, 9)], ..wish(3, Urgency::Pin, []) }));
    assert_eq!(world.ended(), [(3, Outcome::Done)], "nothing to move");
    let progress = |world: &World| world.planner.progress(JobId(1), world.now).expect("it goes on");
    assert_eq!((progress(&world).state, progress(&world).left), (State::Active, None));
    assert_eq!(world.planner.progress(JobId(2), world.now).expect("it waits").state, State::Queued);
    for request in 1..=2 {
        world.pass(2 * SECOND);
        world.tell(Event::Moved(RequestId(request), 100));
        world.tell(Event::Arrived(RequestId(request)));
    }
    world.pass(2 * SECOND);
    let at = progress(&world);
    assert_eq!(at.total, Amount { bytes: (3 << 20) + 4 * u64::from(SIZE_BYTES), chunks: 13 });
    assert_eq!(at.done, Amount { bytes: (3 << 20) + 2 * u64::from(SIZE_BYTES), chunks: 11 });
    assert_eq!(at.speed_bytes_per_s, f64::from(2 * SIZE_BYTES) / 4.0);
    assert_eq!(at.left, Some(4 * SECOND));
    world.actions();
    world.tell(Event::Arrived(RequestId(3)));
    world.tell(Event::Arrived(RequestId(4)));
    assert_eq!(world.ended(), [(1, Outcome::Done), (2, Outcome::Done)]);
    assert!(world.planner.progress(JobId(1), world.now).is_none());
}

#[test]
fn job_gets_more_urgent_while_it_waits() {
    let mut world = World::new();
    world.tell(Event::Offline);
    world.wish(1, requested(5), 0..2);
    world.wish(2, requested(1), 10..12);
    world.tell(Event::Urge(JobId(2), requested(9)));
    world.tell(Event::Online);
    assert_eq!(world.run_down(), [10, 11, 0, 1]);
}

#[test]
fn full_planner_refuses_bulk_work_and_still_takes_readers() {
    let mut world = World::new();
    world.wish(1, Urgency::Pin, 0..CHUNKS_MAX as u32);
    let more = |job, urgency, count| Event::Wish(wish(job, urgency, (1 << 30)..(1 << 30) + count));
    let refused =
        |world: &mut World, event| world.planner.handle(world.now, event).expect_err("no room").kind();
    assert_eq!(refused(&mut world, more(2, requested(10), 1)), Kind::Unavailable);
    assert_eq!(refused(&mut world, more(3, Urgency::Reader, URGENT_ROOM as u32 + 1)), Kind::Unavailable);
    world.tell(more(4, Urgency::Reader, URGENT_ROOM as u32));
    assert_eq!(refused(&mut world, more(4, Urgency::Reader, 1)), Kind::Exists);
    assert_eq!(world.planner.census().jobs, 2);
}

/// Prints the figures; the bound that decides is a hundred times what they are, as a busy machine must not fail it.
#[test]
fn choosing_among_a_million_chunks_takes_no_time() {
    const CHUNKS: u32 = 1_000_000;
    const CHOICES: u32 = 100_000;
    let mut planner = Planner::new(Settings::default());
    let (begun, mut now) = (Instant::now(), Tick(1));
    for (job, first) in (0..CHUNKS).step_by(1000).enumerate() {
        let urgency = if job % 11 == 0 { Urgency::Pin } else { requested((job % 11) as u8) };
        planner.handle(now, Event::Wish(wish(job as u64, urgency, first..first + 1000))).expect("room");
    }
    let queued_ms = begun.elapsed().as_millis();
    let (begun, mut last) = (Instant::now(), (10, 0));
    let mut in_flight = std::collections::VecDeque::new();
    for _ in 0..CHOICES {
        loop {
            match planner.poll(now) {
                Some(Action::Start(request)) => {
                    let Urgency::Requested(priority) = request.urgency else { panic!("{request:?}") };
                    assert!(priority.number() <= last.0 && in_flight.len() < IN_FLIGHT_MAX);
                    last = (priority.number(), number(request.chunk));
                    in_flight.push_back(request.id);
                }
                Some(_) => {}
                None => break,
            }
        }
        now = now.after(Duration::from_millis(2));
        planner.handle(now, Event::Arrived(in_flight.pop_front().expect("always more"))).expect("no wish");
    }
    let choice_ns = begun.elapsed().as_nanos() / u128::from(CHOICES);
    let begun = Instant::now();
    planner.handle(now, Event::Pause(Scope::All)).expect("no wish");
    let pause_us = begun.elapsed().as_micros();
    let begun = Instant::now();
    planner.handle(now, Event::Cancel(Scope::All)).expect("no wish");
    let cancel_ms = begun.elapsed().as_millis();
    println!("{CHUNKS} queued in {queued_ms} ms; chosen, moved and counted in {choice_ns} ns a chunk;");
    println!("all paused in {pause_us} us, all cancelled in {cancel_ms} ms; first left: {:?}", chunk(last.1));
    assert!(choice_ns < 100_000, "{choice_ns} ns a choice");
    assert_eq!(planner.census().chunks, 0);
}
