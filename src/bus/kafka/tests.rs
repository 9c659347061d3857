//! The common suite on a real broker, and what only Kafka has. Without `TILLSTREAM_TEST_KAFKA` every test says so and returns.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::*;
use crate::bus::suite::{PARTITIONS, bus_suite, read_all, record};
use crate::bus::{ConsumerEvent, Surplus, Topic};

const P0: TopicPartition = TopicPartition::new(Topic::Events, 0);
/// How long things may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

/// The value of a variable that `scripts/services up` prints; `None`, said aloud, if it is not set.
fn service(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok();
    if value.is_none() {
        // Not `eprintln`, which the test harness keeps for itself while tests pass.
        let _ = writeln!(std::io::stderr(), "skipped: {variable} names no broker (scripts/services up)");
    }
    value
}

/// Options for topics and a group of their own.
pub(super) fn options_for(brokers: String) -> KafkaOptions {
    let unique: u64 = rand::random();
    KafkaOptions {
        brokers,
        group: format!("group-{unique:016x}"),
        topic_prefix: format!("test-{unique:016x}."),
        partitions: PARTITIONS,
        replication_factor: -1,
        retention_hours: 24,
        append_timeout: Duration::from_secs(10),
        settings: BTreeMap::new(),
    }
}

fn options() -> Option<KafkaOptions> {
    service("TILLSTREAM_TEST_KAFKA").map(options_for)
}

async fn fresh() -> Option<Arc<dyn Bus>> {
    Some(KafkaBus::open(options()?).await.unwrap())
}

bus_suite!(match fresh().await {
    Some(bus) => ((), bus),
    None => return,
});

fn admin(options: &KafkaOptions) -> AdminClient<DefaultClientContext> {
    options.admin().create().unwrap()
}

async fn create(options: &KafkaOptions, topic: Topic, partitions: i32, (setting, value): (&str, &str)) {
    let name = options.topic_name(topic);
    let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1)).set(setting, value);
    let created = admin(options).create_topics(&[new], &AdminOptions::new()).await.unwrap();
    assert!(created.into_iter().all(|result| result.is_ok()));
}

async fn refusal(options: KafkaOptions) -> String {
    match KafkaBus::open(options).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn topics_are_made_with_the_settings_that_they_need() {
    let Some(options) = options() else { return };
    let bus = KafkaBus::open(options.clone()).await.unwrap();
    let again = KafkaBus::open(options.clone()).await.unwrap();
    assert_eq!(bus.identity(), again.identity());
    assert!(bus.identity().ends_with(&options.topic_prefix));

    let setting = async |topic: Topic, name: &str| {
        let topic = options.topic_name(topic);
        let asked = [ResourceSpecifier::Topic(&topic)];
        let mut described = admin(&options).describe_configs(&asked, &AdminOptions::new()).await.unwrap();
        described.remove(0).unwrap().get(name).unwrap().value.clone().unwrap()
    };
    assert_eq!(setting(Topic::Events, "message.timestamp.type").await, "LogAppendTime");
    assert_eq!(setting(Topic::Events, "retention.ms").await, "86400000");
    assert_eq!(setting(Topic::Plugins, "cleanup.policy").await, "compact");
    assert_eq!(setting(Topic::DeadLetters, "cleanup.policy").await, "delete");
}

#[tokio::test]
async fn a_topic_with_fewer_partitions_is_refused() {
    let Some(options) = options() else { return };
    create(&options, Topic::Rekeyed, 3, ("message.timestamp.type", "LogAppendTime")).await;
    let message = refusal(options.clone()).await;
    assert!(message.contains(&options.topic_name(Topic::Rekeyed)), "{message}");
    assert!(message.contains("has 3 partitions, but 4") && message.contains("bus.partitions = 3"), "{message}");
}

#[tokio::test]
async fn partitions_beyond_the_configured_ones_belong_to_nobody_and_are_told_of() {
    let Some(options) = options() else { return };
    create(&options, Topic::Events, 6, ("message.timestamp.type", "LogAppendTime")).await;
    let bus = KafkaBus::open(options).await.unwrap();
    let mut member = bus.consumer().unwrap();
    assert_eq!(assignment(&mut *member).await, ConsumerEvent::Assigned(vec![0, 1, 2, 3]));
    assert_eq!(bus.surplus().await.unwrap(), Some(Surplus { configured: 4, partitions: 6, records: 0 }));
    member.leave().await;
}

#[tokio::test]
async fn a_topic_whose_senders_choose_the_time_is_refused() {
    let Some(options) = options() else { return };
    create(&options, Topic::Events, 4, ("message.timestamp.type", "CreateTime")).await;
    let message = refusal(options.clone()).await;
    assert!(message.contains(&options.topic_name(Topic::Events)) && message.contains("CreateTime"), "{message}");
    assert!(message.contains("kafka-configs.sh --alter"), "{message}");
}

#[tokio::test]
async fn a_topic_that_would_lose_records_is_refused() {
    for (topic, policy, wanted) in [(Topic::Rekeyed, "compact,delete", "delete"), (Topic::Plugins, "delete", "compact")]
    {
        let Some(options) = options() else { return };
        let partitions = i32::try_from(topic.partitions(options.partitions)).unwrap();
        create(&options, topic, partitions, ("cleanup.policy", policy)).await;
        let message = refusal(options.clone()).await;
        assert!(message.contains(&format!("{} has cleanup.policy", options.topic_name(topic))), "{message}");
        assert!(message.ends_with(&format!("--add-config cleanup.policy={wanted}")), "{message}");
    }
}

#[tokio::test]
async fn without_a_broker_it_says_where_it_looked_and_what_it_met() {
    // Port 1 of this machine: nobody listens there.
    let message = refusal(options_for("127.0.0.1:1".to_owned())).await;
    assert!(message.contains("bus.brokers = 127.0.0.1:1") && message.contains("refused"), "{message}");
}

#[tokio::test]
async fn a_setting_that_librdkafka_does_not_know_is_named() {
    let mut options = options_for("127.0.0.1:1".to_owned());
    options.settings.insert("socket.timeoutms".to_owned(), crate::config::Secret::new("5"));
    let message = refusal(options).await;
    assert!(message.contains("bus.kafka.socket.timeoutms"), "{message}");
}

/// Waits for the next event that is not mere news.
async fn assignment(consumer: &mut dyn Consumer) -> ConsumerEvent {
    let wait = async {
        loop {
            match consumer.next().await.unwrap() {
                ConsumerEvent::Ready => {}
                // The group has been joined; there was nothing to give.
                ConsumerEvent::Assigned(none) if none.is_empty() => {}
                event => return event,
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a change of the assignment")
}

#[tokio::test]
async fn members_share_the_partitions_and_take_over_at_once_from_one_that_leaves() {
    let Some(options) = options() else { return };
    let (one, two) = (KafkaBus::open(options.clone()).await.unwrap(), KafkaBus::open(options).await.unwrap());
    let mut first = one.consumer().unwrap();
    assert_eq!(assignment(&mut *first).await, ConsumerEvent::Assigned(vec![0, 1, 2, 3]));
    let mut second = two.consumer().unwrap();
    let ConsumerEvent::Revoked(given) = assignment(&mut *first).await else { panic!("some are given away") };
    assert_eq!(given.len(), 2);
    assert_eq!(assignment(&mut *second).await, ConsumerEvent::Assigned(given.clone()));

    first.leave().await;
    let left_at = Instant::now();
    let mut rest: Vec<_> = (0..PARTITIONS).collect();
    rest.retain(|partition| !given.contains(partition));
    assert_eq!(assignment(&mut *second).await, ConsumerEvent::Assigned(rest));
    assert!(left_at.elapsed() < Duration::from_secs(3), "nobody had them for {:?}", left_at.elapsed());
}

#[tokio::test]
async fn the_group_hears_what_has_been_processed() {
    let Some(options) = options() else { return };
    let bus = KafkaBus::open(options.clone()).await.unwrap();
    let mut consumer = bus.consumer().unwrap();
    assignment(&mut *consumer).await;
    let rekeyed = TopicPartition::new(Topic::Rekeyed, 2);
    bus.set_floor(P0, 7);
    bus.set_floor(rekeyed, 5);
    consumer.leave().await;

    let asking: BaseConsumer = options.lane_positions("x").set("group.id", &options.group).create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(&options.topic_name(Topic::Events), 0);
    asked.add_partition(&options.topic_name(Topic::Rekeyed), 2);
    let told = tokio::task::spawn_blocking(move || asking.committed_offsets(asked, PATIENCE).unwrap()).await.unwrap();
    let offsets: Vec<_> = told.elements().iter().map(TopicPartitionListElem::offset).collect();
    assert_eq!(offsets, [Offset::Offset(7), Offset::Offset(5)]);
}

#[tokio::test]
async fn whoever_opens_a_lane_fences_the_one_before() {
    let Some(options) = options() else { return };
    let (paused, next) = (KafkaBus::open(options.clone()).await.unwrap(), KafkaBus::open(options).await.unwrap());
    let lane = || "store/pos.events/0".to_owned();
    paused.append_lane(lane(), 1, vec![record("one")]).await.unwrap();
    assert_eq!(next.lane_position(lane()).await.unwrap(), Some(1));
    for _ in 0..2 {
        let zombie = paused.append_lane(lane(), 2, vec![record("by the zombie")]).await;
        assert!(matches!(zombie, Err(BusError::Fenced(_))), "{zombie:?}");
    }
    next.append_lane(lane(), 2, vec![record("two")]).await.unwrap();
    let values: Vec<_> = read_all(&*next, P0, 0).await.into_iter().map(|record| record.value).collect();
    assert_eq!(values, ["one", "two"]);
    // Asking for the position is how a relay begins anew.
    assert_eq!(paused.lane_position(lane()).await.unwrap(), Some(2));
    paused.append_lane(lane(), 3, vec![record("three")]).await.unwrap();
}

#[tokio::test]
async fn a_reader_comes_to_the_end_past_the_marks_of_transactions() {
    let Some(bus) = fresh().await else { return };
    bus.append_lane("lane".to_owned(), 1, vec![record("one")]).await.unwrap();
    let end = bus.bounds(P0).await.unwrap().high;
    let mut consumer = bus.consumer().unwrap();
    let (mut offset, mut count) = (0, 0);
    let reach_the_end = async {
        while offset < end {
            let fetched = consumer.fetch(P0, offset, 1000).await.unwrap();
            count += fetched.records.len();
            offset = fetched.next_offset;
            if offset < end {
                consumer.next().await.unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, reach_the_end).await.expect("the mark is passed");
    assert_eq!(count, 1);
    let rest = bus.read(P0, 1, 1000).await.unwrap();
    assert!(rest.records.is_empty() && rest.at_end && rest.next_offset >= end, "{rest:?}");
}

#[tokio::test]
async fn a_tail_shows_what_is_appended_from_now_on_also_by_transactions_and_in_order() {
    let Some(bus) = fresh().await else { return };
    bus.append(vec![record("before")]).await.unwrap();
    let mut tail = crate::bus::follow(Arc::clone(&bus), vec![Topic::Events]);
    let mut seen: Vec<String> = Vec::new();
    // The client finds out where the end is in the background: until the first record shows, more are appended.
    let mut sent = Vec::new();
    while seen.is_empty() {
        sent.push(format!("probe-{}", sent.len()));
        bus.append(vec![record(sent[sent.len() - 1].clone())]).await.unwrap();
        if let Ok(records) = tokio::time::timeout(Duration::from_millis(300), tail.next()).await {
            seen.extend(records.unwrap().into_iter().map(|(_, one)| String::from_utf8(one.value.to_vec()).unwrap()));
        }
    }
    for position in 1..=3 {
        let lane = vec![record(format!("lane-{position}"))];
        sent.push(format!("lane-{position}"));
        bus.append_lane("a".to_owned(), position, lane).await.unwrap();
        sent.push(format!("plain-{position}"));
        bus.append(vec![record(format!("plain-{position}"))]).await.unwrap();
    }
    while seen.last() != sent.last() {
        let records = tokio::time::timeout(Duration::from_secs(10), tail.next()).await.expect("more comes").unwrap();
        seen.extend(records.into_iter().map(|(_, one)| String::from_utf8(one.value.to_vec()).unwrap()));
    }
    assert_eq!(seen, sent[sent.len() - seen.len()..], "nothing twice, nothing left out, nothing from before");
}

#[cfg(feature = "kafka-tls")]
mod tls {
    use super::*;
    use crate::config::Secret;

    /// Options for the listener with TLS and SCRAM.
    fn secured(password: &str) -> Option<KafkaOptions> {
        let (brokers, authority) = (service("TILLSTREAM_TEST_KAFKA_TLS")?, service("TILLSTREAM_TEST_KAFKA_CA")?);
        let mut options = options_for(brokers);
        let settings = [
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", authority.as_str()),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            ("sasl.username", "tillstream"),
            ("sasl.password", password),
        ];
        options.settings = settings.map(|(name, value)| (name.to_owned(), Secret::new(value))).into();
        Some(options)
    }

    #[tokio::test]
    async fn records_travel_over_tls_for_a_user_that_scram_knows() {
        let Some(options) = secured("tillstream") else { return };
        let bus = KafkaBus::open(options).await.unwrap();
        bus.append(vec![record("secret")]).await.unwrap();
        bus.append_lane("lane".to_owned(), 1, vec![record("too")]).await.unwrap();
        let values: Vec<_> = read_all(&*bus, P0, 0).await.into_iter().map(|record| record.value).collect();
        assert_eq!(values, ["secret", "too"]);
        let mut consumer = bus.consumer().unwrap();
        assert!(matches!(assignment(&mut *consumer).await, ConsumerEvent::Assigned(_)));
    }

    #[tokio::test]
    async fn a_wrong_password_is_called_that_and_not_repeated() {
        let Some(options) = secured("hunter2") else { return };
        let message = refusal(options).await;
        assert!(message.contains("refuse user name or password") && message.contains("sasl.password"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[tokio::test]
    async fn a_broker_whose_authority_is_unknown_is_not_trusted() {
        let Some(mut options) = secured("tillstream") else { return };
        options.settings.remove("ssl.ca.location");
        let message = refusal(options).await;
        assert!(message.contains("no TLS connection") && message.contains("ssl.ca.location"), "{message}");
    }
}
