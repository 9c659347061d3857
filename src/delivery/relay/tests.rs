//! The relay on the real store and on a bus with faults.

use diesel::Connection;
use diesel::connection::SimpleConnection;

use super::*;
use crate::bus::simulated::{Faults, SimulatedBus};
use crate::bus::{Topic, TopicPartition};
use crate::store::Commit;

const LANES: [&str; 3] = ["pos.events/0", "pos.events/1", "dispatch"];

struct Scene {
    directory: tempfile::TempDir,
    store: Store,
    bus: SimulatedBus,
    wake: Arc<Notify>,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", directory.path().join("store.db").display())).await.unwrap();
        Self { directory, store, bus: SimulatedBus::new(4, 5), wake: Arc::new(Notify::new()) }
    }

    fn relay(&self) -> Arc<Relay> {
        Relay::new(self.store.clone(), Arc::new(self.bus.clone()), Arc::clone(&self.wake), None)
    }

    async fn write(&self, lane: &str, seq: i64, records: Vec<NewRecord>) {
        let outbox = vec![OutboxRow { lane: lane.to_owned(), seq, records }];
        self.store.commit(Arc::new(Commit { settings_epoch: 1, outbox, ..Commit::default() })).await.unwrap();
        self.wake.notify_one();
    }

    /// Runs a relay until there is nothing left to send.
    async fn relay_until_idle(&self) -> Arc<Relay> {
        let relay = self.relay();
        let idle = async {
            while !relay.is_idle().await.unwrap() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            error = relay.run() => panic!("{error}"),
            () = idle => {}
        }
        relay
    }

    /// Changes the store past Tillstream.
    fn corrupt(&self, statement: &str) {
        let path = self.directory.path().join("store.db").display().to_string();
        let mut database = diesel::SqliteConnection::establish(&path).unwrap();
        database.batch_execute(statement).unwrap();
    }

    /// Runs a relay until this many records of a partition are on the bus.
    async fn relay_until(&self, relay: &Relay, partition: u32, records: usize) {
        let arrived = async {
            while self.on_bus(partition).await.len() < records {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            error = relay.run() => panic!("{error}"),
            () = arrived => {}
        }
    }

    async fn on_bus(&self, partition: u32) -> Vec<String> {
        let from = TopicPartition::new(Topic::Events, partition);
        let read = crate::bus::suite::read_all(&self.bus, from, 0).await;
        read.into_iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
    }
}

fn record(partition: usize, value: impl Into<bytes::Bytes>) -> NewRecord {
    let partition = Some(u32::try_from(partition).unwrap());
    NewRecord { topic: Topic::Events, partition, key: None, value: value.into(), headers: Vec::new() }
}

#[tokio::test]
async fn every_row_reaches_the_bus_once_and_in_order() {
    let scene = Scene::new().await;
    for seq in 1..=40 {
        for (index, lane) in LANES.into_iter().enumerate() {
            let records = (0..3).map(|number| record(index, format!("{lane} {seq} {number}"))).collect();
            scene.write(lane, seq, records).await;
        }
    }
    let relay = scene.relay_until_idle().await;
    assert_eq!(scene.store.outbox_depth().await.unwrap(), 0);
    assert_eq!(relay.figures().records, 360);
    assert!(relay.figures().appends < 40, "rows of a lane are sent together");
    for (index, lane) in LANES.into_iter().enumerate() {
        let expected: Vec<_> =
            (1..=40).flat_map(|seq| (0..3).map(move |number| format!("{lane} {seq} {number}"))).collect();
        assert_eq!(scene.on_bus(u32::try_from(index).unwrap()).await, expected);
    }
}

#[tokio::test]
async fn faults_of_the_bus_and_relays_that_die_send_nothing_twice() {
    let scene = Scene::new().await;
    let mut expected = Vec::new();
    for round in 0..30 {
        scene.bus.set_faults(Faults {
            append_unavailable: 0.2,
            lane_answer_lost: 0.3,
            delay_max: Duration::from_millis(2),
            ..Faults::default()
        });
        for seq in round * 3 + 1..=round * 3 + 3 {
            expected.push(seq.to_string());
            scene.write("pos.events/0", seq, vec![record(0, seq.to_string())]).await;
        }
        let relay = scene.relay();
        // Dropped in the middle of whatever it does.
        let _ = tokio::time::timeout(Duration::from_millis(round.unsigned_abs() % 7), relay.run()).await;
    }
    scene.bus.set_faults(Faults::default());
    scene.relay_until_idle().await;
    assert_eq!(scene.on_bus(0).await, expected);
}

#[tokio::test]
async fn a_row_that_was_sent_before_a_crash_but_not_deleted_is_skipped() {
    let scene = Scene::new().await;
    scene.write("pos.events/0", 1, vec![record(0, "one")]).await;
    let bus_lane = format!("{}/pos.events/0", scene.store.identity().await.unwrap());
    scene.bus.append_lane(bus_lane, 1, vec![record(0, "one")]).await.unwrap();
    scene.write("pos.events/0", 2, vec![record(0, "two")]).await;
    scene.relay_until_idle().await;
    assert_eq!(scene.on_bus(0).await, ["one", "two"]);
}

#[tokio::test]
async fn another_store_on_the_same_bus_has_lanes_of_its_own() {
    let mut scene = Scene::new().await;
    scene.write("dispatch", 1, vec![record(0, "of the first store")]).await;
    scene.relay_until_idle().await;
    let other = Scene::new().await;
    scene.store = other.store.clone();
    scene.write("dispatch", 1, vec![record(0, "of the second store")]).await;
    scene.relay_until_idle().await;
    assert_eq!(scene.on_bus(0).await, ["of the first store", "of the second store"]);
}

#[tokio::test]
async fn a_lane_that_the_bus_refuses_is_parked_and_holds_up_no_other() {
    let scene = Scene::new().await;
    scene.write("pos.events/0", 1, vec![record(0, "before")]).await;
    scene.write("pos.events/0", 2, vec![record(0, "too large"), record(0, vec![0; 17 * 1024 * 1024])]).await;
    scene.write("pos.events/0", 3, vec![record(0, "behind")]).await;
    scene.write("pos.events/1", 1, vec![record(1, "elsewhere")]).await;
    let relay = scene.relay_until_idle().await;
    assert_eq!(scene.on_bus(0).await, ["before"]);
    assert_eq!(scene.on_bus(1).await, ["elsewhere"]);
    let parked = relay.figures().parked;
    assert_eq!((parked[0].lane.as_str(), parked[0].seq), ("pos.events/0", 2));
    assert!(parked[0].reason.contains("larger than"), "{}", parked[0].reason);
    assert_eq!(scene.store.outbox_depth().await.unwrap(), 3, "nothing of the parked lane is lost");
}

#[tokio::test]
async fn a_lane_that_fails_is_named_and_holds_up_no_other_and_goes_on_by_itself() {
    let scene = Scene::new().await;
    scene.bus.set_lane_away("pos.events/0", true);
    // It comes first in every look at the outbox.
    scene.write("pos.events/0", 1, vec![record(0, "waits")]).await;
    scene.write("pos.events/1", 1, vec![record(1, "elsewhere")]).await;
    let relay = scene.relay();
    scene.relay_until(&relay, 1, 1).await;
    // A lane is told apart from a bus that is away by what others send, so they go on.
    let mut sent = 1;
    let named = async {
        while relay.figures().parked.is_empty() {
            sent += 1;
            scene.write("pos.events/1", sent, vec![record(1, "elsewhere")]).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        error = relay.run() => panic!("{error}"),
        () = named => {}
    }
    let parked = relay.figures().parked;
    assert_eq!((parked.len(), parked[0].lane.as_str()), (1, "pos.events/0"));
    assert_eq!(relay.figures().error, None, "the relay as such works");
    scene.write("pos.events/1", sent + 1, vec![record(1, "elsewhere")]).await;
    scene.relay_until(&relay, 1, usize::try_from(sent + 1).unwrap()).await;
    assert!(scene.on_bus(0).await.is_empty());
    scene.bus.set_lane_away("pos.events/0", false);
    scene.relay_until(&relay, 0, 1).await;
    scene.write("pos.events/0", 2, vec![record(0, "behind")]).await;
    scene.relay_until(&relay, 0, 2).await;
    assert_eq!(scene.on_bus(0).await, ["waits", "behind"]);
    assert_eq!(relay.figures().parked, []);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_parks_its_lane_behind_what_stands_before_it() {
    let scene = Scene::new().await;
    for seq in 1..=3 {
        scene.write("pos.events/0", seq, vec![record(0, seq.to_string())]).await;
        scene.write("pos.events/1", seq, vec![record(1, seq.to_string())]).await;
    }
    scene.corrupt("UPDATE outbox SET payload = 'garbled' WHERE lane = 'pos.events/0' AND seq = 2");
    let relay = scene.relay_until_idle().await;
    assert_eq!((scene.on_bus(0).await, scene.on_bus(1).await.len()), (vec!["1".to_owned()], 3));
    let parked = relay.figures().parked;
    assert_eq!((parked.len(), parked[0].lane.as_str()), (1, "pos.events/0"));
    assert!(parked[0].reason.contains("row 2"), "{}", parked[0].reason);
    // Somebody takes the row out: what stands behind it goes.
    scene.corrupt("DELETE FROM outbox WHERE lane = 'pos.events/0' AND seq = 2");
    scene.relay_until(&relay, 0, 2).await;
    assert_eq!(scene.on_bus(0).await, ["1", "3"]);
}

#[tokio::test]
async fn a_commit_wakes_the_relay() {
    let scene = Scene::new().await;
    let relay = scene.relay();
    let running = tokio::spawn(async move { relay.run().await });
    let mut consumer = scene.bus.consumer().unwrap();
    consumer.next().await.unwrap();
    consumer.next().await.unwrap();
    let written = Instant::now();
    scene.write("pos.events/0", 1, vec![record(0, "one")]).await;
    consumer.next().await.unwrap();
    assert!(written.elapsed() < Patience::alone().pause(), "it did not wait for its poll");
    running.abort();
}
