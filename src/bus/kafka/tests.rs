//! The common suite on a real broker, and what only Kafka has. Without `TILLSTREAM_TEST_KAFKA` every test says so and returns.

use std::collections::BTreeMap;

use super::*;
use crate::bus::suite::{PARTITIONS, bus_suite, record};

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
