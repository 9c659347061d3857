//! What a person should know about the brokers although they answer: whether they are old enough to lose transactions, and whether
//! a topic is compressed in a way that this build cannot read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;

use super::context::{Context, LastError};
use super::options::KafkaOptions;
use super::topics::{TopicNames, compression_types};

/// How long the brokers may take for each question.
const TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// The oldest brokers of which every release is safe. Those of 3.9.1 and later 3.9 releases have the fix of KAFKA-17507 as well,
/// but speak the same versions of the protocol as 3.9.0.
const OLDEST_SAFE: &str = "4.0";
/// The request that ends a transaction, and the version of it that came with Kafka 4.0.
const END_TXN: &str = "ApiKey EndTxn (26) Versions ";
const END_TXN_OF_4_0: u16 = 5;

/// Sentences for a person; none if all is well. Blocks.
pub(super) fn advice(options: &KafkaOptions, names: &TopicNames) -> Vec<String> {
    let mut advice = Vec::new();
    advice.extend(match newest_end_txn(options) {
        Some(version) => about_version(version),
        None => Some(format!(
            "which version of Kafka the brokers run cannot be seen; transactions need Apache Kafka {OLDEST_SAFE} or newer"
        )),
    });
    let last_error = LastError::default();
    let admin: Result<AdminClient<Context>, _> =
        AdminClient::from_config_and_context(&options.admin(), Context::new("admin", &last_error));
    let types = admin
        .map_err(|error| error.to_string())
        .and_then(|admin| compression_types(names, &admin, &last_error).map_err(|error| error.to_string()));
    match types {
        Ok(types) => advice.extend(types.iter().filter_map(|(topic, codec)| about_codec(topic, codec, &codecs()))),
        Err(error) => advice.push(format!("how topics are compressed cannot be seen: {error}")),
    }
    advice
}

/// What to say about brokers whose newest `EndTxn` is this one.
fn about_version(newest: u16) -> Option<String> {
    (newest < END_TXN_OF_4_0).then(|| {
        format!(
            "the brokers are older than Apache Kafka {OLDEST_SAFE}. Up to 3.9.0 a position that was committed in a transaction can be \
             read before it is decided (KAFKA-17507), and a record can then be sent twice. Update them to {OLDEST_SAFE} or newer, or at \
             least to 3.9.1"
        )
    })
}

/// What to say about a topic with this `compression.type`.
fn about_codec(topic: &str, codec: &str, readable: &[String]) -> Option<String> {
    (!readable.iter().any(|known| known == codec)).then(|| {
        format!(
            "topic {topic} has compression.type={codec}, which this build cannot read: its partitions will stand still. Set it to \
             producer: kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config compression.type=producer"
        )
    })
}

/// The values of `compression.type` that this build of librdkafka reads. LZ4 and Snappy are always there.
fn codecs() -> Vec<String> {
    let features = ClientConfig::new().create_native_config().and_then(|config| config.get("builtin.features"));
    let features = features.unwrap_or_default();
    let built_in = ["gzip", "zstd"].into_iter().filter(|codec| features.split(',').any(|feature| feature == *codec));
    ["producer", "uncompressed", "lz4", "snappy"].into_iter().chain(built_in).map(str::to_owned).collect()
}

/// The newest version of `EndTxn` that a broker offers. librdkafka tells it in its debug log only.
fn newest_end_txn(options: &KafkaOptions) -> Option<u16> {
    let found = Arc::new(Mutex::new(None));
    let mut config = options.admin();
    config.set("debug", "feature").set_log_level(RDKafkaLogLevel::Debug);
    let client = BaseConsumer::from_config_and_context(&config, Listener { end_txn: Arc::clone(&found) });
    let client: BaseConsumer<Listener> = client.ok()?;
    let deadline = Instant::now() + TIMEOUT;
    let _ = client.fetch_metadata(None, TIMEOUT);
    loop {
        while client.poll(POLL).is_some() {}
        let newest = *found.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_some() || Instant::now() > deadline {
            return newest;
        }
    }
}

/// Picks what brokers offer out of the debug log.
struct Listener {
    end_txn: Arc<Mutex<Option<u16>>>,
}

impl ClientContext for Listener {
    fn log(&self, _: RDKafkaLogLevel, _: &str, message: &str) {
        if let Some(newest) = offered(message) {
            let mut known = self.end_txn.lock().unwrap_or_else(PoisonError::into_inner);
            // The oldest broker counts.
            *known = Some(known.map_or(newest, |known| known.min(newest)));
        }
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Listener {}

/// The newest `EndTxn` of a line such as `… ApiKey EndTxn (26) Versions 0..5`.
fn offered(line: &str) -> Option<u16> {
    let (_, versions) = line.split_once(END_TXN)?;
    versions.split_once("..")?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_brokers_that_are_safe_are_named_to_those_who_have_older_ones() {
        let line = "[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap:   ApiKey EndTxn (26) Versions 0..4";
        assert_eq!(offered(line), Some(4));
        assert!(about_version(4).is_some_and(|text| text.contains("older than Apache Kafka 4.0")));
        assert_eq!(about_version(5), None);
        assert_eq!(offered("ApiKey AddOffsetsToTxn (25) Versions 0..4"), None);
    }

    #[test]
    fn a_codec_that_cannot_be_read_is_named_with_its_topic_and_what_to_do() {
        let readable = codecs();
        for codec in ["producer", "uncompressed", "gzip", "snappy", "lz4"] {
            assert_eq!(about_codec("pos.events", codec, &readable), None, "{codec}");
        }
        let told = about_codec("pos.events", "brotli", &readable).unwrap();
        assert!(told.contains("pos.events") && told.contains("brotli") && told.contains("kafka-configs.sh"), "{told}");
    }

    #[test]
    fn the_brokers_of_the_tests_are_new_enough_and_all_their_topics_can_be_read() {
        let Ok(brokers) = std::env::var("TILLSTREAM_TEST_KAFKA") else { return };
        let options = super::super::tests::options_for(brokers);
        assert!(newest_end_txn(&options).is_some_and(|version| version >= END_TXN_OF_4_0));
    }
}
