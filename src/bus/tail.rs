//! Following topics of a bus that can only be read: look where they end, read what is new, wait, look again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

use super::{Bounds, Bus, BusError, Record, Tail, Topic, TopicPartition};

/// How often the ends of the topics are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of one partition that are read at once.
const READ_BYTES: usize = 1 << 20;

/// Follows topics from their present ends on, in the bus's own way where it has one.
#[must_use]
pub fn follow(bus: Arc<dyn Bus>, topics: Vec<Topic>) -> Box<dyn Tail> {
    match bus.tail(&topics) {
        Ok(Some(tail)) => tail,
        Ok(None) => looking(bus, topics),
        Err(error) => {
            tracing::warn!(%error, "topics cannot be followed in the bus's own way; looking at them instead");
            looking(bus, topics)
        }
    }
}

fn looking(bus: Arc<dyn Bus>, topics: Vec<Topic>) -> Box<dyn Tail> {
    Box::new(Looking { bus, topics, next: BTreeMap::new(), found: Vec::new(), failing: BTreeSet::new() })
}

struct Looking {
    bus: Arc<dyn Bus>,
    topics: Vec<Topic>,
    /// Where each partition is read on; empty before the first look.
    next: BTreeMap<TopicPartition, i64>,
    /// Read and not handed out yet: a look that is given up in the middle loses nothing.
    found: Vec<(TopicPartition, Record)>,
    /// Partitions that failed at the last look: the others are followed all the same.
    failing: BTreeSet<TopicPartition>,
}

impl Looking {
    async fn look(&mut self) -> Result<(), BusError> {
        let count = self.bus.partitions();
        let places = self.topics.iter().flat_map(|&topic| {
            (0..topic.partitions(count)).map(move |partition| TopicPartition::new(topic, partition))
        });
        let looks = join_all(places.map(|place| {
            let bounds = self.bus.bounds(place);
            async move { (place, bounds.await) }
        }));
        let (mut failed, mut goes_on) = (None, false);
        for (place, bounds) in looks.await {
            match self.read(place, bounds).await {
                Ok(()) => {
                    goes_on = true;
                    self.failing.remove(&place);
                }
                Err(error) => {
                    if self.failing.insert(place) {
                        tracing::warn!(%place, %error, "what is new here is not followed; trying again");
                    }
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if !goes_on => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads what is new in one partition.
    async fn read(&mut self, place: TopicPartition, bounds: Result<Bounds, BusError>) -> Result<(), BusError> {
        let bounds = bounds?;
        let next = self.next.entry(place).or_insert(bounds.high);
        // A log that was cut or begun anew is read from what is there.
        *next = (*next).clamp(bounds.low, bounds.high);
        if *next < bounds.high {
            let fetched = self.bus.read(place, *next, READ_BYTES).await?;
            *next = fetched.next_offset;
            self.found.extend(fetched.records.into_iter().map(|record| (place, record)));
        }
        Ok(())
    }
}

impl Tail for Looking {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<(TopicPartition, Record)>, BusError>> {
        Box::pin(async move {
            loop {
                self.look().await?;
                if !self.found.is_empty() {
                    return Ok(std::mem::take(&mut self.found));
                }
                tokio::time::sleep(LOOK).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::NewRecord;
    use crate::bus::simulated::SimulatedBus;

    #[tokio::test]
    async fn a_partition_that_cannot_be_read_keeps_no_others_from_being_followed() {
        let bus = SimulatedBus::new(2, 1);
        let mut tail = follow(Arc::new(bus.clone()), vec![Topic::Events]);
        bus.set_away(TopicPartition::new(Topic::Events, 0), true);
        // The first look finds out where the topic ends.
        let _ = tokio::time::timeout(Duration::from_millis(20), tail.next()).await;
        let value = bytes::Bytes::from_static(b"one");
        let record = NewRecord { topic: Topic::Events, partition: Some(1), key: None, value, headers: Vec::new() };
        bus.append(vec![record]).await.unwrap();
        let found = tail.next().await.unwrap();
        assert_eq!((found.len(), found[0].0), (1, TopicPartition::new(Topic::Events, 1)));
    }
}
