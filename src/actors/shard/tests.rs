use actix::Actor;
use bytes::Bytes;
use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use serde_json::json;

use super::*;
use crate::bus::simulated::SimulatedBus;
use crate::bus::{Record, Topic};
use crate::config::Role;
use crate::pipeline::source::content_type;
use crate::plugins::defaults::Defaults;
use crate::time::Timestamp;

const PARTITIONS: u32 = 4;

impl ShardContext {
    /// A simulated bus, and the store at `url`.
    pub(in crate::actors) async fn for_tests(url: &str, partitions: u32) -> Self {
        Self::on_bus(url, Arc::new(SimulatedBus::new(partitions, 1))).await
    }

    /// The store at `url`, and this bus.
    pub(in crate::actors) async fn on_bus(url: &str, bus: Arc<dyn Bus>) -> Self {
        let store = Store::open(url).await.unwrap();
        let (feed, status) = (Feed::new(100), Arc::new(Status::new(Role::ALL.to_vec())));
        let control =
            Control::start(store.clone(), feed.clone(), Arc::clone(&status), &Defaults::built_in()).await.unwrap();
        let sources = Arc::new(Sources::new(&*bus));
        let (outbox, calls) = (Arc::default(), Arc::default());
        Self { bus, store, control, feed, sources, status, outbox, calls, entities_max: 1000 }
    }
}

/// A message of this till at this offset of this partition.
fn fetched(partition: u32, offset: i64, terminal: &str) -> (TopicPartition, Fetched) {
    let at = Timestamp::from_millis(1_700_000_000_000 + offset);
    let event = json!({
        "specversion": "1.0", "type": "pos.drawer.opened", "id": format!("{terminal}-{offset}"),
        "source": format!("/stores/S1/terminals/{terminal}"), "time": at.to_string(),
        "sequence": offset, "data": {"employeeId": "E1", "storeId": "S1", "terminalId": terminal},
    });
    let place = TopicPartition::new(Topic::Events, partition);
    let record = Record {
        offset,
        key: Some(Bytes::from(terminal.to_owned())),
        value: Bytes::from(event.to_string()),
        headers: vec![content_type()],
        timestamp: at,
    };
    (place, Fetched { records: vec![record], next_offset: offset + 1, at_end: true })
}

/// What is in flight behind a batch that could not be applied would move the places past it.
#[actix::test]
async fn after_a_batch_that_could_not_be_applied_nothing_more_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db").display().to_string();
    let context = ShardContext::for_tests(&format!("sqlite:{path}"), PARTITIONS).await;
    let shard = Shard::new(0, context.clone(), LastWords::default()).start();
    let places: Vec<_> = (0..2).map(|partition| TopicPartition::new(Topic::Events, partition)).collect();
    shard.send(Take { partitions: places.clone(), quarantined: HashSet::new() }).await.unwrap().unwrap();
    let apply = async |fetched| -> Result<CommitReport, ShardFault> {
        shard.send(ApplyBatch { fetched }).await.unwrap()?.committed.await.unwrap()
    };
    apply(vec![fetched(0, 0, "T1")]).await.unwrap();

    let mut database = SqliteConnection::establish(&path).unwrap();
    database.batch_execute("ALTER TABLE windows RENAME TO away").unwrap();
    // The first till's part is applied before the second till's window cannot be read.
    let fault = apply(vec![fetched(0, 1, "T1"), fetched(1, 0, "T2")]).await.unwrap_err();
    assert!(matches!(fault, ShardFault::Failed(_)), "{fault}");
    database.batch_execute("ALTER TABLE away RENAME TO windows").unwrap();
    let fault = apply(vec![fetched(0, 2, "T1")]).await.unwrap_err();
    assert!(matches!(fault, ShardFault::Failed(_)), "{fault}");

    let stand = |rows: Vec<PartitionRow>| rows.into_iter().map(|row| row.next_offset).collect::<Vec<_>>();
    assert_eq!(
        stand(context.store.partitions().await.unwrap()),
        [1, 0],
        "the next shard begins at what was not applied"
    );
}
