//! Plugins: pure decisions, (state, settings, event) -> effects.
//!
//! A plugin has no clock, no randomness, no I/O and no async inside: time comes from the event or the timer. That one
//! rule buys tests without mocks, replay and backtests. One file per plugin holds its settings, logic and tests;
//! [`visit_all`] is the flat registry.

pub mod age_verification;
pub mod customer_lookup;
pub mod defaults;
pub mod eligibility;
pub mod employee_time_tracker;
pub mod expression;
pub mod forgetting;
pub mod fraud_detection;
pub mod manifest;
pub mod order_delivery;
pub mod purchase_recommender;
#[cfg(test)]
pub(crate) mod testing;
pub mod validate;

use std::fmt::Display;
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::stores::FieldError;

use self::eligibility::Eligibility;
use crate::effect::Effects;
use crate::event::{Event, EventType, Reply, Scope};

/// Adds an error for `field` unless its value is within the range.
pub(crate) fn check_range<T: PartialOrd + Display + Copy>(
    errors: &mut Vec<FieldError>,
    field: impl Into<String>,
    value: T,
    range: RangeInclusive<T>,
) {
    if !range.contains(&value) {
        let message = format!("is {value}; must be {} to {}", range.start(), range.end());
        errors.push(FieldError::new(field, message));
    }
}

/// A set of event types, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventTypes(u64);

impl EventTypes {
    /// The set of these types.
    #[must_use]
    pub const fn of(types: &[EventType]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < types.len() {
            bits |= 1 << types[index] as u64;
            index += 1;
        }
        Self(bits)
    }

    /// The set with one more type.
    #[must_use]
    pub const fn with(self, event_type: EventType) -> Self {
        Self(self.0 | 1 << event_type as u64)
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if the type is in the set.
    #[must_use]
    pub const fn contains(self, event_type: EventType) -> bool {
        self.0 & (1 << event_type as u64) != 0
    }
}

/// Which events a plugin wants to see, and whose state they go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// The kind of entity that keys the state.
    pub scope: Scope,
    /// The event types.
    pub event_types: EventTypes,
}

/// A pure decision over the events of one entity.
pub trait Plugin: Send + Sync + 'static {
    /// What it remembers about one entity.
    type State: Default + Serialize + DeserializeOwned + Send + Unpin + 'static;
    /// What a manager can edit.
    type Settings: Default + JsonSchema + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Settings that have been checked and made ready for use.
    type Compiled: Send + Sync + 'static;

    /// Its name in configuration, URLs and derived events.
    const NAME: &'static str;
    /// One sentence for the manager.
    const DESCRIPTION: &'static str;

    /// Which events qualify where nobody has said so.
    #[must_use]
    fn default_eligibility() -> Eligibility {
        Eligibility::default()
    }

    /// Checks settings and makes them ready.
    ///
    /// # Errors
    /// Every field that is wrong, with paths relative to the settings (`rules[2].limit`).
    fn compile(settings: &Self::Settings) -> Result<Self::Compiled, Vec<FieldError>>;

    /// Which events it wants, by scope. At most one subscription for each scope.
    fn subscriptions(compiled: &Self::Compiled) -> Vec<Subscription>;

    /// Days without an event after which a state counts as absent; 0 = never.
    fn forget_after_days(_compiled: &Self::Compiled, _scope: Scope) -> u32 {
        forgetting::FORGET_AFTER_DAYS
    }

    /// Decides on one event.
    fn apply(state: &mut Self::State, compiled: &Self::Compiled, event: &Event, fx: &mut Effects<'_>);

    /// Decides when the entity's timer is due: `fx.now()` is when it was. The timer has been cleared.
    fn on_timer(_state: &mut Self::State, _compiled: &Self::Compiled, _fx: &mut Effects<'_>) {}

    /// Takes the answer to an HTTP effect. `event` is the internal event that carried it (its `subject` is the source of
    /// the terminal).
    fn on_reply(
        _state: &mut Self::State,
        _compiled: &Self::Compiled,
        _reply: &Reply,
        _event: &Event,
        _fx: &mut Effects<'_>,
    ) {
    }
}

/// Something that is done once for every plugin type.
pub trait PluginVisitor {
    /// Called once for each plugin, in the order of the registry.
    fn visit<P: Plugin>(&mut self);
}

/// The registry: every built-in plugin, in the order in which the admin lists them.
pub fn visit_all(visitor: &mut impl PluginVisitor) {
    visitor.visit::<employee_time_tracker::EmployeeTimeTracker>();
    visitor.visit::<purchase_recommender::PurchaseRecommender>();
    visitor.visit::<customer_lookup::CustomerLookup>();
    visitor.visit::<fraud_detection::FraudDetection>();
    visitor.visit::<age_verification::AgeVerification>();
    visitor.visit::<order_delivery::OrderDelivery>();
}

/// The known name that is most like `name`, if any is like it at all: for "did you mean".
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&name, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
