//! The end of a transaction that arrives late: first what it does to a producer that goes on, then that lanes are safe from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tillstream::bus::kafka::{KafkaBus, KafkaOptions};
use tillstream::bus::{Bus, BusError, NewRecord, Topic, TopicPartition};

use crate::beside_others;
use crate::support::proxy::Proxy;

const P0: TopicPartition = TopicPartition::new(Topic::Events, 0);
const LANE: &str = "store/pos.events/0";
const STEP: Duration = Duration::from_secs(20);
/// `AddOffsetsToTxn`: by then the records of a transaction are on the broker, and its position is not.
const BEFORE_THE_POSITION: &str = "25";
/// Kafka's codes for a producer of an epoch that is over.
const FENCED: [&str; 2] = ["47", "90"];

/// Topics of their own behind a proxy of their own.
struct Scene {
    brokers: String,
    options: KafkaOptions,
    proxy: Proxy,
}

impl Scene {
    async fn new() -> Option<Self> {
        let brokers = std::env::var("TILLSTREAM_TEST_KAFKA").ok()?;
        let proxy = Proxy::before(&brokers);
        let unique: u64 = rand::random();
        let options = KafkaOptions {
            brokers: brokers.clone(),
            group: format!("group-{unique:016x}"),
            topic_prefix: format!("late-{unique:016x}."),
            partitions: 1,
            replication_factor: -1,
            retention_hours: 24,
            append_timeout: STEP,
            settings: BTreeMap::new(),
        };
        let scene = Self { brokers, options, proxy };
        // Creates the topics.
        drop(scene.direct().await);
        Some(scene)
    }

    /// The bus as another process sees it, past the proxy.
    async fn direct(&self) -> Arc<KafkaBus> {
        KafkaBus::open(self.options.clone()).await.expect("the broker answers")
    }

    async fn through_the_proxy(&self) -> Arc<KafkaBus> {
        let options = KafkaOptions { brokers: self.proxy.address.clone(), ..self.options.clone() };
        KafkaBus::open(options).await.expect("the broker answers")
    }

    /// What every reader of committed records finds.
    async fn committed(&self) -> Vec<String> {
        let bus = self.direct().await;
        let (mut offset, mut values) = (0, Vec::new());
        loop {
            let read = bus.read(P0, offset, 1 << 20).await.expect("it can be read");
            values.extend(read.records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()));
            offset = read.next_offset;
            if read.at_end {
                return values;
            }
        }
    }

    async fn refuse_large_records(&self) {
        let name = format!("{}pos.events", self.options.topic_prefix);
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("a client");
        let change = AlterConfig::new(ResourceSpecifier::Topic(&name))
            .set("message.timestamp.type", "LogAppendTime")
            .set("max.message.bytes", "2000");
        let changed = admin.alter_configs(&[change], &AdminOptions::new()).await.expect("the broker answers");
        assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    }

    /// A producer as librdkafka makes it, which goes on whatever happened, and where its position is kept.
    fn heedless(&self) -> Heedless {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.proxy.address).set("linger.ms", "0");
        let group = format!("{}heedless", self.options.topic_prefix);
        let consumer: BaseConsumer =
            config.clone().set("group.id", &group).set("isolation.level", "read_committed").create().expect("a client");
        let producer: BaseProducer = config.set("transactional.id", &group).create().expect("a client");
        producer.init_transactions(STEP).expect("it starts");
        Heedless { topic: format!("{}pos.events", self.options.topic_prefix), consumer, producer }
    }
}

struct Heedless {
    topic: String,
    consumer: BaseConsumer,
    producer: BaseProducer,
}

impl Heedless {
    fn begins_with(&self, value: &str) {
        self.producer.begin_transaction().expect("a transaction begins");
        let record = BaseRecord::<str, str>::to(&self.topic).partition(0).payload(value);
        self.producer.send(record).expect("it is handed over");
        self.producer.flush(STEP).expect("it is delivered");
    }

    fn place(&self, position: i64) -> (TopicPartitionList, ConsumerGroupMetadata) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.topic, 0, Offset::Offset(position)).expect("an offset");
        (offsets, self.consumer.group_metadata().expect("it has a group"))
    }

    fn position(&self) -> Option<i64> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, 0);
        let stored = self.consumer.committed_offsets(asked, STEP).expect("the group answers");
        stored.elements()[0].offset().to_raw().filter(|offset| *offset >= 0)
    }
}

fn record(value: impl Into<Vec<u8>>) -> NewRecord {
    NewRecord { topic: Topic::Events, partition: Some(0), key: None, value: value.into().into(), headers: Vec::new() }
}

/// The fault itself, on this broker and this librdkafka. Where this test fails, one of them has learned to protect transactions,
/// and lanes need no new producer any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_goes_on_after_an_abort_loses_events_to_a_late_one() {
    let _beside = beside_others();
    let Some(mut scene) = Scene::new().await else { return };
    let heedless = scene.heedless();
    heedless.begins_with("given up");
    scene.proxy.does("hold abort");
    heedless.producer.abort_transaction(STEP).expect("the client repeats it and says nothing");
    scene.proxy.hears("held abort");

    heedless.begins_with("lost");
    scene.proxy.does(&format!("release-before {BEFORE_THE_POSITION}"));
    let (offsets, group) = heedless.place(2);
    heedless.producer.send_offsets_to_transaction(&offsets, &group, STEP).expect("the position is taken");
    assert_eq!(scene.proxy.hears("released abort "), "0", "the broker takes it for the end of the next transaction");
    heedless.producer.commit_transaction(STEP).expect("the client believes all is well");

    assert_eq!(scene.committed().await, [] as [&str; 0], "the record is gone");
    assert_eq!(heedless.position(), Some(2), "and its position says that it was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_goes_on_after_a_repeated_commit_publishes_half_of_the_next_transaction() {
    let _beside = beside_others();
    let Some(mut scene) = Scene::new().await else { return };
    let heedless = scene.heedless();
    heedless.begins_with("one");
    let (offsets, group) = heedless.place(1);
    heedless.producer.send_offsets_to_transaction(&offsets, &group, STEP).expect("the position is taken");
    scene.proxy.does("hold commit");
    heedless.producer.commit_transaction(STEP).expect("the client repeats it and says nothing");
    scene.proxy.hears("held commit");

    heedless.begins_with("two");
    let error = scene.proxy.asks("release", "released commit ");
    assert_eq!(error, "0", "the broker takes it for the end of the next transaction");
    assert_eq!(scene.committed().await, ["one", "two"], "published already");
    assert_eq!(heedless.position(), Some(1), "but a process that dies here would send it again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_abort_does_not_reach_a_lanes_next_transaction() {
    let _beside = beside_others();
    let Some(mut scene) = Scene::new().await else { return };
    let bus = scene.through_the_proxy().await;
    bus.append_lane(LANE.to_owned(), 1, vec![record("one")]).await.expect("it is taken");
    scene.refuse_large_records().await;
    scene.proxy.does("hold abort");
    let refused = bus.append_lane(LANE.to_owned(), 2, vec![record(rand::random::<[u8; 5000]>())]).await;
    assert!(matches!(refused, Err(BusError::Refused(_))), "{refused:?}");
    scene.proxy.hears("held abort");

    scene.proxy.does(&format!("release-before {BEFORE_THE_POSITION}"));
    bus.append_lane(LANE.to_owned(), 2, vec![record("two")]).await.expect("it is taken");
    let error = scene.proxy.hears("released abort ");
    assert!(FENCED.contains(&error.as_str()), "a new epoch protects the lane: {error}");

    assert_eq!(scene.committed().await, ["one", "two"], "nothing is lost");
    assert_eq!(scene.direct().await.lane_position(LANE.to_owned()).await.expect("an answer"), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_commit_does_not_reach_a_lanes_next_transaction() {
    let _beside = beside_others();
    let Some(mut scene) = Scene::new().await else { return };
    let bus = scene.through_the_proxy().await;
    scene.proxy.does("hold commit");
    bus.append_lane(LANE.to_owned(), 1, vec![record("one")]).await.expect("the client repeats it and says nothing");
    scene.proxy.hears("held commit");

    scene.proxy.does(&format!("release-before {BEFORE_THE_POSITION}"));
    bus.append_lane(LANE.to_owned(), 2, vec![record("two")]).await.expect("it is taken");
    let error = scene.proxy.hears("released commit ");
    assert!(FENCED.contains(&error.as_str()), "a new epoch protects the lane: {error}");

    assert_eq!(scene.committed().await, ["one", "two"], "each is there once");
    assert_eq!(scene.direct().await.lane_position(LANE.to_owned()).await.expect("an answer"), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_keeps_its_producer_as_long_as_nothing_is_in_doubt() {
    let _beside = beside_others();
    let Some(mut scene) = Scene::new().await else { return };
    let bus = scene.through_the_proxy().await;
    let mut epochs = Vec::new();
    for position in 1..=5 {
        bus.append_lane(LANE.to_owned(), position, vec![record("x")]).await.expect("it is taken");
        epochs.push(scene.proxy.hears("end commit "));
    }
    scene.proxy.does("cut");
    bus.append_lane(LANE.to_owned(), 6, vec![record("x")]).await.expect("a broken connection is mended");
    assert_eq!(scene.committed().await.len(), 6);
    epochs.dedup();
    // A machine that is busy makes a commit slow, which leaves it in doubt; never all of them.
    assert!(epochs.len() < 5, "{epochs:?}");
}
