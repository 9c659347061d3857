//! For how long the outbox has been waiting, told from what was seen of it before.
//!
//! Rows carry no time, which the commits would pay for. But a row that was there when the outbox was last looked at has
//! waited since then: so the age is exact to one interval of looking, and never too high.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::store::LaneBacklog;

/// Looks that are remembered for each lane; older ones are thinned out.
const LOOKS_MAX: usize = 64;

/// What was seen of the outbox.
#[derive(Debug, Default)]
pub(super) struct OutboxAge {
    /// By lane: when it was looked at, and the last row that it had then; rising.
    looks: BTreeMap<String, VecDeque<(Instant, i64)>>,
}

impl OutboxAge {
    /// Takes note of what waits now, and says for how long, at least, the oldest of it has waited.
    pub(super) fn look(&mut self, backlog: &[LaneBacklog], now: Instant) -> Duration {
        self.looks.retain(|lane, _| backlog.iter().any(|waiting| waiting.lane == *lane));
        let ages = backlog.iter().map(|waiting| {
            let looks = self.looks.entry(waiting.lane.clone()).or_default();
            while looks.front().is_some_and(|&(_, last)| last < waiting.first) {
                looks.pop_front();
            }
            if looks.back().is_none_or(|&(_, last)| last < waiting.last) {
                if looks.len() == LOOKS_MAX {
                    // Half of them still tell the age well enough, and the oldest stays.
                    let mut index = 0;
                    looks.retain(|_| {
                        index += 1;
                        index % 2 == 1
                    });
                }
                looks.push_back((now, waiting.last));
            }
            looks.front().map_or(Duration::ZERO, |&(since, _)| now.duration_since(since))
        });
        ages.max().unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(first: i64, last: i64) -> LaneBacklog {
        LaneBacklog { lane: "pos.events/0".to_owned(), first, last, records: 1 }
    }

    #[test]
    fn what_is_still_there_has_waited_since_it_was_first_seen() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut age = OutboxAge::default();
        assert_eq!(age.look(&[lane(1, 3)], at(0)), Duration::ZERO);
        assert_eq!(age.look(&[lane(1, 9)], at(10)), Duration::from_secs(10));
        assert_eq!(age.look(&[lane(5, 12)], at(20)), Duration::from_secs(10), "rows up to 3 are gone, 5 came by 10");
        assert_eq!(age.look(&[lane(20, 21)], at(30)), Duration::ZERO, "all that was seen before is gone");
        assert_eq!(age.look(&[], at(40)), Duration::ZERO);
    }

    #[test]
    fn a_lane_that_stands_still_for_long_keeps_its_age_in_bounded_memory() {
        let start = Instant::now();
        let mut age = OutboxAge::default();
        for second in 0..10_000 {
            let seen = age.look(&[lane(1, second + 1)], start + Duration::from_secs(second.unsigned_abs()));
            assert_eq!(seen, Duration::from_secs(second.unsigned_abs()));
        }
        assert!(age.looks["pos.events/0"].len() <= LOOKS_MAX);
    }
}
