//! Reads pieces of partitions, and where they begin and end. A thread of its own reads, one piece after the other.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::blocks::{Block, Blocks, size};
use super::context::{Context, LastError};
use super::error::{bus_error, is_undecodable, is_unreadable, needs_a_person, undecodable};
use super::options::KafkaOptions;
use super::records::{RecordCopier, number};
use super::topics::{TopicNames, partitions_of};
use crate::bus::{Bounds, BusError, Fetched, Surplus, Topic, TopicPartition};
use crate::time::Timestamp;

/// How long the brokers may take for one question.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long a piece may take to arrive.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// Bytes that are read at once, if they are there.
const BLOCK_BYTES: usize = 256 * 1024;
/// How long to wait for a connection before looking at what went wrong.
const CONNECT_SLICE: Duration = Duration::from_millis(500);
/// How long to listen for what a client has to say.
const SERVE: Duration = Duration::from_millis(10);
/// How long to wait between two questions for a partition that has no leader.
const LEADER_PAUSE: Duration = Duration::from_millis(50);
/// How often the clients' log lines are fetched while there is nothing to read.
const IDLE_POLL: Duration = Duration::from_secs(1);

struct Job {
    from: TopicPartition,
    offset: i64,
    bytes_max: usize,
    answer: oneshot::Sender<Result<Fetched, BusError>>,
}

/// Answers questions about partitions.
pub(super) struct Reader {
    /// Sees only what is committed.
    committed: Arc<BaseConsumer<Context>>,
    /// Sees where partitions really end, open transactions included.
    watermarks: Arc<BaseConsumer<Context>>,
    names: TopicNames,
    last_error: LastError,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts the clients.
    ///
    /// # Errors
    /// If a setting is not accepted.
    pub(super) fn start(options: &KafkaOptions, names: TopicNames, last_error: &LastError) -> Result<Self, BusError> {
        let client = |config| {
            BaseConsumer::from_config_and_context(&config, Context::new("reader", last_error))
                .map(Arc::new)
                .map_err(|error| bus_error("starting", &error, last_error))
        };
        let (committed, watermarks) = (client(options.reader())?, client(options.watermarks())?);
        let (jobs, waiting) = mpsc::channel::<Job>();
        let mut piece = PieceReader {
            client: Arc::clone(&committed),
            watermarks: Arc::clone(&watermarks),
            names: names.clone(),
            last_error: last_error.clone(),
            blocks: Blocks::default(),
        };
        let run = move || {
            loop {
                match waiting.recv_timeout(IDLE_POLL) {
                    Ok(job) if job.answer.is_closed() => {}
                    Ok(job) => {
                        let _ = job.answer.send(piece.read(job.from, job.offset, job.bytes_max));
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => piece.serve(),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("kafka-read".to_owned()).spawn(run);
        let thread = thread.map_err(|error| BusError::Unavailable(format!("no thread for Kafka: {error}")))?;
        let last_error = last_error.clone();
        Ok(Self { committed, watermarks, names, last_error, jobs: Some(jobs), thread: Some(thread) })
    }

    /// The client that sees only what is committed, with what went wrong last, for work on a thread of its own.
    pub(super) fn client_and_errors(&self) -> (Arc<BaseConsumer<Context>>, LastError) {
        (Arc::clone(&self.committed), self.last_error.clone())
    }

    /// The client that sees only what is committed.
    pub(super) fn client(&self) -> &BaseConsumer<Context> {
        &self.committed
    }

    /// The cluster's id, if a broker answers in time. Blocks.
    pub(super) fn cluster_id(&self, timeout: Duration) -> Option<String> {
        let deadline = Instant::now() + timeout;
        let topic = self.names.get(Topic::Events);
        loop {
            // A question makes the client connect at once. In slices, since only polling brings the reason why nobody answers.
            let answered = self.committed.fetch_metadata(Some(topic), CONNECT_SLICE).is_ok();
            serve(&self.committed);
            let hopeless = needs_a_person(&self.last_error).is_some();
            if answered || hopeless || Instant::now() > deadline {
                return self.committed.client().fetch_cluster_id(Duration::ZERO);
            }
        }
    }

    /// See [`crate::bus::Bus::read`].
    pub(super) fn read(
        &self,
        from: TopicPartition,
        offset: i64,
        bytes_max: usize,
    ) -> impl Future<Output = Result<Fetched, BusError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let job = Job { from, offset, bytes_max, answer };
        let sent = self.jobs.as_ref().expect("present until it is dropped").send(job);
        async move {
            let closed = || BusError::Unavailable("the connection to Kafka was closed".to_owned());
            sent.map_err(|_| closed())?;
            answered.await.map_err(|_| closed())?
        }
    }

    /// See [`crate::bus::Bus::bounds`]. The end counts what open transactions have written: it will be readable, or skipped.
    pub(super) fn bounds(&self, of: TopicPartition) -> impl Future<Output = Result<Bounds, BusError>> + Send + 'static {
        let (client, names, last_error) = (Arc::clone(&self.watermarks), self.names.clone(), self.last_error.clone());
        blocking(move || bounds(&client, &names, of, &last_error))
    }

    /// See [`crate::bus::Bus::surplus`].
    pub(super) fn surplus(
        &self,
        configured: u32,
    ) -> impl Future<Output = Result<Option<Surplus>, BusError>> + Send + 'static {
        let (client, names, last_error) = (Arc::clone(&self.watermarks), self.names.clone(), self.last_error.clone());
        blocking(move || {
            let found = partitions_of(&client, names.get(Topic::Events), TIMEOUT, &last_error)?;
            let partitions = u32::try_from(found.unwrap_or_default()).unwrap_or(u32::MAX);
            if partitions <= configured {
                return Ok(None);
            }
            let mut records = 0;
            for partition in configured..partitions {
                let bounds = bounds(&client, &names, TopicPartition::new(Topic::Events, partition), &last_error)?;
                records += (bounds.high - bounds.low).max(0);
            }
            Ok(Some(Surplus { configured, partitions, records }))
        })
    }

    /// See [`crate::bus::Bus::offset_at`].
    pub(super) fn offset_at(
        &self,
        of: TopicPartition,
        time: Timestamp,
    ) -> impl Future<Output = Result<i64, BusError>> + Send + 'static {
        let (client, names, last_error) = (Arc::clone(&self.watermarks), self.names.clone(), self.last_error.clone());
        blocking(move || {
            let mut asked = TopicPartitionList::new();
            let fault = |error: KafkaError| bus_error(&format!("looking for a time in {of}"), &error, &last_error);
            asked
                .add_partition_offset(names.get(of.topic), number(of.partition), Offset::Offset(time.as_millis()))
                .map_err(fault)?;
            let ask = || {
                let found = client.offsets_for_times(asked.clone(), TIMEOUT)?;
                found.elements().iter().try_for_each(TopicPartitionListElem::error)?;
                Ok(found)
            };
            let found = with_leader(&client, names.get(of.topic), ask).map_err(fault)?;
            match found.elements().first().map(TopicPartitionListElem::offset) {
                Some(Offset::Offset(offset)) => Ok(offset),
                _ => bounds(&client, &names, of, &last_error).map(|bounds| bounds.high),
            }
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes what a client has to say. With no time at all a poll would end at the first line of the log.
fn serve(client: &BaseConsumer<Context>) {
    while client.poll(SERVE).is_some() {}
}

/// Runs what blocks where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BusError> + Send + 'static,
) -> Result<T, BusError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BusError::Unavailable(error.to_string()))?
}

/// First offset and end as a client sees them. A new leader, or one of a new topic, is waited for.
pub(super) fn bounds(
    client: &BaseConsumer<Context>,
    names: &TopicNames,
    of: TopicPartition,
    last_error: &LastError,
) -> Result<Bounds, BusError> {
    let name = names.get(of.topic);
    let ask = || client.fetch_watermarks(name, number(of.partition), TIMEOUT);
    let (low, high) = with_leader(client, name, ask)
        .map_err(|error| bus_error(&format!("asking for the end of {of}"), &error, last_error))?;
    last_error.clear();
    Ok(Bounds { low, high })
}

/// Asks again while the partition is between two leaders. What librdkafka has learned of a topic it keeps for minutes, also that
/// nobody led it just then (which it calls an unknown partition), so it is told to look again.
fn with_leader<T>(client: &BaseConsumer<Context>, topic: &str, ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let answer = ask();
        let code = answer.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        let between_leaders = matches!(
            code,
            Some(
                Code::NotLeaderForPartition
                    | Code::LeaderNotAvailable
                    | Code::ReplicaNotAvailable
                    | Code::FencedLeaderEpoch
                    | Code::UnknownPartition
            )
        );
        let left = deadline.saturating_duration_since(Instant::now());
        if !between_leaders || left.is_zero() {
            return answer;
        }
        // If this fails, the next answer says why.
        let _ = client.fetch_metadata(Some(topic), left);
        std::thread::sleep(LEADER_PAUSE);
    }
}

struct PieceReader {
    client: Arc<BaseConsumer<Context>>,
    watermarks: Arc<BaseConsumer<Context>>,
    names: TopicNames,
    last_error: LastError,
    blocks: Blocks,
}

impl PieceReader {
    /// Takes what the clients have to say.
    fn serve(&self) {
        serve(&self.client);
        serve(&self.watermarks);
    }

    fn read(&mut self, from: TopicPartition, offset: i64, bytes_max: usize) -> Result<Fetched, BusError> {
        if let Some(known) = self.blocks.get(from, offset, bytes_max) {
            let end = bounds(&self.client, &self.names, from, &self.last_error)?.high;
            return Ok(Fetched { at_end: known.next_offset >= end, ..known });
        }
        let readable = bounds(&self.client, &self.names, from, &self.last_error)?;
        if offset < readable.low {
            return Err(BusError::Gone { partition: from, offset, low: readable.low });
        }
        if offset >= readable.high {
            if offset > readable.high {
                let high = bounds(&self.watermarks, &self.names, from, &self.last_error)?.high;
                if offset > high {
                    return Err(beyond_the_end(from, offset, high));
                }
            }
            return Ok(Fetched { records: Vec::new(), next_offset: offset, at_end: true });
        }
        let block = self.read_block(from, offset, readable.high)?;
        let piece = block.piece(offset, bytes_max);
        self.blocks.put(from, block);
        Ok(Fetched { at_end: piece.next_offset >= readable.high, ..piece })
    }

    /// Reads at least one record, unless `end` comes first.
    fn read_block(&self, from: TopicPartition, offset: i64, end: i64) -> Result<Block, BusError> {
        let mut place = TopicPartitionList::new();
        let fault = |error: KafkaError| bus_error(&format!("reading {from}"), &error, &self.last_error);
        let (name, partition) = (self.names.get(from.topic), number(from.partition));
        place.add_partition_offset(name, partition, Offset::Offset(offset)).map_err(fault)?;
        // The common queue serves as the partition's: nothing else is assigned meanwhile.
        self.client.assign(&place).map_err(fault)?;
        let read = self.poll(from, offset, end);
        self.client.unassign().map_err(fault)?;
        read
    }

    fn poll(&self, from: TopicPartition, offset: i64, end: i64) -> Result<Block, BusError> {
        let deadline = Instant::now() + READ_TIMEOUT;
        let mut copier = RecordCopier::default();
        let mut block = Block { from: offset, records: Vec::new(), next_offset: offset };
        let mut bytes = 0;
        while block.next_offset < end && bytes < BLOCK_BYTES {
            // What has arrived is taken along; more is waited for only while there is nothing.
            let wait = if block.records.is_empty() { POLL } else { Duration::ZERO };
            match self.client.poll(wait) {
                Some(Ok(message)) => {
                    let record = copier.copy(&message);
                    if record.offset >= block.next_offset {
                        block.next_offset = record.offset + 1;
                        bytes += size(&record);
                        block.records.push(record);
                    }
                }
                Some(Err(error)) if is_about_the_position(&error) => {
                    let low = bounds(&self.client, &self.names, from, &self.last_error)?.low;
                    return Err(BusError::Gone { partition: from, offset, low });
                }
                // What was left were marks of transactions, which are never delivered but move the position.
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    block.next_offset = block.next_offset.max(self.position(from).unwrap_or(offset));
                }
                Some(Err(error)) if is_unreadable(&error) => {
                    return Err(bus_error(&format!("reading {from}"), &error, &self.last_error));
                }
                // What came before it can be had.
                Some(Err(error)) if is_undecodable(&error) && !block.records.is_empty() => break,
                Some(Err(error)) if is_undecodable(&error) => return Err(undecodable(from, offset, &error)),
                Some(Err(error)) => tracing::debug!(%error, %from, "reading goes on"),
                None if !block.records.is_empty() => break,
                None if Instant::now() < deadline => {}
                None => {
                    let why = self.last_error.suffix();
                    return Err(BusError::Unavailable(format!("Kafka: nothing came of {from} in time{why}")));
                }
            }
        }
        Ok(block)
    }

    fn position(&self, of: TopicPartition) -> Option<i64> {
        position(&self.client, &self.names, of)
    }
}

/// How far a client has consumed a partition, past marks of transactions as well. Only true at its end: before, it may be
/// the position of an earlier assignment.
pub(super) fn position(client: &BaseConsumer<Context>, names: &TopicNames, of: TopicPartition) -> Option<i64> {
    let positions = client.position().ok()?;
    let found = positions.find_partition(names.get(of.topic), number(of.partition))?;
    match found.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// True if an error says that the position is not in the log.
pub(super) fn is_about_the_position(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange)
            | KafkaError::MessageConsumptionFatal(Code::AutoOffsetReset | Code::OffsetOutOfRange)
    )
}

/// Somebody asks for what was never written: another cluster, or topics that were made anew.
pub(super) fn beyond_the_end(from: TopicPartition, offset: i64, high: i64) -> BusError {
    BusError::Misconfigured(format!(
        "{from} ends at offset {high}, but the store has processed it up to {offset}: the topic was deleted and made anew, or \
         this is another cluster; restore the topic, or begin with an empty store"
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rdkafka::mocking::MockCluster;

    use super::*;

    const BROKER: i32 = 1;
    const P0: TopicPartition = TopicPartition::new(Topic::Events, 0);

    #[test]
    fn a_partition_that_nobody_led_is_found_again_as_soon_as_somebody_leads_it() {
        let cluster = MockCluster::new(1).unwrap();
        let options = KafkaOptions {
            brokers: cluster.bootstrap_servers(),
            group: "group".to_owned(),
            topic_prefix: String::new(),
            partitions: 1,
            replication_factor: 1,
            retention_hours: 1,
            append_timeout: TIMEOUT,
            settings: BTreeMap::new(),
        };
        let (names, last_error) = (TopicNames::new(&options), LastError::default());
        let name = names.get(Topic::Events).to_owned();
        cluster.create_topic(&name, 1, 1).unwrap();
        cluster.partition_leader(&name, 0, None).unwrap();
        let context = Context::new("reader", &last_error);
        let client: BaseConsumer<Context> =
            BaseConsumer::from_config_and_context(&options.watermarks(), context).unwrap();
        // The client learns that nobody leads it, and would keep that for minutes.
        let nobody = bounds(&client, &names, P0, &last_error);
        assert!(matches!(nobody, Err(BusError::Unavailable(_))), "{nobody:?}");
        cluster.partition_leader(&name, 0, Some(BROKER)).unwrap();
        let found = bounds(&client, &names, P0, &last_error);
        assert!(matches!(found, Ok(Bounds { low: 0, high: 0 })), "{found:?}");
    }
}
