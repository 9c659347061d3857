//! Every partition of every topic as one small number, the `slot` of a chunk row.

use crate::bus::{BusError, NewRecord, Topic, TopicPartition, partitioner};

/// Partitions of one topic are numbered from here; limits the number of partitions.
const TOPIC_STRIDE: u32 = 4096;

/// One partition of one topic: `topic number * 4096 + partition`, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

impl Slot {
    /// The number that is stored.
    pub(super) fn number(self) -> i32 {
        i32::try_from(self.0).expect("a few topics of 4096 partitions")
    }

    /// Its topic.
    pub(super) fn topic(self) -> Topic {
        let number = self.0 / TOPIC_STRIDE;
        let topic = Topic::ALL.into_iter().find(|topic| topic_number(*topic) == number);
        topic.expect("slots are made from topics")
    }

    /// The partition that it stands for.
    pub(super) fn partition(self) -> TopicPartition {
        TopicPartition::new(self.topic(), self.0 % TOPIC_STRIDE)
    }
}

/// Knows how many partitions each topic has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots {
    partitions: u32,
}

/// Numbers are stored: a new topic gets a new one.
const fn topic_number(topic: Topic) -> u32 {
    match topic {
        Topic::Events => 0,
        Topic::Rekeyed => 1,
        Topic::OrderCreated => 2,
        Topic::Plugins => 3,
        Topic::DeadLetters => 4,
        Topic::Feed => 5,
    }
}

impl Slots {
    /// For a bus of that many partitions.
    ///
    /// # Errors
    /// If the number is 0 or too large.
    pub(super) fn new(partitions: u32) -> Result<Self, BusError> {
        if (1..=TOPIC_STRIDE).contains(&partitions) {
            Ok(Self { partitions })
        } else {
            Err(BusError::Misconfigured(format!("bus.partitions is {partitions}, but must be 1 to {TOPIC_STRIDE}")))
        }
    }

    /// Partitions of a topic.
    pub(super) const fn partitions(self, topic: Topic) -> u32 {
        topic.partitions(self.partitions)
    }

    /// The slot of a partition.
    pub(super) fn of(self, of: TopicPartition) -> Result<Slot, BusError> {
        let count = self.partitions(of.topic);
        if of.partition < count {
            Ok(Slot(topic_number(of.topic) * TOPIC_STRIDE + of.partition))
        } else {
            Err(BusError::Refused(format!("there is no {of}: the topic has {count} partitions")))
        }
    }

    /// The slot that a record goes to.
    pub(super) fn of_record(self, record: &NewRecord) -> Result<Slot, BusError> {
        let by_key = || {
            let count = self.partitions(record.topic);
            record.key.as_ref().map_or(0, |key| partitioner::partition_of(key, count))
        };
        self.of(TopicPartition::new(record.topic, record.partition.unwrap_or_else(by_key)))
    }

    /// Every slot, in the order of [`Slots::index`].
    pub(super) fn all(self) -> impl Iterator<Item = Slot> {
        Topic::ALL.into_iter().flat_map(move |topic| {
            (0..self.partitions(topic)).map(move |partition| Slot(topic_number(topic) * TOPIC_STRIDE + partition))
        })
    }

    /// Position of a slot in a dense list of all.
    pub(super) fn index(self, slot: Slot) -> usize {
        let (topic, partition) = (slot.0 / TOPIC_STRIDE, slot.0 % TOPIC_STRIDE);
        let before: u32 = Topic::ALL
            .into_iter()
            .filter(|other| topic_number(*other) < topic)
            .map(|other| self.partitions(other))
            .sum();
        (before + partition) as usize
    }
}
