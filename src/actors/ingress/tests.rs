//! Partitions that come and go while their owner has work in flight.

use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use serde_json::json;

use super::*;
use crate::bus::simulated::SimulatedBus;
use crate::bus::{Bus, NewRecord, Topic, TopicPartition};

const PARTITIONS: u32 = 4;
const PATIENCE: Duration = Duration::from_mins(1);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn drawer(terminal: &str) -> NewRecord {
    let event = json!({
        "specversion": "1.0", "type": "pos.drawer.opened", "id": format!("{terminal}-1"), "sequence": 1,
        "source": format!("/stores/S1/terminals/{terminal}"), "time": "2026-01-05T08:00:00Z", "data": {"employeeId": "E1"},
    });
    let (key, value) = (Some(terminal.to_owned().into()), event.to_string().into());
    NewRecord { topic: Topic::Events, partition: None, key, value, headers: Vec::new() }
}

#[actix::test]
async fn a_commit_in_flight_brings_a_partition_not_back_that_was_revoked_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db").display().to_string();
    let bus = Arc::new(SimulatedBus::shared(PARTITIONS, 1));
    let context = ShardContext::on_bus(&format!("sqlite:{path}"), Arc::clone(&bus) as Arc<dyn Bus>).await;
    let status = Arc::clone(&context.status);
    let options = IngressOptions { shards: 2, batch_bytes_max: 1 << 20, until_caught_up: false, sends_orders: false };
    let (stop, stopping) = watch::channel(false);
    let signals = IngressSignals { stop: stopping, caught_up: Arc::default(), span: Arc::default() };
    let running = actix::spawn(run(context.clone(), options, signals, Crashes::default()));
    until("everything is taken", async || status.partitions().len() == 2 * PARTITIONS as usize).await;

    let mut other = SqliteConnection::establish(&path).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    // One till for each partition: whichever are given away have something in flight.
    bus.append((0..40).map(|till| drawer(&format!("T{till}"))).collect()).await.unwrap();
    let all_told = async || {
        let mut told = 0;
        for partition in 0..PARTITIONS {
            told += bus.bounds(TopicPartition::new(Topic::Rekeyed, partition)).await.unwrap().high;
        }
        told > 0
    };
    until("commits are in flight", all_told).await;
    let mut newcomer = bus.consumer().unwrap();
    let mut theirs = Vec::new();
    until("some are given away", async || {
        if let Ok(Ok(ConsumerEvent::Assigned(more))) = tokio::time::timeout(HOUSEKEEPING, newcomer.next()).await {
            theirs.extend(more);
        }
        theirs.len() == 2
    })
    .await;
    let ours = || status.partitions().iter().all(|(place, _)| !theirs.contains(&place.partition));
    assert!(ours(), "revoked: {theirs:?}");
    other.batch_execute("COMMIT").unwrap();
    until("what was in flight is committed, and the rest is taken again", async || {
        context.status.totals.commits.get() > 0 && status.partitions().len() == 4
    })
    .await;
    assert!(ours(), "revoked: {theirs:?}, owned: {:?}", status.partitions());
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    assert!(status.partitions().is_empty(), "who has stopped owns nothing");
}
