//! A circuit breaker for one host: when it keeps failing, calls are not even tried for a while.
//!
//! Closed: every call goes through; [`FAILURES_TO_OPEN`] failures in a row open it. Open: none goes through, first for
//! [`OPEN_FIRST`], after each failed probe for twice as long, up to [`OPEN_LONGEST`]. Half-open: one call goes through as a
//! probe; its success closes the breaker, its failure opens it again. A failure is a time-out, no connection or a status of
//! 500 and above; any other answer shows that the host lives.
//!
//! Calls run next to each other, and those that began together time out together. So a failure counts only if the host has
//! answered nobody since that call began: of a crowd in which some hang, the others show that the host lives.

use std::time::{Duration, Instant};

/// Failures in a row that open a closed breaker.
pub const FAILURES_TO_OPEN: u32 = 10;
/// How long it stays open the first time.
pub const OPEN_FIRST: Duration = Duration::from_secs(2);
/// How long it stays open at most.
pub const OPEN_LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32, answered_at: Option<Instant> },
    Open { until: Instant, pause: Duration },
    HalfOpen { pause: Duration, since: Instant, probe_until: Instant },
}

/// A breaker; time is given from outside.
#[derive(Debug)]
pub struct Breaker {
    state: State,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0, answered_at: None } }
    }
}

impl Breaker {
    /// True if a call may be made now; its outcome must be reported with [`Breaker::succeeded`] or [`Breaker::failed`]. A
    /// probe that is not heard of within `timeout` is given up, and another one let through.
    pub fn admits(&mut self, now: Instant, timeout: Duration) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until, pause } | State::HalfOpen { probe_until: until, pause, .. } => {
                let admitted = now >= until;
                if admitted {
                    self.state = State::HalfOpen { pause, since: now, probe_until: now + timeout };
                }
                admitted
            }
        }
    }

    /// When the next call may be made: `None` if any may, otherwise the moment from which one may as a probe.
    #[must_use]
    pub const fn probes_at(&self) -> Option<Instant> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until, .. } | State::HalfOpen { probe_until: until, .. } => Some(until),
        }
    }

    /// The host answered.
    pub const fn succeeded(&mut self, now: Instant) {
        self.state = State::Closed { failures: 0, answered_at: Some(now) };
    }

    /// The host did not answer a call that began then, or not as a working host would. True if that opened the breaker.
    pub fn failed(&mut self, began: Instant, now: Instant) -> bool {
        let pause = match self.state {
            State::Closed { answered_at: Some(answered_at), .. } if began < answered_at => return false,
            State::Closed { failures, answered_at } if failures + 1 < FAILURES_TO_OPEN => {
                self.state = State::Closed { failures: failures + 1, answered_at };
                return false;
            }
            State::Closed { .. } => OPEN_FIRST,
            State::HalfOpen { pause, since, .. } if began >= since => (pause * 2).min(OPEN_LONGEST),
            // A call that began before it opened, or before the probe.
            State::HalfOpen { .. } | State::Open { .. } => return false,
        };
        self.state = State::Open { until: now + pause, pause };
        true
    }

    /// `closed`, `open` or `half_open`.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self.state {
            State::Closed { .. } => "closed",
            State::Open { .. } => "open",
            State::HalfOpen { .. } => "half_open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for failure in 1..=FAILURES_TO_OPEN {
            assert!(breaker.admits(now, TIMEOUT));
            assert_eq!(breaker.failed(now, now), failure == FAILURES_TO_OPEN);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_TO_OPEN {
            breaker.failed(now, now);
        }
        breaker.succeeded(now);
        breaker.failed(now, now);
        assert!(breaker.admits(now, TIMEOUT));
        assert!(!opened(now).admits(now, TIMEOUT));
    }

    #[test]
    fn one_probe_decides_whether_it_closes() {
        let start = Instant::now();
        let mut breaker = opened(start);
        let probing = start + OPEN_FIRST;
        assert_eq!(breaker.probes_at(), Some(probing));
        assert!(breaker.admits(probing, TIMEOUT));
        assert!(!breaker.admits(probing, TIMEOUT), "one probe at a time");
        assert!(!breaker.failed(start, probing), "it began before the probe");
        assert!(breaker.failed(probing, probing));
        assert!(!breaker.admits(probing + OPEN_FIRST, TIMEOUT), "open for longer now");
        let again = probing + OPEN_FIRST * 2;
        assert!(breaker.admits(again, TIMEOUT));
        assert!(breaker.admits(again + TIMEOUT, TIMEOUT), "a probe that was never heard of blocks nothing");
        breaker.succeeded(again);
        assert!(breaker.admits(again, TIMEOUT) && breaker.admits(again, TIMEOUT));
    }

    #[test]
    fn of_a_crowd_that_began_together_those_that_hang_do_not_open_it_while_others_are_answered() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        breaker.succeeded(start + TIMEOUT / 100);
        let gave_up = start + TIMEOUT;
        assert!((0..100).all(|_| !breaker.failed(start, gave_up)), "the host answered after they began");
        assert!(breaker.admits(gave_up, TIMEOUT));
        let later = gave_up + TIMEOUT;
        let opened = (1..=FAILURES_TO_OPEN).filter(|_| breaker.failed(gave_up, later)).count();
        assert_eq!((opened, breaker.state()), (1, "open"), "since these began, nobody was answered");
    }
}
