//! How often somebody may try a password: a bucket per address and per user name.
//!
//! Pure: time is an argument. A right password gives the try back, so only wrong ones count.

use larder_policy::Tick;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Wrong tries in a row from one address.
const PER_ADDRESS: Allowance = Allowance { burst: 10.0, per_s: 1.0 / 6.0 };
/// Wrong tries in a row for one user name, from whatever addresses.
const PER_USER: Allowance = Allowance { burst: 30.0, per_s: 1.0 / 3.0 };
/// The most buckets; beyond it the fullest go, which remember least.
const BUCKETS_MAX: usize = 20_000;

struct Allowance {
    burst: f64,
    per_s: f64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    User(String),
}

impl Key {
    fn allowance(&self) -> &'static Allowance {
        match self {
            Key::Address(_) => &PER_ADDRESS,
            Key::User(_) => &PER_USER,
        }
    }
}

struct Bucket {
    left: f64,
    at: Tick,
}

/// Counts tries.
#[derive(Default)]
pub struct Attempts {
    buckets: HashMap<Key, Bucket>,
}

impl Attempts {
    /// Takes one try.
    ///
    /// # Errors
    /// How long to wait before the next one; nothing was taken.
    pub fn take(&mut self, address: IpAddr, user: &str, now: Tick) -> Result<(), Duration> {
        let keys = keys(address, user);
        for key in &keys {
            let left = self.left(key, now);
            if left < 1.0 {
                return Err(Duration::from_secs_f64((1.0 - left) / key.allowance().per_s));
            }
        }
        for key in keys {
            self.change(key, -1.0, now);
        }
        self.forget_some(now);
        Ok(())
    }

    /// Gives a try back: the password was right.
    pub fn give_back(&mut self, address: IpAddr, user: &str, now: Tick) {
        for key in keys(address, user) {
            self.change(key, 1.0, now);
        }
    }

    fn left(&self, key: &Key, now: Tick) -> f64 {
        let Allowance { burst, per_s } = key.allowance();
        self.buckets.get(key).map_or(*burst, |b| (b.left + now.since(b.at).as_secs_f64() * per_s).min(*burst))
    }

    fn change(&mut self, key: Key, by: f64, now: Tick) {
        let left = (self.left(&key, now) + by).min(key.allowance().burst);
        self.buckets.insert(key, Bucket { left, at: now });
    }

    fn forget_some(&mut self, now: Tick) {
        if self.buckets.len() <= BUCKETS_MAX {
            return;
        }
        let mut missing: Vec<(f64, Key)> = self
            .buckets
            .keys()
            .map(|key| (key.allowance().burst - self.left(key, now), key.clone()))
            .collect();
        missing.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, key) in missing.into_iter().take(BUCKETS_MAX / 4) {
            self.buckets.remove(&key);
        }
    }
}

/// An IPv6 user has a /64 to choose addresses from: it counts as one.
fn keys(address: IpAddr, user: &str) -> [Key; 2] {
    let address = match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    };
    [Key::Address(address), Key::User(user.chars().take(64).collect())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn wrong_tries_run_out_and_come_back_with_time() {
        let mut attempts = Attempts::default();
        for _ in 0..10 {
            attempts.take(HOME, "admin", Tick(0)).expect("within the burst");
        }
        let wait = attempts.take(HOME, "admin", Tick(0)).expect_err("used up");
        assert!(wait <= Duration::from_secs(6), "{wait:?}");
        attempts.take(HOME, "admin", Tick(0).after(wait)).expect("waited");
    }

    #[test]
    fn many_addresses_share_one_user() {
        let mut attempts = Attempts::default();
        let from = |n: u8| IpAddr::from([10, 0, 0, n]);
        assert!((0..30).all(|n| attempts.take(from(n), "admin", Tick(0)).is_ok()));
        assert!(attempts.take(from(31), "admin", Tick(0)).is_err());
        attempts.take(from(31), "other", Tick(0)).expect("another user is free");
    }

    #[test]
    fn one_network_of_ipv6_counts_once() {
        let mut attempts = Attempts::default();
        let from = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
        for n in 0..10 {
            attempts.take(from(n), &n.to_string(), Tick(0)).expect("within the burst");
        }
        assert!(attempts.take(from(99), "x", Tick(0)).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let mut attempts = Attempts::default();
        for n in 0..40_000u32 {
            let _ = attempts.take(IpAddr::from(n.to_be_bytes()), "x", Tick(u64::from(n) * 10_000_000_000));
        }
        assert!(attempts.buckets.len() <= BUCKETS_MAX);
    }
}
