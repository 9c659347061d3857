//! What instants a business day stands for where records carry a time only.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::AppState;
use super::params::When;
use crate::stores::{Stores, parse_minute};
use crate::time::Timestamp;

/// The beginnings of a business day: stores in other time zones, or with other hours, begin it at other instants.
fn begins(stores: &Stores, day: Date) -> Vec<Timestamp> {
    let begin = |zone: &TimeZone, start: Time| {
        let instant = zone.to_timestamp(day.to_datetime(start)).ok()?;
        Some(Timestamp::from_millis(instant.as_millisecond()))
    };
    let of_stores = stores.iter().filter_map(|(_, store)| {
        let zone = TimeZone::get(&store.time_zone).ok()?;
        begin(&zone, parse_minute(&store.business_day_start).unwrap_or_default())
    });
    let mut begins: Vec<_> = of_stores.collect();
    if begins.is_empty() {
        begins.extend(begin(&TimeZone::UTC, Time::midnight()));
    }
    begins
}

impl AppState {
    /// For `from`: the instant itself, or the first at which the day begins in any store.
    pub(super) fn begin_of(&self, when: When) -> Timestamp {
        match when {
            When::At(time) => time,
            When::Day(day) => begins(self.control.snapshot().stores(), day).into_iter().min().unwrap_or(Timestamp::MIN),
        }
    }

    /// For `to`: the instant itself, or the last at which the day begins in any store.
    pub(super) fn end_before(&self, when: When) -> Timestamp {
        match when {
            When::At(time) => time,
            When::Day(day) => begins(self.control.snapshot().stores(), day).into_iter().max().unwrap_or(Timestamp::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_when_the_store_says() {
        let store =
            serde_json::json!({"S1": {"name": "Mitte", "timeZone": "Europe/Berlin", "businessDayStart": "04:00"}});
        let stores = Stores::new(serde_json::from_value(store).unwrap()).unwrap();
        let day = jiff::civil::date(2026, 1, 5);
        assert_eq!(begins(&stores, day), [Timestamp::parse("2026-01-05T03:00:00Z").unwrap()]);
        assert_eq!(begins(&Stores::default(), day), [Timestamp::parse("2026-01-05T00:00:00Z").unwrap()]);
    }
}
