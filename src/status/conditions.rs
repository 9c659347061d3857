//! Conditions that gave neither true nor false, by plugin: people must learn of a rule that looks at nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::plugins::expression::Failure;
use crate::time::Timestamp;

/// The name of a plugin's eligibility expression among its conditions.
pub const ELIGIBILITY_WHEN: &str = "eligibility.when";

/// A condition that gave neither true nor false for one event. It counted as false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionFailure {
    /// Which: [`ELIGIBILITY_WHEN`], or `rules.ID`.
    pub condition: String,
    /// Why.
    pub failure: Failure,
    /// `source#id` of the event.
    pub event: String,
    /// Time of the event.
    pub at: Timestamp,
}

impl ConditionFailure {
    /// The eligibility expression could not judge this event.
    #[must_use]
    pub fn of_eligibility(failure: Failure, event: &Event) -> Self {
        Self { condition: ELIGIBILITY_WHEN.to_owned(), failure, event: event.name(), at: event.time }
    }
}

/// How often one condition gave neither true nor false, and why the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConditionFigures {
    /// Events for which it cost more than its budget.
    pub over_budget: u64,
    /// Events that were too large for expressions.
    pub too_large: u64,
    /// Events for which it failed, such as by reading an absent key.
    pub failed: u64,
    /// Time of the newest such event, in milliseconds since the Unix epoch.
    pub last_at: i64,
    /// `source#id` of that event.
    pub last_event: String,
    /// Why it failed for that event.
    pub last_error: String,
}

/// The figures of a plugin's conditions, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conditions(BTreeMap<String, ConditionFigures>);

impl Conditions {
    /// Most conditions that are kept: those of all rules, and some that were renamed since.
    const MAX: usize = 200;

    /// Counts one failure.
    pub fn count(&mut self, failure: ConditionFailure) {
        let ConditionFailure { condition, failure, event, at } = failure;
        let last_error = failure.to_string();
        let mut figures =
            ConditionFigures { last_at: at.as_millis(), last_event: event, last_error, ..ConditionFigures::default() };
        match failure {
            Failure::OverBudget(_) => figures.over_budget = 1,
            Failure::EventTooLarge { .. } => figures.too_large = 1,
            Failure::Failed(_) => figures.failed = 1,
        }
        self.add_one(&condition, &figures);
    }

    /// Adds the figures of another batch or process.
    pub fn add(&mut self, other: &Self) {
        for (condition, figures) in &other.0 {
            self.add_one(condition, figures);
        }
    }

    fn add_one(&mut self, condition: &str, more: &ConditionFigures) {
        if let Some(figures) = self.0.get_mut(condition) {
            figures.over_budget += more.over_budget;
            figures.too_large += more.too_large;
            figures.failed += more.failed;
            if more.last_at >= figures.last_at {
                figures.last_at = more.last_at;
                figures.last_event.clone_from(&more.last_event);
                figures.last_error.clone_from(&more.last_error);
            }
        } else if self.0.len() < Self::MAX {
            self.0.insert(condition.to_owned(), more.clone());
        }
    }

    /// True if no condition has failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Events by the reason for which a condition gave no answer.
    #[must_use]
    pub fn by_reason(&self) -> [(&'static str, u64); 3] {
        let sum = |of: fn(&ConditionFigures) -> u64| self.0.values().map(of).sum();
        [
            ("over_budget", sum(|figures| figures.over_budget)),
            ("too_large", sum(|figures| figures.too_large)),
            ("failed", sum(|figures| figures.failed)),
        ]
    }

    /// All that failed, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ConditionFigures)> {
        self.0.iter().map(|(condition, figures)| (condition.as_str(), figures))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(condition: &str, failure: Failure, at: i64) -> ConditionFailure {
        ConditionFailure {
            condition: condition.to_owned(),
            failure,
            event: format!("#{at}"),
            at: Timestamp::from_millis(at),
        }
    }

    #[test]
    fn each_kind_counts_by_itself_and_the_newest_event_is_named() {
        let mut conditions = Conditions::default();
        conditions.count(failure("rules.a", Failure::OverBudget("too much".to_owned()), 2));
        conditions.count(failure("rules.a", Failure::EventTooLarge { bytes: 20_000 }, 1));
        let mut other = Conditions::default();
        other.count(failure("rules.a", Failure::Failed("no key".to_owned()), 3));
        other.count(failure(ELIGIBILITY_WHEN, Failure::Failed("no key".to_owned()), 3));
        conditions.add(&other);
        let all: Vec<_> = conditions.iter().collect();
        assert_eq!(all.len(), 2);
        let (name, figures) = all[1];
        assert_eq!((name, figures.over_budget, figures.too_large, figures.failed), ("rules.a", 1, 1, 1));
        assert_eq!((figures.last_event.as_str(), figures.last_error.as_str()), ("#3", "no key"));
    }

    #[test]
    fn names_of_conditions_cannot_fill_the_memory() {
        let mut conditions = Conditions::default();
        for number in 0..1000 {
            conditions.count(failure(&format!("rules.{number}"), Failure::Failed(String::new()), 1));
        }
        assert_eq!(conditions.iter().count(), Conditions::MAX);
    }
}
