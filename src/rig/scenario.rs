//! What is simulated: how many of everything, when, how fast, and with which faults.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::random::parts_in_million;
use crate::time::Timestamp;

/// Events per second of one busy till at its natural pace; `--rate` beyond it makes simulated time run faster.
const NATURAL_RATE: f64 = 0.12;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After this many sessions (login to logout at one till) have begun and ended.
    Sessions(u64),
    /// After this many distinct valid events.
    Events(u64),
    /// Once events would be this many milliseconds or more after the start.
    DurationMs(i64),
    /// Never.
    Endless,
}

/// How event times come about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Tills take the time that people take; events have those times.
    Simulated,
    /// Event i has the time start + i / rate, whatever people would take.
    EventsPerSecond(f64),
}

/// The scenario. The same options give the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Stores, `S001` and on.
    pub stores: u32,
    /// Terminals of each store; ids are counted over all stores.
    pub terminals: u32,
    /// Employees of all stores together; at least one works in each store.
    pub employees: u32,
    /// Customers of all stores together.
    pub customers: u32,
    /// When to stop.
    pub limit: Limit,
    /// How event times come about.
    pub pace: Pace,
    /// The seed.
    pub seed: u64,
    /// Time of the first event, at the earliest.
    pub start: Timestamp,
    /// Stores never close, and the first tills begin at once; there are no sales out of hours then.
    pub always_open: bool,
    /// Fraction of baskets that are an anomaly.
    pub anomalies: f64,
    /// Fraction of events that are sent again.
    pub duplicates: f64,
    /// Fraction of events that are sent much later than they happened.
    pub late: f64,
    /// Fraction of events that change places with the next few of their till.
    pub out_of_order: f64,
    /// Fraction of events of which a corrupt copy is sent as well.
    pub corrupt: f64,
}

impl Options {
    /// 07:00 on a Monday in Berlin.
    pub const DEFAULT_START: Timestamp = Timestamp::from_millis(1_767_592_800_000);

    /// Two employees for each terminal, so that every till is manned in both shifts.
    #[must_use]
    pub const fn default_employees(stores: u32, terminals: u32) -> u32 {
        stores.saturating_mul(terminals).saturating_mul(2)
    }

    /// All terminals of all stores.
    #[must_use]
    pub const fn terminals_total(&self) -> u32 {
        self.stores.saturating_mul(self.terminals)
    }

    /// How many times faster than people the simulation runs, at least 1.
    pub(super) fn speed(&self) -> i64 {
        match self.pace {
            Pace::Simulated => 1,
            Pace::EventsPerSecond(rate) => {
                #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
                let speed = (rate / (f64::from(self.terminals_total()) * NATURAL_RATE)).clamp(1.0, 10_000.0) as i64;
                speed
            }
        }
    }

    pub(super) fn anomaly_parts(&self) -> u32 {
        parts_in_million(self.anomalies)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stores: 2,
            terminals: 5,
            employees: Self::default_employees(2, 5),
            customers: 2000,
            limit: Limit::Events(10_000),
            pace: Pace::Simulated,
            seed: 1,
            start: Self::DEFAULT_START,
            always_open: false,
            anomalies: 0.0,
            duplicates: 0.0,
            late: 0.0,
            out_of_order: 0.0,
            corrupt: 0.0,
        }
    }
}

/// The calendar of the shops: all are in the time zone of Berlin, open 07:00 to 21:00 every day.
#[derive(Debug)]
pub(super) struct Calendar {
    zone: TimeZone,
    first_day: Date,
    start: i64,
    always_open: bool,
}

/// Milliseconds of one hour.
pub(super) const HOUR: i64 = 3_600_000;
/// Time that is kept free at the end of a stint for the last basket.
pub(super) const LAST_BASKET: i64 = 5 * MINUTE;
/// Milliseconds of one minute.
pub(super) const MINUTE: i64 = 60_000;

impl Calendar {
    pub(super) fn new(options: &Options) -> Self {
        // Without a time zone database the shops lie in UTC; nothing else changes.
        let zone = TimeZone::get("Europe/Berlin").unwrap_or(TimeZone::UTC);
        let first_day = zone.to_datetime(options.start.to_jiff()).date();
        Self { zone, first_day, start: options.start.as_millis(), always_open: options.always_open }
    }

    /// First millisecond and length of each shift of a day; day 0 is the day of the start.
    pub(super) fn shifts(&self, day: i64) -> Vec<(i64, i64)> {
        if self.always_open {
            let first = self.start + day * 24 * HOUR;
            return (0..3).map(|shift| (first + shift * 8 * HOUR, 8 * HOUR)).collect();
        }
        let open = self.local(day, 7);
        (0..2).map(|shift| (open + shift * 7 * HOUR, 7 * HOUR)).collect()
    }

    /// When the stores close on a day.
    pub(super) fn closing(&self, day: i64) -> i64 {
        self.local(day, 21)
    }

    /// When a day begins.
    pub(super) fn midnight(&self, day: i64) -> i64 {
        self.local(day, 0)
    }

    fn local(&self, day: i64, hour: i8) -> i64 {
        let date = jiff::Span::new().try_days(day).and_then(|days| self.first_day.checked_add(days));
        let date = date.unwrap_or(Date::MAX);
        let time = Time::new(hour, 0, 0, 0).unwrap_or(Time::midnight());
        self.zone
            .to_ambiguous_timestamp(date.to_datetime(time))
            .compatible()
            .map_or(i64::MAX / 2, jiff::Timestamp::as_millisecond)
    }

    /// The local date of a time, with the first and the first no longer contained millisecond of that date.
    pub(super) fn date_of(&self, at: i64) -> (Date, i64, i64) {
        let date = self.zone.to_datetime(Timestamp::from_millis(at).to_jiff()).date();
        let midnight = |date: Date, otherwise: i64| {
            self.zone
                .to_ambiguous_timestamp(date.to_datetime(Time::midnight()))
                .compatible()
                .map_or(otherwise, jiff::Timestamp::as_millisecond)
        };
        let next = date.tomorrow().map_or(at + 1, |next| midnight(next, at + 1));
        (date, midnight(date, at), next)
    }

    /// How long a till waits for its next customer on average at a time: noon and early evening are busy.
    pub(super) fn mean_gap(&self, at: i64, day_start: i64) -> i64 {
        const SECONDS: [i64; 24] =
            [60, 60, 60, 60, 60, 60, 60, 70, 55, 60, 55, 40, 26, 30, 48, 48, 36, 25, 24, 33, 60, 60, 60, 60];
        if self.always_open {
            return 30_000;
        }
        let hour = usize::try_from((at - day_start).max(0) / HOUR).unwrap_or(0).min(23);
        SECONDS[hour] * 1000
    }
}
