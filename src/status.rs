//! What the process is doing, as counters that cost next to nothing to bump: `/api/system`, the plugins' statistics and
//! `/metrics` read them.
//!
//! The pipeline writes, everybody else reads. Whoever counts holds the `Arc` of what it counts (a partition, a plugin, an
//! actor) and bumps it once per batch. Nothing here is durable: totals are since the process started.

mod conditions;
mod figures;
mod memory;
mod parked;
mod standing;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use conditions::{ConditionFailure, ConditionFigures, Conditions, ELIGIBILITY_WHEN};
pub use figures::{Counter, Gauge};
pub use memory::{peak_rss_bytes, rss_bytes};
pub use parked::{Parked, ParkedItem, REST};
pub use standing::{Standing, StandingPlace};

use crate::bus::TopicPartition;
use crate::config::Role;
use crate::pipeline::till_clocks::Drifts;
use crate::store::model::PartitionRow;
use crate::time::Timestamp;

/// The histogram that shards observe commits in.
pub const COMMIT_DURATION: &str = "tillstream_commit_duration_seconds";

/// Sums since the process started.
#[derive(Debug, Default)]
pub struct Totals {
    /// Distinct valid events from terminals that were applied.
    pub events: Counter,
    /// Duplicates that were dropped.
    pub duplicates: Counter,
    /// Jumps in a terminal's sequence.
    pub gaps: Counter,
    /// Dead letters.
    pub dead_letters: Counter,
    /// Events that plugins published.
    pub derived: Counter,
    /// Transactions that were committed.
    pub commits: Counter,
    /// Events that were read and parsed a second time for other scopes, since they were no longer in memory.
    pub read_again: Counter,
}

/// Orders, since the process started.
#[derive(Debug, Default)]
pub struct OrderTotals {
    /// Put on the bus.
    pub published: Counter,
    /// Read from the bus and handed to the dispatcher.
    pub consumed: Counter,
    /// Attempts at the third party that it took.
    pub attempts_taken: Counter,
    /// Attempts that failed.
    pub attempts_failed: Counter,
    /// Orders that ended as a success.
    pub delivered: Counter,
    /// Orders that came to nothing.
    pub failed: Counter,
    /// 1 while the third party counts as away.
    pub breaker_open: Gauge,
    /// Attempts under way.
    pub in_flight: Gauge,
}

/// Wall-clock nanoseconds that batches have spent in each stage, summed over all shards.
#[derive(Debug, Default)]
pub struct Stages {
    /// Reading from the bus.
    pub read: Counter,
    /// Parsing, dropping duplicates, routing, and putting events of other scopes in order.
    pub admit: Counter,
    /// The plugins' decisions, their actors included.
    pub decide: Counter,
    /// Putting the commit together, and waiting for the batch before it.
    pub assemble: Counter,
    /// Appending what other scopes need to the bus.
    pub append: Counter,
    /// The transaction in the store.
    pub commit: Counter,
    /// Telling the feed.
    pub feed: Counter,
}

impl Stages {
    /// All stages by name.
    #[must_use]
    pub fn list(&self) -> [(&'static str, u64); 7] {
        [
            ("read", self.read.get()),
            ("admit", self.admit.get()),
            ("decide", self.decide.get()),
            ("assemble", self.assemble.get()),
            ("append", self.append.get()),
            ("commit", self.commit.get()),
            ("feed", self.feed.get()),
        ]
    }
}

/// One partition that this process owns: handed out by taking it in the store, gone once it is revoked or fenced.
#[derive(Debug, Default)]
pub struct PartitionStatus {
    /// Number of the shard that owns it.
    pub shard: Gauge,
    /// Raised in the store each time somebody takes the partition.
    pub epoch: Gauge,
    /// The first offset that is not committed yet.
    pub next_offset: Gauge,
    /// One past the last offset on the bus, as last seen.
    pub end_offset: Gauge,
    /// The partition's clock in milliseconds since the Unix epoch; 0 before the first event.
    pub clock: Gauge,
}

/// One plugin.
#[derive(Debug, Default)]
pub struct PluginStatus {
    /// Events that it was given.
    pub consumed: Counter,
    /// Events of types that it wants which were not eligible, or came while it was off.
    pub skipped: Counter,
    /// Effects that it asked for.
    pub effects: Counter,
    /// Events on which it panicked.
    pub errors: Counter,
    /// Time of the newest event that it was given, in milliseconds since the Unix epoch; 0 before the first.
    pub last_event_at: Gauge,
    conditions: Mutex<Conditions>,
}

/// What a plugin has done, in one process or in several together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PluginFigures {
    /// Events that it was given.
    pub consumed: u64,
    /// Events that were not eligible.
    pub skipped: u64,
    /// Effects that it asked for.
    pub effects: u64,
    /// Events on which it failed.
    pub errors: u64,
    /// Time of the newest event that it was given, in milliseconds since the Unix epoch; 0 before the first.
    pub last_event_at: i64,
    /// Conditions that gave neither true nor false.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
}

impl PluginStatus {
    /// Adds what a batch has done.
    pub fn add(&self, figures: &PluginFigures) {
        self.consumed.add(figures.consumed);
        self.skipped.add(figures.skipped);
        self.effects.add(figures.effects);
        self.errors.add(figures.errors);
        self.last_event_at.raise(figures.last_event_at);
        if !figures.conditions.is_empty() {
            self.conditions.lock().unwrap_or_else(PoisonError::into_inner).add(&figures.conditions);
        }
    }

    /// Counts a condition that failed outside a batch.
    pub fn condition_failed(&self, failure: ConditionFailure) {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).count(failure);
    }

    /// The conditions that gave neither true nor false.
    #[must_use]
    pub fn conditions(&self) -> Conditions {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl PluginFigures {
    /// The figures as they stand.
    #[must_use]
    pub fn of(status: &PluginStatus) -> Self {
        Self {
            consumed: status.consumed.get(),
            skipped: status.skipped.get(),
            effects: status.effects.get(),
            errors: status.errors.get(),
            last_event_at: status.last_event_at.get(),
            conditions: status.conditions(),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.conditions.add(&other.conditions);
        Self {
            consumed: self.consumed + other.consumed,
            skipped: self.skipped + other.skipped,
            effects: self.effects + other.effects,
            errors: self.errors + other.errors,
            last_event_at: self.last_event_at.max(other.last_event_at),
            conditions: self.conditions,
        }
    }
}

/// One long-lived actor.
#[derive(Debug, Default)]
pub struct ActorStatus {
    /// How often it was started again.
    pub restarts: Counter,
    last_error: Mutex<Option<String>>,
    is_down: AtomicBool,
}

impl ActorStatus {
    /// Counts a restart and remembers why.
    pub fn restarted(&self, why: impl Into<String>) {
        self.restarts.add(1);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.into());
    }

    /// Says whether it is gone and waits to be started again.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// True while it is gone and waits to be started again.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Why it was started again, the last time.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tills with wrong clocks that a process tells of.
const CLOCKS_MAX: usize = 200;

/// What the process is doing.
#[derive(Debug)]
pub struct Status {
    roles: Vec<Role>,
    started: Instant,
    /// Sums since the process started.
    pub totals: Totals,
    /// Where the time goes.
    pub stages: Stages,
    /// Orders.
    pub orders: OrderTotals,
    removed: RwLock<BTreeMap<&'static str, Arc<Counter>>>,
    /// Where partitions, lanes and slots stand, and since when.
    pub standing: Standing,
    partitions: RwLock<BTreeMap<TopicPartition, Arc<PartitionStatus>>>,
    plugins: RwLock<BTreeMap<String, Arc<PluginStatus>>>,
    /// What plugins have done in the other processes that share the work.
    elsewhere: RwLock<BTreeMap<String, PluginFigures>>,
    actors: RwLock<BTreeMap<String, Arc<ActorStatus>>>,
    /// By source, in milliseconds: tills whose clocks are ahead, or below 0 behind.
    clocks: RwLock<BTreeMap<String, i64>>,
    /// Reasons why the process cannot do its work now, by part.
    unready: RwLock<BTreeMap<&'static str, String>>,
    /// What is set aside so that the others go on.
    pub parked: Parked,
}

fn entry<K: Ord + Clone, V: Default>(map: &RwLock<BTreeMap<K, Arc<V>>>, key: &K) -> Arc<V> {
    let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(map.entry(key.clone()).or_default())
}

fn list<K: Ord + Clone, V>(map: &RwLock<BTreeMap<K, Arc<V>>>) -> Vec<(K, Arc<V>)> {
    let map = map.read().unwrap_or_else(PoisonError::into_inner);
    map.iter().map(|(key, value)| (key.clone(), Arc::clone(value))).collect()
}

impl Status {
    /// Nothing done yet.
    #[must_use]
    pub fn new(roles: Vec<Role>) -> Self {
        Self {
            roles,
            started: Instant::now(),
            totals: Totals::default(),
            stages: Stages::default(),
            orders: OrderTotals::default(),
            standing: Standing::default(),
            removed: RwLock::default(),
            partitions: RwLock::default(),
            plugins: RwLock::default(),
            elsewhere: RwLock::default(),
            actors: RwLock::default(),
            clocks: RwLock::default(),
            unready: RwLock::default(),
            parked: Parked::default(),
        }
    }

    /// What this process takes on.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Whole seconds since it started.
    #[must_use]
    pub fn uptime_seconds(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Rows that this process has removed from the store since they had been kept long enough.
    #[must_use]
    pub fn removed(&self, table: &'static str) -> Arc<Counter> {
        entry(&self.removed, &table)
    }

    /// This process has taken a partition in the store and owns it from now on. Nothing else makes a partition owned.
    pub fn take_partition(&self, row: &PartitionRow, shard: usize) {
        let status = PartitionStatus::default();
        status.shard.set(i64::try_from(shard).unwrap_or_default());
        status.epoch.set(row.epoch);
        status.next_offset.set(row.next_offset);
        status.clock.set(row.clock.as_millis());
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).insert(row.partition, Arc::new(status));
    }

    /// The figures of a partition, if this process owns it.
    #[must_use]
    pub fn partition(&self, partition: TopicPartition) -> Option<Arc<PartitionStatus>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned()
    }

    /// A commit has moved a partition on. It is noted only while the partition is owned at the epoch of that commit: what was
    /// in flight while the partition went to somebody else must not bring it back.
    pub fn partition_committed(&self, row: &PartitionRow) {
        if let Some(status) = self.partition(row.partition).filter(|status| status.epoch.get() == row.epoch) {
            status.next_offset.set(row.next_offset);
            status.clock.set(row.clock.as_millis());
        }
    }

    /// The partition belongs to somebody else now.
    pub fn release_partition(&self, partition: TopicPartition) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
    }

    /// Somebody has taken the partition since this process took it at `epoch`: it is owned no longer. If this process has
    /// taken it again meanwhile, nothing changes.
    pub fn partition_fenced(&self, partition: TopicPartition, epoch: i64) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        if partitions.get(&partition).is_some_and(|status| status.epoch.get() == epoch) {
            partitions.remove(&partition);
        }
    }

    /// All partitions that this process owns.
    #[must_use]
    pub fn partitions(&self) -> Vec<(TopicPartition, Arc<PartitionStatus>)> {
        list(&self.partitions)
    }

    /// The figures of a plugin, shared by all shards.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Arc<PluginStatus> {
        entry(&self.plugins, &name.to_owned())
    }

    /// What a plugin has done in all processes that share the work, as far as this one knows.
    #[must_use]
    pub fn plugin_everywhere(&self, name: &str) -> PluginFigures {
        let elsewhere = self.elsewhere.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        PluginFigures::of(&self.plugin(name)).plus(&elsewhere.unwrap_or_default())
    }

    /// Takes note of what plugins have done in other processes.
    pub fn set_plugins_elsewhere(&self, figures: BTreeMap<String, PluginFigures>) {
        *self.elsewhere.write().unwrap_or_else(PoisonError::into_inner) = figures;
    }

    /// All plugins that were asked for.
    #[must_use]
    pub fn plugins(&self) -> Vec<(String, Arc<PluginStatus>)> {
        list(&self.plugins)
    }

    /// The figures of a long-lived actor, from now on listed.
    #[must_use]
    pub fn actor(&self, name: &str) -> Arc<ActorStatus> {
        entry(&self.actors, &name.to_owned())
    }

    /// All long-lived actors.
    #[must_use]
    pub fn actors(&self) -> Vec<(String, Arc<ActorStatus>)> {
        list(&self.actors)
    }

    /// Takes note of tills whose clocks are wrong, or right again.
    pub fn note_clocks(&self, drifts: &Drifts) {
        let mut clocks = self.clocks.write().unwrap_or_else(PoisonError::into_inner);
        for (source, drift) in drifts {
            match drift {
                None => {
                    clocks.remove(source.as_str());
                }
                Some(drift) if clocks.len() < CLOCKS_MAX || clocks.contains_key(source.as_str()) => {
                    clocks.insert(source.to_string(), *drift);
                }
                Some(_) => {}
            }
        }
    }

    /// Tills whose clocks are wrong, by source: milliseconds ahead, or below 0 behind.
    #[must_use]
    pub fn clocks(&self) -> Vec<(String, i64)> {
        let clocks = self.clocks.read().unwrap_or_else(PoisonError::into_inner);
        clocks.iter().map(|(source, drift)| (source.clone(), *drift)).collect()
    }

    /// Says that a part of the process cannot work now, and what a person can do about it; `None`: it can again.
    pub fn set_unready(&self, part: &'static str, why: Option<String>) {
        let mut unready = self.unready.write().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => unready.insert(part, why),
            None => unready.remove(part),
        };
    }

    /// Parts that cannot work now, with the reason.
    #[must_use]
    pub fn unready(&self) -> Vec<(&'static str, String)> {
        let unready = self.unready.read().unwrap_or_else(PoisonError::into_inner);
        unready.iter().map(|(&part, why)| (part, why.clone())).collect()
    }
}

/// Milliseconds since the Unix epoch as a time; `None` if they are 0.
#[must_use]
pub fn time_in(millis: i64) -> Option<Timestamp> {
    Some(millis).filter(|&millis| millis > 0).map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Topic;
    use bytes::Bytes;

    #[test]
    fn everybody_who_asks_for_a_plugin_counts_on_the_same_figures() {
        let status = Status::new(Role::ALL.to_vec());
        status.plugin("age-verification").consumed.add(2);
        status.plugin("age-verification").consumed.add(3);
        assert_eq!(status.plugins()[0].1.consumed.get(), 5);
    }

    fn row(epoch: i64, next_offset: i64) -> PartitionRow {
        let partition = TopicPartition::new(Topic::Events, 3);
        PartitionRow { partition, epoch, version: 1, next_offset, clock: Timestamp::MIN, extra: Bytes::new() }
    }

    #[test]
    fn a_commit_that_was_in_flight_brings_a_revoked_partition_not_back() {
        let status = Status::new(Role::ALL.to_vec());
        status.partition_committed(&row(1, 3));
        assert!(status.partitions().is_empty(), "only taking makes an owner");
        status.take_partition(&row(1, 3), 0);
        status.partition_committed(&row(1, 7));
        assert_eq!(status.partitions()[0].1.next_offset.get(), 7);
        status.release_partition(row(1, 7).partition);
        status.partition_committed(&row(1, 8));
        assert!(status.partitions().is_empty());
    }

    #[test]
    fn what_belongs_to_an_earlier_epoch_leaves_the_present_one_alone() {
        let status = Status::new(Role::ALL.to_vec());
        status.take_partition(&row(3, 9), 0);
        status.partition_committed(&row(1, 5));
        status.partition_fenced(row(1, 5).partition, 1);
        assert_eq!(status.partitions()[0].1.next_offset.get(), 9);
        status.partition_fenced(row(3, 9).partition, 3);
        assert!(status.partitions().is_empty());
    }

    #[test]
    fn a_restart_is_counted_with_its_reason() {
        let status = Status::new(Role::ALL.to_vec());
        status.actor("relay").restarted("panicked: index out of bounds");
        let (name, actor) = &status.actors()[0];
        assert_eq!((name.as_str(), actor.restarts.get()), ("relay", 1));
        assert_eq!(actor.last_error().unwrap(), "panicked: index out of bounds");
    }
}
