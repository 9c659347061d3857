//! A processor that was paused for longer than its session lasts, and goes on: what it owned belongs to another one by now.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::alone;
use crate::chain::{Chain, PATIENCE, until};
use crate::moving::{open_drawers, owners};
use crate::process::Process;

/// Longer than intakes wait until they look again.
const INTAKES_LOOK: Duration = Duration::from_secs(2);
/// Orders in whose time nobody may take a partition from anybody.
const ORDERS: usize = 40;

async fn metrics(process: &Process) -> String {
    let answer = reqwest::get(format!("{}/metrics", process.url())).await.expect("an answer");
    answer.text().await.expect("text")
}

/// Topic and partition of what a process says that it owns.
async fn owned(process: &Process) -> BTreeSet<String> {
    let lag = "tillstream_partition_lag{";
    let metrics = metrics(process).await;
    let labels = metrics.lines().filter_map(|line| line.strip_prefix(lag)?.split_once('}'));
    labels.map(|(labels, _)| labels.to_owned()).collect()
}

/// Posts an order and waits until it has been read from the bus.
async fn order_is_read(chain: &Chain, api: &Process, number: usize) {
    let order = json!({
        "storeId": "S001", "terminalId": format!("T{number}"), "currency": "EUR", "total": 100,
        "items": [{"productId": "P1", "quantity": 1, "unitPrice": 100}],
    });
    let request = reqwest::Client::new().post(format!("{}/api/orders", api.url()));
    let request = request.header("content-type", "application/json").header("Idempotency-Key", format!("\"{number}\""));
    let answer = request.body(order.to_string()).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 201);
    let read = "SELECT CAST(SUM(next_offset) AS CHAR) AS value FROM offsets WHERE topic = 'order.created'";
    let expected = number + 1;
    until("the order is read", PATIENCE, async || {
        chain.database.texts(read).first().is_some_and(|sum| sum.parse::<usize>().is_ok_and(|sum| sum >= expected))
    })
    .await;
}

/// How often each place was taken.
fn epochs(chain: &Chain) -> Vec<String> {
    chain.database.texts("SELECT CONCAT(topic, ' ', `partition`, ' ', epoch) AS value FROM offsets ORDER BY 1")
}

#[actix::test]
async fn a_processor_that_was_paused_owns_nothing_of_another_one_and_takes_nothing_back() {
    let _alone = alone();
    let Some(chain) = Chain::new("a processor is paused and goes on") else { return };
    let chain = Arc::new(chain);
    let api = chain.start("api,relay,dispatcher");
    let processors = [chain.start("processor"), chain.start("processor")];
    let done = Arc::new(AtomicBool::new(false));
    let tills = actix::spawn(open_drawers(api.url().to_owned(), Arc::clone(&done)));
    until("both have partitions", PATIENCE, async || owners(&api).await.len() == 2).await;
    for number in 0..8 {
        order_is_read(&chain, &api, number).await;
    }

    // The one that also reads manifests.
    let is_first = owned(&processors[0]).await.iter().any(|labels| labels.contains("partition=\"0\""));
    let (paused, other) = if is_first { (&processors[0], &processors[1]) } else { (&processors[1], &processors[0]) };
    paused.signal("STOP");
    until("the other one has everything", PATIENCE, async || owned(other).await.len() == 16).await;
    for number in 8..12 {
        order_is_read(&chain, &api, number).await;
    }
    paused.signal("CONT");
    let are_apart = async || {
        let (mine, theirs) = (owned(paused).await, owned(other).await);
        mine.is_disjoint(&theirs) && mine.len() + theirs.len() == 16 && mine.len() == 8
    };
    until("each has its share, and nobody shows what belongs to the other", PATIENCE, are_apart).await;
    order_is_read(&chain, &api, 12).await;
    // Each intake takes what is its own by now, in its own time.
    let mut before = Vec::new();
    until("everybody has taken what is theirs", PATIENCE, async || {
        let seen = std::mem::replace(&mut before, epochs(&chain));
        tokio::time::sleep(INTAKES_LOOK).await;
        seen == before
    })
    .await;
    for number in 13..13 + ORDERS {
        order_is_read(&chain, &api, number).await;
        assert!(are_apart().await, "a ghost: {:?} and {:?}", owned(paused).await, owned(other).await);
    }
    assert_eq!(epochs(&chain), before, "nobody has taken anything from anybody");
    for process in &processors {
        assert_eq!(process.get("/health/ready").await.0, 200);
    }
    done.store(true, Ordering::Release);
    tills.await.expect("every event was taken");
}
