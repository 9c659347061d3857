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
        let entities_max = 1000;
        Self { bus, store, control, feed, sources, status, outbox, calls, entities_max, forget_sources_ms: None }
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
    shard.send(Take { partitions: places.clone(), quarantine: Quarantine::default() }).await.unwrap().unwrap();
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

/// A basket event of this till on this day.
fn basket(kind: &str, offset: i64, terminal: &str, basket: &str, day: i64) -> Record {
    let at = Timestamp::from_millis(1_767_000_000_000 + day * 86_400_000 + offset);
    let event = json!({
        "specversion": "1.0", "type": kind, "id": format!("{terminal}-{offset}"),
        "source": format!("/stores/S1/terminals/{terminal}"), "time": at.to_string(),
        "data": {"employeeId": "E1", "basketId": basket, "line": 1, "productId": "P1", "category": "bread",
            "quantity": 1, "unitPrice": 100, "currency": "EUR", "paymentId": format!("p{offset}"), "method": "cash", "amount": 100},
    });
    let (key, value) = (Some(Bytes::from(terminal.to_owned())), Bytes::from(event.to_string()));
    Record { offset, key, value, headers: vec![content_type()], timestamp: at }
}

/// What tills do over some days, in batches: two that work every other day, one that pays after a long silence, and many that
/// nobody ever sees again.
fn days_of_tills(made_up: i64) -> Vec<Vec<Record>> {
    let mut offset = 0;
    let mut next = move || {
        offset += 1;
        offset - 1
    };
    let mut batches = Vec::new();
    let added = "pos.basket.item_added";
    let first = (0..made_up).map(|number| basket(added, next(), &format!("M{number}"), "B", 0)).collect();
    batches.push(first);
    batches.push(vec![basket(added, next(), "SILENT", "B", 0)]);
    for day in [1, 3, 5, 7, 9] {
        let of_till =
            |till: &str, next: &mut dyn FnMut() -> i64| vec![basket(added, next(), till, &format!("B{day}"), day)];
        batches.push(of_till("T1", &mut next));
        batches.push(of_till("T2", &mut next));
        let paid = format!("B{}", day - 2);
        batches.push(vec![basket("pos.payment.completed", next(), "T1", &paid, day)]);
    }
    batches.push(vec![basket("pos.payment.completed", next(), "SILENT", "B", 9)]);
    batches
}

/// Applies these batches; after each the shard may begin again, and what has expired may be removed. Gives the store and its path.
async fn apply_all(
    batches: &[Vec<Record>],
    begins_again: bool,
    removes: bool,
) -> (tempfile::TempDir, ShardContext, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db").display().to_string();
    let context = ShardContext::for_tests(&format!("sqlite:{path}"), 1).await;
    let (plugin, snapshot) = ("purchase-recommender", context.control.snapshot());
    let revision = snapshot.plugins().iter().find(|one| one.row.name == plugin).unwrap().row.revision;
    let settings = json!({"pairings": [{"products": ["P1"], "recommend": ["P2"], "reason": "goes with it"}], "forgetAfterDays": 2});
    let change =
        crate::store::PluginChange { active: true, eligibility: json!({}), settings, starts: None, while_off: None };
    let record = basket("pos.drawer.opened", 0, "T1", "B", 0);
    let told = crate::bus::NewRecord {
        topic: Topic::Plugins,
        partition: None,
        key: None,
        value: record.value,
        headers: Vec::new(),
    };
    context.store.change_plugin(plugin, revision, change, "ann", None, told).await.unwrap();
    context.control.refresh().await.unwrap();
    let place = TopicPartition::new(Topic::Events, 0);
    let take = || Take { partitions: vec![place], quarantine: Quarantine::default() };
    let mut shard = Shard::new(0, context.clone(), LastWords::default()).start();
    shard.send(take()).await.unwrap().unwrap();
    for records in batches {
        let next_offset = records.last().unwrap().offset + 1;
        let fetched = vec![(place, Fetched { records: records.clone(), next_offset, at_end: true })];
        shard.send(ApplyBatch { fetched }).await.unwrap().unwrap().committed.await.unwrap().unwrap();
        if removes {
            crate::delivery::expiry::forget(&context.store, &context.status).await;
        }
        if begins_again {
            shard = Shard::new(0, context.clone(), LastWords::default()).start();
            shard.send(take()).await.unwrap().unwrap();
        }
    }
    (directory, context, path)
}

#[derive(diesel::QueryableByName)]
struct Line {
    #[diesel(sql_type = diesel::sql_types::Text)]
    line: String,
}

fn lines(path: &str, query: &str) -> Vec<String> {
    let mut database = SqliteConnection::establish(path).unwrap();
    let lines: Vec<Line> = diesel::RunQueryDsl::load(diesel::sql_query(query), &mut database).unwrap();
    lines.into_iter().map(|line| line.line).collect()
}

/// States that nobody has seen for long are absent whether they are in memory, in the store, or gone.
#[actix::test]
async fn what_is_forgotten_is_the_same_with_and_without_removal_and_with_restarts_anywhere() {
    const RESULTS: &str = "SELECT id || ' ' || basket_id || ' ' || at AS line FROM recommendations ORDER BY id";
    const STATES: &str = "SELECT entity AS line FROM entities WHERE plugin = 'purchase-recommender' ORDER BY entity";
    let batches = days_of_tills(300);
    let (_calm_directory, _, calm) = apply_all(&batches, false, false).await;
    let results = lines(&calm, RESULTS);
    assert_eq!(
        results.len(),
        4,
        "T1's baskets of days 1, 3, 5, and 7; that of the silent till is forgotten: {results:?}"
    );
    assert_eq!(lines(&calm, STATES).len(), 303, "nothing was removed");
    for begins_again in [false, true] {
        let (_directory, context, path) = apply_all(&batches, begins_again, true).await;
        assert_eq!(lines(&path, RESULTS), results, "begins again: {begins_again}");
        assert_eq!(lines(&path, STATES), ["SILENT", "T1", "T2"], "made-up tills are gone");
        assert!(context.status.removed("entities").get() >= 300);
    }
    let (_directory, _, path) = apply_all(&batches, true, false).await;
    assert_eq!(lines(&path, RESULTS), results);
    // Everything at once: the days pass within one batch.
    let (_directory, _, path) = apply_all(&[batches.concat()], false, false).await;
    assert_eq!(lines(&path, RESULTS), results);
}
