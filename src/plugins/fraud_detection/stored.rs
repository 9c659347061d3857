//! The stored form of what rules remember: lists without key names, and times as the distance to the one before, so that
//! a busy employee's state stays around a kilobyte.

use compact_str::CompactString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::field::FieldValue;
use super::window::{Entry, EventRef, Preceding, RuleState};

impl Serialize for EventRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.source, &self.id, self.partition, self.offset).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EventRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (source, id, partition, offset) = Deserialize::deserialize(deserializer)?;
        Ok(Self { source, id, partition, offset })
    }
}

/// Turns times into distances, and back.
#[derive(Default)]
struct Distances(i64);

impl Distances {
    const fn from(&mut self, time: i64) -> i64 {
        let distance = time - self.0;
        self.0 = time;
        distance
    }

    const fn to(&mut self, distance: i64) -> i64 {
        self.0 += distance;
        self.0
    }
}

type StoredRule = (
    u32,
    Option<i64>,
    Vec<(i64, FieldValue, EventRef, Option<EventRef>)>,
    Vec<(i64, u32)>,
    Vec<(i64, CompactString, EventRef)>,
);

impl Serialize for RuleState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut times = Distances::default();
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|entry| (times.from(entry.time), &entry.value, &entry.event, &entry.antecedent))
            .collect();
        let mut numbers = Distances::default();
        let buckets: Vec<_> = self.buckets.iter().map(|(number, count)| (numbers.from(*number), count)).collect();
        let mut times = Distances::default();
        let preceding: Vec<_> =
            self.preceding.iter().map(|before| (times.from(before.time), &before.key, &before.event)).collect();
        (self.key, self.last_alert, entries, buckets, preceding).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RuleState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (key, last_alert, entries, buckets, preceding) = StoredRule::deserialize(deserializer)?;
        let (mut times, mut numbers, mut preceding_times) =
            (Distances::default(), Distances::default(), Distances::default());
        let entries = entries.into_iter().map(|(distance, value, event, antecedent)| Entry {
            time: times.to(distance),
            value,
            event,
            antecedent,
        });
        let preceding = preceding.into_iter().map(|(distance, key, event)| Preceding {
            time: preceding_times.to(distance),
            key,
            event,
        });
        Ok(Self {
            key,
            last_alert,
            entries: entries.collect(),
            buckets: buckets.into_iter().map(|(distance, count)| (numbers.to(distance), count)).collect(),
            preceding: preceding.collect(),
        })
    }
}
