use std::sync::Arc;

use diesel::Connection;
use diesel::connection::SimpleConnection;

use super::*;
use crate::bus::simulated::{Faults, SimulatedBus};
use crate::bus::{Bus, TopicPartition};
use crate::config::Role;
use crate::control::Control;
use crate::delivery::orders::intake::Intake;
use crate::feed::Feed;
use crate::orders::OrderSignals;
use crate::orders::order::new_id;
use crate::plugins::defaults::Defaults;
use crate::status::Status;
use crate::store::{NewOrder, Store};

struct Scene {
    directory: tempfile::TempDir,
    context: OrderContext,
    bus: SimulatedBus,
    accepted: Vec<String>,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", directory.path().join("store.db").display())).await.unwrap();
        let (feed, status) = (Feed::new(100), Arc::new(Status::new(Role::ALL.to_vec())));
        let defaults = Defaults::built_in();
        let control = Control::start(store.clone(), feed.clone(), Arc::clone(&status), &defaults).await.unwrap();
        let bus = SimulatedBus::new(4, 5);
        let context = OrderContext {
            store,
            bus: Arc::new(bus.clone()),
            control,
            feed,
            status,
            signals: OrderSignals::default(),
            outbox: Arc::default(),
            url: None,
            lookup: false,
            owner: "process".to_owned(),
            stopping: tokio::sync::watch::channel(false).1,
            drained: Arc::new(tokio::sync::watch::channel(false).0),
        };
        Self { directory, context, bus, accepted: Vec::new() }
    }

    async fn accept(&mut self, count: usize, description: &str) {
        let orders: Vec<_> = (0..count).map(|_| new_order(description)).collect();
        self.accepted.extend(orders.iter().map(|order| order.id.clone()));
        self.context.store.accept_orders(Arc::new(orders), Timestamp::MIN).await.unwrap();
        self.context.signals.accepted.notify_one();
    }

    /// Changes the store past Tillstream.
    fn corrupt(&self, statement: &str) {
        let path = self.directory.path().join("store.db").display().to_string();
        let mut database = diesel::SqliteConnection::establish(&path).unwrap();
        database.batch_execute(statement).unwrap();
    }

    async fn publish_until_idle(&self) {
        let publisher = Publisher::new(self.context.clone());
        let idle = async {
            while self.context.store.orders_under_way().await.unwrap().0 > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = publisher.run() => {}
            () = idle => {}
        }
    }

    /// Ids of the orders on the topic, by partition and offset.
    async fn published(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for partition in 0..4 {
            let place = TopicPartition::new(Topic::OrderCreated, partition);
            let read = crate::bus::suite::read_all(&self.bus as &dyn Bus, place, 0).await;
            ids.extend(read.into_iter().map(|record| String::from_utf8(record.key.unwrap().to_vec()).unwrap()));
        }
        ids
    }

    async fn assert_each_once(&self) {
        let (mut published, mut accepted) = (self.published().await, self.accepted.clone());
        published.sort();
        accepted.sort();
        assert_eq!(published, accepted);
    }
}

fn new_order(description: &str) -> NewOrder {
    let created_at = Timestamp::now();
    let id = new_id(created_at);
    let document = serde_json::json!({"storeId": "S1", "terminalId": "T1", "currency": "EUR",
        "items": [{"productId": "P", "quantity": 1, "unitPrice": 5, "description": description}], "total": 5});
    NewOrder {
        key_id: id.clone(),
        caller: "local".to_owned(),
        idempotency_key: id.clone(),
        fingerprint: id.clone(),
        store_id: "S1".to_owned(),
        terminal_id: "T1".to_owned(),
        document: document.to_string(),
        answer: "{}".to_owned(),
        created_at,
        id,
    }
}

#[tokio::test]
async fn faults_of_the_bus_and_publishers_that_die_publish_each_order_once() {
    let mut scene = Scene::new().await;
    for round in 0..25 {
        scene.bus.set_faults(Faults {
            append_unavailable: 0.2,
            lane_answer_lost: 0.3,
            delay_max: Duration::from_millis(2),
            ..Faults::default()
        });
        scene.accept(3, "bread").await;
        let publisher = Publisher::new(scene.context.clone());
        // Dropped in the middle of whatever it does.
        let _ = tokio::time::timeout(Duration::from_millis(round % 9), publisher.run()).await;
    }
    scene.bus.set_faults(Faults::default());
    scene.publish_until_idle().await;
    scene.assert_each_once().await;
}

#[tokio::test]
async fn of_two_publishers_one_holds_the_lease_and_the_other_is_given_no_batch() {
    let mut scene = Scene::new().await;
    let store = scene.context.store.clone();
    let minute = Duration::from_mins(1);
    assert!(store.lease_order_publishing("one", minute).await.unwrap());
    assert!(!store.lease_order_publishing("two", minute).await.unwrap());
    assert!(store.lease_order_publishing("one", Duration::ZERO).await.unwrap(), "it may renew");
    scene.accept(2, "bread").await;
    let batch = store.next_order_batch("one", 10).await.unwrap().expect("two orders wait");
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(store.lease_order_publishing("two", minute).await.unwrap(), "the lease has run out");
    assert!(matches!(store.next_order_batch("one", 10).await, Err(StoreError::Conflict)));
    let same = store.next_order_batch("two", 10).await.unwrap().expect("the batch that was begun");
    assert_eq!(same, batch, "a number stands for the same orders whoever sends them");
}

#[tokio::test]
async fn an_order_that_the_bus_refuses_is_parked_and_the_others_go_on() {
    let mut scene = Scene::new().await;
    scene.accept(2, "bread").await;
    // Larger than what the bus takes; the API would not have let it in.
    scene.accept(1, &"x".repeat(17 * 1024 * 1024)).await;
    scene.accept(2, "bread").await;
    let refused = scene.accepted.remove(2);
    scene.publish_until_idle().await;
    scene.assert_each_once().await;
    let stats = scene.context.store.order_stats().await.unwrap();
    assert_eq!((stats.unpublished, stats.parked), (1, 1));
    let parked = scene.context.store.order(&refused).await.unwrap().parked.expect("it says why");
    assert!(parked.contains("larger"), "{parked}");
    assert_eq!(scene.context.store.retry_parked_orders(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(scene.context.store.order_stats().await.unwrap().parked, 0);
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_parked_and_the_others_go_on() {
    let mut scene = Scene::new().await;
    scene.accept(4, "bread").await;
    let garbled = scene.accepted.remove(0);
    scene.corrupt(&format!("UPDATE orders SET document = '[' WHERE id = '{garbled}'"));
    scene.publish_until_idle().await;
    scene.assert_each_once().await;
    let stats = scene.context.store.order_stats().await.unwrap();
    assert_eq!((stats.unpublished, stats.parked), (1, 1));
    let document = r#"{"storeId":"S1","terminalId":"T1","currency":"EUR","items":[],"total":0}"#;
    scene.corrupt(&format!("UPDATE orders SET document = '{document}' WHERE id = '{garbled}'"));
    scene.context.store.retry_parked_orders(Duration::ZERO).await.unwrap();
    scene.publish_until_idle().await;
    scene.accepted.push(garbled);
    scene.assert_each_once().await;
}

#[tokio::test]
async fn a_partition_that_cannot_be_read_holds_up_no_orders_of_others() {
    let mut scene = Scene::new().await;
    scene.accept(40, "bread").await;
    scene.publish_until_idle().await;
    let away = TopicPartition::new(Topic::OrderCreated, 0);
    let waiting = crate::bus::suite::read_all(&scene.bus as &dyn Bus, away, 0).await.len();
    assert!((1..40).contains(&waiting), "some are there, some are elsewhere");
    scene.bus.set_away(away, true);
    let owned = (0..4).map(|partition| TopicPartition::new(Topic::Events, partition)).collect();
    for row in scene.context.store.take(owned).await.unwrap() {
        scene.context.status.take_partition(&row, 0);
    }
    let handed_over = async |orders: usize| {
        while scene.context.status.orders.consumed.get() < orders as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let intake = Intake::new(scene.context.clone());
    tokio::select! {
        () = intake.run() => {}
        () = handed_over(40 - waiting) => {}
    }
    let parked = scene.context.status.parked.list();
    assert_eq!((parked.len(), parked[0].part, parked[0].name.as_str()), (1, "order-intake", "order.created/0"));
    scene.bus.set_away(away, false);
    tokio::select! {
        () = intake.run() => {}
        () = handed_over(40) => {}
    }
}
