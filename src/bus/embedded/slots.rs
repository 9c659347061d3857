//! Every partition of every topic as one small number, the `slot` of a chunk row.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::bus::{BusError, InputTopic, NewRecord, Topic, TopicPartition, partitioner};

/// Partitions of one topic are numbered from here; limits the number of partitions.
const TOPIC_STRIDE: u32 = 4096;
/// Number of the first input topic of a plugin in another language.
const FIRST_INPUT: u32 = 16;
/// Such topics that one log can have.
pub(super) const INPUTS_MAX: usize = 16;

/// One partition of one topic: `topic number * 4096 + partition`, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u32);

impl Slot {
    /// The number that is stored.
    pub(super) fn number(self) -> i32 {
        i32::try_from(self.0).expect("a few topics of 4096 partitions")
    }

    /// True if consumers read it: `pos.events` and `pos.events.rekeyed`.
    pub(super) fn is_consumed(self) -> bool {
        let number = Some(self.0 / TOPIC_STRIDE);
        number == fixed_number(Topic::Events) || number == fixed_number(Topic::Rekeyed)
    }
}

/// Knows which topics there are and how many partitions each has.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    partitions: u32,
    inputs: Arc<RwLock<Vec<InputTopic>>>,
}

/// Numbers are stored: a new topic gets a new one.
const fn fixed_number(topic: Topic) -> Option<u32> {
    Some(match topic {
        Topic::Events => 0,
        Topic::Rekeyed => 1,
        Topic::OrderCreated => 2,
        Topic::Plugins => 3,
        Topic::DeadLetters => 4,
        Topic::Feed => 5,
        Topic::Manifests => 6,
        Topic::Heartbeats => 7,
        Topic::Input(_) => return None,
    })
}

impl Slots {
    /// For a bus of that many partitions.
    ///
    /// # Errors
    /// If the number is 0 or too large.
    pub(super) fn new(partitions: u32) -> Result<Self, BusError> {
        if (1..=TOPIC_STRIDE).contains(&partitions) {
            Ok(Self { partitions, inputs: Arc::default() })
        } else {
            Err(BusError::Misconfigured(format!("bus.partitions is {partitions}, but must be 1 to {TOPIC_STRIDE}")))
        }
    }

    /// The input topics, in the order of their numbers.
    pub(super) fn inputs(&self) -> RwLockReadGuard<'_, Vec<InputTopic>> {
        self.inputs.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The input topics, to add one at the end, which makes its number.
    pub(super) fn inputs_mut(&self) -> RwLockWriteGuard<'_, Vec<InputTopic>> {
        self.inputs.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self, topic: Topic) -> Option<u32> {
        match topic {
            Topic::Input(input) => {
                let index = self.inputs().iter().position(|known| *known == input)?;
                Some(FIRST_INPUT + u32::try_from(index).ok()?)
            }
            fixed => fixed_number(fixed),
        }
    }

    /// The topic of a slot.
    pub(super) fn topic(&self, slot: Slot) -> Topic {
        let number = slot.0 / TOPIC_STRIDE;
        if number >= FIRST_INPUT {
            return Topic::Input(self.inputs()[(number - FIRST_INPUT) as usize]);
        }
        let topic = Topic::ALL.into_iter().find(|topic| fixed_number(*topic) == Some(number));
        topic.expect("slots are made from topics")
    }

    /// The partition that a slot stands for.
    pub(super) fn partition(&self, slot: Slot) -> TopicPartition {
        TopicPartition::new(self.topic(slot), slot.0 % TOPIC_STRIDE)
    }

    /// Length of the dense list of all slots, with room for all input topics that there can be.
    pub(super) fn len(&self) -> usize {
        self.index(Slot(FIRST_INPUT * TOPIC_STRIDE)) + INPUTS_MAX * self.partitions as usize
    }

    /// Partitions of a topic.
    pub(super) const fn partitions(&self, topic: Topic) -> u32 {
        topic.partitions(self.partitions)
    }

    /// The slot of a partition.
    pub(super) fn of(&self, of: TopicPartition) -> Result<Slot, BusError> {
        let count = self.partitions(of.topic);
        if of.partition >= count {
            return Err(BusError::Refused(format!("there is no {of}: the topic has {count} partitions")));
        }
        match self.number(of.topic) {
            Some(number) => Ok(Slot(number * TOPIC_STRIDE + of.partition)),
            None => Err(BusError::Refused(format!("there is no topic {}", of.topic.name()))),
        }
    }

    /// The slot that a record goes to.
    pub(super) fn of_record(&self, record: &NewRecord) -> Result<Slot, BusError> {
        let by_key = || {
            let count = self.partitions(record.topic);
            record.key.as_ref().map_or(0, |key| partitioner::partition_of(key, count))
        };
        self.of(TopicPartition::new(record.topic, record.partition.unwrap_or_else(by_key)))
    }

    /// Every slot, in the order of [`Slots::index`].
    pub(super) fn all(&self) -> Vec<Slot> {
        let inputs: Vec<_> = self.inputs().iter().copied().map(Topic::Input).collect();
        let topics = Topic::ALL.into_iter().chain(inputs);
        let slots = topics.filter_map(|topic| {
            let first = self.number(topic)? * TOPIC_STRIDE;
            Some((0..self.partitions(topic)).map(move |partition| Slot(first + partition)))
        });
        slots.flatten().collect()
    }

    /// Position of a slot in a dense list of all.
    pub(super) fn index(&self, slot: Slot) -> usize {
        let (topic, partition) = (slot.0 / TOPIC_STRIDE, slot.0 % TOPIC_STRIDE);
        let before: u32 = Topic::ALL
            .into_iter()
            .filter(|other| fixed_number(*other).is_some_and(|number| number < topic))
            .map(|other| self.partitions(other))
            .sum();
        let inputs_before = topic.saturating_sub(FIRST_INPUT) * self.partitions;
        (before + inputs_before + partition) as usize
    }
}
