//! The topics: created where they are missing, refused where they do not fit.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::context::{Context, LastError};
use super::error::{bus_error, by_code};
use super::options::{KafkaOptions, RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES};
use super::records::number;
use crate::bus::input::keep;
use crate::bus::{BusError, InputTopic, Topic};

/// How long the brokers may take for each question at the start.
const TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Chunks are needed until they are released; a processor that was off over a long week-end still finds them.
const REKEYED_HOURS_MIN: u64 = 96;
/// What the live feed shows is worthless after minutes.
const FEED_MS: &str = "3600000";
const LOG_APPEND_TIME: &str = "LogAppendTime";
/// Names of topics' settings, and the two ways to clean up.
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const CLEANUP_POLICY: &str = "cleanup.policy";
const COMPACT: &str = "compact";
const DELETE: &str = "delete";

/// The topics' names on the brokers, prefix included.
#[derive(Debug, Clone)]
pub(super) struct TopicNames(Arc<Names>);

#[derive(Debug)]
struct Names {
    fixed: Vec<String>,
    prefix: String,
    /// Input topics that were asked for.
    inputs: RwLock<HashMap<InputTopic, &'static str>>,
}

impl TopicNames {
    /// The names with a prefix.
    pub(super) fn new(options: &KafkaOptions) -> Self {
        let fixed = Topic::ALL.into_iter().map(|topic| options.topic_name(topic)).collect();
        Self(Arc::new(Names { fixed, prefix: options.topic_prefix.clone(), inputs: RwLock::default() }))
    }

    /// The name of a topic.
    pub(super) fn get(&self, topic: Topic) -> &str {
        if let Topic::Input(input) = topic {
            return self.input(input);
        }
        let index = Topic::ALL.iter().position(|known| *known == topic).expect("all topics are listed");
        &self.0.fixed[index]
    }

    fn input(&self, input: InputTopic) -> &'static str {
        if let Some(name) = self.0.inputs.read().unwrap_or_else(PoisonError::into_inner).get(&input) {
            return name;
        }
        let name = keep(format!("{}{}", self.0.prefix, input.name()));
        self.0.inputs.write().unwrap_or_else(PoisonError::into_inner).insert(input, name);
        name
    }

    /// The name of the topic where a plugin keeps its state.
    fn state_of(&self, input: InputTopic) -> String {
        format!("{}pos.plugins.{}.state", self.0.prefix, input.plugin())
    }
}

/// Creates what is missing and checks what is there. Blocks.
///
/// # Errors
/// If a topic does not fit, or the brokers do not answer.
pub(super) fn ensure(
    options: &KafkaOptions,
    names: &TopicNames,
    client: &BaseConsumer<Context>,
    last_error: &LastError,
) -> Result<(), BusError> {
    let mut missing = Vec::new();
    for topic in Topic::ALL {
        match partitions_of(client, names.get(topic), TIMEOUT, last_error)? {
            None => missing.push(topic),
            Some(count) => check_count(options, names.get(topic), topic, count)?,
        }
    }
    let admin: AdminClient<Context> =
        AdminClient::from_config_and_context(&options.admin(), Context::new("admin", last_error))
            .map_err(|error| bus_error("starting", &error, last_error))?;
    if !missing.is_empty() {
        create(options, names, &missing, &admin, last_error)?;
        await_topics(options, names, &missing, client, last_error)?;
    }
    check_settings(names, &admin, last_error)
}

/// How many partitions a topic has; `None` if it is not there.
pub(super) fn partitions_of(
    client: &BaseConsumer<Context>,
    name: &str,
    timeout: Duration,
    last_error: &LastError,
) -> Result<Option<usize>, BusError> {
    let doing = format!("looking for topic {name}");
    let metadata = client.fetch_metadata(Some(name), timeout).map_err(|error| bus_error(&doing, &error, last_error))?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
        return Ok(None);
    };
    match topic.error().map(RDKafkaErrorCode::from) {
        None | Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(Some(topic.partitions().len())),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(by_code(&doing, code, &code.to_string(), last_error)),
    }
}

/// Fewer partitions than configured are refused. More are let be: somebody has added them while the topic was in use, and what
/// stands on the configured ones must still be processed. [`super::KafkaBus`] tells of the surplus.
fn check_count(options: &KafkaOptions, name: &str, topic: Topic, count: usize) -> Result<(), BusError> {
    let wanted = topic.partitions(options.partitions);
    let is_single = topic.partitions(2) == 1;
    if u32::try_from(count) == Ok(wanted) {
        return Ok(());
    }
    if count > wanted as usize && !is_single {
        tracing::warn!(
            topic = name,
            count,
            configured = wanted,
            "the topic has more partitions than bus.partitions; nobody reads the others"
        );
        return Ok(());
    }
    let advice = if is_single {
        format!(
            "delete the topic so that it is created anew, or choose another bus.topicPrefix than \"{}\"",
            options.topic_prefix
        )
    } else {
        format!(
            "set bus.partitions = {count}, or choose another bus.topicPrefix than \"{}\"; the count of a topic in use must \
             never be changed, since events of one terminal would then stand on two partitions",
            options.topic_prefix
        )
    };
    Err(BusError::Misconfigured(format!("topic {name} has {count} partitions, but {wanted} are configured: {advice}")))
}

fn create(
    options: &KafkaOptions,
    names: &TopicNames,
    missing: &[Topic],
    admin: &AdminClient<Context>,
    last_error: &LastError,
) -> Result<(), BusError> {
    let events_ms = retention_ms(options.retention_hours);
    let rekeyed_hours = (options.retention_hours / 2).max(REKEYED_HOURS_MIN.min(options.retention_hours));
    let rekeyed_ms = retention_ms(rekeyed_hours);
    let bytes_max = (RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES).to_string();
    let new_topics = missing.iter().map(|&topic| {
        let replication = TopicReplication::Fixed(options.replication_factor);
        let partitions = number(topic.partitions(options.partitions));
        let new = NewTopic::new(names.get(topic), partitions, replication)
            .set(TIMESTAMP_TYPE, LOG_APPEND_TIME)
            .set("max.message.bytes", &bytes_max);
        match topic {
            Topic::Plugins | Topic::Manifests => new.set(CLEANUP_POLICY, COMPACT),
            Topic::Rekeyed => new.set(CLEANUP_POLICY, DELETE).set("retention.ms", &rekeyed_ms),
            Topic::Feed | Topic::Heartbeats => {
                new.set(CLEANUP_POLICY, DELETE).set("retention.ms", FEED_MS).set("segment.ms", FEED_MS)
            }
            Topic::Events | Topic::OrderCreated | Topic::DeadLetters | Topic::Input(_) => {
                new.set(CLEANUP_POLICY, DELETE).set("retention.ms", &events_ms)
            }
        }
    });
    let new_topics: Vec<_> = new_topics.collect();
    create_all(&new_topics, admin, last_error)
}

/// Creates the topics of a plugin in another language where they are missing. Blocks.
///
/// # Errors
/// If one does not fit, or the brokers do not answer.
pub(super) fn ensure_input(
    options: &KafkaOptions,
    names: &TopicNames,
    input: InputTopic,
    client: &BaseConsumer<Context>,
    last_error: &LastError,
) -> Result<(), BusError> {
    let topic = Topic::Input(input);
    let (name, state) = (names.get(topic), names.state_of(input));
    let (has_input, state_count) =
        (partitions_of(client, name, TIMEOUT, last_error)?, partitions_of(client, &state, TIMEOUT, last_error)?);
    for (name, count) in [(name, has_input), (state.as_str(), state_count)] {
        count.map_or(Ok(()), |count| check_count(options, name, topic, count))?;
    }
    if has_input.is_some() && state_count.is_some() {
        return Ok(());
    }
    let admin: AdminClient<Context> =
        AdminClient::from_config_and_context(&options.admin(), Context::new("admin", last_error))
            .map_err(|error| bus_error("creating topics", &error, last_error))?;
    if state_count.is_none() {
        let replication = TopicReplication::Fixed(options.replication_factor);
        let new = NewTopic::new(&state, number(options.partitions), replication).set(CLEANUP_POLICY, COMPACT);
        create_all(&[new], &admin, last_error)?;
    }
    if has_input.is_none() {
        create(options, names, &[topic], &admin, last_error)?;
        await_topics(options, names, &[topic], client, last_error)?;
    }
    Ok(())
}

fn create_all(
    new_topics: &[NewTopic<'_>],
    admin: &AdminClient<Context>,
    last_error: &LastError,
) -> Result<(), BusError> {
    let admin_options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let created = futures_executor(admin.create_topics(new_topics, &admin_options));
    for result in created.map_err(|error| bus_error("creating topics", &error, last_error))? {
        match result {
            Ok(name) => tracing::info!(topic = name, "topic created"),
            // Another process was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => {
                return Err(by_code(&format!("creating topic {name}"), code, &code.to_string(), last_error));
            }
        }
    }
    Ok(())
}

fn retention_ms(hours: u64) -> String {
    if hours == 0 { "-1".to_owned() } else { (hours * 3_600_000).to_string() }
}

/// A new topic is known to all brokers a moment later.
fn await_topics(
    options: &KafkaOptions,
    names: &TopicNames,
    topics: &[Topic],
    client: &BaseConsumer<Context>,
    last_error: &LastError,
) -> Result<(), BusError> {
    let deadline = Instant::now() + TIMEOUT;
    for &topic in topics {
        let name = names.get(topic);
        loop {
            if let Some(count) = partitions_of(client, name, TIMEOUT, last_error)?.filter(|count| *count > 0) {
                check_count(options, name, topic, count)?;
                if has_leaders(client, name, topic.partitions(options.partitions)) {
                    break;
                }
            }
            if Instant::now() > deadline {
                return Err(BusError::Unavailable(format!(
                    "Kafka: topic {name} was created but nobody leads it yet; try again, and look at the brokers' log if it stays so"
                )));
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }
    Ok(())
}

/// True if the brokers answer for every partition: those of a new topic are known before somebody leads them.
fn has_leaders(client: &BaseConsumer<Context>, name: &str, partitions: u32) -> bool {
    (0..partitions).all(|partition| client.fetch_watermarks(name, number(partition), TIMEOUT).is_ok())
}

/// What a topic that is there must be set to: time enters through the bus, so it must be the brokers' time and not the senders'; and
/// where each record counts, none may be taken away because a newer one has its key.
fn check_settings(names: &TopicNames, admin: &AdminClient<Context>, last_error: &LastError) -> Result<(), BusError> {
    let doing = "reading the settings of the topics (right DescribeConfigs)";
    let admin_options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let asked: Vec<_> = Topic::ALL.iter().map(|topic| ResourceSpecifier::Topic(names.get(*topic))).collect();
    let described = futures_executor(admin.describe_configs(&asked, &admin_options));
    for resource in described.map_err(|error| bus_error(doing, &error, last_error))? {
        let resource = resource.map_err(|code| by_code(doing, code, &code.to_string(), last_error))?;
        let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { continue };
        let Some(topic) = Topic::ALL.into_iter().find(|topic| names.get(*topic) == name) else { continue };
        let setting = |setting| resource.get(setting).and_then(|entry| entry.value.as_deref()).unwrap_or("unknown");
        let wrong = |setting: &str, is: &str, why: &str, wanted: &str| {
            Err(BusError::Misconfigured(format!(
                "topic {name} has {setting}={is}, {why}; set it to {wanted}: kafka-configs.sh --alter --entity-type topics \
                 --entity-name {name} --add-config {setting}={wanted}"
            )))
        };
        let times = setting(TIMESTAMP_TYPE);
        if topic == Topic::Events && times != LOG_APPEND_TIME {
            return wrong(TIMESTAMP_TYPE, times, "which lets senders choose the time", LOG_APPEND_TIME);
        }
        let policy = setting(CLEANUP_POLICY);
        match (topic.is_compacted(), policy.contains(COMPACT)) {
            (false, true) => {
                let why = "which removes records that a newer one of the same key has followed";
                return wrong(CLEANUP_POLICY, policy, why, DELETE);
            }
            (true, false) => {
                let why = "which removes what is old although nothing newer has taken its place";
                return wrong(CLEANUP_POLICY, policy, why, COMPACT);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The value of `compression.type` of every topic, by name. Blocks.
///
/// # Errors
/// If the brokers do not answer, or the right to read settings is missing.
pub(super) fn compression_types(
    names: &TopicNames,
    admin: &AdminClient<Context>,
    last_error: &LastError,
) -> Result<Vec<(String, String)>, BusError> {
    let doing = "reading the settings of the topics (right DescribeConfigs)";
    let admin_options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let asked: Vec<_> = Topic::ALL.iter().map(|topic| ResourceSpecifier::Topic(names.get(*topic))).collect();
    let described = futures_executor(admin.describe_configs(&asked, &admin_options));
    let described = described.map_err(|error| bus_error(doing, &error, last_error))?;
    let types = described.into_iter().filter_map(Result::ok).filter_map(|resource| {
        let OwnedResourceSpecifier::Topic(name) = &resource.specifier else { return None };
        let value = resource.get("compression.type")?.value.clone()?;
        Some((name.clone(), value))
    });
    Ok(types.collect())
}

/// The client's own thread completes the future, so this thread may simply wait.
fn futures_executor<F: Future>(future: F) -> F::Output {
    tokio::runtime::Handle::current().block_on(future)
}
