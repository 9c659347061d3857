//! A bus in memory for tests and simulations: seeded, with faults that can be switched on, and a clock that can be set.
//!
//! It lives as long as somebody holds it; a new consumer on it is what a restarted process would see. Never used by the
//! product itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::partitioner::partition_of;
use super::{
    Bounds, Bus, BusError, Consumer, ConsumerEvent, Fetched, InputTopic, NewRecord, Record, Topic, TopicPartition,
};
use crate::time::Timestamp;

/// Largest record, as on the embedded bus.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A read that crosses this many records stops.
const READ_RECORDS_MAX: usize = 1000;

/// What goes wrong, each with its probability from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// An append does nothing and fails.
    pub append_unavailable: f64,
    /// [`Bus::append_lane`] does its work, but the caller is told that it failed.
    pub lane_answer_lost: f64,
    /// A read fails.
    pub read_unavailable: f64,
    /// Every call takes a random time up to this.
    pub delay_max: Duration,
}

#[derive(Debug)]
struct Partition {
    low: i64,
    records: Vec<Record>,
}

impl Partition {
    fn high(&self) -> i64 {
        self.low + i64::try_from(self.records.len()).expect("memory is smaller than that")
    }
}

#[derive(Debug)]
struct State {
    rng: ChaCha8Rng,
    faults: Faults,
    time: Option<Timestamp>,
    partitions: HashMap<TopicPartition, Partition>,
    lanes: BTreeMap<String, i64>,
    /// Consumers that share the partitions, in the order in which they came.
    members: Vec<u64>,
    /// Which of them has which partition.
    owners: BTreeMap<u32, u64>,
    /// Partitions that cannot be read.
    away: BTreeSet<TopicPartition>,
    /// Ends of the names of lanes that fail.
    lanes_away: BTreeSet<String>,
}

#[derive(Debug)]
struct Shared {
    partitions: u32,
    /// Consumers share the partitions, as those of a Kafka group do.
    is_group: bool,
    identity: String,
    state: Mutex<State>,
    news: watch::Sender<u64>,
    generation: AtomicU64,
}

/// The bus in memory.
#[derive(Debug, Clone)]
pub struct SimulatedBus {
    shared: Arc<Shared>,
}

impl SimulatedBus {
    /// An empty bus without faults. The same seed gives the same faults for the same calls.
    ///
    /// # Panics
    /// If `partitions` is 0.
    #[must_use]
    pub fn new(partitions: u32, seed: u64) -> Self {
        Self::with(partitions, seed, false)
    }

    /// As [`SimulatedBus::new`], but consumers share the partitions instead of fencing each other.
    ///
    /// # Panics
    /// If `partitions` is 0.
    #[must_use]
    pub fn shared(partitions: u32, seed: u64) -> Self {
        Self::with(partitions, seed, true)
    }

    fn with(partitions: u32, seed: u64, is_group: bool) -> Self {
        assert!(partitions > 0, "a bus has at least one partition");
        let of_topic = |topic: Topic| {
            (0..topic.partitions(partitions)).map(move |partition| TopicPartition::new(topic, partition))
        };
        let empty = |of| (of, Partition { low: 0, records: Vec::new() });
        let state = State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            faults: Faults::default(),
            time: None,
            partitions: Topic::ALL.into_iter().flat_map(of_topic).map(empty).collect(),
            lanes: BTreeMap::new(),
            members: Vec::new(),
            owners: BTreeMap::new(),
            away: BTreeSet::new(),
            lanes_away: BTreeSet::new(),
        };
        let shared = Shared {
            partitions,
            is_group,
            identity: format!("simulated-{seed:016x}"),
            state: Mutex::new(state),
            news: watch::Sender::new(0),
            generation: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Switches faults on or off.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().faults = faults;
    }

    /// Sets the bus time of the records to come; before that it is the wall clock. It never goes back.
    pub fn set_time(&self, time: Timestamp) {
        let mut state = self.shared.lock();
        state.time = Some(state.time.map_or(time, |before| before.max(time)));
    }

    /// Removes everything below an offset, as retention would.
    pub fn remove_below(&self, of: TopicPartition, offset: i64) {
        if let Some(partition) = self.shared.lock().partitions.get_mut(&of) {
            let offset = offset.clamp(partition.low, partition.high());
            partition.records.drain(..index(offset - partition.low));
            partition.low = offset;
        }
    }
}

impl SimulatedBus {
    /// From now on this partition cannot be read, or can again.
    pub fn set_away(&self, place: TopicPartition, is_away: bool) {
        let away = &mut self.shared.lock().away;
        if is_away {
            away.insert(place)
        } else {
            away.remove(&place)
        };
    }

    /// From now on lanes whose name ends so fail, or go on again.
    pub fn set_lane_away(&self, lane: &str, is_away: bool) {
        let away = &mut self.shared.lock().lanes_away;
        if is_away {
            away.insert(lane.to_owned())
        } else {
            away.remove(lane)
        };
    }
}

impl Shared {
    fn is_away(&self, place: TopicPartition) -> bool {
        self.lock().away.contains(&place)
    }

    fn is_lane_away(&self, lane: &str) -> bool {
        self.lock().lanes_away.iter().any(|end| lane.ends_with(end))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as the faults say; then tells whether a fault with this probability happens.
    async fn fault(&self, probability: impl Fn(&Faults) -> f64) -> bool {
        let (delay, fault) = {
            let mut state = self.lock();
            let faults = state.faults;
            (faults.delay_max.mul_f64(state.rng.random()), state.rng.random_bool(probability(&faults)))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        fault
    }

    fn check(&self, records: &[NewRecord]) -> Result<Vec<TopicPartition>, BusError> {
        records
            .iter()
            .map(|record| {
                let count = record.topic.partitions(self.partitions);
                let by_key = || record.key.as_ref().map_or(0, |key| partition_of(key, count));
                let of = TopicPartition::new(record.topic, record.partition.unwrap_or_else(by_key));
                if of.partition >= count {
                    return Err(BusError::Refused(format!("there is no {of}: the topic has {count} partitions")));
                }
                if matches!(of.topic, Topic::Input(_)) && !self.lock().partitions.contains_key(&of) {
                    return Err(BusError::Refused(format!("there is no topic {}", of.topic.name())));
                }
                if record.value.len() > RECORD_BYTES_MAX {
                    return Err(BusError::Refused(format!(
                        "a record for {of} is larger than {RECORD_BYTES_MAX} bytes"
                    )));
                }
                Ok(of)
            })
            .collect()
    }

    fn append(&self, records: Vec<NewRecord>, lane: Option<(String, i64)>) -> Result<Vec<i64>, BusError> {
        let places = self.check(&records)?;
        let mut state = self.lock();
        let state = &mut *state;
        if let Some((lane, position)) = lane {
            if state.lanes.get(&lane).is_some_and(|stored| position <= *stored) {
                return Ok(Vec::new());
            }
            state.lanes.insert(lane, position);
        }
        let now = state.time.unwrap_or_else(Timestamp::now);
        let mut offsets = Vec::with_capacity(records.len());
        for (record, of) in records.into_iter().zip(places) {
            let partition = state.partitions.get_mut(&of).expect("the place was checked");
            let timestamp = partition.records.last().map_or(now, |last| last.timestamp.max(now));
            let NewRecord { key, value, headers, .. } = record;
            offsets.push(partition.high());
            partition.records.push(Record { offset: partition.high(), timestamp, key, value, headers });
        }
        self.news.send_modify(|count| *count += 1);
        Ok(offsets)
    }

    fn with_partition<T>(
        &self,
        of: TopicPartition,
        look: impl FnOnce(&Partition) -> Result<T, BusError>,
    ) -> Result<T, BusError> {
        let state = self.lock();
        let partition = state.partitions.get(&of);
        look(partition.ok_or_else(|| BusError::Refused(format!("there is no {of}")))?)
    }

    fn read(&self, from: TopicPartition, offset: i64, bytes_max: usize) -> Result<Fetched, BusError> {
        self.with_partition(from, |partition| {
            if offset < partition.low {
                return Err(BusError::Gone { partition: from, offset, low: partition.low });
            }
            if offset > partition.high() {
                return Err(BusError::Misconfigured(format!("{from} ends at offset {}", partition.high())));
            }
            let mut bytes = 0;
            let rest = partition.records[index(offset - partition.low)..].iter().take(READ_RECORDS_MAX);
            let records: Vec<_> = rest
                .take_while(|record| {
                    let enough = bytes >= bytes_max.max(1);
                    bytes += record.value.len() + 1;
                    !enough
                })
                .cloned()
                .collect();
            let next_offset = records.last().map_or(offset, |record| record.offset + 1);
            Ok(Fetched { records, next_offset, at_end: next_offset == partition.high() })
        })
    }
}

fn index(distance: i64) -> usize {
    usize::try_from(distance).expect("offsets were checked against the partition's bounds")
}

fn unavailable() -> BusError {
    BusError::Unavailable("simulated fault".to_owned())
}

impl Bus for SimulatedBus {
    fn partitions(&self) -> u32 {
        self.shared.partitions
    }

    fn identity(&self) -> String {
        self.shared.identity.clone()
    }

    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Result<Vec<i64>, BusError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if shared.fault(|faults| faults.append_unavailable).await {
                return Err(unavailable());
            }
            shared.append(records, None)
        })
    }

    fn append_lane(
        &self,
        lane: String,
        position: i64,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if shared.fault(|faults| faults.append_unavailable).await || shared.is_lane_away(&lane) {
                return Err(unavailable());
            }
            shared.append(records, Some((lane, position)))?;
            if shared.fault(|faults| faults.lane_answer_lost).await { Err(unavailable()) } else { Ok(()) }
        })
    }

    fn lane_position(&self, lane: String) -> BoxFuture<'static, Result<Option<i64>, BusError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if shared.fault(|faults| faults.read_unavailable).await || shared.is_lane_away(&lane) {
                return Err(unavailable());
            }
            Ok(shared.lock().lanes.get(&lane).copied())
        })
    }

    fn read(
        &self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<Fetched, BusError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if shared.fault(|faults| faults.read_unavailable).await || shared.is_away(from) {
                return Err(unavailable());
            }
            shared.read(from, offset, bytes_max)
        })
    }

    fn offset_at(&self, of: TopicPartition, time: Timestamp) -> BoxFuture<'static, Result<i64, BusError>> {
        let found = self.shared.with_partition(of, |partition| {
            let before = partition.records.partition_point(|record| record.timestamp < time);
            Ok(partition.records.get(before).map_or(partition.high(), |record| record.offset))
        });
        Box::pin(std::future::ready(found))
    }

    fn bounds(&self, of: TopicPartition) -> BoxFuture<'static, Result<Bounds, BusError>> {
        if self.shared.is_away(of) {
            return Box::pin(std::future::ready(Err(unavailable())));
        }
        let bounds =
            self.shared.with_partition(of, |partition| Ok(Bounds { low: partition.low, high: partition.high() }));
        Box::pin(std::future::ready(bounds))
    }

    /// Nothing is ever removed but by [`SimulatedBus::remove_below`].
    fn set_floor(&self, _: TopicPartition, _: i64) {}

    /// Joins as the only member, so that an older consumer is fenced, or on a shared bus as one of several.
    fn create_input(&self, input: InputTopic) -> BoxFuture<'static, Result<(), BusError>> {
        let mut state = self.shared.lock();
        for partition in 0..self.shared.partitions {
            let empty = || Partition { low: 0, records: Vec::new() };
            state.partitions.entry(TopicPartition::new(Topic::Input(input), partition)).or_insert_with(empty);
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn consumer(&self) -> Result<Box<dyn Consumer>, BusError> {
        let id = self.shared.generation.fetch_add(1, Ordering::AcqRel) + 1;
        if self.shared.is_group {
            self.shared.lock().members.push(id);
        }
        self.shared.news.send_modify(|count| *count += 1);
        let mut news = self.shared.news.subscribe();
        news.mark_changed();
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(SimulatedConsumer { shared, id, news, joined: false, revoked: Vec::new() }))
    }

    fn is_shared(&self) -> bool {
        self.shared.is_group
    }
}

#[derive(Debug)]
struct SimulatedConsumer {
    shared: Arc<Shared>,
    id: u64,
    news: watch::Receiver<u64>,
    joined: bool,
    /// Given away; others may have them once the owner has come back to ask for more.
    revoked: Vec<u32>,
}

impl SimulatedConsumer {
    fn check(&self) -> Result<(), BusError> {
        if self.shared.is_group || self.id == self.shared.generation.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(BusError::Fenced("a newer consumer was started".to_owned()))
        }
    }

    /// What changes in the assignment of this member. Nobody gets a partition that another one still has.
    fn rebalance(&mut self) -> Option<ConsumerEvent> {
        let first = !std::mem::replace(&mut self.joined, true);
        if !self.shared.is_group {
            return first.then(|| ConsumerEvent::Assigned((0..self.shared.partitions).collect()));
        }
        let mut state = self.shared.lock();
        let released = std::mem::take(&mut self.revoked);
        state.owners.retain(|partition, _| !released.contains(partition));
        let count = state.members.len();
        let place = state.members.iter().position(|member| *member == self.id).unwrap_or_default();
        let is_mine = |partition: u32| partition as usize % count.max(1) == place;
        let owned = state.owners.iter().filter(|(_, owner)| **owner == self.id).map(|(partition, _)| *partition);
        let revoked: Vec<u32> = owned.filter(|partition| !is_mine(*partition)).collect();
        let free = |partition: &u32| is_mine(*partition) && !state.owners.contains_key(partition);
        let assigned: Vec<u32> = (0..self.shared.partitions).filter(free).collect();
        state.owners.extend(assigned.iter().map(|partition| (*partition, self.id)));
        drop(state);
        if !released.is_empty() {
            self.shared.news.send_modify(|count| *count += 1);
        }
        if first || !assigned.is_empty() {
            return Some(ConsumerEvent::Assigned(assigned));
        }
        self.revoked.clone_from(&revoked);
        (!revoked.is_empty()).then_some(ConsumerEvent::Revoked(revoked))
    }
}

impl Drop for SimulatedConsumer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.members.retain(|member| *member != self.id);
        state.owners.retain(|_, owner| *owner != self.id);
        drop(state);
        self.shared.news.send_modify(|count| *count += 1);
    }
}

impl Consumer for SimulatedConsumer {
    fn next(&mut self) -> BoxFuture<'_, Result<ConsumerEvent, BusError>> {
        Box::pin(async move {
            self.check()?;
            if let Some(event) = self.rebalance() {
                return Ok(event);
            }
            self.news.changed().await.map_err(|_| unavailable())?;
            self.check()?;
            Ok(self.rebalance().unwrap_or(ConsumerEvent::Ready))
        })
    }

    fn fetch(
        &mut self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Fetched, BusError>> {
        Box::pin(async move {
            self.check()?;
            if self.shared.fault(|faults| faults.read_unavailable).await {
                return Err(unavailable());
            }
            self.shared.read(from, offset, bytes_max)
        })
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::suite::{PARTITIONS, bus_suite, read_all, record};

    const P0: TopicPartition = TopicPartition::new(Topic::Events, 0);

    bus_suite!(((), Arc::new(SimulatedBus::new(PARTITIONS, 1)) as Arc<dyn Bus>), sole);

    #[tokio::test]
    async fn a_fault_appends_nothing_and_repeating_a_lane_appends_once() {
        let bus = SimulatedBus::new(PARTITIONS, 7);
        bus.set_faults(Faults { append_unavailable: 0.5, lane_answer_lost: 0.5, ..Faults::default() });
        for position in 1..=50 {
            while bus.append_lane("lane".to_owned(), position, vec![record(position.to_string())]).await.is_err() {}
        }
        bus.set_faults(Faults::default());
        let values: Vec<_> = read_all(&bus, P0, 0).await.into_iter().map(|record| record.value).collect();
        assert_eq!(values, (1..=50).map(|position| position.to_string()).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn members_of_a_group_share_the_partitions_and_none_has_two_owners() {
        let bus = SimulatedBus::shared(PARTITIONS, 7);
        let mut first = bus.consumer().unwrap();
        assert_eq!(first.next().await.unwrap(), ConsumerEvent::Assigned(vec![0, 1, 2, 3]));
        let mut second = bus.consumer().unwrap();
        assert_eq!(second.next().await.unwrap(), ConsumerEvent::Assigned(Vec::new()), "all are still taken");
        assert_eq!(first.next().await.unwrap(), ConsumerEvent::Revoked(vec![1, 3]));
        let (_, assigned) = tokio::join!(first.next(), async {
            loop {
                if let ConsumerEvent::Assigned(partitions) = second.next().await.unwrap() {
                    return partitions;
                }
            }
        });
        assert_eq!(assigned, [1, 3]);
        first.leave().await;
        assert_eq!(second.next().await.unwrap(), ConsumerEvent::Assigned(vec![0, 2]));
    }

    #[tokio::test]
    async fn a_tail_begins_at_the_end_and_shows_each_record_once_in_order() {
        let bus = SimulatedBus::shared(PARTITIONS, 7);
        bus.append(vec![record("before")]).await.unwrap();
        let mut tail = crate::bus::follow(Arc::new(bus.clone()), vec![Topic::Events, Topic::Plugins]);
        let mut seen = Vec::new();
        for round in 0..3 {
            // The first look finds out where the end is.
            let _ = tokio::time::timeout(Duration::from_millis(120), tail.next()).await;
            bus.append((0..2000).map(|number| record(format!("{round}-{number}"))).collect()).await.unwrap();
            while seen.len() < (round + 1) * 2000 {
                seen.extend(tail.next().await.unwrap().into_iter().map(|(_, record)| record.value));
            }
        }
        let all = (0..3).flat_map(|round| (0..2000).map(move |number| format!("{round}-{number}")));
        assert_eq!(seen, all.collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_was_removed_is_reported_as_gone() {
        let bus = SimulatedBus::new(PARTITIONS, 7);
        bus.append(vec![record("x"); 10]).await.unwrap();
        bus.remove_below(P0, 4);
        assert!(matches!(bus.read(P0, 3, 1).await, Err(BusError::Gone { offset: 3, low: 4, .. })));
        assert_eq!(read_all(&bus, P0, 4).await.len(), 6);
    }
}
