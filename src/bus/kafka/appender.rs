//! Appends records with one idempotent producer. A thread of its own hands them to librdkafka in the order of the calls, so
//! that the records of a call stay in one piece; deliveries are counted, which is faster than flushing.
//!
//! A partition gets what fits into one request, and more once that was acknowledged: librdkafka has one request under way for
//! each partition and spins while more is ready behind it. What comes in meanwhile goes into the next request together.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::{mpsc, oneshot};

use super::context::{Context, LastError};
use super::error::{bus_error, by_code};
use super::options::KafkaOptions;
use super::records::{REQUEST_BYTES, number, places, size_in_request, to_headers};
use super::topics::TopicNames;
use crate::bus::{BusError, NewRecord, TopicPartition};

/// Calls that wait for the thread; more wait with their callers.
const CALLS_MAX: usize = 1024;
/// Calls are taken as long as fewer bytes wait for their partitions.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long to wait for records under way when the bus is closed.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for room in librdkafka's queue before looking again.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(2);

type Answer = oneshot::Sender<Result<Vec<i64>, BusError>>;

struct Call {
    records: Vec<NewRecord>,
    places: Vec<TopicPartition>,
    deadline: Instant,
    answer: Answer,
}

/// The producer of everything but lanes.
pub(super) struct Appender {
    calls: Option<mpsc::Sender<Call>>,
    thread: Option<JoinHandle<()>>,
    partitions: u32,
    timeout: Duration,
    last_error: LastError,
}

impl Appender {
    /// Starts the producer.
    ///
    /// # Errors
    /// If a setting is not accepted.
    pub(super) fn start(options: Arc<KafkaOptions>, names: TopicNames) -> Result<Self, BusError> {
        let (partitions, timeout) = (options.partitions, options.append_timeout);
        let last_error = LastError::default();
        let (acknowledge, acknowledged) = mpsc::unbounded_channel();
        let mut worker = Worker {
            producer: None,
            options,
            names,
            last_error: last_error.clone(),
            lines: HashMap::new(),
            bytes: 0,
            acknowledge,
        };
        worker.producer()?;
        let (calls, waiting) = mpsc::channel::<Call>(CALLS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime =
            runtime.map_err(|error| BusError::Unavailable(format!("no thread for Kafka can be started: {error}")))?;
        let run = move || runtime.block_on(worker.run(waiting, acknowledged));
        let thread = std::thread::Builder::new().name("kafka-append".to_owned()).spawn(run);
        let thread = thread.map_err(|error| BusError::Unavailable(format!("no thread for Kafka: {error}")))?;
        Ok(Self { calls: Some(calls), thread: Some(thread), partitions, timeout, last_error })
    }

    /// Appends; see [`crate::bus::Bus::append`].
    pub(super) fn append(
        &self,
        records: Vec<NewRecord>,
    ) -> impl Future<Output = Result<Vec<i64>, BusError>> + Send + 'static {
        let checked = places(&records, self.partitions);
        let (calls, deadline) = (self.calls.clone(), Instant::now() + self.timeout);
        let last_error = self.last_error.clone();
        async move {
            let places = checked?;
            if records.is_empty() {
                return Ok(Vec::new());
            }
            let (answer, answered) = oneshot::channel();
            let calls = calls.expect("present until it is dropped");
            let call = Call { records, places, deadline, answer };
            let handed_over = tokio::time::timeout_at(deadline.into(), calls.send(call)).await;
            match handed_over {
                Ok(Ok(())) => answered.await.map_err(|_| closed())?,
                Ok(Err(_)) => Err(closed()),
                Err(_) => Err(away(&last_error)),
            }
        }
    }
}

impl Drop for Appender {
    /// Calls that were handed over are carried out first, as far as the broker answers.
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn closed() -> BusError {
    BusError::Unavailable("the connection to Kafka was closed".to_owned())
}

fn away(last_error: &LastError) -> BusError {
    BusError::Unavailable(format!("Kafka takes no records{}", last_error.suffix()))
}

struct Worker {
    producer: Option<ThreadedProducer<DeliveryContext>>,
    options: Arc<KafkaOptions>,
    names: TopicNames,
    last_error: LastError,
    lines: HashMap<TopicPartition, Line>,
    /// Of all records that wait in lines.
    bytes: usize,
    acknowledge: mpsc::UnboundedSender<Acknowledged>,
}

/// What waits for one partition.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// A request's worth is under way.
    under_way: bool,
}

/// The last record of a request has come to its end.
struct Acknowledged {
    place: TopicPartition,
    /// The brokers did not answer in time.
    timed_out: bool,
}

struct Waiting {
    record: NewRecord,
    size: usize,
    deadline: Instant,
    delivery: Box<Delivery>,
}

impl Worker {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>, mut acknowledged: mpsc::UnboundedReceiver<Acknowledged>) {
        loop {
            tokio::select! {
                biased;
                Some(Acknowledged { place, timed_out }) = acknowledged.recv() => {
                    self.lines.entry(place).or_default().under_way = false;
                    if timed_out {
                        self.give_up(place);
                    }
                    self.send(place);
                }
                call = calls.recv(), if self.bytes < WAITING_BYTES_MAX => match call {
                    Some(call) => self.take(call),
                    None => break,
                },
            }
        }
        let places: Vec<_> = self.lines.keys().copied().collect();
        for place in places {
            while self.lines.get(&place).is_some_and(|line| !line.waiting.is_empty()) {
                self.lines.entry(place).or_default().under_way = false;
                self.send(place);
            }
        }
        if let Some(producer) = &self.producer
            && let Err(error) = producer.flush(FLUSH_TIMEOUT)
        {
            tracing::warn!(%error, "closed before Kafka had taken everything; the senders were told");
        }
    }

    /// The producer; a new one if the last one met a fatal error.
    fn producer(&mut self) -> Result<&ThreadedProducer<DeliveryContext>, BusError> {
        let fatal = self.producer.as_ref().and_then(|producer| producer.client().fatal_error());
        if let Some((code, reason)) = fatal {
            tracing::warn!(%code, reason, "the Kafka producer cannot go on; a new one takes over");
            self.producer = None;
        }
        if self.producer.is_none() {
            let context = DeliveryContext(Context::new("producer", &self.last_error));
            let producer = ThreadedProducer::from_config_and_context(&self.options.producer(), context);
            self.producer = Some(producer.map_err(|error| bus_error("starting", &error, &self.last_error))?);
        }
        Ok(self.producer.as_ref().expect("made above"))
    }

    /// Puts the records of a call into the lines of their partitions.
    fn take(&mut self, call: Call) {
        let Call { records, places, deadline, answer } = call;
        if Instant::now() >= deadline {
            let _ = answer.send(Err(away(&self.last_error)));
            return;
        }
        let pending = Arc::new(Pending::new(records.len(), answer));
        let touched: BTreeSet<_> = places.iter().copied().collect();
        for (index, (record, place)) in records.into_iter().zip(places).enumerate() {
            let size = size_in_request(&record);
            let delivery = Box::new(Delivery { pending: Arc::clone(&pending), index, last: None });
            self.bytes += size;
            let line = self.lines.entry(place).or_default();
            line.waiting.push_back(Waiting { record, size, deadline, delivery });
        }
        for place in touched {
            self.send(place);
        }
    }

    /// Fails what waited behind records that nobody took: its time is nearly over as well.
    fn give_up(&mut self, place: TopicPartition) {
        for one in self.lines.entry(place).or_default().waiting.drain(..) {
            self.bytes -= one.size;
            one.delivery.pending.not_sent(away(&self.last_error));
        }
    }

    /// Hands over what fits into one request, unless one is under way.
    fn send(&mut self, place: TopicPartition) {
        let line = self.lines.entry(place).or_default();
        if line.under_way {
            return;
        }
        let mut slice = Vec::new();
        let mut bytes = 0;
        let now = Instant::now();
        while let Some(next) = line.waiting.pop_front_if(|next| bytes == 0 || bytes + next.size <= REQUEST_BYTES) {
            self.bytes -= next.size;
            if now >= next.deadline {
                next.delivery.pending.not_sent(away(&self.last_error));
                continue;
            }
            bytes += next.size;
            slice.push(next);
        }
        let Some(last) = slice.last_mut() else { return };
        last.delivery.last = Some((place, self.acknowledge.clone()));
        line.under_way = true;
        let names = self.names.clone();
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => {
                for one in slice {
                    one.delivery.failed(error.clone());
                }
                return;
            }
        };
        for Waiting { record, deadline, delivery, .. } in slice {
            let mut message = BaseRecord::with_opaque_to(names.get(place.topic), delivery)
                .partition(number(place.partition))
                .payload(&record.value[..]);
            message.key = record.key.as_deref();
            message.headers = to_headers(&record.headers);
            if let Err((error, delivery)) = enqueue(producer, message, deadline) {
                delivery.failed(bus_error("appending", &error, &producer.context().0.last_error));
            }
        }
    }
}

type Outgoing<'a> = BaseRecord<'a, [u8], [u8], Box<Delivery>>;

/// Hands a message over, waiting for room.
fn enqueue(
    producer: &ThreadedProducer<DeliveryContext>,
    mut message: Outgoing<'_>,
    deadline: Instant,
) -> Result<(), (KafkaError, Box<Delivery>)> {
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < deadline => {
                message = back;
                std::thread::sleep(QUEUE_FULL_PAUSE);
            }
            Err((error, back)) => return Err((error, back.delivery_opaque)),
        }
    }
}

/// A call whose records are under way.
struct Pending(Mutex<PendingState>);

struct PendingState {
    left: usize,
    offsets: Vec<i64>,
    fault: Option<BusError>,
    answer: Option<Answer>,
}

impl Pending {
    fn new(records: usize, answer: Answer) -> Self {
        let state = PendingState { left: records, offsets: vec![0; records], fault: None, answer: Some(answer) };
        Self(Mutex::new(state))
    }

    fn delivered(&self, index: usize, result: Result<i64, BusError>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(offset) => state.offsets[index] = offset,
            Err(fault) => state.fault = Some(fault),
        }
        state.count_down();
    }

    /// One record was not handed over.
    fn not_sent(&self, fault: BusError) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.fault = Some(fault);
        state.count_down();
    }
}

impl PendingState {
    fn count_down(&mut self) {
        self.left -= 1;
        if self.left == 0
            && let Some(answer) = self.answer.take()
        {
            let offsets = std::mem::take(&mut self.offsets);
            // Nobody may be listening any more.
            let _ = answer.send(self.fault.take().map_or(Ok(offsets), Err));
        }
    }
}

/// One record of a call.
struct Delivery {
    pending: Arc<Pending>,
    index: usize,
    /// The last one of a request tells that its partition can have the next.
    last: Option<(TopicPartition, mpsc::UnboundedSender<Acknowledged>)>,
}

impl Delivery {
    fn ended(&self, result: Result<i64, BusError>, timed_out: bool) {
        self.pending.delivered(self.index, result);
        if let Some((place, acknowledge)) = &self.last {
            // Nobody listens once the bus is being closed.
            let _ = acknowledge.send(Acknowledged { place: *place, timed_out });
        }
    }

    fn failed(&self, fault: BusError) {
        self.ended(Err(fault), false);
    }
}

struct DeliveryContext(Context);

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log_line(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note_error(&error, reason);
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        let timed_out = matches!(result, Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut), _)));
        let result = match result {
            Ok(message) => {
                self.0.last_error.clear();
                Ok(message.offset())
            }
            Err(_) if timed_out => Err(away(&self.0.last_error)),
            Err((KafkaError::MessageProduction(code), _)) => {
                Err(by_code("appending", *code, &code.to_string(), &self.0.last_error))
            }
            Err((error, _)) => Err(bus_error("appending", error, &self.0.last_error)),
        };
        delivery.ended(result, timed_out);
    }
}
