//! Every codec that Kafka knows, both ways: what other clients compress is read, and they read what is compressed here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use tillstream::bus::kafka::{KafkaBus, KafkaOptions};
use tillstream::bus::{Bus, NewRecord, Topic, TopicPartition};
use tillstream::config::Secret;

use crate::beside_others;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const P0: TopicPartition = TopicPartition::new(Topic::Events, 0);

struct Scene {
    options: KafkaOptions,
}

impl Scene {
    fn new() -> Option<Self> {
        let unique: u64 = rand::random();
        let options = KafkaOptions {
            brokers: std::env::var("TILLSTREAM_TEST_KAFKA").ok()?,
            group: format!("group-{unique:016x}"),
            topic_prefix: format!("codecs-{unique:016x}."),
            partitions: 1,
            replication_factor: -1,
            retention_hours: 24,
            append_timeout: Duration::from_secs(20),
            settings: BTreeMap::new(),
        };
        Some(Self { options })
    }

    fn topic(&self) -> String {
        format!("{}pos.events", self.options.topic_prefix)
    }

    async fn bus(&self, codec: &str) -> Arc<KafkaBus> {
        let settings = BTreeMap::from([("compression.type".to_owned(), Secret::new(codec))]);
        KafkaBus::open(KafkaOptions { settings, ..self.options.clone() }).await.expect("the codec is built in")
    }

    /// Runs a client with this input and returns what it prints.
    fn run(command: &mut Command, input: &str) -> String {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it is installed");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{command:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn kcat(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new("kcat");
        Self::run(command.args(["-b", &self.options.brokers, "-t", &self.topic()]).args(arguments), input)
    }

    /// One of Kafka's own tools.
    fn java(&self, class: &str, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services"));
        let common = ["kafka-tool", class, "--bootstrap-server", &self.options.brokers, "--topic", &self.topic()];
        Self::run(command.args(common).args(arguments), input)
    }

    async fn read(&self) -> BTreeSet<String> {
        let bus = self.bus("none").await;
        let (mut offset, mut values) = (0, BTreeSet::new());
        loop {
            let read = bus.read(P0, offset, 1 << 20).await.expect("it can be read");
            for record in &read.records {
                assert!(values.insert(name_of(&String::from_utf8_lossy(&record.value))), "each is there once");
            }
            offset = read.next_offset;
            if read.at_end {
                return values;
            }
        }
    }
}

/// A text that every codec makes shorter, so that the batch is compressed for sure.
fn text(name: &str) -> String {
    format!("{name} {}", "again and again ".repeat(50))
}

fn name_of(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn record(name: &str) -> NewRecord {
    NewRecord { topic: Topic::Events, partition: Some(0), key: None, value: text(name).into(), headers: Vec::new() }
}

fn names(who: &str) -> BTreeSet<String> {
    CODECS.iter().map(|codec| format!("{who}-{codec}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_compress_is_read_whatever_the_codec() {
    let _beside = beside_others();
    let Some(scene) = Scene::new() else { return };
    drop(scene.bus("none").await);
    for codec in CODECS {
        scene.kcat(&["-P", "-z", codec], &(text(&format!("kcat-{codec}")) + "\n"));
        let producer = "org.apache.kafka.tools.ConsoleProducer";
        scene.java(producer, &["--compression-codec", codec], &(text(&format!("java-{codec}")) + "\n"));
    }
    assert_eq!(scene.read().await, &names("kcat") | &names("java"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compressed_here_is_read_by_others_whatever_the_codec() {
    let _beside = beside_others();
    let Some(scene) = Scene::new() else { return };
    for codec in CODECS {
        let bus = scene.bus(codec).await;
        bus.append(vec![record(&format!("plain-{codec}"))]).await.expect("it is taken");
        bus.append_lane(format!("lane-{codec}"), 1, vec![record(&format!("lane-{codec}"))]).await.expect("it is taken");
    }
    let all = &names("plain") | &names("lane");
    let read = |text: String| text.lines().map(name_of).collect::<BTreeSet<_>>();
    let kcat = scene.kcat(&["-C", "-e", "-q", "-o", "beginning", "-X", "isolation.level=read_committed"], "");
    assert_eq!(read(kcat), all);
    let count = all.len().to_string();
    let consumer = "org.apache.kafka.tools.consumer.ConsoleConsumer";
    let committed = ["--from-beginning", "--isolation-level", "read_committed", "--max-messages", &count];
    assert_eq!(read(scene.java(consumer, &committed, "")), all);
    assert_eq!(scene.read().await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_brokers_compress_with_zstd_is_read() {
    let _beside = beside_others();
    let Some(scene) = Scene::new() else { return };
    let bus = scene.bus("none").await;
    let topic = scene.topic();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &scene.options.brokers).create().expect("a client");
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic))
        .set("message.timestamp.type", "LogAppendTime")
        .set("compression.type", "zstd");
    let changed = admin.alter_configs(&[change], &AdminOptions::new()).await.expect("the broker answers");
    assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    bus.append(vec![record("one")]).await.expect("it is taken");
    bus.append_lane("lane".to_owned(), 1, vec![record("two")]).await.expect("it is taken");
    assert_eq!(scene.read().await, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    assert_eq!(bus.advice().await, [] as [&str; 0], "all that is there can be read, and the brokers are new enough");
}
