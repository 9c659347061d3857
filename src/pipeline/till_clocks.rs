//! Which tills have a clock that is wrong, so that a person hears of it. Decides nothing: what a till's time counts for is
//! bounded where it is used.

use compact_str::CompactString;
use rustc_hash::FxHashMap;

use crate::event::Event;
use crate::time::Timestamp;

/// A till is shown if its event is this much later than the bus received it.
const AHEAD_SHOWN_MS: i64 = 60_000;
/// A till is shown if its event is this much older than the clock of its partition: its clock is wrong, or it was offline.
const BEHIND_SHOWN_MS: i64 = 300_000;
/// Tills of one partition that are followed.
const TILLS_MAX: usize = 100;

/// By source: by how many milliseconds a till's clock is ahead, or, below 0, behind. `None`: it is right again.
pub type Drifts = FxHashMap<CompactString, Option<i64>>;

/// The tills of one partition whose clocks are wrong.
#[derive(Debug, Default)]
pub(super) struct TillClocks {
    wrong: FxHashMap<CompactString, i64>,
    changed: Drifts,
}

impl TillClocks {
    /// Looks at an event, before it moves the clock.
    pub(super) fn look(&mut self, event: &Event, clock: Timestamp, received: Timestamp) {
        let (ahead, behind) = (event.time.millis_since(received), clock.millis_since(event.time));
        let drift = if ahead > AHEAD_SHOWN_MS {
            ahead
        } else if behind > BEHIND_SHOWN_MS {
            -behind
        } else {
            if !self.wrong.is_empty() && self.wrong.remove(event.source.as_str()).is_some() {
                self.changed.insert(CompactString::new(event.source.as_str()), None);
            }
            return;
        };
        let source = CompactString::new(event.source.as_str());
        if self.wrong.len() < TILLS_MAX || self.wrong.contains_key(&source) {
            self.wrong.insert(source.clone(), drift);
            self.changed.insert(source, Some(drift));
        }
    }

    /// What has changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> Drifts {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::EventType;
    use crate::plugins::testing::{at, event};

    #[test]
    fn a_till_is_told_of_while_its_clock_is_wrong_and_once_it_is_right_again() {
        let mut clocks = TillClocks::default();
        let mut look = |time: Timestamp| {
            let seen = event("S001/T1", EventType::DrawerOpened, time, &json!({"employeeId": "E1"}));
            clocks.look(&seen, at("09:00:00"), at("09:00:00"));
            clocks.take_changed().into_values().collect::<Vec<_>>()
        };
        assert_eq!(look(at("09:00:30")), []);
        assert_eq!(look(at("09:02:00")), [Some(120_000)]);
        assert_eq!(look(at("08:00:00")), [Some(-3_600_000)]);
        assert_eq!(look(at("08:59:00")), [None]);
        assert_eq!(look(at("08:59:00")), []);
    }
}
