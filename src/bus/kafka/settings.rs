//! Which of librdkafka's settings may be passed through, and why others may not.

use std::ops::RangeInclusive;

use crate::bus::BusError;
use crate::config::Secret;

/// Settings that the bus chooses itself, with the reason.
const REFUSED: [(&str, &str); 29] = [
    ("bootstrap.servers", "bus.brokers says where the brokers are"),
    ("metadata.broker.list", "bus.brokers says where the brokers are"),
    ("group.id", "bus.group names the group"),
    ("group.instance.id", "members come and go without a fixed name, so that two processes never claim the same one"),
    ("group.protocol", "partitions move with the classic protocol"),
    ("group.remote.assignor", "partitions move with the classic protocol"),
    ("partition.assignment.strategy", "partitions move one by one (cooperative-sticky), so that the others go on"),
    ("heartbeat.interval.ms", "how fast a change of members is noticed is part of what Tillstream promises"),
    ("acks", "an accepted event must be on all replicas in sync"),
    ("request.required.acks", "an accepted event must be on all replicas in sync"),
    ("enable.idempotence", "without it a retry writes an event twice or out of order"),
    ("enable.gapless.guarantee", "a failed append is tried again by whoever made it"),
    ("max.in.flight", "the idempotent producer chooses it"),
    ("max.in.flight.requests.per.connection", "the idempotent producer chooses it"),
    ("transactional.id", "each lane of the outbox has its own"),
    ("transaction.timeout.ms", "it bounds how long a dead process can hold up readers"),
    ("message.timeout.ms", "set bus.appendTimeoutMs instead"),
    ("delivery.timeout.ms", "set bus.appendTimeoutMs instead"),
    ("message.max.bytes", "the largest record is fixed"),
    ("isolation.level", "what a crashed process had not committed must not be seen"),
    ("auto.offset.reset", "a position that is gone must be reported, never skipped"),
    ("enable.auto.commit", "the store knows what has been processed, not the group"),
    ("auto.commit.enable", "the store knows what has been processed, not the group"),
    ("enable.auto.offset.store", "the store knows what has been processed, not the group"),
    ("enable.partition.eof", "the end of a partition must be known"),
    ("allow.auto.create.topics", "topics are created with the settings that they need"),
    ("partitioner", "events are partitioned as Java clients do it"),
    ("check.crcs", "leave it to librdkafka"),
    ("plugin.library.paths", "plugins for librdkafka are not loaded"),
];

/// After how long of silence a member of the group counts as dead.
pub(super) const SESSION_TIMEOUT: &str = "session.timeout.ms";
/// What brokers allow by default is from the first of these up; beyond the last a dead process would hold its partitions up for too
/// long.
const SESSION_TIMEOUT_MS: RangeInclusive<u32> = 6_000..=60_000;

/// Whether this build can do TLS and what needs OpenSSL.
const HAS_TLS: bool = cfg!(feature = "kafka-tls");

/// Refuses a setting that would break a guarantee, or that this build cannot follow. Never repeats its value.
pub(super) fn check(name: &str, value: &Secret) -> Result<(), BusError> {
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(BusError::Misconfigured(format!("bus.kafka.{name} cannot be set: {reason}; leave it out")));
    }
    if name == SESSION_TIMEOUT && !value.reveal().parse().is_ok_and(|ms| SESSION_TIMEOUT_MS.contains(&ms)) {
        let (least, most) = (SESSION_TIMEOUT_MS.start(), SESSION_TIMEOUT_MS.end());
        return Err(BusError::Misconfigured(format!(
            "bus.kafka.{name} must be a number from {least} to {most}: after so many milliseconds a silent process has lost its \
             partitions; leave it out for 10000"
        )));
    }
    if !HAS_TLS && needs_openssl(name, value.reveal()) {
        return Err(BusError::Misconfigured(format!(
            "bus.kafka.{name} needs TLS, which this build does not have; build with \
             `cargo build --release --features kafka-tls` (it compiles OpenSSL, no library of the system is needed), or \
             leave the setting out"
        )));
    }
    Ok(())
}

fn needs_openssl(name: &str, value: &str) -> bool {
    match name {
        "security.protocol" => value.to_ascii_lowercase().contains("ssl"),
        "sasl.mechanism" | "sasl.mechanisms" => !value.eq_ignore_ascii_case("plain"),
        _ => name.starts_with("ssl.") || name.starts_with("sasl.oauthbearer."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, value: &str) -> Option<String> {
        check(name, &Secret::new(value)).err().map(|error| error.to_string())
    }

    #[test]
    fn settings_that_guarantees_rest_on_are_refused_with_the_reason() {
        let acks = message("acks", "1").unwrap();
        assert!(acks.contains("bus.kafka.acks") && acks.contains("all replicas"), "{acks}");
        for name in ["enable.idempotence", "isolation.level", "auto.offset.reset", "group.id", "transactional.id"] {
            assert!(message(name, "x").is_some(), "{name}");
        }
        assert_eq!(message("socket.keepalive.enable", "true"), None);
        assert_eq!(message("compression.type", "zstd"), None);
        assert_eq!(message("session.timeout.ms", "6000"), None);
        for wrong in ["5999", "60001", "-1", "soon"] {
            assert!(message("session.timeout.ms", wrong).unwrap().contains("from 6000 to 60000"), "{wrong}");
        }
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn what_needs_tls_says_how_to_build_it() {
        let message = message("ssl.key.password", "hunter2").unwrap();
        assert!(message.contains("--features kafka-tls") && !message.contains("hunter2"), "{message}");
        assert!(super::tests::message("security.protocol", "SASL_SSL").is_some());
        assert_eq!(super::tests::message("security.protocol", "SASL_PLAINTEXT"), None);
        assert_eq!(super::tests::message("sasl.password", "hunter2"), None);
    }
}
