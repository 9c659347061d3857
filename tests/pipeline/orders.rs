//! Orders from the till to the third party: whatever fails between, each arrives once and ends where a person can see it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use tillstream::bus::Topic;
use tillstream::delivery::stub_orders::{Behaviour, StubOrders};

use crate::process::{Process, command};
use crate::shop::{Open, Shop, records, until};

const SEED: u64 = 7;

fn third_party(behaviour: Behaviour) -> StubOrders {
    StubOrders::start(0, behaviour, SEED, StubOrders::REMEMBER_DEFAULT).expect("a free port")
}

fn working() -> StubOrders {
    third_party(Behaviour::default())
}

fn order(terminal: &str, total: i64) -> Value {
    json!({"storeId": "S001", "terminalId": terminal, "currency": "EUR", "total": total,
        "items": [{"productId": "P1", "quantity": 1, "unitPrice": total}]})
}

/// Posts an order and returns status and id.
async fn post(client: &reqwest::Client, url: &str, key: &str, order: &Value) -> reqwest::Result<(u16, Option<String>)> {
    let request = client.post(format!("{url}/api/orders")).header("content-type", "application/json");
    let key = HeaderValue::from_str(&format!("\"{key}\"")).expect("a key of ASCII characters");
    let response = request.header("idempotency-key", key).body(order.to_string()).send().await?;
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await?).unwrap_or_default();
    Ok((status, body["id"].as_str().map(ToOwned::to_owned)))
}

/// Posts orders to a server that is well, and returns their ids.
async fn post_all(open: &Open, count: i64) -> Vec<String> {
    let client = reqwest::Client::new();
    let mut ids = Vec::new();
    for number in 0..count {
        let posted = post(&client, &open.url(""), &format!("key-{number}"), &order("T1", 100 + number)).await;
        let (status, id) = posted.expect("an answer");
        assert_eq!(status, 201);
        ids.push(id.expect("an id"));
    }
    ids
}

async fn counts(open: &Open) -> Value {
    open.call("GET", "/api/orders/stats", None).await.1["counts"].clone()
}

async fn have_ended(open: &Open, success: usize, failed: usize) {
    until("the orders have ended", async || {
        counts(open).await == json!({"PENDING": 0, "SUCCESS": success, "FAILED": failed})
    })
    .await;
}

async fn show(open: &Open, id: &str) -> Value {
    open.call("GET", &format!("/api/orders/{id}"), None).await.1
}

fn kinds(order: &Value) -> Vec<&str> {
    order["timeline"].as_array().expect("a list").iter().filter_map(|entry| entry["kind"].as_str()).collect()
}

async fn on_topic(open: &Open) -> Vec<String> {
    let records = records(&*open.app.bus, Topic::OrderCreated).await;
    records
        .iter()
        .map(|record| String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned())
        .collect()
}

#[actix::test]
async fn an_order_arrives_once_and_everybody_hears_of_it() {
    let party = working();
    let shop = Shop::new().with_orders(&party.url());
    let open = shop.open().await;
    let ids = post_all(&open, 20).await;
    have_ended(&open, 20, 0).await;
    let one = show(&open, &ids[3]).await;
    assert_eq!((&one["status"], &one["attempts"]), (&json!("SUCCESS"), &json!(1)));
    assert!(one["publishedAt"].is_string() && one["processedAt"].is_string() && one["lastError"].is_null());
    let happened: BTreeSet<&str> = kinds(&one).into_iter().collect();
    assert_eq!(happened, BTreeSet::from(["accepted", "published", "attempt", "delivered"]));
    let received = party.received();
    let arrived: BTreeSet<&str> = received.iter().map(|order| order.id.as_str()).collect();
    assert_eq!(arrived, ids.iter().map(String::as_str).collect());
    assert!(received.iter().all(|order| order.times == 1 && order.key == order.id));
    let mut published = on_topic(&open).await;
    published.sort();
    assert_eq!(published, ids, "each once");
    until("the events are on the bus", async || open.published("order.delivered").await.len() == 20).await;
    let event = open.published("order.delivered").await.remove(0);
    assert_eq!((&event["data"]["status"], &event["partitionkey"]), (&json!("SUCCESS"), &json!("T1")));
    assert!(event["data"]["publishedAt"].is_string() && event["data"]["processedAt"].is_string());
    open.stop().await;
    party.stop().await;
}

#[actix::test]
async fn an_order_that_nobody_takes_fails_with_a_dead_letter_and_can_be_sent_again() {
    let party = third_party(Behaviour { fail: 1.0, ..Behaviour::default() });
    let shop = Shop::new().with_orders(&party.url());
    let open = shop.open().await;
    open.change("order-delivery", json!({"settings": {"attempts": 3}})).await;
    let id = post_all(&open, 1).await.remove(0);
    have_ended(&open, 0, 1).await;
    let failed = show(&open, &id).await;
    assert_eq!((&failed["status"], &failed["attempts"]), (&json!("FAILED"), &json!(3)));
    assert!(failed["lastError"].as_str().expect("an error").starts_with("status 500"), "{failed}");
    assert_eq!(kinds(&failed).iter().filter(|kind| **kind == "attempt").count(), 3);
    let (_, letters) = open.call("GET", "/api/deadletters?plugin=order-delivery&status=open", None).await;
    assert_eq!(letters["items"][0]["reason"], "attempts_exhausted");
    party.set_behaviour(Behaviour::default());
    let (status, _) = open.call("POST", &format!("/api/orders/{id}/resend"), None).await;
    assert_eq!(status, 200);
    have_ended(&open, 1, 0).await;
    let order = show(&open, &id).await;
    assert_eq!(order["attempts"], 4);
    assert!(kinds(&order).contains(&"resent"));
    until("both events are on the bus", async || {
        open.published("order.failed").await.len() == 1 && open.published("order.delivered").await.len() == 1
    })
    .await;
    open.stop().await;
    party.stop().await;
}

#[actix::test]
async fn a_long_outage_ends_in_success_without_a_person() {
    let gone = working();
    let (url, port) = (gone.url(), gone.url().rsplit([':', '/']).nth(1).and_then(|port| port.parse().ok()));
    gone.stop().await;
    let shop = Shop::new().with_orders(&url);
    let open = shop.open().await;
    // Fewer than what it takes to find out that nobody answers, were each order alone.
    open.change("order-delivery", json!({"settings": {"attempts": 6}})).await;
    let ids = post_all(&open, 40).await;
    until("the breaker has opened", async || open.app.status.orders.breaker_open.get() == 1).await;
    let failed = open.app.status.orders.attempts_failed.get();
    until("it has been probed", async || open.app.status.orders.attempts_failed.get() > failed).await;
    let back = StubOrders::start(port.expect("a port"), Behaviour::default(), SEED, 1000).expect("its port is free");
    have_ended(&open, ids.len(), 0).await;
    open.stop().await;
    back.stop().await;
}

#[actix::test]
async fn orders_that_hang_hold_up_no_others() {
    let party = third_party(Behaviour { hang: 0.4, ..Behaviour::default() });
    let shop = Shop::new().with_orders(&party.url());
    let open = shop.open().await;
    open.change("order-delivery", json!({"settings": {"timeoutMs": 100_000}})).await;
    post_all(&open, 300).await;
    until("all were tried", async || party.received().len() == 300).await;
    let taken = party.received().iter().filter(|order| order.processed_at.is_some()).count();
    until("the others have ended", async || counts(&open).await["SUCCESS"] == taken).await;
    assert!((100..260).contains(&taken), "{taken}");
    assert_eq!(counts(&open).await["PENDING"], 300 - taken);
    open.stop().await;
    party.stop().await;
}

#[actix::test]
async fn off_holds_orders_and_on_sends_all_of_them() {
    let party = working();
    let shop = Shop::new().with_orders(&party.url());
    let open = shop.open().await;
    open.change("order-delivery", json!({"active": false})).await;
    let ids = post_all(&open, 10).await;
    until("they are read from the bus", async || open.app.status.orders.consumed.get() == 10).await;
    let held = show(&open, &ids[0]).await;
    let waits = held["timeline"].as_array().expect("a list").last().expect("an entry").clone();
    assert_eq!(waits["kind"], "waiting");
    assert!(waits["message"].as_str().expect("a message").contains("switched off"), "{waits}");
    assert_eq!(party.received().len(), 0);
    open.change("order-delivery", json!({"active": true, "eligibility": {"stores": ["S002"]}})).await;
    until("they are looked at", async || show(&open, &ids[9]).await["timeline"].to_string().contains("eligibility"))
        .await;
    assert_eq!(party.received().len(), 0);
    open.change("order-delivery", json!({"eligibility": {"stores": ["S001"]}})).await;
    have_ended(&open, 10, 0).await;
    assert_eq!(party.received().len(), 10);
    open.stop().await;
    party.stop().await;
}

#[actix::test]
async fn the_rate_of_the_settings_is_kept() {
    let party = working();
    let shop = Shop::new().with_orders(&party.url());
    let open = shop.open().await;
    open.change("order-delivery", json!({"settings": {"ratePerSecond": 5}})).await;
    let begun = Instant::now();
    post_all(&open, 11).await;
    have_ended(&open, 11, 0).await;
    assert!(begun.elapsed() > Duration::from_millis(1800), "{:?}", begun.elapsed());
    open.stop().await;
    party.stop().await;
}

#[actix::test]
async fn being_caught_up_means_that_orders_have_ended() {
    let party = working();
    let shop = Shop::new();
    let open = shop.open().await;
    post_all(&open, 30).await;
    open.stop().await;
    let shop = shop.with_orders(&party.url());
    let mut open = shop.open_to_catch_up().await;
    open.app.caught_up().await;
    assert_eq!(party.received().len(), 30);
    assert_eq!(open.query("SELECT CAST(COUNT(*) AS CHAR) AS value FROM orders WHERE status = 'SUCCESS'"), ["30"]);
    assert_eq!(open.published("order.delivered").await.len(), 30);
    open.stop().await;
    party.stop().await;
}

/// Tills that post orders one after the other and try each again under its key until they are told that it is there.
pub(crate) async fn tills(
    url: tokio::sync::watch::Receiver<String>,
    tills: usize,
    each: usize,
) -> BTreeMap<String, String> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
    let work = (0..tills).map(|till| {
        let (client, url) = (client.clone(), url.clone());
        async move {
            let mut told = Vec::new();
            for number in 0..each {
                let key = format!("till-{till}-{number}");
                let order = order(&format!("T{till}"), 100 + i64::try_from(number).expect("small"));
                loop {
                    let address = url.borrow().clone();
                    match post(&client, &address, &key, &order).await {
                        Ok((201, Some(id))) => break told.push((key, id)),
                        Ok((409 | 503, _)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                        other => panic!("{other:?}"),
                    }
                }
            }
            told
        }
    });
    futures_util::future::join_all(work).await.into_iter().flatten().collect()
}

#[actix::test]
async fn every_order_that_a_till_was_told_of_arrives_once_however_often_the_process_is_killed() {
    let faults = Behaviour { fail: 0.2, lose_answer: 0.15, ..Behaviour::default() };
    let party = third_party(faults);
    let settings = json!({"timeoutMs": 300, "attempts": 100});
    let shop = Shop::with_plugins(&json!({"plugins": {"order-delivery": {"settings": settings}}}));
    let shop = shop.with_orders(&party.url());
    let start = || Process::spawn(&mut command(&shop));
    let mut process = start();
    let (address, addresses) = tokio::sync::watch::channel(process.url().to_owned());
    let posting = actix::spawn(tills(addresses, 10, 60));
    let mut kills = 0;
    while !posting.is_finished() || kills < 5 {
        tokio::time::sleep(Duration::from_millis(300 + 170 * (kills % 4))).await;
        drop(process);
        kills += 1;
        process = start();
        address.send_replace(process.url().to_owned());
    }
    let told = posting.await.expect("the tills did not give up");
    assert_eq!(told.len(), 600);
    until("nothing is pending", async || process.get("/api/orders/stats").await.1["counts"]["PENDING"] == 0).await;
    let (_, stats) = process.get("/api/orders/stats").await;
    assert_eq!(stats["counts"], json!({"PENDING": 0, "SUCCESS": 600, "FAILED": 0}), "after {kills} kills");
    assert_eq!(stats["unpublished"], 0);
    process.stop_by("TERM");

    let ids: BTreeSet<&str> = told.values().map(String::as_str).collect();
    assert_eq!(ids.len(), 600, "each key stands for an order of its own");
    let stored: BTreeSet<String> = shop.query("SELECT id AS value FROM orders").into_iter().collect();
    assert_eq!(stored.iter().map(String::as_str).collect::<BTreeSet<_>>(), ids, "nothing that nobody was told of");
    let received = party.received();
    assert_eq!(party.conflicts(), []);
    assert_eq!(received.iter().map(|order| order.id.as_str()).collect::<BTreeSet<_>>(), ids);
    assert!(received.iter().all(|order| order.key == order.id && order.processed_at.is_some()));
    let open = shop.open().await;
    let mut published = on_topic(&open).await;
    published.sort();
    assert_eq!(published, stored.into_iter().collect::<Vec<_>>(), "each once on the topic");
    open.stop().await;
    party.stop().await;
}
