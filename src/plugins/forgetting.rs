//! When a state that nobody has seen for long counts as absent.
//!
//! With each event, and with each timer that fires, a state is given the time at which it expires, by the settings of that moment. It
//! stands beside the state, so whether the state is there at the next event follows from the log alone, and the row of one that
//! has expired may be removed at any time.

use super::{FieldError, check_range};
use crate::time::Timestamp;

/// Days without an event after which a state counts as absent, unless the settings say otherwise.
pub const FORGET_AFTER_DAYS: u32 = 400;
/// The most days that settings may say.
pub const FORGET_AFTER_DAYS_MAX: u32 = 36_500;
const DAY_MS: i64 = 86_400_000;

/// When a state expires that has its last event at `seen`: so many days after the end of that day (UTC), so that its row changes
/// for this once a day at most. `None`: never, which is what 0 days mean.
#[must_use]
pub const fn expires(seen: Timestamp, days: u32) -> Option<Timestamp> {
    if days == 0 {
        return None;
    }
    let next_day = seen.as_millis().div_euclid(DAY_MS) + 1;
    Some(Timestamp::from_millis((next_day + days as i64) * DAY_MS))
}

/// Adds an error unless `days` is 0 or at least `minimum`.
pub(crate) fn check_days(errors: &mut Vec<FieldError>, field: &str, days: u32, minimum: u32) {
    if days != 0 {
        check_range(errors, field, days, minimum..=FORGET_AFTER_DAYS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_expires_so_many_days_after_the_end_of_its_last_day() {
        let at = |text: &str| Timestamp::parse(text).unwrap();
        for seen in ["2026-01-05T00:00:00Z", "2026-01-05T23:59:59.999Z"] {
            assert_eq!(expires(at(seen), 1), Some(at("2026-01-07T00:00:00Z")));
        }
        assert_eq!(expires(at("2026-01-05T00:00:00Z"), 0), None);
    }
}
