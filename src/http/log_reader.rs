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

impl<T> Lane<T> {
    const fn is_read(&self) -> bool {
        self.read_down_to <= self.low
    }

    fn place(&self) -> Place {
        let before = self.found.front().map_or(self.read_down_to, |(offset, ..)| offset + 1);
        Place { partition: self.partition, before }
    }
}

/// Up to `limit` of what `keep` makes of records, newest first by bus time, and where to go on.
///
/// `low` gives the first offset of each partition that is of interest.
pub(super) async fn newest_first<T>(
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
    let mut budget = RECORDS_MAX;
    let mut items = Vec::new();
    'items: while items.len() < limit {
        for lane in &mut lanes {
            while lane.found.is_empty() && !lane.is_read() {
                if budget <= 0 {
                    break 'items;
                }
                budget -= read_window(bus, lane, &keep).await?;
            }
        }
        let newest = lanes.iter_mut().filter(|lane| !lane.found.is_empty()).max_by_key(|lane| {
            lane.found.front().map(|&(offset, at, _)| (at, std::cmp::Reverse(lane.partition), offset))
        });
        let Some((.., item)) = newest.and_then(|lane| lane.found.pop_front()) else {
            break;
        };
        items.push(item);
    }
    let more = lanes.iter().any(|lane| !lane.found.is_empty() || !lane.is_read());
    Ok((items, more.then(|| Cursor(lanes.iter().map(Lane::place).collect()))))
}

/// Reads the window just below what is read, and says how many offsets it had.
async fn read_window<T>(
    bus: &dyn Bus,
    lane: &mut Lane<T>,
    keep: impl Fn(u32, &Record) -> Option<T>,
) -> Result<i64, BusError> {
    let end = lane.read_down_to;
    let start = (end - lane.window).max(lane.low);
    let mut offset = start;
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
            if let Some(item) = keep(lane.partition, record) {
                lane.found.push_front((record.offset, record.timestamp.as_millis(), item));
            }
        }
        if fetched.next_offset <= offset {
            break;
        }
        offset = fetched.next_offset;
    }
    lane.read_down_to = start;
    lane.window = (lane.window * 2).min(WINDOW_MAX);
    Ok(end - start)
}
