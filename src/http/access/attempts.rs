//! How many wrong tokens one address may try: a bucket for each, refilled over time, in a table of bounded size.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are remembered. The one that failed longest ago is forgotten for another one.
const ADDRESSES_MAX: usize = 4096;
const REFILLED_IN: Duration = Duration::from_mins(1);

/// What counts as one address: of IPv6 the 64 bits that a site gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => Self(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64))),
        }
    }

    /// Where the caller's address is not known.
    pub(super) const UNKNOWN: Self = Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

#[derive(Debug)]
struct Bucket {
    /// Attempts that are left.
    left: f64,
    at: Instant,
}

/// The attempts of all addresses.
#[derive(Debug)]
pub(super) struct Attempts {
    per_minute: f64,
    buckets: Mutex<HashMap<Network, Bucket>>,
}

impl Attempts {
    pub(super) fn new(per_minute: u32) -> Self {
        Self { per_minute: f64::from(per_minute), buckets: Mutex::default() }
    }

    /// Takes one attempt, or says how long to wait for the next one.
    pub(super) fn take(&self, network: Network, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&network) {
            let stalest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(network, _)| *network);
            stalest.and_then(|network| buckets.remove(&network));
        }
        let bucket = buckets.entry(network).or_insert(Bucket { left: self.per_minute, at: now });
        let refilled = now.saturating_duration_since(bucket.at).as_secs_f64() / REFILLED_IN.as_secs_f64();
        bucket.left = (bucket.left + refilled * self.per_minute).min(self.per_minute);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        Err(REFILLED_IN.mul_f64((1.0 - bucket.left) / self.per_minute))
    }

    /// Gives an attempt back: the token was right.
    pub(super) fn give_back(&self, network: Network) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(&network) {
            bucket.left = (bucket.left + 1.0).min(self.per_minute);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    #[test]
    fn an_address_runs_out_of_attempts_and_gets_them_back_over_time_while_others_have_theirs() {
        let (attempts, now) = (Attempts::new(3), Instant::now());
        let (one, other) = (network("192.0.2.1"), network("192.0.2.2"));
        assert!((0..3).all(|_| attempts.take(one, now).is_ok()));
        assert_eq!(attempts.take(one, now), Err(Duration::from_secs(20)));
        assert_eq!(attempts.take(other, now), Ok(()));
        assert_eq!(attempts.take(one, now + Duration::from_secs(21)), Ok(()));
        assert!(attempts.take(one, now + Duration::from_secs(21)).is_err());
        attempts.give_back(one);
        assert_eq!(attempts.take(one, now + Duration::from_secs(21)), Ok(()));
    }

    #[test]
    fn a_site_of_ipv6_is_one_address_and_a_mapped_one_is_its_ipv4() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_eq!(network("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn the_table_does_not_grow_with_the_addresses_that_try() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        for number in 0..20_000 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(number));
            assert!(attempts.take(Network::of(address), now).is_ok());
        }
        assert_eq!(attempts.buckets.lock().unwrap().len(), ADDRESSES_MAX);
    }
}
