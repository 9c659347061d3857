//! The shops: time zone, jurisdiction, business day and opening hours of each store.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::time::Timestamp;

/// A span within a day in local time, `07:00-21:00`. An end at or before the start belongs to the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaySpan {
    /// First minute.
    pub from: Time,
    /// First minute that no longer belongs to it.
    pub to: Time,
}

impl DaySpan {
    /// Reads `HH:MM-HH:MM`; `24:00` is midnight at the end of the day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        Some(Self { from: parse_minute(from.trim())?, to: parse_minute(to.trim())? })
    }
}

pub(crate) fn parse_minute(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    if hour.is_empty() || hour.len() > 2 || minute.len() != 2 {
        return None;
    }
    match (hour.parse().ok()?, minute.parse().ok()?) {
        (24, 0) => Some(Time::midnight()),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
    }
}

impl fmt::Display for DaySpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.hour(), from.minute(), to.hour(), to.minute())
    }
}

impl Serialize for DaySpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DaySpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format_args!("{text:?} is not a span such as 07:00-21:00")))
    }
}

impl JsonSchema for DaySpan {
    fn schema_name() -> Cow<'static, str> {
        "DaySpan".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^\\d{1,2}:\\d{2}\\s*-\\s*\\d{1,2}:\\d{2}$", "examples": ["07:00-21:00"]})
    }
    fn inline_schema() -> bool {
        true
    }
}

/// Opening hours of a week in local time. A day that is absent is closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the names are their meaning")]
pub struct WeeklyHours {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mon: Option<DaySpan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tue: Option<DaySpan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wed: Option<DaySpan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thu: Option<DaySpan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fri: Option<DaySpan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sat: Option<DaySpan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sun: Option<DaySpan>,
}

impl WeeklyHours {
    const fn on(&self, day: Weekday) -> Option<DaySpan> {
        match day {
            Weekday::Monday => self.mon,
            Weekday::Tuesday => self.tue,
            Weekday::Wednesday => self.wed,
            Weekday::Thursday => self.thu,
            Weekday::Friday => self.fri,
            Weekday::Saturday => self.sat,
            Weekday::Sunday => self.sun,
        }
    }

    /// True if the local date and time lie within the hours, those of the evening before included.
    #[must_use]
    pub fn contains(&self, at: jiff::civil::DateTime) -> bool {
        let time = at.time();
        let today = self.on(at.weekday()).is_some_and(|span| {
            if span.to <= span.from { time >= span.from } else { time >= span.from && time < span.to }
        });
        let from_yesterday =
            self.on(at.weekday().previous()).is_some_and(|span| span.to <= span.from && time < span.to);
        today || from_yesterday
    }
}

/// One shop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Store {
    /// What people call it.
    #[serde(default)]
    pub name: String,
    /// IANA time zone such as `Europe/Berlin`.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Whose law applies to age checks, such as `DE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<String>,
    /// Local time at which a new business day begins, `HH:MM`.
    #[serde(default = "midnight")]
    pub business_day_start: String,
    /// Opening hours; without them nobody knows when the store is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<WeeklyHours>,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn midnight() -> String {
    "00:00".to_owned()
}

#[derive(Debug, Clone)]
struct Compiled {
    store: Store,
    zone: TimeZone,
    business_day_start: Time,
}

/// All shops by id. A store that is not listed counts as one in UTC whose business day begins at midnight.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    by_id: BTreeMap<String, Compiled>,
}

/// A field that is wrong, with its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Path such as `settings.rules[2].limit`.
    pub field: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl FieldError {
    /// An error at `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl Stores {
    /// Checks and compiles a list of shops.
    ///
    /// # Errors
    /// Every unknown time zone and every malformed time of day.
    pub fn new(stores: BTreeMap<String, Store>) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut by_id = BTreeMap::new();
        for (id, store) in stores {
            let zone = TimeZone::get(&store.time_zone).unwrap_or_else(|_| {
                let message = format!("{:?} is not an IANA time zone such as Europe/Berlin", store.time_zone);
                errors.push(FieldError::new(format!("stores.{id}.timeZone"), message));
                TimeZone::UTC
            });
            let business_day_start = parse_minute(&store.business_day_start).unwrap_or_else(|| {
                let message = format!("{:?} is not a time of day such as 04:00", store.business_day_start);
                errors.push(FieldError::new(format!("stores.{id}.businessDayStart"), message));
                Time::midnight()
            });
            by_id.insert(id, Compiled { store, zone, business_day_start });
        }
        if errors.is_empty() { Ok(Self { by_id }) } else { Err(errors) }
    }

    /// The store of that id, if it is listed.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Store> {
        self.by_id.get(id).map(|compiled| &compiled.store)
    }

    /// All listed stores by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Store)> {
        self.by_id.iter().map(|(id, compiled)| (id.as_str(), &compiled.store))
    }

    /// The store's local date and time.
    #[must_use]
    pub fn local(&self, store_id: &str, at: Timestamp) -> jiff::civil::DateTime {
        match self.by_id.get(store_id) {
            Some(compiled) => compiled.zone.to_datetime(at.to_jiff()),
            None => TimeZone::UTC.to_datetime(at.to_jiff()),
        }
    }

    /// The store's business day at that time.
    #[must_use]
    pub fn business_day(&self, store_id: &str, at: Timestamp) -> Date {
        let local = self.local(store_id, at);
        match self.by_id.get(store_id) {
            Some(compiled) if local.time() < compiled.business_day_start => {
                local.date().yesterday().unwrap_or(Date::MIN)
            }
            _ => local.date(),
        }
    }

    /// True if the store is open at that time; `None` if its hours are not known.
    #[must_use]
    pub fn is_open(&self, store_id: &str, at: Timestamp) -> Option<bool> {
        let hours = self.by_id.get(store_id)?.store.hours.as_ref()?;
        Some(hours.contains(self.local(store_id, at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores() -> Stores {
        let store = serde_json::json!({"S001": {"name": "Mitte", "timeZone": "Europe/Berlin", "businessDayStart": "04:00",
            "hours": {"mon": "07:00-21:00", "sat": "18:00-02:00"}}});
        Stores::new(serde_json::from_value(store).unwrap()).unwrap()
    }

    #[test]
    fn hours_follow_the_local_clock_and_reach_past_midnight() {
        let open = |text: &str| stores().is_open("S001", Timestamp::parse(text).unwrap());
        assert_eq!(open("2026-01-05T05:59:00Z"), Some(false));
        assert_eq!(open("2026-01-05T06:00:00Z"), Some(true));
        assert_eq!(open("2026-01-11T00:30:00Z"), Some(true));
        assert_eq!(open("2026-01-11T01:30:00Z"), Some(false));
        assert_eq!(stores().is_open("S999", Timestamp::MIN), None);
    }

    #[test]
    fn the_business_day_begins_when_the_store_says() {
        let day = |text: &str| stores().business_day("S001", Timestamp::parse(text).unwrap()).to_string();
        assert_eq!(day("2026-01-06T02:59:00Z"), "2026-01-05");
        assert_eq!(day("2026-01-06T03:00:00Z"), "2026-01-06");
    }
}
