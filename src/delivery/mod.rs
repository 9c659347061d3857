//! Delivery: what has been committed goes out, to the bus and to remote systems, each once.

pub mod breaker;
mod cache;
pub mod dispatcher;
pub mod evidence;
mod http_call;
mod notice;
pub mod relay;
mod reply;
pub mod retention;
pub mod stub;
pub mod stub_customers;
pub mod stub_orders;

use std::time::Duration;

use rand::RngExt;

pub use notice::HttpNotice;

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
