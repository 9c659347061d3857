//! The shards: which partitions each holds, how many batches are in flight, and when one starts again.

use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter};
use futures_util::future::LocalBoxFuture;

use super::lanes::Lanes;
use crate::actors::panics::{self, LastWords};
use crate::actors::quarantine::Quarantine;
use crate::actors::shard::{ApplyBatch, CommitReport, Shard, ShardContext, ShardFault, Take};
use crate::actors::supervisor::Crashes;
use crate::bus::{Fetched, Topic, TopicPartition};

/// Batches in flight for each shard: one is applied while the one before it is made durable. With three large ones
/// commits got more and memory grew, for no gain in throughput (docs/benchmarks.md).
const IN_FLIGHT_MAX: usize = 2;
/// A third is on its way as long as all of them are small, so that applying, appending and committing go on at the same
/// time and no event waits for a batch to pass all three.
const IN_FLIGHT_SMALL_MAX: usize = 3;
/// Batches in flight with at most this many bytes together are small.
const SMALL_BYTES: usize = 256 * 1024;
/// A small batch is followed by the next one after this time at the earliest: where events trickle in, every batch costs some
/// ten wake-ups of threads, far more than its events, and it is these that make others wait (docs/benchmarks.md).
const PACE: Duration = Duration::from_millis(4);
/// Entity states that a batch should change, about. Where every event is about other terminals, what a batch comes to is
/// many times what was read, and it is this that memory is needed for.
const STATES_MAX: usize = 6000;
/// Bytes of the first batch, and of the smallest to which many states may reduce it.
const BYTES_FIRST: usize = 1024 * 1024;
const BYTES_MIN: usize = 256 * 1024;
/// Waits before a restart, in milliseconds: doubling from the first to the last.
const BACKOFF_MS: (u64, u64) = (50, 5000);
/// A partition that somebody else has taken is taken back after this time at the earliest. A process that was paused learns
/// within it that the group has given its partitions away; taking them back before that would fence their new owner.
const FENCED_WAIT_MS: u64 = 1000;

/// A batch on its way.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// The shard that has it.
    pub(super) shard: usize,
    /// The partitions that it has records of.
    pub(super) places: Vec<TopicPartition>,
    /// Up to which offset of each.
    ends: Vec<(TopicPartition, i64)>,
    generation: u64,
    records: usize,
    bytes: usize,
    /// The only record, where there is only one.
    single: Option<(TopicPartition, i64)>,
}

struct ShardHandle {
    arbiter: Arbiter,
    actor: Option<Addr<Shard>>,
    /// What the actor says if it panics.
    last_words: LastWords,
    partitions: Vec<u32>,
    generation: u64,
    in_flight: usize,
    bytes_in_flight: usize,
    /// Bytes that the next batch should hold.
    bytes_fit: usize,
    /// The next batch is not sent before.
    next_at: Option<Instant>,
    start_at: Option<Instant>,
    backoff_ms: u64,
    records_max: usize,
    quarantine: Quarantine,
    /// Ends of the batch that was refused last: until all of it is committed, batches do not grow. Chunks that wait are read
    /// again after each restart, so the culprit would otherwise never stand alone.
    narrowing: Vec<(TopicPartition, i64)>,
}

/// All shards of the process.
pub(super) struct Shards {
    context: ShardContext,
    crashes: Crashes,
    shards: Vec<ShardHandle>,
    /// Somebody changed the settings, perhaps in another process: read them before the next start.
    settings_moved: bool,
}

/// What a shard's actor is called where it says why it is gone.
const SHARD: &str = "the shard's actor";

fn name(shard: usize) -> String {
    format!("shard-{shard}")
}

impl Shards {
    /// So many threads, none with a partition yet.
    pub(super) fn new(context: ShardContext, count: usize, crashes: Crashes) -> Self {
        panics::remember();
        let shards = (0..count.max(1)).map(|index| {
            let _ = context.status.actor(&name(index));
            ShardHandle {
                arbiter: Arbiter::new(),
                actor: None,
                last_words: LastWords::default(),
                partitions: Vec::new(),
                generation: 0,
                in_flight: 0,
                bytes_in_flight: 0,
                bytes_fit: BYTES_FIRST,
                next_at: None,
                start_at: None,
                backoff_ms: BACKOFF_MS.0,
                records_max: usize::MAX,
                quarantine: Quarantine::default(),
                narrowing: Vec::new(),
            }
        });
        Self { shards: shards.collect(), context, crashes, settings_moved: false }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.shards.len()
    }

    /// Shares new partitions out. The shards concerned begin again with all they have.
    pub(super) fn assign(&mut self, partitions: &[u32], lanes: &mut Lanes) {
        let count = self.shards.len();
        for &partition in partitions {
            let shard = partition as usize % count;
            let handle = &mut self.shards[shard];
            if !handle.partitions.contains(&partition) {
                handle.partitions.push(partition);
            }
            handle.restart(Duration::ZERO);
            lanes.drop_shard(shard);
        }
    }

    /// Gives partitions away, and with them everything in memory that belongs to them.
    pub(super) fn revoke(&mut self, partitions: &[u32], lanes: &mut Lanes) {
        for (index, handle) in self.shards.iter_mut().enumerate() {
            let before = handle.partitions.len();
            handle.partitions.retain(|partition| !partitions.contains(partition));
            if handle.partitions.len() < before {
                handle.narrowing.retain(|(place, _)| !partitions.contains(&place.partition));
                handle.quarantine.leave(partitions);
                handle.restart(Duration::ZERO);
                lanes.drop_shard(index);
            }
        }
        for &partition in partitions {
            for topic in [Topic::Events, Topic::Rekeyed] {
                lanes.drop_lane(TopicPartition::new(topic, partition));
            }
            self.leave(partition);
        }
    }

    /// Starts the shards whose time has come.
    pub(super) async fn start_due(&mut self, lanes: &mut Lanes) {
        if std::mem::take(&mut self.settings_moved)
            && let Err(error) = self.context.control.refresh().await
        {
            tracing::warn!(%error, "the new settings cannot be read yet; trying again");
            self.settings_moved = true;
            return;
        }
        for index in 0..self.shards.len() {
            let handle = &mut self.shards[index];
            if handle.start_at.is_none_or(|at| at > Instant::now()) || handle.partitions.is_empty() {
                continue;
            }
            handle.start_at = None;
            let context = self.context.clone();
            let last_words = LastWords::default();
            handle.last_words = last_words.clone();
            let start = move |_: &mut _| Shard::new(index, context, last_words);
            let actor = Shard::start_in_arbiter(&handle.arbiter.handle(), start);
            self.crashes.register(&name(index), &actor.clone().recipient());
            let places = handle.partitions.iter();
            let partitions = places.flat_map(|&partition| {
                [TopicPartition::new(Topic::Events, partition), TopicPartition::new(Topic::Rekeyed, partition)]
            });
            let take = Take { partitions: partitions.collect(), quarantine: handle.quarantine.clone() };
            match actor.send(take).await {
                Ok(Ok(rows)) => {
                    for row in &rows {
                        lanes.take(index, row);
                    }
                    handle.actor = Some(actor);
                }
                Ok(Err(fault)) => self.restart(index, &fault.to_string(), lanes),
                Err(_) => {
                    let why = self.shards[index].last_words.why_gone(SHARD);
                    self.restart(index, &why, lanes);
                }
            }
        }
    }

    /// True if the shard runs and has room for another batch.
    pub(super) fn has_room(&self, shard: usize) -> bool {
        let handle = &self.shards[shard];
        let small = handle.bytes_in_flight <= SMALL_BYTES;
        let room = if small { IN_FLIGHT_SMALL_MAX } else { IN_FLIGHT_MAX };
        handle.actor.is_some() && handle.in_flight < room && handle.next_at.is_none()
    }

    /// When the next shard that waits for the sake of a larger batch may have one.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.shards.iter().filter_map(|handle| handle.next_at).min()
    }

    /// Shards that have waited for long enough may have their next batch.
    pub(super) fn end_waits(&mut self) {
        let now = Instant::now();
        for handle in &mut self.shards {
            handle.next_at.take_if(|at| *at <= now);
        }
    }

    /// Shards that run and have nothing to do.
    pub(super) fn idle(&self) -> Vec<usize> {
        let idle = |handle: &ShardHandle| handle.actor.is_some() && handle.in_flight == 0;
        self.shards.iter().enumerate().filter(|(_, handle)| idle(handle)).map(|(index, _)| index).collect()
    }

    /// True if every shard that has partitions runs.
    pub(super) fn all_up(&self) -> bool {
        self.shards.iter().all(|handle| handle.actor.is_some() || handle.partitions.is_empty())
    }

    /// The places where the store has refused something that is not passed yet: they are read before the others, so that a
    /// backlog elsewhere does not hold them up while batches are small.
    pub(super) fn narrowing(&self, shard: usize) -> impl Iterator<Item = TopicPartition> + '_ {
        self.shards[shard].narrowing.iter().map(|(place, _)| *place)
    }

    /// Records that the next batch may hold.
    pub(super) fn records_max(&self, shard: usize) -> usize {
        self.shards[shard].records_max
    }

    /// Bytes that the next batch may hold, about.
    pub(super) fn bytes_max(&self, shard: usize) -> usize {
        self.shards[shard].bytes_fit
    }

    /// Sends a batch; the future ends when it is committed or has failed.
    pub(super) fn send(
        &mut self,
        shard: usize,
        fetched: Vec<(TopicPartition, Fetched)>,
    ) -> (Sent, LocalBoxFuture<'static, Result<CommitReport, ShardFault>>) {
        let handle = &mut self.shards[shard];
        handle.in_flight += 1;
        let records = fetched.iter().map(|(_, fetched)| fetched.records.len()).sum();
        let bytes = fetched.iter().flat_map(|(_, fetched)| &fetched.records).map(|record| record.value.len()).sum();
        handle.bytes_in_flight += bytes;
        if bytes <= SMALL_BYTES {
            handle.next_at = Some(Instant::now() + PACE);
        }
        let first = fetched.iter().find_map(|(place, fetched)| Some((*place, fetched.records.first()?.offset)));
        let places = fetched.iter().map(|(place, _)| *place).collect();
        let ends = fetched.iter().map(|(place, fetched)| (*place, fetched.next_offset)).collect();
        let sent = Sent {
            shard,
            places,
            ends,
            generation: handle.generation,
            records,
            bytes,
            single: first.filter(|_| records == 1),
        };
        let actor = handle.actor.clone().expect("asked for room before");
        let last_words = handle.last_words.clone();
        let result = async move {
            let gone = || ShardFault::Failed(last_words.why_gone(SHARD));
            let applied = actor.send(ApplyBatch { fetched }).await.map_err(|_| gone())??;
            applied.committed.await.map_err(|_| gone())?
        };
        (sent, Box::pin(result))
    }

    /// True if the batch belongs to the shard as it runs now.
    pub(super) fn is_current(&self, sent: &Sent) -> bool {
        self.shards[sent.shard].generation == sent.generation
    }

    /// A batch is committed.
    pub(super) fn committed(&mut self, sent: &Sent, report: &CommitReport) {
        let handle = &mut self.shards[sent.shard];
        handle.in_flight = handle.in_flight.saturating_sub(1);
        handle.bytes_in_flight = handle.bytes_in_flight.saturating_sub(sent.bytes);
        if sent.bytes >= BYTES_MIN {
            handle.bytes_fit = bytes_that_fit(handle.bytes_fit, sent.bytes, report.states);
        }
        handle.backoff_ms = BACKOFF_MS.0;
        let is_past = |end: &(TopicPartition, i64)| sent.ends.iter().any(|(place, to)| *place == end.0 && *to >= end.1);
        handle.narrowing.retain(|end| !is_past(end));
        if handle.narrowing.is_empty() {
            handle.records_max = handle.records_max.saturating_mul(2);
        }
        if !handle.quarantine.is_empty() {
            for (place, next_offset) in &sent.ends {
                handle.quarantine.committed(*place, *next_offset);
            }
        }
    }

    /// A batch has failed: the shard begins again from what is committed.
    pub(super) fn failed(&mut self, sent: &Sent, fault: &ShardFault, lanes: &mut Lanes) {
        match fault {
            ShardFault::SettingsMoved => {
                let handle = &mut self.shards[sent.shard];
                handle.restart(Duration::ZERO);
                lanes.drop_shard(sent.shard);
                self.settings_moved = true;
                return;
            }
            ShardFault::Refused(why) => {
                let handle = &mut self.shards[sent.shard];
                handle.records_max = (sent.records / 2).max(1);
                handle.narrowing.clone_from(&sent.ends);
                if let Some(culprit) = sent.single {
                    tracing::error!(partition = %culprit.0, offset = culprit.1, why, "the store refuses what follows from this message; what it refuses becomes a dead letter");
                    handle.quarantine.refused(culprit);
                }
            }
            ShardFault::RefusedShares(record, shares) => {
                let handle = &mut self.shards[sent.shard];
                handle.records_max = 1;
                handle.narrowing.clone_from(&sent.ends);
                handle.quarantine.refused_shares(*record, shares);
            }
            ShardFault::Fenced(place) => return self.fenced(sent.shard, *place, lanes),
            ShardFault::Failed(_) => {}
        }
        self.restart(sent.shard, &fault.to_string(), lanes);
    }

    /// Somebody else has taken this partition of a shard: it is not ours until it is taken again.
    pub(super) fn fenced(&mut self, shard: usize, place: TopicPartition, lanes: &mut Lanes) {
        self.leave(place.partition);
        let handle = &mut self.shards[shard];
        handle.backoff_ms = handle.backoff_ms.max(FENCED_WAIT_MS);
        self.restart(shard, &ShardFault::Fenced(place).to_string(), lanes);
    }

    /// This process owns nothing of this number any more.
    fn leave(&self, partition: u32) {
        for topic in [Topic::Events, Topic::Rekeyed] {
            let place = TopicPartition::new(topic, partition);
            self.context.sources.left(place);
            self.context.status.release_partition(place);
        }
    }

    fn restart(&mut self, shard: usize, why: &str, lanes: &mut Lanes) {
        let handle = &mut self.shards[shard];
        tracing::warn!(shard, why, wait_ms = handle.backoff_ms, "a shard begins again from the last commit");
        let wait = Duration::from_millis(handle.backoff_ms);
        handle.backoff_ms = (handle.backoff_ms * 2).min(BACKOFF_MS.1);
        handle.restart(wait);
        lanes.drop_shard(shard);
        self.context.status.actor(&name(shard)).restarted(why);
    }

    /// Ends the threads. From now on this process owns nothing.
    pub(super) fn stop(&mut self) {
        for index in 0..self.shards.len() {
            let handle = &mut self.shards[index];
            handle.actor = None;
            handle.arbiter.stop();
            for partition in std::mem::take(&mut handle.partitions) {
                self.leave(partition);
            }
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.stop();
    }
}

impl ShardHandle {
    fn restart(&mut self, wait: Duration) {
        self.actor = None;
        self.generation += 1;
        self.in_flight = 0;
        self.bytes_in_flight = 0;
        self.next_at = None;
        self.start_at = Some(Instant::now() + wait);
    }
}

/// Bytes of the next batch, after one that was allowed `before`, held `bytes` and changed so many states.
fn bytes_that_fit(before: usize, bytes: usize, states: usize) -> usize {
    let fit = bytes.saturating_mul(STATES_MAX) / states.max(1);
    fit.clamp(BYTES_MIN, before.max(BYTES_MIN).saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[actix::test]
    async fn a_revoked_shard_lets_go_of_all_that_it_holds() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("store.db").display());
        let context = ShardContext::for_tests(&url, 4).await;
        let mut lanes = Lanes::new(4);
        let mut shards = Shards::new(context.clone(), 2, Crashes::default());
        let held_before = Arc::strong_count(&context.sources);
        shards.assign(&[0, 1, 2, 3], &mut lanes);
        shards.start_due(&mut lanes).await;
        assert!(shards.all_up() && Arc::strong_count(&context.sources) > held_before);
        // A process that is the only one of several to be left without partitions starts no shard in their place.
        shards.revoke(&[0, 1, 2, 3], &mut lanes);
        while Arc::strong_count(&context.sources) > held_before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn batches_shrink_with_what_they_change_and_grow_again_step_by_step() {
        assert_eq!(bytes_that_fit(4_000_000, 4_000_000, 4 * STATES_MAX), 1_000_000);
        assert_eq!(bytes_that_fit(1_000_000, 1_000_000, STATES_MAX / 10), 2_000_000);
        assert_eq!(bytes_that_fit(1_000_000, 1_000_000, 0), 2_000_000);
        assert_eq!(bytes_that_fit(1_000_000, 300_000, 1_000_000), BYTES_MIN);
    }
}
