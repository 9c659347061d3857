//! Kafka's faults as faults of the bus, by what to do next.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::context::LastError;
use crate::bus::{BusError, TopicPartition};

/// The brokers know who asks, and that user may not.
const DENIALS: [Code; 4] = [
    Code::TopicAuthorizationFailed,
    Code::GroupAuthorizationFailed,
    Code::ClusterAuthorizationFailed,
    Code::TransactionalIdAuthorizationFailed,
];

/// True if the user may not read what is being read. That it may not use the group either, which every consumer asks about, is
/// a matter of the member alone.
pub(super) fn is_unreadable(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed)
}

/// True if the client has the bytes of a batch and cannot make records of them.
pub(super) fn is_undecodable(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumption(
            Code::BadCompression | Code::NotImplemented | Code::BadMessage | Code::InvalidMessage
        ) | KafkaError::MessageConsumptionFatal(
            Code::BadCompression | Code::NotImplemented | Code::BadMessage | Code::InvalidMessage
        )
    )
}

/// A batch at or behind `offset` cannot be decoded.
pub(super) fn undecodable(partition: TopicPartition, offset: i64, error: &KafkaError) -> BusError {
    let code = error.rdkafka_error_code().map(|code| code.to_string()).unwrap_or_default();
    let why = format!(
        "the client cannot decode the next batch of records ({code}): it is compressed with a codec that this build does not \
         know, or damaged. `tillstream check` names topics with such a codec; see \"a place that stands still\" in docs/operations.md"
    );
    BusError::Unreadable { partition, offset, why }
}

/// True if the user lacks a right: asking again helps only once a person has granted it.
pub(super) fn is_denied(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::Transaction(error) => Some(error.code()),
        other => other.rdkafka_error_code(),
    };
    code.is_some_and(|code| DENIALS.contains(&code))
}

/// What an error means to whoever appends, reads or asks. `doing` says what failed.
pub(super) fn bus_error(doing: &str, error: &KafkaError, last: &LastError) -> BusError {
    match error {
        KafkaError::ClientConfig(_, description, name, _) => {
            BusError::Misconfigured(format!("Kafka: the setting bus.kafka.{name} is not accepted: {description}"))
        }
        KafkaError::ClientCreation(message) => BusError::Misconfigured(format!("Kafka: {message}; check bus.kafka")),
        KafkaError::Transaction(error) => by_code(doing, error.code(), &error.string(), last),
        other => match other.rdkafka_error_code() {
            Some(code) => by_code(doing, code, &code.to_string(), last),
            None => BusError::Unavailable(format!("Kafka: {doing}: {other}{}", last.suffix())),
        },
    }
}

/// As [`bus_error`], for a bare code.
pub(super) fn by_code(doing: &str, code: Code, text: &str, last: &LastError) -> BusError {
    match code {
        Code::MessageSizeTooLarge => BusError::Refused(format!(
            "{doing}: the record is larger than the brokers take; raise max.message.bytes of the topic"
        )),
        Code::InvalidMessage | Code::InvalidRecord | Code::InvalidTimestamp => {
            BusError::Refused(format!("{doing}: {text}"))
        }
        Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch | Code::InvalidProducerIdMapping => {
            BusError::Fenced(format!("{doing}: {text}"))
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            BusError::Unavailable(format!("Kafka: {doing}: the topic is not there; start again to have it created"))
        }
        // Which partitions there are was checked at the start: nobody leads this one just now.
        Code::UnknownPartition => BusError::Unavailable(format!(
            "Kafka: {doing}: nobody leads the partition; look at the brokers{}",
            last.suffix()
        )),
        code if DENIALS.contains(&code) => BusError::Misconfigured(format!(
            "Kafka: {doing}: {text}; the user of bus.kafka lacks the right, see docs/configuration.md for the list"
        )),
        Code::SaslAuthenticationFailed | Code::Authentication => BusError::Misconfigured(format!(
            "Kafka: {doing}: the brokers refuse user name or password; check sasl.username, sasl.password and \
             sasl.mechanism in bus.kafka{}",
            last.suffix()
        )),
        _ => BusError::Unavailable(format!("Kafka: {doing}: {text}{}", last.suffix())),
    }
}

/// Why a client cannot reach the brokers, if a person has to act for it to change.
pub(super) fn needs_a_person(last: &LastError) -> Option<BusError> {
    let (code, reason) = last.get()?;
    let advice = match code {
        Code::SaslAuthenticationFailed | Code::Authentication => {
            "the brokers refuse user name or password; check sasl.username, sasl.password and sasl.mechanism in bus.kafka"
        }
        // librdkafka calls OpenSSL's refusal a fault of the transport as well.
        code if code == Code::SSL || reason.contains("SSL routines") => {
            "no TLS connection; check ssl.ca.location (the authority that signed the brokers' certificates), the names in \
             bus.brokers, and that the port is a TLS one"
        }
        _ => return None,
    };
    Some(BusError::Misconfigured(format!("Kafka: {advice} ({reason})")))
}
