//! Records as the bus knows them, from and to librdkafka's messages.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{Bytes, BytesMut};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header as KafkaHeader, Headers, OwnedHeaders};

use crate::bus::partitioner::partition_of;
use crate::bus::{BusError, Header, NewRecord, Record, TopicPartition};
use crate::time::Timestamp;

use super::options::RECORD_BYTES_MAX;

/// Bytes that are allocated at once for the keys and values of many records.
const CHUNK_BYTES: usize = 256 * 1024;

/// Copies messages out of librdkafka's memory, many into one allocation.
#[derive(Debug, Default)]
pub(super) struct RecordCopier {
    memory: BytesMut,
}

impl RecordCopier {
    /// A record that owns its bytes.
    pub(super) fn copy(&mut self, message: &BorrowedMessage<'_>) -> Record {
        let (key, value) = (message.key(), message.payload().unwrap_or_default());
        let headers = message.headers().map(|headers| self.headers(headers)).unwrap_or_default();
        Record {
            offset: message.offset(),
            timestamp: Timestamp::from_millis(message.timestamp().to_millis().unwrap_or(0)),
            key: key.map(|key| self.bytes(key)),
            value: self.bytes(value),
            headers,
        }
    }

    fn headers<H: Headers>(&mut self, headers: &H) -> Vec<Header> {
        let mut copied = Vec::with_capacity(headers.count());
        for index in 0..headers.count() {
            // rdkafka panics on a header name that is not UTF-8; such a header is none of ours.
            let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index)));
            if let Ok(Some(KafkaHeader { key, value })) = header {
                copied.push((key.to_owned(), self.bytes(value.unwrap_or_default())));
            }
        }
        copied
    }

    fn bytes(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if bytes.len() > CHUNK_BYTES / 4 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.memory.capacity() < bytes.len() {
            self.memory = BytesMut::with_capacity(CHUNK_BYTES);
        }
        self.memory.extend_from_slice(bytes);
        self.memory.split().freeze()
    }
}

/// Headers for a message on its way out.
pub(super) fn to_headers(headers: &[Header]) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(empty, |all, (key, value)| all.insert(KafkaHeader { key, value: Some(&value[..]) })))
}

/// What a partition gets at once: librdkafka puts it into one request of at most `batch.size` (1 MB) and 10 000 records.
pub(super) const REQUEST_BYTES: usize = 900_000;
/// More than a record costs in a request beside its key, value and headers; so large that the 10 000 are never reached.
const RECORD_OVERHEAD: usize = 100;

/// What a record takes of a request, at most.
pub(super) fn size_in_request(record: &NewRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    record.key.as_ref().map_or(0, Bytes::len) + record.value.len() + headers + RECORD_OVERHEAD
}

/// Where each record belongs.
///
/// # Errors
/// If one of them cannot be taken by anybody: nothing of the call may be appended then.
pub(super) fn places(records: &[NewRecord], partitions: u32) -> Result<Vec<TopicPartition>, BusError> {
    records
        .iter()
        .map(|record| {
            let count = record.topic.partitions(partitions);
            let by_key = || record.key.as_ref().map_or(0, |key| partition_of(key, count));
            let place = TopicPartition::new(record.topic, record.partition.unwrap_or_else(by_key));
            if place.partition >= count {
                return Err(BusError::Refused(format!("there is no {place}: the topic has {count} partitions")));
            }
            let headers = record.headers.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            let bytes = record.value.len() + record.key.as_ref().map_or(0, Bytes::len) + headers;
            if bytes > RECORD_BYTES_MAX {
                return Err(BusError::Refused(format!(
                    "a record for {place} has {bytes} bytes; the largest that is taken has {RECORD_BYTES_MAX}"
                )));
            }
            Ok(place)
        })
        .collect()
}

/// A partition's number as librdkafka writes it.
pub(super) fn number(partition: u32) -> i32 {
    i32::try_from(partition).expect("Kafka counts partitions in i32")
}
