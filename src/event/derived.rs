//! Events that Tillstream itself makes: deterministic ids, and the structured JSON that goes onto the bus.

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Event, EventType, Scope};
use crate::time::Timestamp;

/// The id of something that follows from an event or a timer: the same cause gives the same id, whoever computes it
/// and however often.
///
/// The id is the first 16 bytes, in lower-case hexadecimal, of the SHA-256 of the parts, each preceded by its length as
/// a 32-bit big-endian integer.
#[derive(Debug, Clone, Copy)]
pub enum DerivedId<'a> {
    /// What the `index`-th effect of applying an event gives.
    Event {
        /// The cause's source and id.
        cause: (&'a str, &'a str),
        /// The plugin that decides.
        plugin: &'a str,
        /// The entity whose state it decides on.
        scope: Scope,
        /// The entity's id.
        entity: &'a str,
        /// Counts the effects of this cause on this entity, from 0.
        index: u32,
    },
    /// What the `index`-th effect of a timer gives.
    Timer {
        /// The plugin that decides.
        plugin: &'a str,
        /// The entity whose state it decides on.
        scope: Scope,
        /// The entity's id.
        entity: &'a str,
        /// When the timer was due.
        due: Timestamp,
        /// Counts the effects of this timer, from 0.
        index: u32,
    },
}

impl DerivedId<'_> {
    /// The id: 32 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        match self {
            Self::Event { cause: (source, id), plugin, scope, entity, index } => {
                hash(&["event", source, id, plugin, scope.as_str(), entity, &index.to_string()])
            }
            Self::Timer { plugin, scope, entity, due, index } => {
                hash(&["timer", plugin, scope.as_str(), entity, &due.as_millis().to_string(), &index.to_string()])
            }
        }
    }
}

/// A deterministic id of anything else that must be written once: the hash of its parts, as for derived events.
#[must_use]
pub fn stable_id(parts: &[&str]) -> String {
    hash(parts)
}

fn hash(parts: &[&str]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u32::try_from(part.len()).expect("parts are short").to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut text = String::with_capacity(32);
    for byte in &hasher.finalize()[..16] {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// An event that is about to be made, in the order of its JSON keys.
#[derive(Debug, Clone, Serialize)]
pub struct NewEvent<'a, D: Serialize> {
    specversion: &'static str,
    /// Unique within the source.
    pub id: &'a str,
    /// `/plugins/NAME`, or a terminal.
    pub source: &'a str,
    /// The type.
    #[serde(rename = "type")]
    pub type_name: &'a str,
    /// When it happened.
    pub time: Timestamp,
    /// Source of the terminal that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    /// Id of the terminal that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitionkey: Option<&'a str>,
    /// `source#id` of its cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causationid: Option<&'a str>,
    /// `source#id` of the first event of the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlationid: Option<&'a str>,
    datacontenttype: &'static str,
    /// The data.
    pub data: D,
}

impl<'a, D: Serialize> NewEvent<'a, D> {
    /// An event with the required attributes; the others can be set on it.
    #[must_use]
    pub const fn new(id: &'a str, source: &'a str, kind: EventType, time: Timestamp, data: D) -> Self {
        Self {
            specversion: "1.0",
            id,
            source,
            type_name: kind.as_str(),
            time,
            subject: None,
            partitionkey: None,
            causationid: None,
            correlationid: None,
            datacontenttype: "application/json",
            data,
        }
    }

    /// The structured JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("event data is made of strings, numbers and lists"))
    }

    /// The structured JSON, parsed back: what a reader of the bus will see.
    #[must_use]
    pub fn to_event(&self) -> Event {
        Event::parse(&self.to_bytes()).expect("what Tillstream makes is a valid event")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_every_part_and_on_nothing_else() {
        let base = DerivedId::Event { cause: ("/s", "1"), plugin: "p", scope: Scope::Employee, entity: "E7", index: 0 };
        assert_eq!(base.to_hex(), base.to_hex());
        assert_eq!(base.to_hex().len(), 32);
        let shifted =
            DerivedId::Event { cause: ("/s1", ""), plugin: "p", scope: Scope::Employee, entity: "E7", index: 0 };
        let next = DerivedId::Event { cause: ("/s", "1"), plugin: "p", scope: Scope::Employee, entity: "E7", index: 1 };
        let timer =
            DerivedId::Timer { plugin: "p", scope: Scope::Employee, entity: "E7", due: Timestamp::MIN, index: 0 };
        let ids = [base.to_hex(), shifted.to_hex(), next.to_hex(), timer.to_hex()];
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    }
}
