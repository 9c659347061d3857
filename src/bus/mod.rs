//! The bus: the durable, partitioned log that events travel on.
//!
//! The seam is narrow on purpose: append, consume, read. [`embedded`] keeps the log in a SQLite file for one process;
//! [`kafka`] shares it with other processes; [`simulated`] keeps it in memory, for tests.

pub mod embedded;
mod input;
pub mod kafka;
pub mod partitioner;
pub mod simulated;
#[cfg(test)]
pub(crate) mod suite;
mod tail;

use std::fmt;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::sqlite::Files;
use crate::time::Timestamp;

pub use input::InputTopic;
pub use tail::follow;

/// The topics, by the names that INTERFACES fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Events from terminals, and what plugins publish about them; keyed by terminal.
    Events,
    /// Internal chunks: what plugins need under another key.
    Rekeyed,
    /// One message for each accepted order.
    OrderCreated,
    /// Compacted: active, revision, eligibility and settings of every plugin.
    Plugins,
    /// A copy of every dead letter, and those that plugins in other languages write.
    DeadLetters,
    /// Internal: what the live feed of other processes shows and no other topic holds (log lines, HTTP calls). Worthless
    /// after minutes.
    Feed,
    /// Compacted: what plugins in other languages say of themselves.
    Manifests,
    /// Which members of these plugins are alive. Worthless after minutes.
    Heartbeats,
    /// What one such plugin gets.
    Input(InputTopic),
}

impl Topic {
    /// All topics that every installation has.
    pub const ALL: [Self; 8] = [
        Self::Events,
        Self::Rekeyed,
        Self::OrderCreated,
        Self::Plugins,
        Self::DeadLetters,
        Self::Feed,
        Self::Manifests,
        Self::Heartbeats,
    ];

    /// The topic's name, without prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "pos.events",
            Self::Rekeyed => "pos.events.rekeyed",
            Self::OrderCreated => "order.created",
            Self::Plugins => "pos.plugins",
            Self::DeadLetters => "pos.deadletters",
            Self::Feed => "pos.feed",
            Self::Manifests => "pos.plugins.manifests",
            Self::Heartbeats => "pos.plugins.heartbeats",
            Self::Input(topic) => topic.name(),
        }
    }

    /// The topic of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|topic| topic.name() == name)
            .or_else(|| InputTopic::from_name(name).map(Self::Input))
    }

    /// Partitions of this topic on a bus of `bus_partitions`: what is small has one.
    #[must_use]
    pub const fn partitions(self, bus_partitions: u32) -> u32 {
        match self {
            Self::Plugins | Self::Feed | Self::Manifests | Self::Heartbeats => 1,
            _ => bus_partitions,
        }
    }

    /// True if only the newest record of each key matters.
    #[must_use]
    pub const fn is_compacted(self) -> bool {
        matches!(self, Self::Plugins | Self::Manifests)
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// Partition number, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// A partition of a topic.
    #[must_use]
    pub const fn new(topic: Topic, partition: u32) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic.name(), self.partition)
    }
}

/// A record header.
pub type Header = (String, Bytes);

/// A record on its way to the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Where to.
    pub topic: Topic,
    /// The partition; by the murmur2 hash of the key where absent (partition 0 without a key).
    pub partition: Option<u32>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Bytes,
    /// Headers; `content-type` among them.
    pub headers: Vec<Header>,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Place in its partition.
    pub offset: i64,
    /// When the bus received it (Kafka: `LogAppendTime`).
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Bytes,
    /// Headers.
    pub headers: Vec<Header>,
}

/// What reading a partition gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Records in offset order; offsets may have gaps.
    pub records: Vec<Record>,
    /// The offset at which to go on, past gaps as well.
    pub next_offset: i64,
    /// True if there was nothing behind these records when they were read.
    pub at_end: bool,
}

/// First offset still there, and the offset that the next record will get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// First offset that can be read.
    pub low: i64,
    /// One past the last.
    pub high: i64,
}

impl Bounds {
    /// Refuses an offset beyond the end: the log was put back from an older copy, or made anew.
    ///
    /// # Errors
    /// [`BusError::Misconfigured`].
    pub fn require(self, place: TopicPartition, next_offset: i64) -> Result<(), BusError> {
        if next_offset <= self.high {
            return Ok(());
        }
        Err(BusError::Misconfigured(format!(
            "{place} ends at offset {}, but it has been read up to {next_offset}: this log is older than the store, or another \
             one; restore both from the same backup",
            self.high
        )))
    }
}

/// A change in what a consumer owns, or news that there is something to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerEvent {
    /// These partitions are ours now: seek, then fetch.
    Assigned(Vec<u32>),
    /// These are no longer ours: drop everything in memory that belongs to them.
    Revoked(Vec<u32>),
    /// At least one owned partition may have new records.
    Ready,
}

/// Faults of the bus, by what to do next.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// Try again later; nothing was appended, or appending the same records again is harmless to the caller.
    #[error("the bus is not available: {0}")]
    Unavailable(String),
    /// The records as such were refused; trying again is useless.
    #[error("the bus refused the records: {0}")]
    Refused(String),
    /// The offset is no longer there.
    #[error("{partition} no longer holds offset {offset}; the first one is {low}")]
    Gone {
        /// Where.
        partition: TopicPartition,
        /// What was asked for.
        offset: i64,
        /// What is there.
        low: i64,
    },
    /// What lies at or behind this offset cannot be decoded: it is damaged, or of a codec that this build does not know. Trying again
    /// is useless until a person has acted.
    #[error("{partition} cannot be read on from offset {offset}: {why}")]
    Unreadable {
        /// Where.
        partition: TopicPartition,
        /// What was asked for.
        offset: i64,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Somebody else took over; stop using this handle.
    #[error("fenced: {0}")]
    Fenced(String),
    /// The bus cannot be used as configured; a person must act.
    #[error("{0}")]
    Misconfigured(String),
}

/// The durable, partitioned log.
pub trait Bus: Send + Sync + 'static {
    /// Partitions of `pos.events` and of `pos.events.rekeyed`.
    fn partitions(&self) -> u32;

    /// Partitions that somebody has added to `pos.events` beyond those that are configured; `None` if there are none.
    fn surplus(&self) -> BoxFuture<'static, Result<Option<Surplus>, BusError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// A text that stays the same for the life of this log; a store remembers which bus it belongs to.
    fn identity(&self) -> String;

    /// Appends records and returns their offsets once all are durable. Records of one call for one partition stay in order
    /// and in one piece.
    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Result<Vec<i64>, BusError>>;

    /// Appends records together with the position of a lane, atomically: after a crash [`Bus::lane_position`] tells
    /// whether they are there. Positions of a lane only grow; a call with a position at or below the stored one does nothing.
    fn append_lane(
        &self,
        lane: String,
        position: i64,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'static, Result<(), BusError>>;

    /// The last position that [`Bus::append_lane`] stored; `None` before the first. Whatever was handed to `append_lane`
    /// before has been decided when this answers, also for callers that went away: a new relay can rely on it.
    fn lane_position(&self, lane: String) -> BoxFuture<'static, Result<Option<i64>, BusError>>;

    /// Reads a partition from an offset on, at least one record if there is one, about `bytes_max` in all.
    fn read(
        &self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<Fetched, BusError>>;

    /// The first offset whose bus time is at or after `time`; the end if there is none.
    fn offset_at(&self, of: TopicPartition, time: Timestamp) -> BoxFuture<'static, Result<i64, BusError>>;

    /// The offsets that can be read. `high` is never below a record that [`Bus::append`] or [`Bus::append_lane`] has answered
    /// for; what is written and may still be taken back counts as well.
    fn bounds(&self, of: TopicPartition) -> BoxFuture<'static, Result<Bounds, BusError>>;

    /// Retention must keep everything at and above `offset` of this partition: it has not been processed. Until a floor
    /// is set, nothing of a partition is removed.
    fn set_floor(&self, of: TopicPartition, offset: i64);

    /// True if whoever owns a partition of `pos.events.rekeyed` can read all of `pos.events` as easily as its owners: then
    /// rekeyed chunks only refer to events instead of repeating them.
    fn sources_are_local(&self) -> bool {
        false
    }

    /// Makes sure that a plugin in another language has its topics: its input, and where others can write to this bus the
    /// one for its state.
    fn create_input(&self, input: InputTopic) -> BoxFuture<'static, Result<(), BusError>>;

    /// Tries what processes must be allowed to do here, as far as that changes nothing.
    fn try_rights(&self) -> BoxFuture<'static, Result<(), BusError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// What a person should know about this bus although it works: one sentence each, with what to do.
    fn advice(&self) -> BoxFuture<'static, Vec<String>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    /// Joins the group that shares `pos.events` and `pos.events.rekeyed` (co-assigned: who owns partition p of one owns
    /// p of the other).
    ///
    /// # Errors
    /// If the group cannot be joined.
    fn consumer(&self) -> Result<Box<dyn Consumer>, BusError>;

    /// The files of a bus that is a file on this machine.
    fn files(&self) -> Option<&Files> {
        None
    }

    /// True if several processes can use this bus at the same time.
    fn is_shared(&self) -> bool {
        false
    }

    /// Follows topics from their present ends on, outside of the group. `None` where [`follow`] should look again and again
    /// instead.
    ///
    /// # Errors
    /// If the topics cannot be followed.
    fn tail(&self, topics: &[Topic]) -> Result<Option<Box<dyn Tail>>, BusError> {
        let _ = topics;
        Ok(None)
    }
}

/// Partitions of `pos.events` that no process owns, since they lie beyond the configured ones.
///
/// The count of partitions in use never changes: the events of one terminal would stand on two of them. Senders that count all
/// partitions put events there nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surplus {
    /// Partitions that are configured: the first of the surplus has this number.
    pub configured: u32,
    /// Partitions that the topic has.
    pub partitions: u32,
    /// Records that stand on the surplus and that nobody reads.
    pub records: i64,
}

impl std::fmt::Display for Surplus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { configured, partitions, records } = *self;
        let last = partitions - 1;
        write!(
            f,
            "pos.events has {partitions} partitions, but bus.partitions is {configured}. Nobody reads partitions {configured} to \
             {last}; {records} records stand there. Senders that count all partitions put events there. See \"More partitions\" \
             in docs/operations.md"
        )
    }
}

/// Follows topics for people to look at: nothing depends on it, and no place is stored.
pub trait Tail: Send {
    /// Waits for the next records; those of one partition are in order and never come twice. Where the bus was away or
    /// forgot some, it goes on with what is there. Cancel-safe.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<(TopicPartition, Record)>, BusError>>;
}

/// One member of the group that shares the partitions.
pub trait Consumer: Send {
    /// Waits for a change of assignment or for news. Cancel-safe. `Ready` may come early, never too late.
    fn next(&mut self) -> BoxFuture<'_, Result<ConsumerEvent, BusError>>;

    /// Reads on from `offset`, as [`Bus::read`], using what was prefetched where it can. Never waits for the network: an
    /// answer without records that is not at the end says that they are on their way, and [`ConsumerEvent::Ready`] follows.
    fn fetch(
        &mut self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Fetched, BusError>>;

    /// Leaves the group in good order.
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;
}
