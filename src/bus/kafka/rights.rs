//! Tries the rights that the user of `bus.kafka` needs, as far as trying them changes nothing: to read each topic, to use the
//! group, to send the outbox. A right to write to a topic cannot be tried without writing; whoever lacks it is told when
//! it is first needed.

use std::time::{Duration, Instant};

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::context::{Context, LastError};
use super::error::{bus_error, is_denied};
use super::options::KafkaOptions;
use super::topics::TopicNames;
use crate::bus::{BusError, Topic};

/// How long the brokers may take for each answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const SLICE: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(20);
/// A lane that no store has: the right to write as lanes do is the same for all of them.
const LANE: &str = "check";

/// Tries them all. Blocks. Only what is denied is a fault here; whatever else is wrong shows in what is being done.
///
/// # Errors
/// [`BusError::Misconfigured`] that names what is denied.
pub(super) fn try_all(options: &KafkaOptions, names: &TopicNames) -> Result<(), BusError> {
    let last_error = LastError::default();
    let in_group = format!("asking for consumer group {}", options.group);
    let denied = |doing: &str, error: &KafkaError| {
        // Whatever a consumer is about, it hears of its group as well.
        let is_group = error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed);
        let doing = if is_group { &in_group } else { doing };
        if is_denied(error) { Err(bus_error(doing, error, &last_error)) } else { Ok(()) }
    };
    let starting = |error| bus_error("starting", &error, &last_error);
    let client = BaseConsumer::from_config_and_context(&options.reader(), Context::new("reader", &last_error));
    let client: BaseConsumer<Context> = client.map_err(starting)?;
    for topic in Topic::ALL {
        let name = names.get(topic);
        if let Err(error) = read_end(&client, name) {
            denied(&format!("reading topic {name}"), &error)?;
        }
    }
    if let Err(error) = group(&client, names.get(Topic::Events)) {
        denied(&in_group, &error)?;
    }
    let lane =
        BaseProducer::from_config_and_context(&options.lane_producer(LANE), Sender(Context::new("relay", &last_error)));
    let lane: BaseProducer<Sender> = lane.map_err(starting)?;
    if let Err(error) = lane.init_transactions(TIMEOUT) {
        let doing = format!("using the transactional id {}, as the outbox does", options.outbox_name(LANE));
        denied(&doing, &error)?;
    }
    Ok(())
}

/// The context of a producer that sends nothing.
struct Sender(Context);

impl ClientContext for Sender {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log_line(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note_error(&error, reason);
    }
}

impl ProducerContext for Sender {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Asks what the group has processed. In slices: that the group is denied is not the answer to this question, but something that the
/// client has to say.
fn group(client: &BaseConsumer<Context>, topic: &str) -> Result<(), KafkaError> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        match client.committed_offsets(asked.clone(), SLICE) {
            Ok(known) => return known.elements().iter().try_for_each(TopicPartitionListElem::error),
            Err(error) if is_denied(&error) => return Err(error),
            Err(_) => {}
        }
        while let Some(said) = client.poll(POLL) {
            match said {
                Err(error) if is_denied(&error) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Reads at the end of a topic's first partition until the brokers say that it is the end.
fn read_end(client: &BaseConsumer<Context>, topic: &str) -> Result<(), KafkaError> {
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, 0, Offset::End)?;
    client.assign(&place)?;
    let deadline = Instant::now() + TIMEOUT;
    let answer = loop {
        match client.poll(POLL) {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => break Ok(()),
            Some(Err(error)) if is_denied(&error) => break Err(error),
            Some(Err(_)) | None if Instant::now() < deadline => {}
            Some(Err(_)) | None => break Ok(()),
        }
    };
    client.unassign()?;
    answer
}
