//! Lanes of the relay: each a transactional producer with a thread of its own, whose position is committed with the records.
//!
//! Opening a lane fences its previous owner. The brokers decide that owner's open transaction before the position is read. A lane
//! opens anew after every transaction that did not end beyond doubt, see [`super::transactions`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use super::context::LastError;
use super::error::{bus_error, by_code};
use super::options::KafkaOptions;
use super::positions::Positions;
use super::records::places;
use super::topics::TopicNames;
use super::transactions::{Committed, DELIVERY_PAUSE, LaneProducer};
use crate::bus::{BusError, NewRecord, TopicPartition};

/// How long a lane's thread may take for a job, all steps together, before another one takes its place. Not every step
/// keeps to its time-out: `send_offsets_to_transaction` waits for ever if the group's coordinator went away at the wrong
/// moment (librdkafka issues 5456 and 5511, open in 2.14).
const JOB_TIMEOUT: Duration = Duration::from_secs(30);
/// What fails when a transaction does, for messages.
const DOING: &str = "writing to the outbox's lane";
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
    number: u64,
    given_up: Arc<AtomicBool>,
    jobs: mpsc::Sender<Job>,
    thread: JoinHandle<()>,
}

/// The threads of lanes by the lane's name.
#[derive(Default)]
struct Threads {
    by_lane: HashMap<String, LaneThread>,
    started: u64,
}

/// All lanes that have been used.
pub(super) struct Lanes {
    options: Arc<KafkaOptions>,
    names: TopicNames,
    positions: Arc<Positions>,
    threads: Arc<Mutex<Threads>>,
    job_timeout: Duration,
}

impl Lanes {
    /// No lane is open yet.
    pub(super) fn new(options: Arc<KafkaOptions>, names: TopicNames) -> Self {
        let positions = Arc::new(Positions::new(Arc::clone(&options), names.clone()));
        Self { options, names, positions, threads: Arc::default(), job_timeout: JOB_TIMEOUT }
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
        self.answer(lane, sent, answered)
    }

    /// See [`crate::bus::Bus::lane_position`].
    pub(super) fn position(&self, lane: &str) -> impl Future<Output = Result<Option<i64>, BusError>> + Send + 'static {
        let (answer, answered) = oneshot::channel();
        let sent = self.post(lane, Job::Position { answer });
        self.answer(lane, sent, answered)
    }

    /// The answer to a job of the thread with the number `sent`. A thread that does not answer in time is left alone: the next
    /// job of the lane goes to a new one, whose producer fences the old one's, so that nothing is sent twice.
    fn answer<T: Send + 'static>(
        &self,
        lane: &str,
        sent: Result<u64, BusError>,
        answered: oneshot::Receiver<Result<T, BusError>>,
    ) -> impl Future<Output = Result<T, BusError>> + Send + 'static {
        let (threads, lane, limit) = (Arc::clone(&self.threads), lane.to_owned(), self.job_timeout);
        async move {
            let number = sent?;
            if let Ok(answer) = tokio::time::timeout(limit, answered).await {
                return answer.map_err(|_| closed())?;
            }
            let mut threads = lock(&threads);
            if let Entry::Occupied(thread) = threads.by_lane.entry(lane.clone())
                && thread.get().number == number
            {
                thread.remove().given_up.store(true, Ordering::Release);
                tracing::warn!(lane, "the Kafka client has not come back in time; a new producer takes the lane over");
            }
            Err(BusError::Unavailable(format!("Kafka: {DOING}: nothing came of it within {} s", limit.as_secs())))
        }
    }

    /// Hands a job to the lane's thread and returns the thread's number.
    fn post(&self, lane: &str, job: Job) -> Result<u64, BusError> {
        let mut threads = lock(&self.threads);
        let job = match threads.by_lane.get(lane) {
            None => job,
            Some(known) => match known.jobs.send(job) {
                Ok(()) => return Ok(known.number),
                Err(mpsc::SendError(job)) => job,
            },
        };
        threads.started += 1;
        let started = self.start(lane, threads.started)?;
        started.jobs.send(job).map_err(|_| closed())?;
        threads.by_lane.insert(lane.to_owned(), started);
        Ok(threads.started)
    }

    fn start(&self, lane: &str, number: u64) -> Result<LaneThread, BusError> {
        let (jobs, waiting) = mpsc::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let mut worker = Lane {
            given_up: Arc::clone(&given_up),
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
        Ok(LaneThread { number, given_up, jobs, thread })
    }
}

impl Drop for Lanes {
    /// Every job that was handed over is carried out first: a transaction is never left open in good order. A thread that
    /// does not come back ends with the process.
    fn drop(&mut self) {
        let threads = std::mem::take(&mut lock(&self.threads).by_lane);
        let (jobs, threads): (Vec<_>, Vec<_>) = threads.into_values().map(|lane| (lane.jobs, lane.thread)).unzip();
        drop(jobs);
        let deadline = Instant::now() + self.job_timeout;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(DELIVERY_PAUSE);
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

fn lock(threads: &Mutex<Threads>) -> MutexGuard<'_, Threads> {
    threads.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> BusError {
    BusError::Unavailable("the connection to Kafka was closed".to_owned())
}

/// One lane, on its thread.
struct Lane {
    /// Another thread has taken this one's place.
    given_up: Arc<AtomicBool>,
    name: String,
    options: Arc<KafkaOptions>,
    names: TopicNames,
    positions: Arc<Positions>,
    last_error: LastError,
    open: Option<LaneProducer>,
    /// Set once somebody else took the lane over, until the position is asked for again.
    fenced: Option<BusError>,
}

impl Lane {
    fn run(&mut self, jobs: &mpsc::Receiver<Job>) {
        loop {
            match jobs.recv_timeout(IDLE_POLL) {
                // Opening the lane now would fence the thread in this one's place.
                _ if self.given_up.load(Ordering::Acquire) => return,
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
                        open.serve_idle();
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
        let (name, names) = (self.name.clone(), self.names.clone());
        let open = self.opened()?;
        if open.position.is_some_and(|stored| position <= stored) {
            return Ok(());
        }
        match open.transact(&names, position, records, places) {
            Ok(Committed::Certainly) => Ok(()),
            Ok(Committed::InDoubt) => {
                // Where the brokers are slow this happens often, and costs no more than the new producer.
                tracing::debug!(
                    lane = name,
                    "a request of the last transaction may be under way; a new producer follows"
                );
                self.open = None;
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// What a failed transaction means. Its producer is given up: the next one fences whatever is still under way.
    fn failed(&mut self, error: &KafkaError) -> BusError {
        let fatal = self.open.as_ref().and_then(LaneProducer::fatal_error);
        // What happened to the records first (purged) says less than why.
        let fault = match fatal {
            Some((code, reason)) => by_code(DOING, code, &reason, &self.last_error),
            None => bus_error(DOING, error, &self.last_error),
        };
        tracing::debug!(lane = self.name, %error, "a transaction failed");
        // An error of the transaction itself that asks for no abort leaves open whether it was committed. Whoever opens the lane
        // next finds out.
        let undecided = matches!(error, KafkaError::Transaction(error) if !error.txn_requires_abort());
        if let Some(open) = self.open.take()
            && !undecided
        {
            open.abort();
        }
        if matches!(fault, BusError::Fenced(_)) {
            self.fenced = Some(fault.clone());
        }
        fault
    }

    fn opened(&mut self) -> Result<&mut LaneProducer, BusError> {
        if self.open.is_none() {
            let opened = self.positions.of(&self.name).and_then(|stored| {
                let config = self.options.lane_producer(&self.name);
                LaneProducer::open(&config, stored, &self.last_error)
            });
            self.open = Some(opened.map_err(|error| bus_error("opening the outbox's lane", &error, &self.last_error))?);
        }
        Ok(self.open.as_mut().expect("opened above"))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::{MockCluster, MockCoordinator};

    use super::*;
    use crate::bus::Topic;
    use crate::bus::suite::{PARTITIONS, record};

    #[tokio::test]
    async fn a_lane_whose_client_never_comes_back_goes_on_with_another() {
        // What stands in the way of the group's coordinator only, at the right moment, is not to be had of a real broker.
        let cluster = MockCluster::new(2).unwrap();
        let options = super::super::tests::options_for(cluster.bootstrap_servers());
        let topic = options.topic_name(Topic::Events);
        cluster.create_topic(&topic, i32::try_from(PARTITIONS).unwrap(), 1).unwrap();
        for partition in 0..i32::try_from(PARTITIONS).unwrap() {
            cluster.partition_leader(&topic, partition, Some(1)).unwrap();
        }
        cluster.create_topic(&options.topic_name(Topic::Plugins), 1, 1).unwrap();
        cluster.partition_leader(&options.topic_name(Topic::Plugins), 0, Some(1)).unwrap();
        let id = options.outbox_name("lane");
        cluster.coordinator(MockCoordinator::Transaction(id.clone()), 1).unwrap();
        cluster.coordinator(MockCoordinator::Group(id), 2).unwrap();
        let names = TopicNames::new(&options);
        let mut lanes = Lanes::new(Arc::new(options), names);
        lanes.append("lane", 1, vec![record("one")]).await.unwrap();

        lanes.job_timeout = Duration::from_secs(4);
        cluster.broker_down(2).unwrap();
        let fault = lanes.append("lane", 2, vec![record("two")]).await.unwrap_err();
        assert!(fault.to_string().contains("nothing came of it within 4 s"), "{fault}");
        cluster.broker_up(2).unwrap();

        lanes.job_timeout = JOB_TIMEOUT;
        let again = async {
            while lanes.append("lane", 2, vec![record("two")]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), again).await.expect("another producer takes the lane over");
        assert_eq!(lanes.position("lane").await.unwrap(), Some(2));
        lanes.append("lane", 3, vec![record("three")]).await.unwrap();
    }
}
