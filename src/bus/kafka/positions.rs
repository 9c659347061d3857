//! Where the position of each lane is kept: as an offset of a consumer group that never has members.
//!
//! The lane `STORE/pos.events/3` has the offset of partition 3 of `pos.events` in the group `....outbox.STORE`, so that one
//! client serves all of them. Any other lane has a group of its own, and there the offset of `pos.plugins/0`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, LastError};
use super::options::KafkaOptions;
use super::records::number;
use super::topics::TopicNames;
use crate::bus::{Topic, TopicPartition};

/// How long to wait before a position is asked for again that is not decided yet.
const UNSTABLE_PAUSE: Duration = Duration::from_millis(50);

/// The clients that know the positions of lanes, by group.
pub(super) struct Positions {
    options: Arc<KafkaOptions>,
    names: TopicNames,
    last_error: LastError,
    clients: Mutex<HashMap<String, Arc<BaseConsumer<Context>>>>,
}

/// The place of one lane's position.
pub(super) struct PositionOf {
    client: Arc<BaseConsumer<Context>>,
    topic: String,
    partition: i32,
}

impl Positions {
    /// No client is open yet.
    pub(super) fn new(options: Arc<KafkaOptions>, names: TopicNames) -> Self {
        Self { options, names, last_error: LastError::default(), clients: Mutex::default() }
    }

    /// Where the position of a lane is kept.
    ///
    /// # Errors
    /// If a setting is not accepted.
    pub(super) fn of(&self, lane: &str) -> Result<PositionOf, KafkaError> {
        let (group, place) = place_of(lane);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = if let Some(client) = clients.get(group) {
            Arc::clone(client)
        } else {
            let config = self.options.lane_positions(group);
            let client = BaseConsumer::from_config_and_context(&config, Context::new("relay", &self.last_error))?;
            let client = Arc::new(client);
            clients.insert(group.to_owned(), Arc::clone(&client));
            client
        };
        Ok(PositionOf { client, topic: self.names.get(place.topic).to_owned(), partition: number(place.partition) })
    }
}

impl PositionOf {
    /// The stored position. Waits for what a transaction that is still open decides.
    pub(super) fn read(&self, timeout: Duration) -> Result<Option<i64>, KafkaError> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.ask(left) {
                // The group has not taken in yet how the transaction of the owner before ended (KAFKA-17507).
                Err(error)
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnstableOffsetCommit)
                        && !left.is_zero() =>
                {
                    std::thread::sleep(UNSTABLE_PAUSE);
                }
                answer => return answer,
            }
        }
    }

    fn ask(&self, timeout: Duration) -> Result<Option<i64>, KafkaError> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, self.partition);
        let stored = self.client.committed_offsets(asked, timeout)?;
        let elements = stored.elements();
        let element = elements.first().expect("the answer has what was asked for");
        element.error()?;
        Ok(match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    /// The group and the offset to commit, for a transaction.
    pub(super) fn to_commit(&self, position: i64) -> Result<(ConsumerGroupMetadata, TopicPartitionList), KafkaError> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.topic, self.partition, Offset::Offset(position))?;
        let group = self.client.group_metadata().expect("a consumer with a group has its metadata");
        Ok((group, offsets))
    }

    /// Takes what the client has to say.
    pub(super) fn serve(&self) {
        while self.client.poll(Duration::ZERO).is_some() {}
    }
}

/// Group and place of a lane's position; no two lanes share them.
fn place_of(lane: &str) -> (&str, TopicPartition) {
    let of_partition = || {
        let (rest, partition) = lane.rsplit_once('/')?;
        let (store, topic) = rest.rsplit_once('/')?;
        let topic = Topic::from_name(topic).filter(|topic| matches!(topic, Topic::Events | Topic::Rekeyed))?;
        let number: u16 = partition.parse().ok().filter(|number: &u16| number.to_string() == partition)?;
        (!store.is_empty()).then(|| (store, TopicPartition::new(topic, u32::from(number))))
    };
    of_partition().unwrap_or((lane, TopicPartition::new(Topic::Plugins, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_has_a_place_of_its_own() {
        let lanes = [
            "s/pos.events/0",
            "s/pos.events/1",
            "s/pos.events/01",
            "s/pos.events.rekeyed/1",
            "s/dispatch",
            "s",
            "t/pos.events/0",
            "s/pos.plugins/0",
            "pos.events/0",
            "s/pos.events/x",
            "s/pos.events/",
        ];
        let places: std::collections::HashSet<_> = lanes.iter().map(|lane| place_of(lane)).collect();
        assert_eq!(places.len(), lanes.len());
        assert_eq!(place_of("s/pos.events/7"), ("s", TopicPartition::new(Topic::Events, 7)));
        assert_eq!(place_of("s/dispatch"), ("s/dispatch", TopicPartition::new(Topic::Plugins, 0)));
    }
}
