//! A planner with a clock in hand.

use larder_core::{ChunkId, NodeId};
use larder_policy::plan::{
    Action, Amount, Event, Failure, JobId, Outcome, Planner, Priority, Request, RequestId, Settings, Urgency,
    Wish,
};
use larder_policy::{Direction, Tick};
use std::time::Duration;

pub const SIZE_BYTES: u32 = 256 << 10;
pub const DOWN: Direction = Direction::Down;
pub const UP: Direction = Direction::Up;

/// The chunk of a number.
pub fn chunk(number: u32) -> ChunkId {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    ChunkId(id)
}

/// The number of a chunk.
pub fn number(id: ChunkId) -> u32 {
    u32::from_be_bytes(id.0[..4].try_into().expect("four bytes"))
}

pub fn requested(priority: u8) -> Urgency {
    Urgency::Requested(Priority::new(priority).expect("a priority"))
}

pub fn wish(job: u64, urgency: Urgency, chunks: impl IntoIterator<Item = u32>) -> Wish {
    Wish {
        job: JobId(job),
        direction: DOWN,
        urgency,
        of: NodeId(1),
        chunks: chunks.into_iter().map(|number| (chunk(number), SIZE_BYTES)).collect(),
        here: Amount::default(),
        deadline: None,
        ttl: None,
    }
}

pub struct World {
    pub planner: Planner,
    pub now: Tick,
}

impl World {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        Self { planner: Planner::new(settings), now: Tick(1_000_000_000) }
    }

    pub fn tell(&mut self, event: Event) {
        self.planner.handle(self.now, event).expect("room for a wish");
    }

    pub fn wish(&mut self, job: u64, urgency: Urgency, chunks: impl IntoIterator<Item = u32>) {
        self.tell(Event::Wish(wish(job, urgency, chunks)));
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    /// Everything there is to do now.
    pub fn actions(&mut self) -> Vec<Action> {
        let actions: Vec<Action> = std::iter::from_fn(|| self.planner.poll(self.now)).collect();
        assert!(self.planner.wake_at().is_none_or(|at| at > self.now), "a busy loop at {:?}", self.now);
        actions
    }

    /// What starts now, where nothing else is to do.
    pub fn started(&mut self) -> Vec<Request> {
        let only_starts = |action| match action {
            Action::Start(request) => request,
            other => panic!("{other:?}"),
        };
        self.actions().into_iter().map(only_starts).collect()
    }

    /// The numbers of the chunks that start now.
    pub fn numbers(&mut self) -> Vec<u32> {
        self.started().iter().map(|request| number(request.chunk)).collect()
    }

    /// The jobs that end now.
    pub fn ended(&mut self) -> Vec<(u64, Outcome)> {
        let ended = |action| match action {
            Action::Ended(job, outcome) => Some((job.0, outcome)),
            _ => None,
        };
        self.actions().into_iter().filter_map(ended).collect()
    }

    pub fn fail(&mut self, request: RequestId, failure: Failure, jitter: u32) {
        self.tell(Event::Failed(request, failure, jitter));
    }

    /// Lets everything arrive, one after the other, and returns the numbers in the order in which they started.
    pub fn run_down(&mut self) -> Vec<u32> {
        let (mut order, mut in_flight) = (Vec::new(), std::collections::VecDeque::new());
        loop {
            for action in self.actions() {
                if let Action::Start(request) = action {
                    order.push(number(request.chunk));
                    in_flight.push_back(request.id);
                }
            }
            let Some(request) = in_flight.pop_front() else { return order };
            self.pass(Duration::from_millis(1));
            self.tell(Event::Arrived(request));
        }
    }
}
