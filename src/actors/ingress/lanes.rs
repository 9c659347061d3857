//! Where each owned partition is being read, and which of them have to wait for the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::actors::shard::CommitReport;
use crate::bus::{BusError, Consumer, Fetched, Topic, TopicPartition};
use crate::status::{PartitionStatus, Status};
use crate::store::model::PartitionRow;
use crate::time::Timestamp;

/// A partition of `pos.events` so far ahead of the lowest one waits,
const AHEAD_MAX_MS: i64 = 600_000;
/// once this many events wait for the lowest one, in all shards together.
const WAITING_MAX: usize = 20_000;

/// One owned partition as ingress sees it.
#[derive(Debug)]
pub(super) struct LaneState {
    /// The shard that holds it.
    pub(super) shard: usize,
    /// The next offset to read.
    pub(super) cursor: i64,
    /// There may be something to read.
    pub(super) news: bool,
    /// The last read reached the end.
    pub(super) at_end: bool,
    /// Batches that hold records of it and are not committed.
    pub(super) in_flight: u32,
    /// Its clock as last committed.
    pub(super) clock: Timestamp,
    /// Offset of a tick that is on its way.
    pub(super) tick: Option<i64>,
    /// Where it was said that it cannot be read on.
    unreadable: Option<i64>,
    status: Option<Arc<PartitionStatus>>,
}

/// All owned partitions.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<TopicPartition, LaneState>,
    waiting: BTreeMap<usize, usize>,
    /// Shards with a clock that other scopes have not been told.
    untold: BTreeSet<usize>,
    /// Partitions of `pos.events` in all, whoever owns them.
    partitions: usize,
    /// By shard: the lowest and the highest clock of all partitions as chunks have told.
    told: BTreeMap<usize, (Timestamp, Timestamp)>,
}

impl Lanes {
    /// None of so many partitions is owned yet.
    pub(super) fn new(partitions: u32) -> Self {
        Self { partitions: partitions as usize, ..Self::default() }
    }

    /// A shard has taken a partition over and stands here.
    pub(super) fn take(&mut self, shard: usize, row: &PartitionRow) {
        let lane = LaneState {
            shard,
            cursor: row.next_offset,
            news: true,
            at_end: false,
            in_flight: 0,
            clock: row.clock,
            tick: None,
            unreadable: None,
            status: None,
        };
        self.lanes.insert(row.partition, lane);
        self.untold.insert(shard);
    }

    /// The partition belongs to nobody here.
    pub(super) fn drop_lane(&mut self, place: TopicPartition) {
        self.lanes.remove(&place);
    }

    /// All partitions of a shard are to be taken again before they are read.
    pub(super) fn drop_shard(&mut self, shard: usize) {
        self.lanes.retain(|_, lane| lane.shard != shard);
        self.waiting.remove(&shard);
        self.untold.remove(&shard);
        self.told.remove(&shard);
    }

    /// Something was appended somewhere.
    pub(super) fn mark_news(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.news = true;
        }
    }

    /// Reads what one batch of a shard may hold, the places of `first` before the others. Empty if there is nothing to do.
    pub(super) async fn fetch(
        &mut self,
        shard: usize,
        consumer: &mut dyn Consumer,
        (bytes_max, records_max): (usize, usize),
        first: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Fetched)>, BusError> {
        let lowest = self.lowest_clock();
        let crowded = self.waiting.values().sum::<usize>() > WAITING_MAX;
        let waits = |place: &TopicPartition, lane: &LaneState| {
            crowded && place.topic == Topic::Events && lane.clock.millis_since(lowest) > AHEAD_MAX_MS
        };
        let mut readable: Vec<TopicPartition> = self
            .lanes
            .iter()
            .filter(|(place, lane)| lane.shard == shard && lane.news && !waits(place, lane))
            .map(|(place, _)| *place)
            .collect();
        readable.sort_by_key(|place| !first.contains(place));
        // What other scopes need is small beside the events themselves, and all of it is read.
        let sources = readable.iter().filter(|place| place.topic == Topic::Events).count();
        let share = bytes_max / sources.max(1);
        let mut batch = Vec::new();
        let mut room = records_max;
        for place in readable {
            if room == 0 {
                break;
            }
            let lane = self.lanes.get_mut(&place).expect("listed just now");
            lane.news = false;
            let mut fetched = match consumer.fetch(place, lane.cursor, share).await {
                // It stands still, and readiness says so; the others go on.
                Err(error @ BusError::Unreadable { .. }) => {
                    if lane.unreadable != Some(lane.cursor) {
                        tracing::error!(%error, "a partition stands still");
                        lane.unreadable = Some(lane.cursor);
                    }
                    continue;
                }
                other => other?,
            };
            if fetched.records.len() > room {
                fetched.records.truncate(room);
                fetched.next_offset = fetched.records.last().map_or(lane.cursor, |record| record.offset + 1);
                fetched.at_end = false;
            }
            room -= fetched.records.len();
            lane.at_end = fetched.at_end;
            lane.news = !fetched.at_end;
            if fetched.next_offset > lane.cursor {
                lane.cursor = fetched.next_offset;
                batch.push((place, fetched));
            }
        }
        Ok(batch)
    }

    /// A batch with records of these partitions is on its way.
    pub(super) fn sent(&mut self, places: &[TopicPartition]) {
        for place in places {
            if let Some(lane) = self.lanes.get_mut(place) {
                lane.in_flight += 1;
            }
        }
    }

    /// A batch with records of these partitions is committed.
    pub(super) fn committed(&mut self, places: &[TopicPartition]) {
        for place in places {
            if let Some(lane) = self.lanes.get_mut(place) {
                lane.in_flight = lane.in_flight.saturating_sub(1);
                if lane.in_flight == 0 && lane.tick.is_some_and(|tick| tick < lane.cursor) {
                    lane.tick = None;
                }
            }
        }
    }

    /// What a shard says of itself: how many events wait in it for the lowest clock, and whether it has a clock that
    /// other scopes do not know yet.
    pub(super) fn reported(&mut self, shard: usize, report: &CommitReport) {
        self.waiting.insert(shard, report.waiting);
        if let Some(told) = report.told {
            self.told.insert(shard, told);
        }
        if report.untold {
            self.untold.insert(shard);
        } else {
            self.untold.remove(&shard);
        }
    }

    /// A shard that has lost the ownership of one of its partitions, as somebody else in this process has noticed.
    pub(super) fn fenced(&self, status: &Status) -> Option<(usize, TopicPartition)> {
        let lost = |place: &TopicPartition| status.partition(*place).is_none();
        self.lanes.iter().find(|(place, _)| lost(place)).map(|(place, lane)| (lane.shard, *place))
    }

    /// Takes the clocks as committed.
    pub(super) fn read_clocks(&mut self, status: &Status) {
        for (place, lane) in &mut self.lanes {
            if lane.status.is_none() {
                lane.status = status.partition(*place);
            }
            let Some(figures) = &lane.status else {
                continue;
            };
            figures.end_offset.raise(lane.cursor);
            lane.clock = lane.clock.max(Timestamp::from_millis(figures.clock.get()));
        }
    }

    /// True if a clock of this shard has moved and other scopes do not know it yet.
    pub(super) fn has_untold_clock(&self, shard: usize) -> bool {
        self.untold.contains(&shard)
    }

    /// All owned partitions of `pos.events`.
    pub(super) fn sources(&mut self) -> impl Iterator<Item = (TopicPartition, &mut LaneState)> {
        self.lanes.iter_mut().filter(|(place, _)| place.topic == Topic::Events).map(|(place, lane)| (*place, lane))
    }

    /// True if no partition of `pos.events` belongs to another process.
    pub(super) fn owns_all_sources(&self) -> bool {
        self.lanes.keys().filter(|place| place.topic == Topic::Events).count() == self.partitions
    }

    /// All owned partitions.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicPartition, &LaneState)> {
        self.lanes.iter().map(|(place, lane)| (*place, lane))
    }

    /// The highest clock of all partitions. Those of other processes count as far as chunks have told of them.
    pub(super) fn highest_clock(&self) -> Timestamp {
        let own = self.lanes.values().map(|lane| lane.clock);
        own.chain(self.told.values().map(|(_, highest)| *highest)).max().unwrap_or_default()
    }

    /// The lowest clock of all partitions, as [`Lanes::highest_clock`].
    fn lowest_clock(&self) -> Timestamp {
        let sources = self.lanes.iter().filter(|(place, _)| place.topic == Topic::Events);
        let own = sources.clone().map(|(_, lane)| lane.clock).min().unwrap_or_default();
        if sources.count() == self.partitions {
            // What is known at first hand is newer than what chunks tell.
            return own;
        }
        self.told.values().map(|(lowest, _)| *lowest).min().map_or(own, |told| own.min(told))
    }

    /// True if everything that was read is committed and nothing more was there.
    pub(super) fn all_at_end(&self) -> bool {
        !self.lanes.is_empty() && self.lanes.values().all(|lane| lane.at_end && !lane.news && lane.in_flight == 0)
    }
}
