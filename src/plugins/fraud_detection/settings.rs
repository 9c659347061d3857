//! Fraud rules as a manager writes them. `docs/fraud-rules.md` says exactly what each key means.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::event::{Direction, Scope, Severity};
use crate::plugins::eligibility::event_types_schema;
use crate::plugins::forgetting::FORGET_AFTER_DAYS;

/// Settings of `fraud-detection`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {
    /// The rules, applied in this order.
    #[schemars(length(max = 100))]
    pub rules: Vec<Rule>,
    /// What rules remember of a terminal is forgotten after so many days without an event of it; at least 32, 0 = never.
    #[schemars(range(min = 0, max = 36_500))]
    pub forget_terminals_after_days: u32,
    /// The same for employees.
    #[schemars(range(min = 0, max = 36_500))]
    pub forget_employees_after_days: u32,
    /// The same for customers.
    #[schemars(range(min = 0, max = 36_500))]
    pub forget_customers_after_days: u32,
    /// The same for cards.
    #[schemars(range(min = 0, max = 36_500))]
    pub forget_cards_after_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            forget_terminals_after_days: FORGET_AFTER_DAYS,
            forget_employees_after_days: FORGET_AFTER_DAYS,
            forget_customers_after_days: FORGET_AFTER_DAYS,
            forget_cards_after_days: FORGET_AFTER_DAYS,
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Names the rule in alerts; lower-case letters, digits and dashes.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub id: String,
    /// What people call it.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// How serious its alerts are.
    pub severity: Severity,
    /// Whose events are counted together.
    pub scope: Scope,
    /// Which events count.
    #[schemars(schema_with = "event_types_schema")]
    pub event_types: Vec<String>,
    /// CEL expression over `event`; must be true for an event to count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Only events of at least this amount in minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub minimum_amount: Option<i64>,
    /// Only refunds with (true) or without (false) a receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<bool>,
    /// Only discounts that a person gave (true) or that are promotions (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<bool>,
    /// Only what goes this way: `sale`, or `refund` for what is owed to the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Only while the store is open (true) or closed (false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_open: Option<bool>,
    /// An event counts only soon after one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// What is observed.
    pub aggregate: Aggregate,
    /// Length of the window in seconds of event time; 0 = each event alone.
    #[schemars(range(min = 0, max = 2_678_400))]
    pub window_seconds: i64,
    /// The rule fires when the observed value is greater; for a ratio a fraction, 0.2 is 20 %.
    #[serde(serialize_with = "shortest")]
    #[schemars(range(min = 0))]
    pub limit: f64,
    /// So many events must be in the window before the rule may fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub minimum_sample: Option<u32>,
    /// After an alert, seconds without another one for the same rule and entity; the window's length by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_678_400))]
    pub cooldown_seconds: Option<i64>,
    /// Whether it runs, and whether people hear of it.
    #[serde(default)]
    pub status: Status,
}

/// Whole numbers are written as integers, so that 5 does not come back as 5.0.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn shortest<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within the range of i64")]
        let whole = *value as i64;
        serializer.serialize_i64(whole)
    } else {
        serializer.serialize_f64(*value)
    }
}

/// Makes a rule a sequence: an event counts only soon after another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct After {
    /// One of these must have come before.
    #[schemars(schema_with = "event_types_schema")]
    pub event_types: Vec<String>,
    /// At most so many seconds before.
    #[schemars(range(min = 1, max = 86_400))]
    pub within_seconds: i64,
    /// What both must have in common besides the rule's entity.
    #[serde(default)]
    pub same: Same,
}

/// What an event and the one before it must have in common.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Same {
    /// The basket; of a refund the original basket, where it names one.
    #[default]
    Basket,
    /// The terminal.
    Terminal,
    /// The employee.
    Employee,
    /// Nothing but the rule's entity.
    Entity,
}

/// What a rule observes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Aggregate {
    /// Number of events, sum or number of different values of a field, or share of some events in all.
    pub kind: Kind,
    /// For sum and distinct: `amount`, `terminalId`, `basketId`... or `data.PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// For ratio: which events are set against the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerator: Option<Numerator>,
}

/// The kinds of aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum Kind {
    Count,
    Sum,
    Distinct,
    Ratio,
}

/// Which events are the numerator of a ratio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Numerator {
    /// Events of these types.
    EventTypes(Vec<String>),
    /// Events of this type; or, if it is no event type, those for which this CEL expression is true.
    Expression(String),
}

/// Whether a rule runs, and whether people hear of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Being written; does nothing.
    Draft,
    /// On trial: its alerts are stored, not published.
    Shadow,
    /// Its alerts are published and stored.
    #[default]
    Active,
    /// Does nothing for now.
    Paused,
}
