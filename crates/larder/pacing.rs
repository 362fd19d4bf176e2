//! How fast a mount of a server's project moves bytes: a fetch below its file, that below a direction, that below everything.

use crate::payers::{Payers, Tiers, Who};
use crate::shaping::{Share, Tier};
use larder_policy::Class;
use larder_store::origin::{Flow, Meter, Pace};
use std::sync::Arc;
use std::task::{Context, Poll};

/// Gives the calls of a mount their places.
pub struct Pacer {
    top: Arc<Tiers>,
    payers: Arc<Payers>,
}

impl Pacer {
    /// Below `top`, with what `payers` say of single fetches.
    pub fn new(top: Arc<Tiers>, payers: Arc<Payers>) -> Self {
        Self { top, payers }
    }
}

impl Pace for Pacer {
    fn stream(&self, flow: Flow) -> Box<dyn Meter> {
        let (read, fetched) = match flow {
            Flow::Up | Flow::Down(None) => (self.top.clone(), self.top.clone()),
            // Files share evenly, however many calls are made for each.
            Flow::Down(Some(id)) => self.payers.pair(Who::File(id.0), Who::Fetch(id.0)),
        };
        let tier = |tiers: &Tiers| if flow == Flow::Up { tiers.up.clone() } else { tiers.down.clone() };
        let (read_tier, fetched_tier) = (tier(&read), tier(&fetched));
        let share = Share::new(fetched_tier.clone());
        Box::new(Stream { share, read_tier, fetched_tier, _held: [read, fetched] })
    }
}

/// The bytes of one call.
struct Stream {
    share: Share,
    /// What a program waits for is not bound by the limit of a fetch.
    read_tier: Arc<Tier>,
    fetched_tier: Arc<Tier>,
    /// Known to others by these, as long as this lasts.
    _held: [Arc<Tiers>; 2],
}

impl Meter for Stream {
    fn poll_allowed(&mut self, context: &mut Context<'_>, urgent: bool, wanted: usize) -> Poll<usize> {
        let (tier, class) =
            if urgent { (&self.read_tier, Class::Reader) } else { (&self.fetched_tier, Class::Bulk) };
        self.share.enter(tier);
        self.share.poll_allowed(context, class, wanted)
    }

    fn moved(&mut self, bytes: usize) {
        self.share.moved(bytes);
    }
}
