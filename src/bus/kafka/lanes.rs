//! Lanes of the relay: each a transactional producer with a thread of its own, whose position is committed with the records.
//!
//! Whoever opens a lane fences the one that had it open before: what that one had begun is decided before the position is
//! read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::sync::oneshot;

use super::context::{Context, LastError};
use super::error::{bus_error, by_code};
use super::options::{KafkaOptions, TRANSACTION_TIMEOUT};
use super::positions::{PositionOf, Positions};
use super::records::{number, places, to_headers};
use super::topics::TopicNames;
use crate::bus::{BusError, NewRecord, TopicPartition};

/// How long the brokers may take for each step of a transaction.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// What fails when a transaction does, for messages.
const DOING: &str = "writing to the outbox's lane";
/// How finely deliveries are waited for. The thread sleeps in between: a poll of the client with a time-out below 2 ms spins
/// instead, and a dozen lanes that spin take the processor from the brokers that they wait for.
const DELIVERY_PAUSE: Duration = Duration::from_micros(500);
/// How often an idle producer's log lines are fetched.
const IDLE_POLL: Duration = Duration::from_secs(1);

enum Job {
    Append {
        position: i64,
        records: Vec<NewRecord>,
        places: Vec<TopicPartition>,
        answer: oneshot::Sender<Result<(), BusError>>,
    },
    Position {
        answer: oneshot::Sender<Result<Option<i64>, BusError>>,
    },
}

struct LaneThread {
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

/// All lanes that have been used.
pub(super) struct Lanes {
    options: Arc<KafkaOptions>,
    names: TopicNames,
    positions: Arc<Positions>,
    threads: Mutex<HashMap<String, LaneThread>>,
}

impl Lanes {
    /// No lane is open yet.
    pub(super) fn new(options: Arc<KafkaOptions>, names: TopicNames) -> Self {
        let positions = Arc::new(Positions::new(Arc::clone(&options), names.clone()));
        Self { options, names, positions, threads: Mutex::default() }
    }

    /// See [`crate::bus::Bus::append_lane`]. The job is handed over before the future is first polled.
    pub(super) fn append(
        &self,
        lane: &str,
        position: i64,
        records: Vec<NewRecord>,
    ) -> impl Future<Output = Result<(), BusError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let sent = places(&records, self.options.partitions)
            .and_then(|places| self.post(lane, Job::Append { position, records, places, answer }));
        async move {
            sent?;
            answered.await.map_err(|_| closed())?
        }
    }

    /// See [`crate::bus::Bus::lane_position`].
    pub(super) fn position(&self, lane: &str) -> impl Future<Output = Result<Option<i64>, BusError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let sent = self.post(lane, Job::Position { answer });
        async move {
            sent?;
            answered.await.map_err(|_| closed())?
        }
    }

    fn post(&self, lane: &str, job: Job) -> Result<(), BusError> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match threads.get(lane) {
            None => job,
            Some(known) => match known.jobs.send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(job)) => job,
            },
        };
        let started = self.start(lane)?;
        started.jobs.send(job).map_err(|_| closed())?;
        threads.insert(lane.to_owned(), started);
        Ok(())
    }

    fn start(&self, lane: &str) -> Result<LaneThread, BusError> {
        let (jobs, waiting) = mpsc::channel();
        let mut worker = Lane {
            name: lane.to_owned(),
            options: Arc::clone(&self.options),
            names: self.names.clone(),
            positions: Arc::clone(&self.positions),
            last_error: LastError::default(),
            open: None,
            fenced: None,
        };
        let thread = std::thread::Builder::new().name("kafka-lane".to_owned()).spawn(move || worker.run(&waiting));
        let thread = thread.map_err(|error| BusError::Unavailable(format!("no thread for Kafka: {error}")))?;
        Ok(LaneThread { jobs, thread })
    }
}

impl Drop for Lanes {
    /// Every job that was handed over is carried out first: a transaction is never left open in good order.
    fn drop(&mut self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let (jobs, threads): (Vec<_>, Vec<_>) = threads.into_values().map(|lane| (lane.jobs, lane.thread)).unzip();
        drop(jobs);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

fn closed() -> BusError {
    BusError::Unavailable("the connection to Kafka was closed".to_owned())
}

/// One lane, on its thread.
struct Lane {
    name: String,
    options: Arc<KafkaOptions>,
    names: TopicNames,
    positions: Arc<Positions>,
    last_error: LastError,
    open: Option<OpenLane>,
    /// Set once somebody else took the lane over, until the position is asked for again.
    fenced: Option<BusError>,
}

/// A lane that belongs to this process, as far as is known.
struct OpenLane {
    producer: BaseProducer<CountContext>,
    stored: PositionOf,
    position: Option<i64>,
}

impl Lane {
    fn run(&mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            match jobs.recv_timeout(IDLE_POLL) {
                Ok(Job::Append { position, records, places, answer }) => {
                    let result = self.append(position, &records, &places);
                    let _ = answer.send(result);
                }
                Ok(Job::Position { answer }) => {
                    self.fenced = None;
                    let result = self.opened().map(|open| open.position);
                    let _ = answer.send(result);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    if let Some(open) = &self.open {
                        open.producer.poll(Duration::ZERO);
                        open.stored.serve();
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn append(&mut self, position: i64, records: &[NewRecord], places: &[TopicPartition]) -> Result<(), BusError> {
        if let Some(fenced) = &self.fenced {
            return Err(fenced.clone());
        }
        let (name, names, last_error) = (self.name.clone(), self.names.clone(), self.last_error.clone());
        let open = self.opened()?;
        if open.position.is_some_and(|stored| position <= stored) {
            return Ok(());
        }
        let result = open.transact(&names, position, records, places);
        let Err(error) = result else {
            open.position = Some(position);
            return Ok(());
        };
        // What happened to the records first (purged) says less than why.
        let fault = match open.producer.client().fatal_error() {
            Some((code, reason)) => by_code(DOING, code, &reason, &last_error),
            None => bus_error(DOING, &error, &last_error),
        };
        tracing::debug!(lane = name, %error, "a transaction failed");
        // An error of the transaction itself that asks for no abort leaves open whether it was committed.
        let undecided = matches!(&error, KafkaError::Transaction(error) if !error.txn_requires_abort());
        let aborted = !undecided && open.producer.abort_transaction(STEP_TIMEOUT).is_ok();
        if !aborted {
            // Whoever opens the lane next finds out.
            self.open = None;
        }
        if matches!(fault, BusError::Fenced(_)) {
            self.open = None;
            self.fenced = Some(fault.clone());
        }
        Err(fault)
    }

    fn opened(&mut self) -> Result<&mut OpenLane, BusError> {
        if self.open.is_none() {
            let opened = self.positions.of(&self.name).and_then(|stored| {
                let config = self.options.lane_producer(&self.name);
                OpenLane::new(&config, stored, &self.last_error)
            });
            self.open = Some(opened.map_err(|error| bus_error("opening the outbox's lane", &error, &self.last_error))?);
        }
        Ok(self.open.as_mut().expect("opened above"))
    }
}

impl OpenLane {
    fn new(config: &ClientConfig, stored: PositionOf, last_error: &LastError) -> Result<Self, KafkaError> {
        let context = CountContext {
            context: Context::new("relay", last_error),
            left: AtomicUsize::new(0),
            failed: Mutex::default(),
        };
        let producer = BaseProducer::from_config_and_context(config, context)?;
        let initialised = producer.init_transactions(STEP_TIMEOUT);
        producer.poll(Duration::ZERO);
        initialised?;
        let position = stored.read(STEP_TIMEOUT)?;
        Ok(Self { producer, stored, position })
    }

    fn transact(
        &self,
        names: &TopicNames,
        position: i64,
        records: &[NewRecord],
        places: &[TopicPartition],
    ) -> Result<(), KafkaError> {
        let producer = &self.producer;
        producer.begin_transaction()?;
        producer.context().left.store(records.len(), Ordering::Release);
        for (record, place) in records.iter().zip(places) {
            let mut message =
                BaseRecord::to(names.get(place.topic)).partition(number(place.partition)).payload(&record.value[..]);
            message.key = record.key.as_deref();
            message.headers = to_headers(&record.headers);
            producer.send(message).map_err(|(error, _)| error)?;
        }
        let deadline = Instant::now() + TRANSACTION_TIMEOUT;
        loop {
            producer.poll(Duration::ZERO);
            if producer.context().left.load(Ordering::Acquire) == 0 || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(DELIVERY_PAUSE);
        }
        if let Some(error) = producer.context().take_failure() {
            return Err(error);
        }
        let (group, offsets) = self.stored.to_commit(position)?;
        producer.send_offsets_to_transaction(&offsets, &group, STEP_TIMEOUT)?;
        producer.commit_transaction(STEP_TIMEOUT)
    }
}

/// Counts deliveries.
struct CountContext {
    context: Context,
    left: AtomicUsize,
    failed: Mutex<Option<KafkaError>>,
}

impl CountContext {
    fn take_failure(&self) -> Option<KafkaError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for CountContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log_line(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.note_error(&error, reason);
    }
}

impl ProducerContext for CountContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| error.clone());
        }
        // A delivery of a transaction that was given up may come late.
        let _ = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
    }
}
