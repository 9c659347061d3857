//! What the Kafka bus is configured with, and librdkafka's settings for each kind of client.
//!
//! Users may pass any of librdkafka's settings through `[bus.kafka]` but for those that the bus's guarantees rest on.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::settings::SESSION_TIMEOUT;
use crate::bus::{BusError, Topic};
use crate::config::{BusConfig, Secret};

/// Largest record that is sent: room for an event of 256 KB in a dead letter, and for what others put on the bus.
pub(super) const RECORD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a record and its batch need beside key, value and headers.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 4096;
/// A member of the group that is silent for so long has died.
const SESSION_TIMEOUT_MS: &str = "10000";
/// How often members speak up, which is also how fast they hear of a change.
const HEARTBEAT_MS: u32 = 500;
/// A transaction that nobody ends is aborted by the broker after this; until then readers wait.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a lane's producer waits before it repeats a request by itself. It decides how fast a transaction must have been for
/// nobody to doubt that nothing of it was repeated.
pub(super) const REPEAT_AFTER: Duration = Duration::from_millis(200);
/// How long a broker holds an answer back while a partition has nothing new; also how late its end is known.
const FETCH_WAIT_MS: u32 = 50;
/// How long fetching rests while enough has been fetched.
const FETCH_BACKOFF_MS: u32 = 5;
/// Fetched and not yet asked for, per partition: librdkafka stops fetching beyond the first of both.
const QUEUED_MESSAGES: u32 = 20_000;
const QUEUED_KBYTES: u32 = 8 * 1024;

/// How to reach Kafka and what to find there.
#[derive(Debug, Clone, PartialEq)]
pub struct KafkaOptions {
    /// `host:port,host:port`.
    pub brokers: String,
    /// The consumer group that shares the work; lanes of the relay belong to it as well.
    pub group: String,
    /// Put before every topic's name.
    pub topic_prefix: String,
    /// Partitions of every topic but `pos.plugins`.
    pub partitions: u32,
    /// For topics that have to be created; -1 = as the brokers say.
    pub replication_factor: i32,
    /// For topics that have to be created; 0 = for ever.
    pub retention_hours: u64,
    /// How long an append may take before the caller hears that the bus is away.
    pub append_timeout: Duration,
    /// librdkafka's own settings by its own names.
    pub settings: BTreeMap<String, Secret>,
}

impl KafkaOptions {
    /// The options as configured.
    ///
    /// # Errors
    /// Settings that would break a guarantee, or that this build cannot follow.
    pub fn from_config(bus: &BusConfig) -> Result<Self, BusError> {
        for (name, value) in &bus.kafka {
            super::settings::check(name, value)?;
        }
        Ok(Self {
            brokers: bus.brokers.clone(),
            group: bus.group.clone(),
            topic_prefix: bus.topic_prefix.clone(),
            partitions: bus.partitions,
            replication_factor: bus.replication_factor,
            retention_hours: bus.retention_hours,
            append_timeout: Duration::from_millis(bus.append_timeout_ms),
            settings: bus.kafka.clone(),
        })
    }

    /// The topic's name on the brokers.
    pub(super) fn topic_name(&self, topic: Topic) -> String {
        format!("{}{}", self.topic_prefix, topic.name())
    }

    /// What every client starts from: defaults, then the user's settings; what follows here wins over both.
    fn client(&self, role: &str, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", format!("tillstream-{role}"))
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // A broker that went away is news once, not on every attempt.
            .set("log.connection.close", "false");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        // Only the member of the group knows what a session is; the others would complain.
        for (name, value) in self.settings.iter().filter(|(name, _)| *name != SESSION_TIMEOUT) {
            config.set(name.as_str(), value.reveal());
        }
        config.set("bootstrap.servers", &self.brokers);
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// A client for creating and describing topics.
    pub(super) fn admin(&self) -> ClientConfig {
        self.client("admin", &[])
    }

    /// The producer of everything but lanes.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client(
            "producer",
            &[
                ("compression.type", "lz4"),
                ("linger.ms", "2"),
                ("queue.buffering.max.messages", "200000"),
                ("queue.buffering.max.kbytes", "131072"),
            ],
        );
        let timeout_ms = self.append_timeout.as_millis().to_string();
        durable(&mut config).set("message.timeout.ms", timeout_ms);
        config
    }

    /// The producer of one lane. It lingers for longer than a lane takes to hand over what goes into one request.
    pub(super) fn lane_producer(&self, lane: &str) -> ClientConfig {
        let mut config = self.client("relay", &[("compression.type", "lz4"), ("linger.ms", "10")]);
        let timeout_ms = TRANSACTION_TIMEOUT.as_millis().to_string();
        let repeat_ms = REPEAT_AFTER.as_millis().to_string();
        durable(&mut config)
            .set("retry.backoff.ms", repeat_ms)
            .set("retry.backoff.max.ms", "1000")
            // A connection that ends within a transaction leaves it in doubt.
            .set("log.connection.close", "true")
            .set("transactional.id", self.outbox_name(lane))
            .set("transaction.timeout.ms", &timeout_ms)
            .set("message.timeout.ms", timeout_ms);
        config
    }

    /// Name of a lane's transactions, or of a group that keeps positions. Two installations on one cluster differ in group or
    /// prefix.
    pub(super) fn outbox_name(&self, of: &str) -> String {
        format!("{}{}.outbox.{of}", self.topic_prefix, self.group)
    }

    /// Knows the positions of lanes; never joins its group.
    pub(super) fn lane_positions(&self, group: &str) -> ClientConfig {
        let mut config = self.client("relay-positions", &[]);
        committed_only(&mut config).set("group.id", self.outbox_name(group));
        config
    }

    /// The member of the group: it learns the assignment and tells the group what has been processed, and reads nothing.
    pub(super) fn membership(&self) -> ClientConfig {
        let mut config = self.client("member", &[("topic.metadata.refresh.interval.ms", "60000")]);
        committed_only(&mut config)
            .set("group.id", &self.group)
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set(SESSION_TIMEOUT, self.settings.get(SESSION_TIMEOUT).map_or(SESSION_TIMEOUT_MS, Secret::reveal))
            .set("heartbeat.interval.ms", HEARTBEAT_MS.to_string())
            .set("max.poll.interval.ms", "300000")
            .set("queued.min.messages", "1")
            .set("queued.max.messages.kbytes", "64");
        config
    }

    /// Reads what the consumer owns; the group's name is a matter of form, it never joins.
    pub(super) fn fetcher(&self) -> ClientConfig {
        let (messages, kbytes) = (QUEUED_MESSAGES.to_string(), QUEUED_KBYTES.to_string());
        let defaults = [
            ("queued.min.messages", messages.as_str()),
            ("queued.max.messages.kbytes", kbytes.as_str()),
            ("fetch.message.max.bytes", "1048576"),
        ];
        let mut config = self.client("consumer", &defaults);
        committed_only(&mut config)
            .set("group.id", &self.group)
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", FETCH_WAIT_MS.to_string())
            .set("fetch.queue.backoff.ms", FETCH_BACKOFF_MS.to_string());
        config
    }

    /// Reads single pieces of partitions.
    pub(super) fn reader(&self) -> ClientConfig {
        let defaults = [("queued.min.messages", "1000"), ("fetch.message.max.bytes", "262144")];
        let mut config = self.client("reader", &defaults);
        // It never waits at the end of a partition, so no request is in the way of the next piece.
        committed_only(&mut config)
            .set("group.id", &self.group)
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "0")
            .set("fetch.queue.backoff.ms", "1");
        config
    }

    /// Follows topics from their ends on.
    pub(super) fn tail(&self) -> ClientConfig {
        let defaults = [("queued.min.messages", "10000"), ("queued.max.messages.kbytes", "8192")];
        let mut config = self.client("tail", &defaults);
        committed_only(&mut config).set("group.id", &self.group).set("auto.offset.reset", "latest");
        config
    }

    /// Sees what transactions have written that are still open: where partitions really end.
    pub(super) fn watermarks(&self) -> ClientConfig {
        let mut config = self.client("watermarks", &[]);
        config.set("isolation.level", "read_uncommitted");
        config
    }
}

/// An acknowledged record is on all replicas in sync, once and in order.
fn durable(config: &mut ClientConfig) -> &mut ClientConfig {
    let bytes_max = (RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES).to_string();
    config.set("enable.idempotence", "true").set("acks", "all").set("message.max.bytes", bytes_max)
}

fn committed_only(config: &mut ClientConfig) -> &mut ClientConfig {
    let bytes_max = (2 * RECORD_BYTES_MAX).to_string();
    config
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("receive.message.max.bytes", (1 << 30).to_string())
        .set("fetch.max.bytes", bytes_max)
}
