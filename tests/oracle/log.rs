//! The log as the bus holds it: partitions, the duplicate filter, each partition's clock, and the order across tills.

use std::collections::{BTreeMap, HashMap};

use super::event::{self, Event, Reason};
use super::forgetting::SOURCE_SILENT_MILLIS;
use super::windows::{Verdict, Window};

/// How far beyond its arrival on the bus an event can move the clock.
const AHEAD_MILLIS: i64 = 2000;

/// A message that could not be applied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeadLetter {
    pub(crate) bytes: Vec<u8>,
    pub(crate) reason: Reason,
}

impl DeadLetter {
    /// The bytes as they are kept: no digit of what looks like a card number is legible. Values of keys that no event
    /// may hold are left out of the comparison by leaving out everything.
    pub(crate) fn masked_bytes(&self) -> Vec<u8> {
        if self.reason == "forbidden_data" {
            return Vec::new();
        }
        let mut masked = self.bytes.clone();
        let in_number = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b' ' | b'-');
        for run in masked.chunk_by_mut(|left, right| in_number(left) == in_number(right)) {
            if std::str::from_utf8(run).is_ok_and(event::is_card_number) {
                run.iter_mut().filter(|byte| byte.is_ascii_digit()).for_each(|byte| *byte = b'*');
            }
        }
        masked
    }
}

/// What the stream of messages holds.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Distinct valid events, in stream order.
    pub(crate) events: Vec<Event>,
    pub(crate) duplicates: usize,
    pub(crate) dead_letters: Vec<DeadLetter>,
}

impl Log {
    /// Sorts out messages in the order in which they reach the bus.
    ///
    /// All of them are taken to reach the bus later than their event times say, so bus time holds no clock back.
    pub(crate) fn read<'a>(messages: impl IntoIterator<Item = &'a [u8]>, partitions: u32) -> Self {
        Self::received(messages.into_iter().map(|message| (message, i64::MAX)), partitions)
    }

    /// The same for messages with the times, in milliseconds, at which the bus received them.
    pub(crate) fn received<'a>(messages: impl IntoIterator<Item = (&'a [u8], i64)>, partitions: u32) -> Self {
        let mut log = Self::default();
        let mut windows: HashMap<String, Window> = HashMap::new();
        let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
        let mut last_new: HashMap<String, i64> = HashMap::new();
        let mut actors: HashMap<String, String> = HashMap::new();
        for (offset, (bytes, received)) in messages.into_iter().enumerate() {
            let mut event = match event::read(bytes) {
                Ok(event) => event,
                Err(reason) => {
                    log.dead_letters.push(DeadLetter { bytes: bytes.to_vec(), reason });
                    continue;
                }
            };
            let known = clocks.get(&partition_of(&event.terminal, partitions)).copied().unwrap_or(i64::MIN);
            let clock_then = event.time.min(received.saturating_add(AHEAD_MILLIS)).max(known);
            if last_new.get(&event.source).is_some_and(|last| last.saturating_add(SOURCE_SILENT_MILLIS) <= clock_then) {
                windows.remove(&event.source);
                actors.remove(&event.source);
            }
            let reason = match windows.entry(event.source.clone()).or_default().judge(&event, received) {
                Verdict::New => {
                    event.partition = partition_of(&event.terminal, partitions);
                    // Only the order of offsets within a partition matters, and that is stream order.
                    event.offset = i64::try_from(offset).expect("fewer messages than 2^63");
                    let clock = clocks.entry(event.partition).or_default();
                    event.late = event.time < *clock;
                    *clock = event.time.min(received.saturating_add(AHEAD_MILLIS)).max(*clock);
                    event.clock = *clock;
                    last_new.insert(event.source.clone(), *clock);
                    if let Some(employee) = event.text("employeeId").filter(|_| event.is_known()) {
                        let before = actors.insert(event.source.clone(), employee.to_owned());
                        event.same_actor = before.as_deref() == event.text("employeeId");
                    }
                    log.events.push(event);
                    continue;
                }
                Verdict::Duplicate => {
                    log.duplicates += 1;
                    continue;
                }
                Verdict::IdConflict => "id_conflict",
                Verdict::SequenceConflict => "sequence_conflict",
                Verdict::BelowWindow => "below_window",
            };
            log.dead_letters.push(DeadLetter { bytes: bytes.to_vec(), reason });
        }
        log
    }

    /// Every event in the order in which employees, customers and cards see them.
    pub(crate) fn across_tills(&self) -> Vec<&Event> {
        let mut events: Vec<&Event> = self.events.iter().collect();
        events.sort_by_key(|event| (event.clock, event.partition, event.offset));
        events
    }
}

/// The partition of a key as Kafka's Java client chooses it.
pub(crate) fn partition_of(key: &str, partitions: u32) -> u32 {
    (murmur2(key.as_bytes()) & 0x7fff_ffff) % partitions
}

fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let length = u32::try_from(bytes.len()).expect("keys are short");
    let mut hash = 0x9747_b28c ^ length;
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let mut word = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::case::{Case, employee};
    use serde_json::json;

    /// The vectors of Kafka's own test of its default partitioner.
    #[test]
    fn keys_hash_as_in_the_java_client() {
        let signed = |key: &str| murmur2(key.as_bytes()).cast_signed();
        assert_eq!(signed("21"), -973_932_308);
        assert_eq!(signed("foobar"), -790_332_482);
        assert_eq!(signed("a-little-bit-long-string"), -985_981_536);
        assert_eq!(signed("a-little-bit-longer-string"), -1_486_304_829);
        assert_eq!(signed("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"), -58_897_971);
        assert_eq!(signed("abc"), 479_470_107);
    }

    #[test]
    fn the_clock_of_a_partition_never_goes_back_and_tells_what_is_late() {
        let case = Case::default()
            .then("T1", "08:00:00", "employee.logged_in", &employee("E1"))
            .then("T1", "08:05:00", "drawer.opened", &employee("E1"))
            .again()
            .then("T1", "08:04:00", "drawer.opened", &employee("E1"));
        let log = Log::read(case.messages(), 8);
        let seen: Vec<_> = log.events.iter().map(|event| ((event.clock - event.time) / 1000, event.late)).collect();
        assert_eq!(seen, [(0, false), (0, false), (60, true)]);
        assert_eq!((log.duplicates, log.dead_letters.len()), (1, 0));
    }

    #[test]
    fn tills_are_merged_by_the_clock_of_their_partitions() {
        assert_ne!(partition_of("T1", 8), partition_of("T2", 8));
        let case = Case::default()
            .then("T1", "08:10:00", "drawer.opened", &employee("E1"))
            .then("T1", "08:01:00", "drawer.opened", &employee("E2"))
            .then("T2", "08:05:00", "drawer.opened", &employee("E3"));
        let log = Log::read(case.messages(), 8);
        let order: Vec<_> = log.across_tills().iter().map(|event| event.required("employeeId").to_owned()).collect();
        assert_eq!(order, ["E3", "E1", "E2"]);
    }

    #[test]
    fn what_is_no_valid_event_is_a_dead_letter_with_its_bytes_and_reason() {
        let good = json!({"basketId": "b", "employeeId": "E1"});
        let reason = |data: &str| {
            let whole = format!(
                r#"{{"specversion":"1.0","id":"x","source":"/stores/S001/terminals/T1","type":"pos.basket.started","time":"2026-01-05T08:00:00Z","data":{data}}}"#
            );
            Log::read([whole.as_bytes()], 8).dead_letters.pop().map(|dead| dead.reason)
        };
        assert_eq!(reason(&good.to_string()), None);
        assert_eq!(reason(r#"{"basketId":"b"}"#), Some("missing_field"));
        assert_eq!(reason(r#"{"basketId":"b","employeeId":7}"#), Some("invalid_field"));
        assert_eq!(reason(r#"{"basketId":"b","basketId":"c","employeeId":"E1"}"#), Some("duplicate_key"));
        assert_eq!(reason(r#"{"basketId":"b","employeeId":"E1","dob":"2000-01-01"}"#), Some("forbidden_data"));
        assert_eq!(reason(r#"{"basketId":"b""#), Some("not_json"));
        let log = Log::read([b"\xff".as_slice()], 8);
        assert_eq!(log.dead_letters, [DeadLetter { bytes: vec![0xff], reason: "not_utf8" }]);
    }
}
