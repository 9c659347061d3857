//! Apache Kafka as the bus, through librdkafka. How Tillstream goes past one machine: more processes in the same group.
//!
//! One idempotent producer appends; each lane of the relay has a transactional one; a member of the consumer group learns
//! which partitions are ours, and a client of its own fetches them from the offsets that the store says. librdkafka's calls
//! block, so they run on threads of this module, never on those of an async runtime.

mod appender;
mod blocks;
mod brokers;
mod consumer;
mod context;
mod error;
mod fetcher;
mod lanes;
mod membership;
mod options;
mod positions;
mod reader;
mod records;
mod rights;
mod settings;
mod tail;
#[cfg(test)]
mod tests;
mod topics;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Bounds, Bus, BusError, Consumer, Fetched, InputTopic, NewRecord, Surplus, Tail, Topic, TopicPartition};
use crate::time::Timestamp;
use appender::Appender;
use consumer::KafkaConsumer;
use context::LastError;
use lanes::Lanes;
use membership::Processed;
pub use options::KafkaOptions;
use reader::{Reader, blocking};
use tail::KafkaTail;
use topics::TopicNames;

/// How long the brokers may take to say who they are.
const CLUSTER_ID_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of added partitions that are read at once.
const SURPLUS_BYTES: usize = 256 * 1024;

/// The bus on Kafka.
pub struct KafkaBus {
    options: Arc<KafkaOptions>,
    names: TopicNames,
    identity: String,
    appender: Appender,
    lanes: Lanes,
    reader: Reader,
    processed: Processed,
}

impl std::fmt::Debug for KafkaBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaBus")
            .field("options", &self.options)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl KafkaBus {
    /// Connects, creates topics that are missing and checks those that are there.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if no broker answers, [`BusError::Misconfigured`] if a setting or a topic does not fit.
    pub async fn open(options: KafkaOptions) -> Result<Arc<Self>, BusError> {
        blocking(move || Self::open_blocking(options)).await.map(Arc::new)
    }

    fn open_blocking(options: KafkaOptions) -> Result<Self, BusError> {
        let options = Arc::new(options);
        let names = TopicNames::new(&options);
        let last_error = LastError::default();
        let reader = Reader::start(&options, names.clone(), &last_error)?;
        let Some(cluster) = reader.cluster_id(CLUSTER_ID_TIMEOUT) else {
            let fault = error::needs_a_person(&last_error).unwrap_or_else(|| {
                let why = last_error.suffix();
                BusError::Unavailable(format!("Kafka: no broker of bus.brokers = {} answers{why}", options.brokers))
            });
            return Err(fault);
        };
        topics::ensure(&options, &names, reader.client(), &last_error)?;
        let identity = format!("kafka:{cluster}/{}", options.topic_prefix);
        let appender = Appender::start(Arc::clone(&options), names.clone())?;
        let lanes = Lanes::new(Arc::clone(&options), names.clone());
        Ok(Self { options, names, identity, appender, lanes, reader, processed: Processed::default() })
    }

    /// Reads a partition that was added to `pos.events` beyond the configured ones, as [`Bus::read`] reads the others.
    ///
    /// # Errors
    /// As [`Bus::read`].
    pub async fn read_surplus(&self, partition: u32, offset: i64) -> Result<Fetched, BusError> {
        self.reader.read(TopicPartition::new(Topic::Events, partition), offset, SURPLUS_BYTES).await
    }

    fn check(&self, place: TopicPartition) -> Result<(), BusError> {
        let count = place.topic.partitions(self.options.partitions);
        if place.partition < count {
            return Ok(());
        }
        Err(BusError::Refused(format!("there is no {place}: the topic has {count} partitions")))
    }
}

/// The answer, unless the question makes no sense.
fn checked<T: Send + 'static>(
    check: Result<(), BusError>,
    answer: impl Future<Output = Result<T, BusError>> + Send + 'static,
) -> BoxFuture<'static, Result<T, BusError>> {
    Box::pin(async move {
        check?;
        answer.await
    })
}

impl Bus for KafkaBus {
    fn partitions(&self) -> u32 {
        self.options.partitions
    }

    fn surplus(&self) -> BoxFuture<'static, Result<Option<Surplus>, BusError>> {
        Box::pin(self.reader.surplus(self.options.partitions))
    }

    /// The cluster's id and the topics' prefix.
    fn identity(&self) -> String {
        self.identity.clone()
    }

    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Result<Vec<i64>, BusError>> {
        Box::pin(self.appender.append(records))
    }

    fn append_lane(
        &self,
        lane: String,
        position: i64,
        records: Vec<NewRecord>,
    ) -> BoxFuture<'static, Result<(), BusError>> {
        Box::pin(self.lanes.append(&lane, position, records))
    }

    fn lane_position(&self, lane: String) -> BoxFuture<'static, Result<Option<i64>, BusError>> {
        Box::pin(self.lanes.position(&lane))
    }

    fn read(
        &self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> BoxFuture<'static, Result<Fetched, BusError>> {
        let check = self.check(from);
        checked(check, self.reader.read(from, offset, bytes_max))
    }

    fn offset_at(&self, of: TopicPartition, time: Timestamp) -> BoxFuture<'static, Result<i64, BusError>> {
        checked(self.check(of), self.reader.offset_at(of, time))
    }

    fn bounds(&self, of: TopicPartition) -> BoxFuture<'static, Result<Bounds, BusError>> {
        checked(self.check(of), self.reader.bounds(of))
    }

    /// Kafka's retention follows the topics' settings, not what has been processed; the offset is told to the consumer group
    /// now and then, so that Kafka's own tools show the lag.
    fn set_floor(&self, of: TopicPartition, offset: i64) {
        self.processed.set(of, offset);
    }

    fn create_input(&self, input: InputTopic) -> BoxFuture<'static, Result<(), BusError>> {
        let (options, names) = (Arc::clone(&self.options), self.names.clone());
        let (client, last_error) = self.reader.client_and_errors();
        Box::pin(blocking(move || topics::ensure_input(&options, &names, input, &client, &last_error)))
    }

    fn try_rights(&self) -> BoxFuture<'static, Result<(), BusError>> {
        let (options, names) = (Arc::clone(&self.options), self.names.clone());
        Box::pin(blocking(move || rights::try_all(&options, &names)))
    }

    fn advice(&self) -> BoxFuture<'static, Vec<String>> {
        let (options, names) = (Arc::clone(&self.options), self.names.clone());
        Box::pin(async move {
            blocking(move || Ok(brokers::advice(&options, &names)))
                .await
                .unwrap_or_else(|error| vec![error.to_string()])
        })
    }

    fn consumer(&self) -> Result<Box<dyn Consumer>, BusError> {
        Ok(Box::new(KafkaConsumer::join(&self.options, &self.names, self.processed.clone())?))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn tail(&self, topics: &[Topic]) -> Result<Option<Box<dyn Tail>>, BusError> {
        Ok(Some(Box::new(KafkaTail::start(&self.options, &self.names, topics)?)))
    }
}
