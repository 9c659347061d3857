//! Reads `pos.events` backwards, newest first over all partitions, with a bound on the work of one request.
//!
//! The bus reads forwards only, so each partition is read in windows that end where the last one began. A request that
//! has used up its budget answers what it found so far, and its cursor says where the next one goes on.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::bus::{Bus, BusError, Record, Topic, TopicPartition};

/// Records that one request looks at, at most (rounded up to a window for each partition).
const RECORDS_MAX: i64 = 50_000;
/// Offsets of the first window of a partition; each further one is twice as large.
const WINDOW_FIRST: i64 = 256;
const WINDOW_MAX: i64 = 4096;
const READ_BYTES: usize = 4 << 20;
/// Bytes that one request looks at, at most (and a window more).
const LOOKED_BYTES_MAX: usize = 64 << 20;
/// A page has no more items once they have so many bytes.
const PAGE_BYTES: usize = 4 << 20;
/// Bytes that are found and wait, all partitions together (beyond one item of each).
const FOUND_BYTES_MAX: usize = 16 << 20;

/// One partition, below `before` not looked at yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Place {
    partition: u32,
    before: i64,
}

/// Where a reading goes on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Cursor(Vec<Place>);

struct Lane<T> {
    partition: u32,
    /// Everything at and above is read.
    read_down_to: i64,
    low: i64,
    window: i64,
    /// Found and not handed out, newest first, with offset and bus time.
    found: VecDeque<(i64, i64, T)>,
}

impl<T: AsRef<[u8]>> Lane<T> {
    const fn is_read(&self) -> bool {
        self.read_down_to <= self.low
    }

    fn place(&self) -> Place {
        let before = self.found.front().map_or(self.read_down_to, |(offset, ..)| offset + 1);
        Place { partition: self.partition, before }
    }

    /// Forgets the oldest of what was found in a window, which are more than `bytes_max`: they are read again when it is
    /// their turn. Says where to go on, if there were any.
    fn forget_beyond(&mut self, bytes_max: usize, bytes: &mut usize) -> Option<i64> {
        let mut goes_on_at = None;
        while *bytes > bytes_max && self.found.len() > 1 {
            *bytes -= self.found.pop_back().map_or(0, |(.., item)| item.as_ref().len());
            goes_on_at = self.found.back().map(|&(offset, ..)| offset);
        }
        goes_on_at
    }
}

/// Up to `limit` of what `keep` makes of records, fewer if they are large, newest first by bus time, and where to go on.
///
/// `low` gives the first offset of each partition that is of interest.
pub(super) async fn newest_first<T: AsRef<[u8]>>(
    bus: &dyn Bus,
    partitions: &[(u32, i64)],
    cursor: Option<Cursor>,
    limit: usize,
    keep: impl Fn(u32, &Record) -> Option<T>,
) -> Result<(Vec<T>, Option<Cursor>), BusError> {
    let mut lanes = Vec::with_capacity(partitions.len());
    for &(partition, from) in partitions {
        let bounds = bus.bounds(TopicPartition::new(Topic::Events, partition)).await?;
        let low = bounds.low.max(from);
        let before = match &cursor {
            Some(Cursor(places)) => places.iter().find(|place| place.partition == partition).map_or(low, |p| p.before),
            None => bounds.high,
        };
        let read_down_to = before.clamp(low, bounds.high.max(low));
        lanes.push(Lane { partition, read_down_to, low, window: WINDOW_FIRST, found: VecDeque::new() });
    }
    let found_max = FOUND_BYTES_MAX / lanes.len().max(1);
    let mut budget = Budget { records: RECORDS_MAX, bytes: LOOKED_BYTES_MAX };
    let (mut items, mut bytes) = (Vec::new(), 0);
    'items: while items.len() < limit && bytes < PAGE_BYTES {
        for lane in &mut lanes {
            while lane.found.is_empty() && !lane.is_read() {
                if budget.is_used_up() {
                    break 'items;
                }
                read_window(bus, lane, found_max, &mut budget, &keep).await?;
            }
        }
        let newest = lanes.iter_mut().filter(|lane| !lane.found.is_empty()).max_by_key(|lane| {
            lane.found.front().map(|&(offset, at, _)| (at, std::cmp::Reverse(lane.partition), offset))
        });
        let Some((.., item)) = newest.and_then(|lane| lane.found.pop_front()) else {
            break;
        };
        bytes += item.as_ref().len();
        items.push(item);
    }
    let more = lanes.iter().any(|lane| !lane.found.is_empty() || !lane.is_read());
    Ok((items, more.then(|| Cursor(lanes.iter().map(Lane::place).collect()))))
}

/// What a request may still look at.
struct Budget {
    records: i64,
    bytes: usize,
}

impl Budget {
    const fn is_used_up(&self) -> bool {
        self.records <= 0 || self.bytes == 0
    }
}

/// Reads the window just below what is read.
async fn read_window<T: AsRef<[u8]>>(
    bus: &dyn Bus,
    lane: &mut Lane<T>,
    found_max: usize,
    budget: &mut Budget,
    keep: impl Fn(u32, &Record) -> Option<T>,
) -> Result<(), BusError> {
    let end = lane.read_down_to;
    let start = (end - lane.window).max(lane.low);
    let (mut offset, mut read_down_to, mut found_bytes) = (start, start, 0);
    while offset < end {
        let fetched = bus.read(TopicPartition::new(Topic::Events, lane.partition), offset, READ_BYTES).await;
        let fetched = match fetched {
            // Retention has just removed it: what is left begins later.
            Err(BusError::Gone { low, .. }) if low > offset => {
                offset = low;
                lane.low = low;
                continue;
            }
            other => other?,
        };
        for record in fetched.records.iter().take_while(|record| record.offset < end) {
            budget.bytes = budget.bytes.saturating_sub(record.value.len());
            if let Some(item) = keep(lane.partition, record) {
                found_bytes += item.as_ref().len();
                lane.found.push_front((record.offset, record.timestamp.as_millis(), item));
                read_down_to = lane.forget_beyond(found_max, &mut found_bytes).unwrap_or(read_down_to);
            }
        }
        if fetched.next_offset <= offset {
            break;
        }
        offset = fetched.next_offset;
    }
    budget.records -= end - start;
    lane.read_down_to = read_down_to;
    lane.window = if read_down_to == start { (lane.window * 2).min(WINDOW_MAX) } else { end - read_down_to };
    Ok(())
}
