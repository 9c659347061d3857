//! Which minimum age applies to a category in a jurisdiction on a day.

use std::collections::HashMap;

use compact_str::CompactString;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plugins::forgetting::{FORGET_AFTER_DAYS, check_days};
use crate::plugins::{FieldError, check_range};

/// Stands for every jurisdiction that has no policy of its own.
pub(super) const ANYWHERE: &str = "*";
/// Policies in the settings.
const POLICIES_MAX: usize = 2_000;
/// Longest name of a category or jurisdiction, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// What a manager can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// The minimum ages by category and jurisdiction, each from a day on.
    #[schemars(length(max = 2_000))]
    pub policies: Vec<Policy>,
    /// So long after a payment the check that preceded it may still arrive before an alert is raised; 0: it is raised at once.
    #[schemars(range(min = 0, max = 3600))]
    pub grace_seconds: u32,
    /// A terminal from which no event has come for so many days is forgotten, with the baskets that are open there. 0 = never.
    #[schemars(range(min = 0, max = 36_500))]
    pub forget_after_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { policies: Vec::new(), grace_seconds: 60, forget_after_days: FORGET_AFTER_DAYS }
    }
}

/// From a day on, a category needs a minimum age in a jurisdiction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Policy {
    /// Category of the items, written as the tills write it.
    #[schemars(length(min = 1, max = 100))]
    pub category: String,
    /// Whose law it is, written as in the stores, such as `DE`; `*` for every store whose own jurisdiction has no policy.
    #[schemars(length(min = 1, max = 100))]
    pub jurisdiction: String,
    /// The customer must be at least this old; 0 lifts the check from that day on.
    #[schemars(range(min = 0, max = 99))]
    pub minimum_age: u8,
    /// Whoever looks younger than this must show an identity card. Not below the minimum age.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 99))]
    pub challenge_age: Option<u8>,
    /// The day from whose midnight on, in the store's local time, it applies, `YYYY-MM-DD`.
    #[schemars(with = "String", extend("format" = "date"))]
    pub effective_from: Date,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            category: String::new(),
            jurisdiction: ANYWHERE.to_owned(),
            minimum_age: 18,
            challenge_age: None,
            effective_from: jiff::civil::date(1970, 1, 1),
        }
    }
}

/// Checked policies, by category and with the newest first, and how long a check may be late.
#[derive(Debug)]
pub struct Policies {
    by_category: HashMap<CompactString, Vec<Policy>>,
    pub(super) grace_ms: i64,
    pub(super) forget_after_days: u32,
}

impl Policies {
    pub(super) fn compile(settings: &Settings) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        if settings.policies.len() > POLICIES_MAX {
            errors.push(FieldError::new("policies", format!("must have at most {POLICIES_MAX} entries")));
        }
        check_range(&mut errors, "graceSeconds", settings.grace_seconds, 0..=3600);
        check_days(&mut errors, "forgetAfterDays", settings.forget_after_days, 1);
        let mut by_category: HashMap<CompactString, Vec<Policy>> = HashMap::new();
        for (index, policy) in settings.policies.iter().enumerate() {
            let path = |field: &str| format!("policies[{index}].{field}");
            for (field, text) in [("category", &policy.category), ("jurisdiction", &policy.jurisdiction)] {
                if text.is_empty() || text.len() > NAME_BYTES_MAX {
                    errors.push(FieldError::new(path(field), format!("must have 1 to {NAME_BYTES_MAX} bytes")));
                }
            }
            check_range(&mut errors, path("minimumAge"), policy.minimum_age, 0..=99);
            if let Some(challenge_age) = policy.challenge_age {
                check_range(&mut errors, path("challengeAge"), challenge_age, policy.minimum_age..=99);
            }
            let of_category = by_category.entry(CompactString::new(&policy.category)).or_default();
            let same = |other: &&Policy| {
                (&other.jurisdiction, other.effective_from) == (&policy.jurisdiction, policy.effective_from)
            };
            if of_category.iter().find(same).is_some() {
                let message = "another policy of this category and jurisdiction begins on the same day; remove one";
                errors.push(FieldError::new(path("effectiveFrom"), message));
            }
            of_category.push(policy.clone());
        }
        for policies in by_category.values_mut() {
            policies.sort_by_key(|policy| std::cmp::Reverse(policy.effective_from));
        }
        let grace_ms = i64::from(settings.grace_seconds) * 1000;
        let forget_after_days = settings.forget_after_days;
        if errors.is_empty() { Ok(Self { by_category, grace_ms, forget_after_days }) } else { Err(errors) }
    }

    /// The policy that restricts a category; `day` is asked only if there is any for it.
    pub(super) fn restricting(
        &self,
        category: &str,
        jurisdiction: Option<&str>,
        day: impl FnOnce() -> Date,
    ) -> Option<&Policy> {
        let policies = self.by_category.get(category)?;
        let day = day();
        let latest = |jurisdiction: &str| {
            policies.iter().find(|policy| policy.jurisdiction == jurisdiction && policy.effective_from <= day)
        };
        jurisdiction.and_then(latest).or_else(|| latest(ANYWHERE)).filter(|policy| policy.minimum_age > 0)
    }
}
