//! Why bytes were fetched: the last of them, for people who wonder.

use super::asker::Program;
use super::{Fetch, Shared, pinned};
use larder_core::{NodeId, Timestamp};
use std::collections::VecDeque;
use std::sync::Arc;

/// So many are remembered.
const CAUSES_MAX: usize = 256;

/// Why something was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A process read it, or reads on towards it.
    Read(Arc<Program>),
    /// Somebody asked for the file.
    Asked,
    /// A rule keeps the file here.
    Pinned,
    /// The device itself needed it.
    Own,
}

/// What was fetched of one file for one reason.
#[derive(Clone, Debug)]
pub struct Cause {
    /// The file.
    pub of: NodeId,
    /// Why.
    pub why: Why,
    /// Bytes that came.
    pub bytes: u64,
    /// Chunks that came.
    pub chunks: u64,
    /// When the last of them came.
    pub at: Timestamp,
}

/// The newest last.
#[derive(Default)]
pub(super) struct Causes(VecDeque<Cause>);

impl Causes {
    /// Notes that `bytes` of file `of` came.
    pub(super) fn note(&mut self, of: NodeId, why: Why, bytes: u64, at: Timestamp) {
        let same = self.0.iter().rposition(|cause| cause.of == of && cause.why == why);
        let mut cause = match same.and_then(|same| self.0.remove(same)) {
            Some(cause) => cause,
            None => Cause { of, why, bytes: 0, chunks: 0, at },
        };
        (cause.bytes, cause.chunks, cause.at) = (cause.bytes + bytes, cause.chunks + 1, at);
        if self.0.len() >= CAUSES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(cause);
    }
}

impl Fetch {
    /// Why the last files were fetched, the newest first.
    pub fn causes(&self) -> Vec<Cause> {
        self.shared.causes.lock().0.iter().rev().cloned().collect()
    }
}

impl Shared {
    /// Why somebody wants a chunk of `of`: who reads it, else who asked for the file.
    pub(super) fn why(
        requested: &super::requested::Requested,
        of: NodeId,
        reader: Option<Arc<Program>>,
    ) -> Why {
        let file = requested.files.get(&of).filter(|file| !file.phase.has_ended());
        match (reader, file.map(|file| file.wish.priority)) {
            (Some(program), _) => Why::Read(program),
            (None, Some(pinned::PRIORITY)) => Why::Pinned,
            (None, Some(_)) => Why::Asked,
            (None, None) => Why::Own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_for_one_reason_is_told_together_and_there_is_a_bound() {
        let mut causes = Causes::default();
        let reader = |pid| Why::Read(Arc::new(Program { pid, name: "cat".into(), file: None }));
        for at in 0..10 {
            causes.note(NodeId(2), reader(1), 100, Timestamp(at));
        }
        causes.note(NodeId(2), reader(2), 1, Timestamp(10));
        causes.note(NodeId(2), reader(1), 100, Timestamp(11));
        let last = causes.0.back().expect("one");
        assert_eq!((causes.0.len(), last.bytes, last.chunks, last.at), (2, 1100, 11, Timestamp(11)));
        (0..1000).for_each(|node| causes.note(NodeId(node), Why::Asked, 1, Timestamp(12)));
        assert_eq!(causes.0.len(), CAUSES_MAX);
    }
}
