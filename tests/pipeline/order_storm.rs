//! Orders while processes of every role are killed, over a real Kafka and a real MySQL server, and the third party loses
//! answers: what tills were told of arrives once and ends as a success.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tillstream::bus::Topic;
use tillstream::delivery::stub_orders::{Behaviour, StubOrders};

use crate::orders::tills;
use crate::process::Process;
use crate::processes::{Chain, PATIENCE, say, until};

const TILLS: usize = 50;
const EACH: usize = 40;
/// Killed again and again, one after the other.
const ROLES: [&str; 4] = ["relay", "dispatcher", "processor", "api"];

#[actix::test]
async fn whichever_process_is_killed_each_order_arrives_once() {
    let Some(mut chain) = Chain::new("orders on several processes") else { return };
    let faults = Behaviour { fail: 0.2, lose_answer: 0.3, ..Behaviour::default() };
    let party = StubOrders::start(0, faults, 11, StubOrders::REMEMBER_DEFAULT).expect("a free port");
    chain.environment.push(("TILLSTREAM__ORDERS__URL", party.url()));

    let mut processes: BTreeMap<&str, Process> = ROLES.into_iter().map(|role| (role, chain.start(role))).collect();
    let others = [chain.start("relay"), chain.start("dispatcher"), chain.start("processor")];
    let settings = json!({"settings": {"timeoutMs": 400, "attempts": 200}});
    assert_eq!(processes["api"].patch("/api/plugins/order-delivery", settings).await.0, 200);
    let (address, addresses) = tokio::sync::watch::channel(processes["api"].url().to_owned());
    let posting = actix::spawn(tills(addresses, TILLS, EACH));
    let mut kills = 0;
    while !posting.is_finished() || kills < 2 * ROLES.len() {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let role = ROLES[kills % ROLES.len()];
        drop(processes.remove(role));
        processes.insert(role, chain.start(role));
        address.send_replace(processes["api"].url().to_owned());
        kills += 1;
    }
    let told = posting.await.expect("the tills did not give up");
    let api = &processes["api"];
    let took =
        until("nothing is pending", PATIENCE, async || api.get("/api/orders/stats").await.1["counts"]["PENDING"] == 0)
            .await;
    let (_, stats) = api.get("/api/orders/stats").await;
    assert_eq!(stats["counts"], json!({"PENDING": 0, "SUCCESS": TILLS * EACH, "FAILED": 0}), "after {kills} kills");
    drop(others);
    drop(processes);

    let ids: BTreeSet<String> = told.values().cloned().collect();
    assert_eq!(ids.len(), TILLS * EACH, "each key stands for an order of its own");
    let stored: BTreeSet<String> = chain.database.texts("SELECT id AS value FROM orders").into_iter().collect();
    assert_eq!(stored, ids, "nothing that nobody was told of");
    let received = party.received();
    assert_eq!(party.conflicts(), []);
    assert_eq!(received.iter().map(|order| order.id.clone()).collect::<BTreeSet<_>>(), ids);
    assert!(received.iter().all(|order| order.key == order.id && order.processed_at.is_some()));
    let mut published = chain.keys(Topic::OrderCreated).await;
    published.sort();
    assert_eq!(published, ids.into_iter().collect::<Vec<_>>(), "each once for those who read what is committed");
    say(&format!("{kills} kills; the last order ended {took:?} after the last one was accepted"));
    party.stop().await;
}
