//! What goes into the store and comes out of it, free of any database.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bus::{self, Header, NewRecord, Topic, TopicPartition};
use crate::effect::{HttpEffect, Record};
use crate::event::{Scope, redact, redact_header, stable_id};
use crate::stores::FieldError;
use crate::time::Timestamp;

/// The stored place of one partition, as its owner took it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRow {
    /// Which partition.
    pub partition: TopicPartition,
    /// Fencing: raised by one each time somebody takes the partition.
    pub epoch: i64,
    /// Raised by one with each commit.
    pub version: i64,
    /// First offset that has not been applied (`pos.events.rekeyed`: not fully released).
    pub next_offset: i64,
    /// The partition's clock (`pos.events.rekeyed`: the release point).
    pub clock: Timestamp,
    /// What the owner needs besides, opaque to the store.
    pub extra: Bytes,
}

/// One partition's part of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionCommit {
    /// The new values; `epoch` and `version` are those that must still stand in the store.
    pub row: PartitionRow,
}

/// One duplicate window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRow {
    /// Partition of `pos.events`.
    pub partition: u32,
    /// The events' source.
    pub source: String,
    /// The window.
    pub window: Bytes,
    /// From when on, by the partition's clock, it counts as absent; `None`: never.
    pub expires: Option<Timestamp>,
}

/// Whose state: the key of an entity row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey {
    /// The partition whose owner holds the entity.
    pub partition: TopicPartition,
    /// The plugin's name.
    pub plugin: &'static str,
    /// The kind of entity.
    pub scope: Scope,
    /// Its id.
    pub entity: String,
}

/// One entity's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityRow {
    /// Whose.
    pub key: EntityKey,
    /// The plugin's state, serialised.
    pub state: Bytes,
    /// When its timer is due.
    pub due: Option<Timestamp>,
    /// From when on, by the partition's clock, it counts as absent unless a timer waits; `None`: never.
    pub expires: Option<Timestamp>,
}

/// What one partition's events in one batch put on the bus: sent in the order of `seq`, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// The lane, such as `pos.events/3`; sent in order of `seq`.
    pub lane: String,
    /// Position in the lane.
    pub seq: i64,
    /// What to append.
    pub records: Vec<NewRecord>,
}

/// Where a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are their meaning")]
pub enum DeadLetterStatus {
    Open,
    Replayed,
    Discarded,
}

/// Something that could not be processed or delivered, kept whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Derived from topic, partition, offset and plugin.
    pub id: String,
    /// When it was found.
    pub at: Timestamp,
    /// Where it stands.
    pub status: DeadLetterStatus,
    /// Machine-readable reason.
    pub reason: String,
    /// The field at fault.
    pub field: Option<String>,
    /// What is wrong, and what to do.
    pub message: String,
    /// The plugin that failed; absent if the message itself is invalid.
    pub plugin: Option<String>,
    /// Entity whose plugin failed, `scope:id`.
    pub entity: Option<String>,
    /// Where it was read.
    pub partition: TopicPartition,
    /// Offset there.
    pub offset: i64,
    /// The clock at which it was applied.
    pub clock: Timestamp,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's headers, with forbidden data masked. In binary mode they hold the event's attributes; empty where `bytes`
    /// is a whole event.
    pub headers: Vec<Header>,
    /// The record's value, with forbidden data masked.
    pub bytes: Bytes,
    /// Delivery attempts made.
    pub attempts: u32,
}

/// Bytes of a dead letter that are kept.
const DEAD_LETTER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of its headers that are kept.
const DEAD_LETTER_HEADERS_MAX: usize = 256 * 1024;

fn kept_headers(headers: &[Header]) -> Vec<Header> {
    let mut bytes = 0;
    let fits = headers.iter().take_while(|(name, value)| {
        bytes += name.len() + value.len();
        bytes <= DEAD_LETTER_HEADERS_MAX
    });
    fits.map(|(name, value)| (name.clone(), Bytes::from(redact_header(name, value)))).collect()
}

/// True for what describes the event; other headers could be taken for what the copy of a dead letter says of itself.
fn is_of_cloudevents(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    header.starts_with("ce_") || header.starts_with("ce-") || header == "content-type"
}

impl DeadLetter {
    /// A record that could not be processed, before any plugin had it. What is wrong with it is told by a reason, the field
    /// at fault, and a message.
    #[must_use]
    pub fn of_record(
        place: TopicPartition,
        record: &bus::Record,
        clock: Timestamp,
        (reason, field, message): (&str, Option<String>, String),
    ) -> Self {
        // Masked before it is cut: half a card number would no longer look like one.
        let mut bytes = redact(&record.value);
        bytes.truncate(DEAD_LETTER_BYTES_MAX);
        Self {
            id: stable_id(&["dead_letter", &place.to_string(), &record.offset.to_string(), "", ""]),
            at: record.timestamp,
            status: DeadLetterStatus::Open,
            reason: reason.to_owned(),
            field,
            message,
            plugin: None,
            entity: None,
            partition: place,
            offset: record.offset,
            clock,
            key: record.key.clone(),
            headers: kept_headers(&record.headers),
            bytes: Bytes::from(bytes),
            attempts: 1,
        }
    }

    /// The copy for other consumers, on `pos.deadletters`: with the attributes of a message in binary mode, too.
    #[must_use]
    pub fn copy(&self) -> NewRecord {
        let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
        let mut headers = vec![
            header("reason", self.reason.clone()),
            header("topic", self.partition.topic.name().to_owned()),
            header("partition", self.partition.partition.to_string()),
            header("offset", self.offset.to_string()),
            header("id", self.id.clone()),
            header("message", self.message.clone()),
        ];
        headers.extend(self.field.iter().map(|field| header("field", field.clone())));
        headers.extend(self.plugin.iter().map(|plugin| header("plugin", plugin.clone())));
        headers.extend(self.headers.iter().filter(|(name, _)| is_of_cloudevents(name)).cloned());
        NewRecord {
            topic: Topic::DeadLetters,
            partition: None,
            key: self.key.clone(),
            value: self.bytes.clone(),
            headers,
        }
    }
}

/// Everything that one batch of one shard changes: all of it or nothing.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Places of the partitions that the batch moved.
    pub partitions: Vec<PartitionCommit>,
    /// The settings that were used; must still be the current ones.
    pub settings_epoch: i64,
    /// Changed duplicate windows.
    pub windows: Vec<WindowRow>,
    /// Changed entities.
    pub entities: Vec<EntityRow>,
    /// Records; rows of the same id replace each other, the last one wins.
    pub records: Vec<Record>,
    /// What goes to the bus.
    pub outbox: Vec<OutboxRow>,
    /// HTTP calls to make.
    pub http: Vec<HttpEffect>,
    /// Orders that wait for the third party from now on.
    pub deliveries: Vec<super::OrderDelivery>,
    /// What could not be processed.
    pub dead_letters: Vec<DeadLetter>,
    /// Ids of dead letters whose replay was applied.
    pub dead_letters_replayed: Vec<String>,
}

/// Faults of the store, by what to do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Somebody else owns one of the partitions: drop all state in memory of it.
    #[error("fenced: {0} has another owner")]
    Fenced(TopicPartition),
    /// The settings have moved on: apply the batch again with the new ones.
    #[error("the settings were changed meanwhile")]
    SettingsMoved,
    /// Try again; the store is away or busy. Whether the work was done may be unknown: read the row back.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store will not take this, now or later.
    #[error("the store refused: {0}")]
    Refused(String),
    /// The request makes no sense: a cursor that is none, a value that is too long.
    #[error(transparent)]
    Invalid(#[from] FieldError),
    /// Wrong revision: somebody changed it first.
    #[error("changed by somebody else meanwhile")]
    Conflict,
    /// There is no such row.
    #[error("not found")]
    NotFound,
    /// The store cannot be used as configured; a person must act.
    #[error("{0}")]
    Misconfigured(String),
}

/// A plugin's row: what a manager decided.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginRow {
    /// The plugin's name.
    pub name: String,
    /// Switched on.
    pub active: bool,
    /// Raised by one with each change, from 1.
    pub revision: i64,
    /// The eligibility block.
    pub eligibility: serde_json::Value,
    /// The settings.
    pub settings: serde_json::Value,
    /// Where each partition of `pos.events` ended when it was last switched on: what stands before is not for it. `None` if it
    /// was on from the start.
    pub starts: Option<Vec<i64>>,
    /// What is kept only of plugins in other languages.
    pub external: Option<ExternalRow>,
}

/// What is kept of a plugin in another language besides what every plugin has.
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalRow {
    /// Its manifest as it was accepted.
    pub manifest: serde_json::Value,
    /// What becomes of its input while it is off.
    pub while_off: WhileOff,
    /// Input that was let through by a lower revision is not for it.
    pub skip_before: i64,
}

/// What becomes of the input of a plugin in another language while it is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhileOff {
    /// It waits until the plugin is switched on again.
    #[default]
    Wait,
    /// It is skipped when the plugin is switched on again.
    Skip,
}

impl WhileOff {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Skip => "skip",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Wait, Self::Skip].into_iter().find(|one| one.as_str() == name)
    }
}

/// Who changed what, when and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Increasing id.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who: the token's name, or `local` without tokens.
    pub actor: String,
    /// What was done: `plugin.change`, `stores.change`, `deadletter.replay`, `deadletter.discard`, `alert.change`, `plugin.defaults`, `plugin.manifest`, `plugin.withdraw`,
    /// `session.begin`, `session.end`, `login.failed`, `order.resend`, `orders.restore`.
    pub action: String,
    /// To what, for instance the plugin's name.
    pub subject: String,
    /// The revision that resulted, where there is one.
    pub revision: Option<i64>,
    /// The settings epoch that resulted, where plugins or stores were changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings_epoch: Option<i64>,
    /// Before.
    pub old: Option<serde_json::Value>,
    /// After.
    pub new: Option<serde_json::Value>,
    /// Why, in the person's words.
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_number_across_the_end_of_what_is_kept_is_masked() {
        let mut value = vec![b'x'; DEAD_LETTER_BYTES_MAX - 12];
        value.extend_from_slice(b"4111111111111111");
        let record = bus::Record {
            offset: 1,
            timestamp: Timestamp::MIN,
            key: None,
            value: Bytes::from(value),
            headers: Vec::new(),
        };
        let place = TopicPartition::new(Topic::Events, 0);
        let fault = ("not_json", None, "no".to_owned());
        let letter = DeadLetter::of_record(place, &record, Timestamp::MIN, fault);
        assert_eq!(letter.bytes.len(), DEAD_LETTER_BYTES_MAX);
        assert!(letter.bytes.ends_with(b"x************"), "{:?}", &letter.bytes[DEAD_LETTER_BYTES_MAX - 20..]);
    }
}
