//! The shops as `plugins.yaml` lists them: local time, opening hours, business days.

use std::collections::HashMap;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use serde_json::Value;

/// Days of the week as `plugins.yaml` names them, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The block `stores` of `plugins.yaml`. A store that it does not list is in UTC, with no hours known.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    block: Value,
    zones: HashMap<String, TimeZone>,
}

impl Stores {
    /// Takes the block as JSON.
    pub(crate) fn new(block: Value) -> Self {
        let zone = |store: &Value| TimeZone::get(store["timeZone"].as_str()?).ok();
        let stores = block.as_object().into_iter().flatten();
        let zones = stores.filter_map(|(id, store)| Some((id.clone(), zone(store)?))).collect();
        Self { block, zones }
    }

    fn text(&self, store: &str, key: &str) -> Option<&str> {
        self.block.get(store)?.get(key)?.as_str()
    }

    /// Whose law applies.
    pub(crate) fn jurisdiction(&self, store: &str) -> Option<&str> {
        self.text(store, "jurisdiction")
    }

    /// The store's wall clock.
    pub(crate) fn local(&self, store: &str, millis: i64) -> DateTime {
        let zone = self.zones.get(store).cloned().unwrap_or(TimeZone::UTC);
        zone.to_datetime(jiff::Timestamp::from_millisecond(millis).expect("a time that can be written"))
    }

    /// The date on the store's calendar.
    pub(crate) fn local_date(&self, store: &str, millis: i64) -> Date {
        self.local(store, millis).date()
    }

    /// The business day: what happens before its start belongs to the day before.
    pub(crate) fn business_day(&self, store: &str, millis: i64) -> Date {
        let local = self.local(store, millis);
        let start = time_of_day(self.text(store, "businessDayStart").unwrap_or("00:00"));
        if local.time() < start { local.date().yesterday().expect("a day before") } else { local.date() }
    }

    /// Whether the store is open; `None` where nobody knows its hours.
    pub(crate) fn is_open(&self, store: &str, millis: i64) -> Option<bool> {
        let hours = self.block.get(store)?.get("hours")?;
        let local = self.local(store, millis);
        let today = usize::try_from(local.weekday().to_monday_zero_offset()).expect("0 to 6");
        let span = |day: usize| {
            let (from, to) = hours.get(DAYS[day])?.as_str()?.split_once('-')?;
            Some((time_of_day(from), time_of_day(to)))
        };
        let since_today =
            span(today).is_some_and(|(from, to)| local.time() >= from && (to <= from || local.time() < to));
        let since_yesterday = span((today + 6) % 7).is_some_and(|(from, to)| to <= from && local.time() < to);
        Some(since_today || since_yesterday)
    }
}

/// `HH:MM`; `24:00` is midnight.
fn time_of_day(text: &str) -> Time {
    let (hour, minute) = text.trim().split_once(':').expect("HH:MM");
    let (hour, minute): (i8, i8) = (hour.parse().expect("hours"), minute.parse().expect("minutes"));
    Time::new(hour % 24, minute, 0, 0).expect("a time of day")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hours_and_business_days_follow_the_local_clock() {
        let stores = Stores::new(json!({"S001": {"timeZone": "Europe/Berlin", "businessDayStart": "04:00",
            "hours": {"mon": "07:00-21:00", "tue": "22:00-02:00"}}}));
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        assert_eq!(stores.is_open("S001", at("2026-01-05T05:59:59Z")), Some(false));
        assert_eq!(stores.is_open("S001", at("2026-01-05T06:00:00Z")), Some(true));
        assert_eq!(stores.is_open("S001", at("2026-01-07T00:59:59Z")), Some(true));
        assert_eq!(stores.is_open("S001", at("2026-01-07T01:00:00Z")), Some(false));
        assert_eq!(stores.is_open("S009", 0), None);
        assert_eq!(stores.business_day("S001", at("2026-01-07T02:59:59Z")).to_string(), "2026-01-06");
    }
}
