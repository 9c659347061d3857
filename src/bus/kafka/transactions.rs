//! The transactional producer of one lane: a transaction carries records and the lane's position together.
//!
//! librdkafka ends a transaction with a request that names the producer and its epoch, but not the transaction. It repeats that
//! request by itself when the connection breaks or nobody answers, and says nothing of it. The first copy may then arrive late and
//! end the **next** transaction: half of it is published, or its head is dropped while its position is committed. The brokers protect
//! only clients that take part in KIP-890, which librdkafka does not. So a producer begins another transaction only if the one before
//! ended beyond doubt. In every other case a new one takes its place, whose start raises the epoch: the brokers refuse what comes late.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig};

use super::context::{Context, LastError};
use super::options::{REPEAT_AFTER, TRANSACTION_TIMEOUT};
use super::positions::PositionOf;
use super::records::{REQUEST_BYTES, number, size_in_request, to_headers};
use super::topics::TopicNames;
use crate::bus::{NewRecord, TopicPartition};

/// How long the brokers may take for each step of a transaction.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How finely deliveries are waited for. The thread sleeps in between: a poll of the client with a time-out below 2 ms spins
/// instead, and a dozen lanes that spin take the processor from the brokers that they wait for.
pub(super) const DELIVERY_PAUSE: Duration = Duration::from_micros(500);
/// A commit that took less than this was not repeated: librdkafka waits before it repeats a request, for [`REPEAT_AFTER`] give or
/// take a fifth.
const CERTAIN: Duration = REPEAT_AFTER.saturating_mul(3).checked_div(4).expect("4 is not 0");

/// The same for the offsets, which librdkafka repeats after 500 ms. What it asks the coordinator before may be repeated unharmed.
const CERTAIN_OFFSETS: Duration = Duration::from_millis(400);

/// How a transaction ended that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Committed {
    /// Nothing of it can arrive any more.
    Certainly,
    /// A request of it may be under way still: the producer must not begin another transaction.
    InDoubt,
}

/// A lane that belongs to this process, as far as is known.
pub(super) struct LaneProducer {
    producer: BaseProducer<LaneContext>,
    stored: PositionOf,
    /// The lane's position: what was stored when the producer was opened, and what it has committed since.
    pub(super) position: Option<i64>,
}

impl LaneProducer {
    /// Opens the lane and fences whoever had it open before. What that one had begun has been decided when the position is
    /// read: the brokers answer the start of a producer once the marks of the old transaction are written, and the position is
    /// asked for as a stable one, which waits where the group has not taken the marks in yet (KAFKA-17507).
    ///
    /// # Errors
    /// If a setting is not accepted or the brokers do not answer.
    pub(super) fn open(config: &ClientConfig, stored: PositionOf, last_error: &LastError) -> Result<Self, KafkaError> {
        let context = LaneContext {
            context: Context::new("relay", last_error),
            left: AtomicUsize::new(0),
            heard: AtomicUsize::new(0),
            complaints: AtomicUsize::new(0),
            failed: Mutex::default(),
        };
        let producer = BaseProducer::from_config_and_context(config, context)?;
        let initialised = producer.init_transactions(STEP_TIMEOUT);
        producer.poll(Duration::ZERO);
        initialised?;
        let position = stored.read(STEP_TIMEOUT)?;
        Ok(Self { producer, stored, position })
    }

    /// Commits the records together with the position.
    ///
    /// # Errors
    /// Whatever fails; the producer must not be used for another transaction then, see [`Self::abort`].
    pub(super) fn transact(
        &mut self,
        names: &TopicNames,
        position: i64,
        records: &[NewRecord],
        places: &[TopicPartition],
    ) -> Result<Committed, KafkaError> {
        self.serve();
        let producer = &self.producer;
        producer.context().complaints.store(0, Ordering::Release);
        producer.begin_transaction()?;
        self.send(names, records, places)?;
        let (group, offsets) = self.stored.to_commit(position)?;
        let offsets_took = timed(|| producer.send_offsets_to_transaction(&offsets, &group, STEP_TIMEOUT))?;
        let commit_took = timed(|| producer.commit_transaction(STEP_TIMEOUT))?;
        self.position = Some(position);
        self.serve();
        let complaints = self.producer.context().complaints.load(Ordering::Acquire);
        let certain = complaints == 0 && offsets_took < CERTAIN_OFFSETS && commit_took < CERTAIN;
        Ok(if certain { Committed::Certainly } else { Committed::InDoubt })
    }

    /// Hands the records over and waits until the brokers have them.
    fn send(&self, names: &TopicNames, records: &[NewRecord], places: &[TopicPartition]) -> Result<(), KafkaError> {
        let deadline = Instant::now() + TRANSACTION_TIMEOUT;
        let left = &self.producer.context().left;
        left.store(0, Ordering::Release);
        self.producer.context().take_failure();
        let mut slice = Slice::default();
        for (record, place) in records.iter().zip(places) {
            if !slice.takes(*place, record) {
                self.delivered(deadline)?;
                slice = Slice::default();
                slice.takes(*place, record);
            }
            left.fetch_add(1, Ordering::AcqRel);
            let mut message =
                BaseRecord::to(names.get(place.topic)).partition(number(place.partition)).payload(&record.value[..]);
            message.key = record.key.as_deref();
            message.headers = to_headers(&record.headers);
            self.producer.send(message).map_err(|(error, _)| error)?;
        }
        self.delivered(deadline)
    }

    /// Gives the transaction up, so that readers need not wait for its time-out. The producer is at its end then: the brokers may
    /// get the request to abort twice, and late. librdkafka waits for the delivery reports of what it purges, and for the whole
    /// time-out if nobody fetches them.
    pub(super) fn abort(self) {
        let deadline = Instant::now() + STEP_TIMEOUT;
        self.producer.purge(PurgeConfig::default().queue());
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(DELIVERY_PAUSE);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(error) = self.producer.abort_transaction(left) {
            tracing::debug!(%error, "a transaction was not aborted; the next producer of the lane does it");
        }
    }

    /// Code and text of an error after which the client is of no use.
    pub(super) fn fatal_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.producer.client().fatal_error()
    }

    /// Takes what the clients have to say.
    pub(super) fn serve_idle(&self) {
        self.serve();
        self.stored.serve();
    }

    /// Takes all that the producer has said by now. With no time at all a poll ends at the first line.
    fn serve(&self) {
        const LINES_MAX: usize = 64;
        for _ in 0..LINES_MAX {
            let heard = self.producer.context().heard.load(Ordering::Acquire);
            self.producer.poll(Duration::ZERO);
            if self.producer.context().heard.load(Ordering::Acquire) == heard {
                return;
            }
        }
    }

    /// Waits until the brokers have taken, or refused, what was handed over.
    fn delivered(&self, deadline: Instant) -> Result<(), KafkaError> {
        let context = self.producer.context();
        loop {
            self.producer.poll(Duration::ZERO);
            if context.left.load(Ordering::Acquire) == 0 || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(DELIVERY_PAUSE);
        }
        context.take_failure().map_or(Ok(()), Err)
    }
}

/// How long a step took that succeeded.
fn timed(step: impl FnOnce() -> Result<(), KafkaError>) -> Result<Duration, KafkaError> {
    let began = Instant::now();
    step()?;
    Ok(began.elapsed())
}

/// What was handed over since the last time that everything was delivered. A partition gets no more than one request's worth
/// before it has acknowledged that: librdkafka has one request under way for each partition and spins while more is ready
/// behind it. Two lanes that did so took both cores of a small machine from the broker whose answer they waited for.
#[derive(Default)]
struct Slice(HashMap<TopicPartition, usize>);

impl Slice {
    /// True if the record still fits into its partition's request; then it is counted. One record always fits.
    fn takes(&mut self, place: TopicPartition, record: &NewRecord) -> bool {
        let size = size_in_request(record);
        let bytes = self.0.entry(place).or_default();
        let fits = *bytes == 0 || *bytes + size <= REQUEST_BYTES;
        if fits {
            *bytes += size;
        }
        fits
    }
}

/// Counts deliveries and complaints.
struct LaneContext {
    context: Context,
    /// Records that were handed over and have not come to their end.
    left: AtomicUsize,
    /// Everything that the client has said.
    heard: AtomicUsize,
    /// Lost connections, requests that timed out, and what else the client complains of.
    complaints: AtomicUsize,
    failed: Mutex<Option<KafkaError>>,
}

impl LaneContext {
    fn take_failure(&self) -> Option<KafkaError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for LaneContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        if is_complaint(level, facility) {
            self.complaints.fetch_add(1, Ordering::AcqRel);
        }
        self.context.log_line(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        self.complaints.fetch_add(1, Ordering::AcqRel);
        self.context.note_error(&error, reason);
    }
}

/// True if a line of the log tells of a request that may not have been answered. A lost connection is `FAIL` on whatever level.
fn is_complaint(level: RDKafkaLogLevel, facility: &str) -> bool {
    facility == "FAIL" || facility == "REQTMOUT" || (level as i32) <= (RDKafkaLogLevel::Warning as i32)
}

impl ProducerContext for LaneContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        if let Err((error, _)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| error.clone());
        }
        // A delivery of a transaction that was given up may come late.
        let _ = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Topic;
    use crate::bus::suite::record;

    const P0: TopicPartition = TopicPartition::new(Topic::Events, 0);

    #[test]
    fn a_partition_gets_what_fits_into_one_request_before_it_must_answer() {
        let other = TopicPartition::new(Topic::Events, 1);
        let large = record("x".repeat(REQUEST_BYTES / 2));
        let mut slice = Slice::default();
        assert!(slice.takes(P0, &large));
        assert!(!slice.takes(P0, &large), "with what it costs beside its value, the second is too much");
        assert!(slice.takes(other, &large), "each partition has a request of its own");
        assert!(Slice::default().takes(P0, &record("x".repeat(2 * REQUEST_BYTES))), "alone it always fits");
    }

    #[test]
    fn a_lost_connection_and_a_request_without_answer_leave_a_transaction_in_doubt() {
        for (level, facility) in [
            (RDKafkaLogLevel::Info, "FAIL"),
            (RDKafkaLogLevel::Error, "FAIL"),
            (RDKafkaLogLevel::Notice, "REQTMOUT"),
            (RDKafkaLogLevel::Warning, "TXNERR"),
        ] {
            assert!(is_complaint(level, facility), "{facility}");
        }
        assert!(!is_complaint(RDKafkaLogLevel::Notice, "PARTCNT"));
    }

    #[test]
    fn what_counts_as_certain_is_less_than_what_the_client_waits_before_it_repeats_anything() {
        let least = REPEAT_AFTER * 4 / 5;
        assert!(CERTAIN < least, "{CERTAIN:?}, {least:?}");
        assert!(CERTAIN_OFFSETS < Duration::from_millis(500), "offsets are sent again after that");
    }
}
