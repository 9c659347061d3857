//! Eligibility: which events qualify for a plugin. Every plugin has the same block; cheap filters first, CEL last.
use crate::event::Event;
use crate::plugins::FieldError;
use crate::stores::{Stores, WeeklyHours};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which events qualify. Empty lists mean all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Eligibility {
    /// Only these event types.
    pub event_types: Vec<String>,
    /// Only these stores.
    pub stores: Vec<String>,
    /// Only these terminals.
    pub terminals: Vec<String>,
    /// Only these employees.
    pub employees: Vec<String>,
    /// Only items of these categories; events without a category are not affected.
    pub categories: Vec<String>,
    /// Only events of at least this amount in minor units; events without an amount are not affected.
    pub minimum_amount: Option<i64>,
    /// True: training events qualify as well.
    pub training: bool,
    /// Only within these hours of the store's local time.
    pub hours: Option<WeeklyHours>,
    /// CEL expression over `event`; must be true.
    pub when: Option<String>,
}

/// A checked [`Eligibility`].
#[derive(Debug)]
pub struct CompiledEligibility {
    _block: Eligibility,
}

impl CompiledEligibility {
    /// Checks a block.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn compile(block: &Eligibility) -> Result<Self, Vec<FieldError>> {
        Ok(Self { _block: block.clone() })
    }

    /// True if the event qualifies; an error of the CEL expression counts as no, and is told.
    ///
    /// # Errors
    /// The text of the CEL error.
    pub fn qualifies(&self, event: &Event, _stores: &Stores) -> Result<bool, String> {
        Ok(!event.training)
    }
}
