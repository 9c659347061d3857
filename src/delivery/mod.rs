//! Delivery: what has been committed goes out, to the bus and to remote systems, each once.

pub mod breaker;
mod cache;
pub mod dispatcher;
pub mod evidence;
pub mod expiry;
mod http_call;
pub mod leases;
mod notice;
pub mod orders;
mod ownership;
pub mod plugins;
pub mod relay;
mod reply;
pub mod retention;
pub mod standing;
pub mod stub;
pub mod stub_customers;
pub mod stub_orders;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;

use dispatcher::Dispatcher;
pub use notice::HttpNotice;
use relay::Relay;

use crate::bus::{BusError, TopicPartition};
use crate::status::{self, Parked};
use crate::store::StoreError;

/// What delivers in this process, for those who want to know how it fares.
#[derive(Debug, Clone, Default)]
pub struct Delivery {
    /// Present with role `relay`.
    pub relay: Option<Arc<Relay>>,
    /// Present with role `dispatcher`.
    pub dispatcher: Option<Arc<Dispatcher>>,
}

/// What stops a pass over what waits between store and bus.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A fault of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault of the bus.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// How long to wait until what other processes may have written is looked for again: often while there is work, seldom
/// while there is none.
#[derive(Debug)]
struct Patience {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Patience {
    /// Where all work comes from this process, which says so, looking is only a precaution.
    const fn alone() -> Self {
        let pause = Duration::from_millis(500);
        Self { first: pause, longest: pause, next: pause }
    }

    /// Where other processes write too.
    const fn shared() -> Self {
        let first = Duration::from_millis(20);
        Self { first, longest: Duration::from_millis(250), next: first }
    }

    /// Something was found.
    const fn reset(&mut self) {
        self.next = self.first;
    }

    /// The pause before the next look.
    fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

/// Partitions that fail while others go on: each rests before it is looked at again, longer each time.
#[derive(Debug, Default)]
struct Resting(BTreeMap<TopicPartition, (u32, Instant)>);

impl Resting {
    const REST: Backoff = Backoff { first: Duration::from_millis(200), longest: status::REST };

    fn rests(&self, place: TopicPartition) -> bool {
        self.0.get(&place).is_some_and(|(_, until)| *until > Instant::now())
    }

    /// Sets a partition aside, and names it.
    fn set_aside(&mut self, parked: &Parked, part: &'static str, place: TopicPartition, error: &PassError) {
        let (failures, until) = self.0.entry(place).or_insert((0, Instant::now()));
        *failures += 1;
        *until = Instant::now() + Self::REST.limit(*failures);
        parked.park(part, &place.to_string(), &error.to_string());
    }

    /// It goes on.
    fn goes_on(&mut self, parked: &Parked, part: &'static str, place: TopicPartition) {
        if self.0.remove(&place).is_some() {
            parked.unpark(part, &place.to_string());
        }
    }
}

/// A pause that doubles with each failure up to a limit, of which a random part is waited ("full jitter"), so that many
/// callers that failed together do not come back together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    /// Upper limit of the first pause.
    pub(crate) first: Duration,
    /// Upper limit of every pause.
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The upper limit of the pause after that many failures (from 1).
    pub(crate) fn limit(self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(31));
        self.first.saturating_mul(doubled).min(self.longest)
    }

    /// A pause after that many failures.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        self.limit(failures).mul_f64(rand::rng().random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
        let limits = [1, 2, 3, 7, 40].map(|failures| backoff.limit(failures).as_millis());
        assert_eq!(limits, [100, 200, 400, 5000, 5000]);
        assert!((0..100).all(|_| backoff.pause(3) <= Duration::from_millis(400)));
    }
}
