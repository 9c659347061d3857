//! Orders while processes are killed at random and the third party loses answers: what tills were told of arrives once and
//! ends as a success, whether every role has a process of its own over a real Kafka and a real MySQL server, or one
//! process does everything with what is built in.
//!
//! `TILLSTREAM_FULL=1` or a release build runs the full size: 20 000 orders of 50 tills.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tillstream::bus::Topic;
use tillstream::delivery::stub_orders::{Behaviour, StubOrders};

use crate::chain::{Chain, say, until};
use crate::process::{Process, command};
use crate::shop::Shop;
use crate::support::site::at_full_size;
use crate::tills::{keys, tills};

const SEED: u64 = 11;
/// Of the third party: a fifth of the requests fail, and of the answers to the others three in ten are lost.
const FAULTS: Behaviour = Behaviour {
    latency_ms: 0,
    fail: 0.2,
    hang: 0.0,
    lose_answer: 0.3,
    garbage: 0.0,
    rate_limit: 0,
    retry_after_seconds: 1,
};
/// Nobody gives an order up.
const ATTEMPTS: u32 = 100;
/// An order that fails a dozen times in a row waits for up to three minutes between its attempts, and machines are busy.
const PATIENCE: Duration = Duration::from_mins(8);
const ROLES: [&str; 4] = ["relay", "dispatcher", "processor", "api"];

/// Tills, and orders that each of them posts.
fn size(small: (usize, usize)) -> (usize, usize) {
    if at_full_size() { (50, 400) } else { small }
}

fn third_party() -> StubOrders {
    StubOrders::start(0, FAULTS, SEED, StubOrders::REMEMBER_DEFAULT).expect("a free port")
}

/// Waits until no order is pending and returns how long that took.
async fn ended(api: &Process) -> Duration {
    let pending = async || api.get("/api/orders/stats").await.1["counts"]["PENDING"] != 0;
    until("nothing is pending", PATIENCE, async || !pending().await).await
}

/// Every order that a till was told of is there once, reached the third party under one id with one body, has ended as a
/// success, and is on the topic once.
fn assert_each_once(
    told: &BTreeMap<String, String>,
    stats: &Value,
    stored: Vec<String>,
    party: &StubOrders,
    published: &[String],
) {
    assert_eq!(stats["counts"], json!({"PENDING": 0, "SUCCESS": told.len(), "FAILED": 0}));
    assert_eq!((&stats["unpublished"], &stats["parked"]), (&json!(0), &json!(0)));
    let ids: BTreeSet<&str> = told.values().map(String::as_str).collect();
    assert_eq!(ids.len(), told.len(), "each key stands for an order of its own");
    let count = stored.len();
    let stored: BTreeSet<String> = stored.into_iter().collect();
    assert_eq!(count, stored.len());
    assert_eq!(stored.iter().map(String::as_str).collect::<BTreeSet<_>>(), ids, "nothing that nobody was told of");
    let received = party.received();
    assert_eq!(party.conflicts(), []);
    assert_eq!(received.len(), ids.len());
    assert_eq!(received.iter().map(|order| order.id.as_str()).collect::<BTreeSet<_>>(), ids);
    assert!(received.iter().all(|order| order.key == order.id && order.processed_at.is_some()));
    let mut published: Vec<&str> = published.iter().map(String::as_str).collect();
    published.sort_unstable();
    assert_eq!(published, ids.into_iter().collect::<Vec<_>>(), "each once for those who read what is committed");
}

#[actix::test]
async fn whichever_process_is_killed_each_order_arrives_once() {
    let Some(mut chain) = Chain::new("orders on several processes") else { return };
    let party = third_party();
    chain.environment.push(("TILLSTREAM__ORDERS__URL", party.url()));
    let (count, each) = size((50, 40));

    let mut processes: BTreeMap<&str, Process> = ROLES.into_iter().map(|role| (role, chain.start(role))).collect();
    let others = [chain.start("relay"), chain.start("dispatcher"), chain.start("processor")];
    let settings = json!({"settings": {"timeoutMs": 400, "attempts": ATTEMPTS}});
    assert_eq!(processes["api"].patch("/api/plugins/order-delivery", settings).await.0, 200);
    let (address, addresses) = tokio::sync::watch::channel(processes["api"].url().to_owned());
    let posting = actix::spawn(tills(addresses, count, each));
    let mut chance = StdRng::seed_from_u64(SEED);
    let mut kills: BTreeMap<&str, u32> = BTreeMap::new();
    while !posting.is_finished() || kills.len() < ROLES.len() {
        tokio::time::sleep(Duration::from_millis(chance.random_range(100..1300))).await;
        let role = ROLES.choose(&mut chance).expect("there are some");
        drop(processes.remove(role));
        processes.insert(role, chain.start(role));
        address.send_replace(processes["api"].url().to_owned());
        *kills.entry(role).or_default() += 1;
    }
    let told = posting.await.expect("the tills did not give up");
    assert_eq!(told.len(), count * each);
    let took = ended(&processes["api"]).await;
    let (_, stats) = processes["api"].get("/api/orders/stats").await;
    drop(others);
    drop(processes);

    let stored = chain.database.texts("SELECT id AS value FROM orders");
    assert_each_once(&told, &stats, stored, &party, &keys(&chain.records(Topic::OrderCreated).await));
    say(&format!("{kills:?} kills; the last order ended {took:?} after the last one was accepted"));
    party.stop().await;
}

#[actix::test]
async fn every_order_that_a_till_was_told_of_arrives_once_however_often_the_process_is_killed() {
    let party = third_party();
    let settings = json!({"timeoutMs": 300, "attempts": ATTEMPTS});
    let shop = Shop::with_plugins(&json!({"plugins": {"order-delivery": {"settings": settings}}}));
    let shop = shop.with_orders(&party.url());
    let start = || Process::spawn(&mut command(&shop));
    let (count, each) = size((10, 60));
    let mut process = start();
    let (address, addresses) = tokio::sync::watch::channel(process.url().to_owned());
    let posting = actix::spawn(tills(addresses, count, each));
    let mut chance = StdRng::seed_from_u64(SEED);
    let mut kills = 0;
    while !posting.is_finished() || kills < 5 {
        tokio::time::sleep(Duration::from_millis(chance.random_range(100..1000))).await;
        drop(process);
        kills += 1;
        process = start();
        address.send_replace(process.url().to_owned());
    }
    let told = posting.await.expect("the tills did not give up");
    assert_eq!(told.len(), count * each);
    let took = ended(&process).await;
    let (_, stats) = process.get("/api/orders/stats").await;
    process.stop_by("TERM");

    let stored = shop.query("SELECT id AS value FROM orders");
    let open = shop.open().await;
    assert_each_once(&told, &stats, stored, &party, &keys(&open.records(Topic::OrderCreated).await));
    open.stop().await;
    say(&format!("{kills} kills; the last order ended {took:?} after the last one was accepted"));
    party.stop().await;
}
