//! What was appended last, in memory: whoever follows the end of a partition reads it without asking a reader thread.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::bus::{Fetched, Record};

/// Bytes of keys and values that are kept for each partition.
const BYTES_MAX: usize = 256 * 1024;

/// The end of one partition.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    /// Without gaps.
    records: VecDeque<Record>,
    bytes: usize,
}

impl Tail {
    /// Adds records that are durable.
    pub(super) fn push(&self, records: Vec<Record>) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for record in records {
            if tail.records.back().is_some_and(|last| last.offset + 1 != record.offset) {
                // Something came between that is not known here, because its outcome was not known either.
                *tail = Records::default();
            }
            tail.bytes += bytes(&record);
            tail.records.push_back(record);
        }
        while tail.bytes > BYTES_MAX
            && let Some(oldest) = tail.records.pop_front()
        {
            tail.bytes -= bytes(&oldest);
        }
    }

    /// Records from `offset` on and below `high`: about `bytes_max` bytes of them, at least one. `None` if they are not here.
    pub(super) fn read(&self, offset: i64, high: i64, bytes_max: usize) -> Option<Fetched> {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = tail.records.front()?.offset;
        let at = usize::try_from(offset.checked_sub(first)?).ok()?;
        let mut fetched = Fetched { records: Vec::new(), next_offset: offset, at_end: false };
        let mut sum = 0;
        for record in tail.records.range(at.min(tail.records.len())..).take_while(|record| record.offset < high) {
            sum += bytes(record);
            fetched.next_offset = record.offset + 1;
            fetched.records.push(record.clone());
            if sum >= bytes_max {
                break;
            }
        }
        fetched.at_end = fetched.next_offset >= high;
        (!fetched.records.is_empty()).then_some(fetched)
    }
}

fn bytes(record: &Record) -> usize {
    record.value.len() + record.key.as_ref().map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn records(offsets: std::ops::Range<i64>, bytes: usize) -> Vec<Record> {
        let record = |offset| Record {
            offset,
            timestamp: Timestamp::from_millis(offset),
            key: None,
            value: vec![b'x'; bytes].into(),
            headers: Vec::new(),
        };
        offsets.map(record).collect()
    }

    fn offsets(fetched: Option<Fetched>) -> Option<(Vec<i64>, i64, bool)> {
        fetched.map(|fetched| {
            (fetched.records.iter().map(|record| record.offset).collect(), fetched.next_offset, fetched.at_end)
        })
    }

    #[test]
    fn it_gives_what_is_known_to_be_there_and_no_more_than_asked_for() {
        let tail = Tail::default();
        assert_eq!(tail.read(0, 0, 100), None);
        tail.push(records(5..9, 10));
        assert_eq!(offsets(tail.read(6, 9, 1000)), Some((vec![6, 7, 8], 9, true)));
        assert_eq!(offsets(tail.read(5, 9, 11)), Some((vec![5, 6], 7, false)));
        assert_eq!(offsets(tail.read(5, 9, 0)), Some((vec![5], 6, false)));
        assert_eq!(offsets(tail.read(6, 7, 1000)), Some((vec![6], 7, true)), "beyond the end that was made known");
        for offset in [4, 9, 100, i64::MIN, i64::MAX] {
            assert_eq!(tail.read(offset, 9, 1000), None, "{offset}");
        }
    }

    #[test]
    fn what_is_old_is_forgotten_and_a_gap_is_never_read_across() {
        let tail = Tail::default();
        tail.push(records(0..10, BYTES_MAX / 4));
        assert_eq!(tail.read(5, 10, 1), None);
        assert_eq!(offsets(tail.read(6, 10, usize::MAX)), Some((vec![6, 7, 8, 9], 10, true)));
        tail.push(records(11..12, 1));
        assert_eq!(tail.read(9, 12, 1), None);
        assert_eq!(offsets(tail.read(11, 12, 1)), Some((vec![11], 12, true)));
        tail.push(records(12..13, BYTES_MAX + 1));
        assert_eq!(tail.read(12, 13, 1), None, "too large to be kept");
    }
}
