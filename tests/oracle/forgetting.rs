//! What counts as absent since nobody has seen it for long, from `docs/plugins.md`.

use std::collections::HashMap;
use std::hash::Hash;

use serde_json::Value;

const DAY_MILLIS: i64 = 86_400_000;
/// Days after which terminals, employees and the like are forgotten where the settings do not say.
const DAYS: i64 = 400;

/// When each entity was seen last.
pub(crate) struct Seen<K> {
    days: i64,
    last: HashMap<K, i64>,
}

impl<K: Hash + Eq> Seen<K> {
    pub(crate) fn with(settings: &Value) -> Self {
        Self { days: settings.get("forgetAfterDays").and_then(Value::as_i64).unwrap_or(DAYS), last: HashMap::new() }
    }

    /// True if what is known of the entity counts as absent at this clock.
    pub(crate) fn is_forgotten(&self, entity: &K, clock: i64) -> bool {
        let end_of = |last: &i64| (last.div_euclid(DAY_MILLIS) + 1 + self.days) * DAY_MILLIS;
        self.days > 0 && self.last.get(entity).is_some_and(|last| end_of(last) <= clock)
    }

    /// An event of it at this clock, or a timer that was due then.
    pub(crate) fn see(&mut self, entity: K, clock: i64) {
        let last = self.last.entry(entity).or_insert(clock);
        *last = clock.max(*last);
    }
}

/// How long a source may be silent until its duplicate window counts as absent.
pub(crate) const SOURCE_SILENT_MILLIS: i64 = 400 * DAY_MILLIS;
