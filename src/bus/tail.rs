//! Following topics of a bus that can only be read: look where they end, read what is new, wait, look again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};

use super::{Bus, BusError, Record, Tail, Topic, TopicPartition};

/// How often the ends of the topics are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of one partition that are read at once.
const READ_BYTES: usize = 1 << 20;

/// Follows topics from their present ends on, in the bus's own way where it has one.
#[must_use]
pub fn follow(bus: Arc<dyn Bus>, topics: Vec<Topic>) -> Box<dyn Tail> {
    match bus.tail(&topics) {
        Ok(Some(tail)) => tail,
        Ok(None) => Box::new(Looking { bus, topics, next: BTreeMap::new(), found: Vec::new() }),
        Err(error) => {
            tracing::warn!(%error, "topics cannot be followed in the bus's own way; looking at them instead");
            Box::new(Looking { bus, topics, next: BTreeMap::new(), found: Vec::new() })
        }
    }
}

struct Looking {
    bus: Arc<dyn Bus>,
    topics: Vec<Topic>,
    /// Where each partition is read on; empty before the first look.
    next: BTreeMap<TopicPartition, i64>,
    /// Read and not handed out yet: a look that is given up in the middle loses nothing.
    found: Vec<(TopicPartition, Record)>,
}

impl Looking {
    async fn look(&mut self) -> Result<(), BusError> {
        let count = self.bus.partitions();
        let places = self.topics.iter().flat_map(|&topic| {
            (0..topic.partitions(count)).map(move |partition| TopicPartition::new(topic, partition))
        });
        let ends = try_join_all(places.map(|place| {
            let bounds = self.bus.bounds(place);
            async move { bounds.await.map(|bounds| (place, bounds)) }
        }));
        for (place, bounds) in ends.await? {
            let next = self.next.entry(place).or_insert(bounds.high);
            // A log that was cut or begun anew is read from what is there.
            *next = (*next).clamp(bounds.low, bounds.high);
            if *next < bounds.high {
                let fetched = self.bus.read(place, *next, READ_BYTES).await?;
                *next = fetched.next_offset;
                self.found.extend(fetched.records.into_iter().map(|record| (place, record)));
            }
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
