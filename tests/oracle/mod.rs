//! A plain sequential oracle: what the whole system must produce from a stream of messages.
//!
//! It is written from the documents and shares no code with the system: no actors, no batches, no store, no bus. The
//! whole log is in memory, and every decision is made by looking at all of it in the one order that counts.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod age;
pub(crate) mod case;
pub(crate) mod event;
pub(crate) mod forgetting;
pub(crate) mod fraud;
pub(crate) mod log;
pub(crate) mod recommend;
pub(crate) mod stores;
pub(crate) mod time_sheets;
pub(crate) mod windows;

use serde_json::Value;

use age::AgeChecks;
use fraud::Alert;
use log::Log;
use recommend::Recommendations;
use stores::Stores;
use time_sheets::TimeSheets;

/// Everything that the system must have produced once it has caught up.
pub(crate) struct Expected {
    pub(crate) log: Log,
    pub(crate) time_sheets: TimeSheets,
    /// Of the fraud rules and of unchecked ages.
    pub(crate) alerts: Vec<Alert>,
    /// The same as they were published.
    pub(crate) published_alerts: Vec<Alert>,
    pub(crate) recommendations: Recommendations,
    pub(crate) age_checks: AgeChecks,
}

impl Expected {
    /// What these messages, in the order in which they reach the bus, must lead to under these defaults (the content of
    /// `plugins.yaml` as JSON).
    pub(crate) fn of<'a>(messages: impl IntoIterator<Item = &'a [u8]>, partitions: u32, defaults: &Value) -> Self {
        Self::of_log(Log::read(messages, partitions), defaults)
    }

    /// The same for messages that have been sorted out already.
    pub(crate) fn of_log(log: Log, defaults: &Value) -> Self {
        let stores = Stores::new(defaults["stores"].clone());
        let settings = |name: &str| {
            let plugin = &defaults["plugins"][name];
            assert_eq!(plugin["active"], true, "the oracle knows only plugins that are on: {name}");
            assert!(plugin.get("eligibility").is_none(), "the oracle knows only the default eligibility: {name}");
            &plugin["settings"]
        };
        let time_sheets = time_sheets::time_sheets(&log, settings("employee-time-tracker"), &stores);
        let mut alerts = fraud::alerts(&log, settings("fraud-detection"), &stores);
        let recommendations = recommend::recommendations(&log, settings("purchase-recommender"));
        let mut age_checks = age::age_checks(&log, settings("age-verification"), &stores);
        let mut published_alerts: Vec<_> = alerts.iter().map(Alert::as_published).collect();
        alerts.append(&mut age_checks.alerts);
        published_alerts.append(&mut age_checks.published);
        Self { log, time_sheets, alerts, published_alerts, recommendations, age_checks }
    }

    /// Basket, customer and error of every look-up, if all of them fail with `error`.
    pub(crate) fn failed_lookups(&self, error: &str) -> Vec<(String, String, String)> {
        let identified = self.log.events.iter().filter(|event| event.is("pos.customer.identified") && !event.training);
        identified
            .map(|event| {
                (event.required("basketId").to_owned(), event.required("customerId").to_owned(), error.to_owned())
            })
            .collect()
    }
}
