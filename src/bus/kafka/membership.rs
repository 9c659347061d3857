//! Membership in the consumer group: it learns which partitions are ours, and tells the group what has been processed.
//!
//! The member is subscribed to `pos.events` and reads nothing; who owns partition p of it owns p of the other topics. A
//! thread of its own polls, so that a busy process does not fall out of the group.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::context::{Context, LastError};
use super::error::bus_error;
use super::options::KafkaOptions;
use super::records::number;
use super::topics::TopicNames;
use crate::bus::{BusError, ConsumerEvent, Topic, TopicPartition};

const POLL: Duration = Duration::from_millis(100);
/// How often the group hears what has been processed, for Kafka's own tools.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// What has been processed, as the shards report it.
#[derive(Debug, Clone, Default)]
pub(super) struct Processed(Arc<Mutex<HashMap<TopicPartition, i64>>>);

impl Processed {
    /// Everything below `offset` is processed.
    pub(super) fn set(&self, of: TopicPartition, offset: i64) {
        self.lock().insert(of, offset);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member of the group; leaves when dropped.
pub(super) struct Membership {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Membership {
    /// Joins the group; changes of the assignment go to `events`.
    ///
    /// # Errors
    /// If a setting is not accepted.
    pub(super) fn join(
        options: &KafkaOptions,
        names: &TopicNames,
        processed: Processed,
        events: mpsc::UnboundedSender<Result<ConsumerEvent, BusError>>,
    ) -> Result<Self, BusError> {
        let last_error = LastError::default();
        let context = MemberContext {
            context: Context::new("member", &last_error),
            names: names.clone(),
            partitions: options.partitions,
            processed,
            owned: Mutex::default(),
            committed: Mutex::default(),
            events: events.clone(),
        };
        let fault = |error: KafkaError| bus_error("joining the consumer group", &error, &last_error);
        let client: BaseConsumer<MemberContext> =
            BaseConsumer::from_config_and_context(&options.membership(), context).map_err(fault)?;
        client.subscribe(&[names.get(Topic::Events)]).map_err(fault)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let run = move || run(&client, &stopping, &events, &last_error);
        let thread = std::thread::Builder::new().name("kafka-member".to_owned()).spawn(run);
        let thread = thread.map_err(|error| BusError::Unavailable(format!("no thread for Kafka: {error}")))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Membership {
    /// Commits what has been processed and leaves the group, so that others take over at once.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    client: &BaseConsumer<MemberContext>,
    stop: &AtomicBool,
    events: &mpsc::UnboundedSender<Result<ConsumerEvent, BusError>>,
    last_error: &LastError,
) {
    let mut commit_at = Instant::now() + COMMIT_EVERY;
    while !stop.load(Ordering::Acquire) {
        match client.poll(POLL) {
            // Assigned partitions are paused; what slips through before that is not wanted here.
            None | Some(Ok(_)) => {}
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                let _ = events.send(Err(bus_error("being a member of the consumer group", &error, last_error)));
                return;
            }
            Some(Err(error)) => {
                let denied = matches!(
                    error.rdkafka_error_code(),
                    Some(RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::TopicAuthorizationFailed)
                );
                if denied {
                    let _ = events.send(Err(bus_error("joining the consumer group", &error, last_error)));
                    return;
                }
                tracing::debug!(%error, "the member of the group goes on");
            }
        }
        if Instant::now() >= commit_at {
            client.context().commit(client, CommitMode::Async);
            commit_at = Instant::now() + COMMIT_EVERY;
        }
    }
    client.context().commit(client, CommitMode::Sync);
}

struct MemberContext {
    context: Context,
    names: TopicNames,
    /// Those that are configured; the group also hands out what was added to the topic later.
    partitions: u32,
    processed: Processed,
    owned: Mutex<BTreeSet<u32>>,
    /// What the group has been told.
    committed: Mutex<HashMap<TopicPartition, i64>>,
    events: mpsc::UnboundedSender<Result<ConsumerEvent, BusError>>,
}

impl MemberContext {
    /// Tells the group what has been processed of the partitions that are ours.
    fn commit(&self, client: &BaseConsumer<Self>, mode: CommitMode) {
        let owned = lock(&self.owned).clone();
        let mut committed = lock(&self.committed);
        let mut offsets = TopicPartitionList::new();
        for (&place, &offset) in self.processed.lock().iter() {
            let shared = matches!(place.topic, Topic::Events | Topic::Rekeyed | Topic::OrderCreated);
            if shared && owned.contains(&place.partition) && committed.insert(place, offset) != Some(offset) {
                let (name, partition) = (self.names.get(place.topic), number(place.partition));
                let _ = offsets.add_partition_offset(name, partition, Offset::Offset(offset));
            }
        }
        if offsets.count() > 0
            && let Err(error) = client.commit(&offsets, mode)
        {
            // Only tools read these offsets; the next time will do.
            tracing::debug!(%error, "the group was not told what has been processed");
            committed.clear();
        }
    }

    /// The configured partitions among these. The others belong to nobody, whoever the group gives them to.
    fn configured(&self, tpl: &TopicPartitionList) -> Vec<u32> {
        let elements = tpl.elements();
        let numbers = elements.iter().filter_map(|element| u32::try_from(element.partition()).ok());
        let mut partitions: Vec<_> = numbers.filter(|partition| *partition < self.partitions).collect();
        partitions.sort_unstable();
        partitions
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log_line(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.note_error(&error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, client: &BaseConsumer<Self>, kind: RDKafkaRespErr, tpl: &mut TopicPartitionList) {
        let partitions = self.configured(tpl);
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // An explicit offset spares asking the group for one; nothing is read from there.
            let taken = tpl
                .set_all_offsets(Offset::End)
                .and_then(|()| client.incremental_assign(tpl))
                .and_then(|()| client.pause(tpl));
            if let Err(error) = taken {
                tracing::warn!(%error, "partitions could not be taken; the group will assign them again");
            }
            lock(&self.owned).extend(&partitions);
            // Even none at all: the group has let this member in.
            let _ = self.events.send(Ok(ConsumerEvent::Assigned(partitions)));
        } else {
            if !client.assignment_lost() {
                self.commit(client, CommitMode::Async);
            }
            lock(&self.owned).retain(|partition| !partitions.contains(partition));
            lock(&self.committed).retain(|place, _| !partitions.contains(&place.partition));
            if let Err(error) = client.incremental_unassign(tpl) {
                tracing::warn!(%error, "partitions could not be given back; the group takes them");
            }
            if !partitions.is_empty() {
                let _ = self.events.send(Ok(ConsumerEvent::Revoked(partitions)));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
