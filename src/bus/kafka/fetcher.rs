//! Fetches the partitions that somebody reads, ahead of who reads them.
//!
//! Every partition has its queue inside librdkafka. A thread of its own moves what arrives into bounded buffers and knows
//! where each partition ends; whoever reads takes from the buffers and never waits here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::blocks::size;
use super::context::{Context, LastError, Rarely};
use super::error::{bus_error, is_undecodable, is_unreadable, undecodable};
use super::options::KafkaOptions;
use super::reader::{beyond_the_end, bounds, is_about_the_position, position};
use super::records::{RecordCopier, number};
use super::topics::TopicNames;
use crate::bus::{BusError, Fetched, Record, TopicPartition};

/// A partition's buffer takes no more beyond this many bytes.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages that are moved at once, between two looks at other partitions.
const MOVE_MAX: usize = 2000;
/// Without news the thread still looks this often: for log lines and changed leaders.
const IDLE: Duration = Duration::from_millis(250);

/// One partition that is being read.
#[derive(Debug)]
struct Buffer {
    /// Offset of the first record that is wanted next.
    next_offset: i64,
    records: VecDeque<Record>,
    bytes: usize,
    /// Where reading goes on behind the buffered records.
    end_offset: i64,
    /// There was nothing behind `end_offset`.
    at_end: bool,
    fault: Option<BusError>,
    /// Counts the times that reading began anew, so that late arrivals are told apart.
    generation: u64,
}

#[derive(Debug, Default)]
struct Shared {
    buffers: Mutex<HashMap<TopicPartition, Buffer>>,
    news: Notify,
    stop: AtomicBool,
    generations: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, Buffer>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads ahead.
pub(super) struct Fetcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Fetcher {
    /// Starts the client; it reads nothing yet.
    ///
    /// # Errors
    /// If a setting is not accepted.
    pub(super) fn start(options: &KafkaOptions, names: TopicNames) -> Result<Self, BusError> {
        let last_error = LastError::default();
        let client = BaseConsumer::from_config_and_context(&options.fetcher(), Context::new("consumer", &last_error));
        let client = Arc::new(client.map_err(|error| bus_error("starting", &error, &last_error))?);
        let shared = Arc::new(Shared::default());
        let run = {
            let shared = Arc::clone(&shared);
            move || {
                let this = std::thread::current();
                let (queues, told) = (HashMap::new(), Rarely::default());
                Worker { shared, client, names, last_error, queues, told, this }.run();
            }
        };
        let thread = std::thread::Builder::new().name("kafka-fetch".to_owned()).spawn(run);
        let thread = thread.map_err(|error| BusError::Unavailable(format!("no thread for Kafka: {error}")))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What is there of a partition from `offset` on. Empty and not at the end: it is on its way, and news will follow.
    pub(super) fn take(&self, from: TopicPartition, offset: i64, bytes_max: usize) -> Result<Fetched, BusError> {
        let mut buffers = self.shared.lock();
        let known = buffers.get_mut(&from).filter(|buffer| buffer.next_offset == offset);
        let Some(buffer) = known else {
            let generation = self.shared.generations.fetch_add(1, Ordering::Relaxed);
            buffers.insert(from, Buffer::at(offset, generation));
            drop(buffers);
            self.wake();
            return Ok(Fetched { records: Vec::new(), next_offset: offset, at_end: false });
        };
        let was_full = buffer.bytes >= BUFFER_BYTES_MAX;
        if let Some(fault) = buffer.fault.take() {
            buffers.remove(&from);
            drop(buffers);
            self.wake();
            return Err(fault);
        }
        let fetched = buffer.take(bytes_max);
        let wake = was_full && buffer.bytes < BUFFER_BYTES_MAX;
        drop(buffers);
        if wake {
            self.wake();
        }
        Ok(fetched)
    }

    /// These partitions are read no more.
    pub(super) fn forget(&self, partitions: &[u32]) {
        self.shared.lock().retain(|place, _| !partitions.contains(&place.partition));
        self.wake();
    }

    /// Waits until something arrived somewhere.
    pub(super) async fn news(&self) {
        self.shared.news.notified().await;
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Buffer {
    fn at(offset: i64, generation: u64) -> Self {
        Self {
            next_offset: offset,
            records: VecDeque::new(),
            bytes: 0,
            end_offset: offset,
            at_end: false,
            fault: None,
            generation,
        }
    }

    fn take(&mut self, bytes_max: usize) -> Fetched {
        let mut taken = 0;
        let count = self
            .records
            .iter()
            .take_while(|record| {
                let more = taken < bytes_max.max(1);
                taken += if more { size(record) } else { 0 };
                more
            })
            .count();
        let records: Vec<_> = self.records.drain(..count).collect();
        self.bytes -= taken;
        self.next_offset = match records.last() {
            Some(last) if !self.records.is_empty() => last.offset + 1,
            _ => self.end_offset,
        };
        Fetched { records, next_offset: self.next_offset, at_end: self.at_end && self.records.is_empty() }
    }
}

/// What has arrived of one partition since the last look.
#[derive(Debug, Default)]
struct Arrived {
    records: Vec<Record>,
    bytes: usize,
    /// The end was reached behind the records, at this offset.
    end: Option<i64>,
    fault: Option<BusError>,
}

struct Queue {
    queue: PartitionQueue<Context>,
    generation: u64,
    copier: RecordCopier,
}

struct Worker {
    shared: Arc<Shared>,
    client: Arc<BaseConsumer<Context>>,
    names: TopicNames,
    last_error: LastError,
    queues: HashMap<TopicPartition, Queue>,
    told: Rarely<TopicPartition>,
    this: Thread,
}

impl Worker {
    fn run(&mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.follow_readers();
            let mut moved = false;
            for place in self.with_room() {
                moved |= self.move_some(place);
            }
            // Log lines and errors of the client as a whole.
            while self.client.poll(Duration::ZERO).is_some() {}
            if !moved {
                std::thread::park_timeout(IDLE);
            }
        }
        self.queues.clear();
    }

    /// Begins and ends reading as the buffers say.
    fn follow_readers(&mut self) {
        let wanted: HashMap<TopicPartition, (u64, i64)> = {
            let buffers = self.shared.lock();
            buffers.iter().map(|(place, buffer)| (*place, (buffer.generation, buffer.next_offset))).collect()
        };
        let outdated: HashSet<_> = self
            .queues
            .iter()
            .filter(|(place, queue)| wanted.get(place).is_none_or(|(generation, _)| *generation != queue.generation))
            .map(|(place, _)| *place)
            .collect();
        if !outdated.is_empty() {
            let list = self.list(outdated.iter().map(|place| (*place, Offset::Invalid)));
            if let Err(error) = self.client.incremental_unassign(&list) {
                tracing::warn!(%error, "partitions could not be let go");
            }
            self.queues.retain(|place, _| !outdated.contains(place));
        }
        let begin: Vec<_> = wanted.into_iter().filter(|(place, _)| !self.queues.contains_key(place)).collect();
        if begin.is_empty() {
            return;
        }
        for (place, (generation, _)) in &begin {
            // Before the partition is assigned: nothing of it may take the way through the common queue.
            let queue = self.client.split_partition_queue(self.names.get(place.topic), number(place.partition));
            let mut queue = queue.expect("topic and partition are those of this bus");
            let this = self.this.clone();
            queue.set_nonempty_callback(move || this.unpark());
            self.queues.insert(*place, Queue { queue, generation: *generation, copier: RecordCopier::default() });
        }
        let list = self.list(begin.iter().map(|(place, (_, offset))| (*place, Offset::Offset(*offset))));
        if let Err(error) = self.client.incremental_assign(&list) {
            let fault = bus_error("reading", &error, &self.last_error);
            for (place, _) in begin {
                self.deliver(place, Arrived { fault: Some(fault.clone()), ..Arrived::default() });
            }
        }
    }

    fn list(&self, places: impl Iterator<Item = (TopicPartition, Offset)>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (place, offset) in places {
            let name = self.names.get(place.topic);
            list.add_partition_offset(name, number(place.partition), offset).expect("a valid offset");
        }
        list
    }

    fn with_room(&self) -> Vec<TopicPartition> {
        let buffers = self.shared.lock();
        let room = |buffer: &Buffer| buffer.bytes < BUFFER_BYTES_MAX && buffer.fault.is_none();
        buffers.iter().filter(|(_, buffer)| room(buffer)).map(|(place, _)| *place).collect()
    }

    /// Moves what has arrived of one partition; false if there was nothing.
    fn move_some(&mut self, place: TopicPartition) -> bool {
        let Some(queue) = self.queues.get_mut(&place) else { return false };
        let mut arrived = Arrived::default();
        while arrived.records.len() < MOVE_MAX {
            match queue.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let record = queue.copier.copy(&message);
                    arrived.bytes += size(&record);
                    arrived.end = None;
                    arrived.records.push(record);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    arrived.end = Some(position(&self.client, &self.names, place).unwrap_or(0));
                }
                Some(Err(error)) if is_about_the_position(&error) => {
                    arrived.fault = Some(self.position_fault(place));
                    break;
                }
                Some(Err(error)) if is_unreadable(&error) => {
                    arrived.fault = Some(bus_error(&format!("reading {place}"), &error, &self.last_error));
                    break;
                }
                Some(Err(error)) if is_undecodable(&error) => {
                    // The client asks for it again and again, and so no record is lost. Readiness names the partition.
                    if self.told.say(place) {
                        let offset = self.shared.lock().get(&place).map_or(0, |buffer| buffer.end_offset);
                        let error = undecodable(place, offset, &error);
                        tracing::error!(%error, "a partition stands still");
                    }
                }
                Some(Err(error)) => tracing::debug!(%error, %place, "fetching goes on"),
            }
        }
        let anything = !arrived.records.is_empty() || arrived.end.is_some() || arrived.fault.is_some();
        if anything {
            self.deliver(place, arrived);
        }
        anything
    }

    /// The position is not in the log: says whether it is gone or was never there.
    fn position_fault(&self, place: TopicPartition) -> BusError {
        let offset = self.shared.lock().get(&place).map_or(0, |buffer| buffer.end_offset);
        match bounds(&self.client, &self.names, place, &self.last_error) {
            Ok(bounds) if offset < bounds.low => BusError::Gone { partition: place, offset, low: bounds.low },
            Ok(bounds) => beyond_the_end(place, offset, bounds.high),
            Err(error) => error,
        }
    }

    fn deliver(&self, place: TopicPartition, arrived: Arrived) {
        let mut buffers = self.shared.lock();
        let Some(buffer) = buffers.get_mut(&place) else { return };
        if self.queues.get(&place).is_none_or(|queue| queue.generation != buffer.generation) {
            return;
        }
        if let Some(last) = arrived.records.last() {
            buffer.end_offset = last.offset + 1;
            buffer.at_end = false;
        }
        buffer.bytes += arrived.bytes;
        buffer.records.extend(arrived.records);
        if let Some(end) = arrived.end {
            buffer.end_offset = buffer.end_offset.max(end);
            buffer.at_end = true;
        }
        buffer.fault = arrived.fault;
        drop(buffers);
        self.shared.news.notify_one();
    }
}
