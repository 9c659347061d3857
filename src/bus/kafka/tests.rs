//! The common suite on a real broker, and what only Kafka has. Without `TILLSTREAM_TEST_KAFKA` every test says so and returns.

use std::collections::BTreeMap;

use super::*;
use crate::bus::suite::{PARTITIONS, bus_suite};

/// Options for topics and a group of their own; `None`, said aloud, if no broker was named.
fn options() -> Option<KafkaOptions> {
    let Ok(brokers) = std::env::var("TILLSTREAM_TEST_KAFKA") else {
        eprintln!("skipped: TILLSTREAM_TEST_KAFKA names no broker; `scripts/services up` starts one");
        return None;
    };
    let unique: u64 = rand::random();
    Some(KafkaOptions {
        brokers,
        group: format!("group-{unique:016x}"),
        topic_prefix: format!("test-{unique:016x}."),
        partitions: PARTITIONS,
        replication_factor: -1,
        retention_hours: 24,
        append_timeout: Duration::from_secs(10),
        settings: BTreeMap::new(),
    })
}

async fn fresh() -> Option<Arc<dyn Bus>> {
    Some(KafkaBus::open(options()?).await.unwrap())
}

bus_suite!(match fresh().await {
    Some(bus) => ((), bus),
    None => return,
});
