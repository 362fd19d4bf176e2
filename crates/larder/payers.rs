//! Who pays for the bytes of a connection: a device, below its user, below everything.

use crate::shaping::Tier;
use larder_policy::Rate;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Somebody who has limits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// A user, by name; all their devices and connections together.
    User(String),
    /// A device, by id.
    Device(String),
    /// What is read of a file of a server's project, by its node.
    File(u64),
    /// What is fetched of it because somebody asked for that.
    Fetch(u64),
}

/// Tiers of both directions.
pub struct Tiers {
    /// What clients send.
    pub up: Arc<Tier>,
    /// What they get.
    pub down: Arc<Tier>,
}

impl Tiers {
    /// Two tiers below these.
    pub fn below(&self) -> Self {
        Self { up: self.up.below(), down: self.down.below() }
    }

    /// Keeps these rates from now on.
    pub fn set_limits(&self, up: Option<Rate>, down: Option<Rate>) {
        self.up.set_limit(up);
        self.down.set_limit(down);
    }
}

/// Says which rates somebody has at this moment, up and down.
pub type Rates = Box<dyn Fn(&Who) -> (Option<Rate>, Option<Rate>) + Send + Sync>;

/// Those who pay at this time.
pub struct Payers {
    top: Arc<Tiers>,
    rates: Rates,
    /// Those who have connections; others are gone with their tiers.
    known: Mutex<HashMap<Who, Weak<Tiers>>>,
    /// One at a time asks for rates and sets them: an older answer must not replace a newer one.
    rating: Mutex<()>,
}

impl Payers {
    /// Everybody pays below `top`.
    pub fn new(top: Arc<Tiers>, rates: Rates) -> Arc<Self> {
        Arc::new(Self { top, rates, known: Mutex::default(), rating: Mutex::default() })
    }

    /// Asks for everybody's rates again.
    pub fn apply(&self) {
        let known: Vec<_> = {
            let known = self.known.lock();
            known.iter().filter_map(|(who, tiers)| Some((who.clone(), tiers.upgrade()?))).collect()
        };
        known.iter().for_each(|(who, tiers)| self.rate(who, tiers));
    }

    fn rate(&self, who: &Who, tiers: &Tiers) {
        let _one = self.rating.lock();
        let (up, down) = (self.rates)(who);
        tiers.set_limits(up, down);
    }

    /// Tiers of `above`, below everything, and of `below`, below those.
    pub fn pair(&self, above: Who, below: Who) -> (Arc<Tiers>, Arc<Tiers>) {
        let above = self.tiers(above, &self.top);
        let below = self.tiers(below, &above);
        (above, below)
    }

    fn tiers(&self, who: Who, above: &Tiers) -> Arc<Tiers> {
        let mut known = self.known.lock();
        if let Some(tiers) = known.get(&who).and_then(Weak::upgrade) {
            return tiers;
        }
        known.retain(|_, tiers| tiers.strong_count() > 0);
        let tiers = Arc::new(above.below());
        known.insert(who.clone(), Arc::downgrade(&tiers));
        drop(known);
        // Who changes limits in between finds it among those known.
        self.rate(&who, &tiers);
        tiers
    }
}

/// Who pays for one connection, which is known once a request has said so.
pub struct Payer {
    payers: Arc<Payers>,
    state: Mutex<State>,
    /// Grows with each change.
    version: AtomicUsize,
}

struct State {
    who: Option<(String, Option<String>)>,
    /// Of the user, to find them again while the device pays.
    user: Option<Arc<Tiers>>,
    tiers: Arc<Tiers>,
}

impl Payer {
    /// Nobody in particular.
    pub fn new(payers: &Arc<Payers>) -> Self {
        let state = State { who: None, user: None, tiers: payers.top.clone() };
        Self { payers: payers.clone(), state: Mutex::new(state), version: AtomicUsize::new(1) }
    }

    /// From now on it is this user, or a device of theirs.
    pub fn bill(&self, user: &str, device: Option<&str>) {
        let mut state = self.state.lock();
        if state.who.as_ref().is_some_and(|(of, by)| of == user && by.as_deref() == device) {
            return;
        }
        let of_user = self.payers.tiers(Who::User(user.to_owned()), &self.payers.top);
        state.tiers = match device {
            Some(id) => self.payers.tiers(Who::Device(id.to_owned()), &of_user),
            None => of_user.clone(),
        };
        state.user = Some(of_user);
        state.who = Some((user.to_owned(), device.map(str::to_owned)));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The tiers that pay, where that changed since `seen`.
    pub fn changed(&self, seen: &mut usize) -> Option<Arc<Tiers>> {
        let version = self.version.load(Ordering::Acquire);
        (std::mem::replace(seen, version) != version).then(|| self.state.lock().tiers.clone())
    }
}
