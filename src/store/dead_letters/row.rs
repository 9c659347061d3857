//! A dead letter as its row holds it.

use bytes::Bytes;

use super::StoredDeadLetter;
use crate::bus::Header;
use crate::store::model::{DeadLetter, DeadLetterStatus, StoreError};
use crate::store::offsets::{partition_number, partition_of};
use crate::store::schema::dead_letters;
use crate::time::Timestamp;

/// What a row takes besides its bytes, headers, key and texts.
const ROW_BYTES: usize = 1024;

#[derive(diesel::Insertable)]
#[diesel(table_name = dead_letters, treat_none_as_default_value = false)]
pub(in crate::store) struct NewRow<'a> {
    id: &'a str,
    at: i64,
    status: &'a str,
    reason: &'a str,
    field: Option<&'a str>,
    message: &'a str,
    plugin: Option<&'a str>,
    entity: Option<&'a str>,
    topic: &'a str,
    partition: i32,
    offset: i64,
    clock: i64,
    key: Option<&'a [u8]>,
    bytes: &'a [u8],
    attempts: i32,
    replay_requested_at: Option<i64>,
    headers: Option<Vec<u8>>,
}

impl<'a> NewRow<'a> {
    pub(in crate::store) fn new(letter: &'a DeadLetter, earlier_attempts: i32) -> Result<Self, StoreError> {
        Ok(Self {
            id: &letter.id,
            at: letter.at.as_millis(),
            status: letter.status.as_str(),
            reason: &letter.reason,
            field: letter.field.as_deref(),
            message: &letter.message,
            plugin: letter.plugin.as_deref(),
            entity: letter.entity.as_deref(),
            topic: letter.partition.topic.name(),
            partition: partition_number(letter.partition)?,
            offset: letter.offset,
            clock: letter.clock.as_millis(),
            key: letter.key.as_deref(),
            bytes: &letter.bytes,
            attempts: i32::try_from(letter.attempts).unwrap_or(i32::MAX).max(earlier_attempts.saturating_add(1)),
            replay_requested_at: None,
            headers: encode(&letter.headers)?,
        })
    }

    pub(in crate::store) fn bytes(&self) -> usize {
        let texts = self.message.len() + self.field.map_or(0, str::len) + self.key.map_or(0, <[u8]>::len);
        self.bytes.len() + self.headers.as_ref().map_or(0, Vec::len) + texts + ROW_BYTES
    }
}

#[derive(diesel::Queryable)]
pub(in crate::store) struct Row {
    id: String,
    at: i64,
    status: String,
    reason: String,
    field: Option<String>,
    message: String,
    plugin: Option<String>,
    entity: Option<String>,
    topic: String,
    partition: i32,
    offset: i64,
    clock: i64,
    key: Option<Vec<u8>>,
    bytes: Vec<u8>,
    attempts: i32,
    replay_requested_at: Option<i64>,
    headers: Option<Vec<u8>>,
}

impl Row {
    pub(in crate::store) fn into_stored(self) -> Result<StoredDeadLetter, StoreError> {
        let status = match self.status.as_str() {
            "open" => DeadLetterStatus::Open,
            "replayed" => DeadLetterStatus::Replayed,
            _ => DeadLetterStatus::Discarded,
        };
        let letter = DeadLetter {
            id: self.id,
            at: Timestamp::from_millis(self.at),
            status,
            reason: self.reason,
            field: self.field,
            message: self.message,
            plugin: self.plugin,
            entity: self.entity,
            partition: partition_of(&self.topic, self.partition)?,
            offset: self.offset,
            clock: Timestamp::from_millis(self.clock),
            key: self.key.map(Bytes::from),
            headers: decode(self.headers.as_deref()),
            bytes: Bytes::from(self.bytes),
            attempts: u32::try_from(self.attempts).unwrap_or(0),
        };
        Ok(StoredDeadLetter { letter, replay_requested_at: self.replay_requested_at.map(Timestamp::from_millis) })
    }
}

/// No headers are no value, as in rows from before there was a column for them.
fn encode(headers: &[Header]) -> Result<Option<Vec<u8>>, StoreError> {
    if headers.is_empty() {
        return Ok(None);
    }
    rmp_serde::to_vec(headers).map(Some).map_err(|error| StoreError::Refused(error.to_string()))
}

/// Headers that cannot be read are left out: the letter itself is still there for a person to decide on.
fn decode(stored: Option<&[u8]>) -> Vec<Header> {
    let Some(stored) = stored else { return Vec::new() };
    rmp_serde::from_slice(stored).unwrap_or_else(|error| {
        tracing::warn!(%error, "the headers of a dead letter cannot be read");
        Vec::new()
    })
}
