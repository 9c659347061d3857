//! The order API as a client meets it: a real server, a real embedded bus and a real SQLite store.

#[path = "support/http_client.rs"]
#[allow(dead_code, reason = "shared by tests that each use a part of it")]
mod http_client;

use std::collections::BTreeSet;

use http_client::{Answer, Client};
use serde_json::{Value, json};
use tillstream::store::{ClaimRequest, OrderDelivery, Settled, Settlement};
use tillstream::time::Timestamp;

fn order(terminal: &str, total: i64) -> Value {
    json!({"storeId": "S001", "terminalId": terminal, "currency": "EUR", "total": total,
        "items": [{"productId": "P1", "quantity": 1, "unitPrice": total}]})
}

async fn post(client: &Client, key: &str, order: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    client.send("POST", "/api/orders", &headers, &order.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_order_can_be_read_and_a_repeat_gets_the_same_answer() {
    let client = Client::start().await;
    let first = post(&client, "\"k1\"", &order("T1", 150)).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let id = first.body["id"].as_str().expect("an id");
    assert_eq!(first.header("location"), Some(format!("/api/orders/{id}").as_str()));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!((&first.body["status"], &first.body["attempts"]), (&json!("PENDING"), &json!(0)));
    assert_eq!((&first.body["publishedAt"], &first.body["processedAt"]), (&Value::Null, &Value::Null));

    let again = post(&client, "k1", &order("T1", 150)).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(again.text, first.text, "byte for byte");
    assert_eq!(again.header("location"), first.header("location"));

    let read = client.get(&format!("/api/orders/{id}")).await;
    assert_eq!(read.status, 200, "{}", read.body);
    assert_eq!(read.body["timeline"][0]["kind"], "accepted");
    assert_eq!(read.body["timeline"][1]["kind"], "waiting");
    assert_eq!(client.get("/api/orders/none").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_one_order_of_one_caller() {
    let client = Client::start().await;
    assert_eq!(post(&client, "k1", &order("T1", 150)).await.status, 201);
    let other = post(&client, "k1", &order("T1", 151)).await;
    assert_eq!((other.status, other.content_type.as_str()), (422, "application/problem+json"));
    assert!(other.body["detail"].as_str().expect("a detail").contains("another order"), "{}", other.body);
    let list = client.get("/api/orders").await;
    assert_eq!(list.body["items"].as_array().expect("a list").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_named() {
    let client = Client::start().await;
    let json_type = [("content-type", "application/json")];
    let without = client.send("POST", "/api/orders", &json_type, &order("T1", 150).to_string()).await;
    assert_eq!(without.status, 400);
    assert!(without.body["detail"].as_str().expect("a detail").starts_with("Idempotency-Key is missing"));
    for wrong in ["\"\"", "\"open", &"k".repeat(256)] {
        assert_eq!(post(&client, wrong, &order("T1", 150)).await.status, 400, "{wrong}");
    }
    let mut wrong = order("T1", 150);
    wrong["total"] = json!(149);
    let answer = post(&client, "k1", &wrong).await;
    assert_eq!((answer.status, &answer.body["errors"][0]["field"]), (422, &json!("total")));
    assert_eq!(post(&client, "k1", &json!([])).await.status, 422);
    let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
    assert_eq!(client.send("POST", "/api/orders", &headers, "{").await.status, 400);
    let headers = [("content-type", "text/plain"), ("idempotency-key", "k1")];
    assert_eq!(client.send("POST", "/api/orders", &headers, "{}").await.status, 415);
    assert_eq!(post(&client, "k1", &order("T1", 150)).await.status, 201, "a refused request does not use the key up");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_requests_under_one_key_one_order_comes() {
    let client = Client::start().await;
    for round in 0..20 {
        let key = format!("k{round}");
        let answers = futures_util::future::join_all((0..10).map(|_| {
            let (client, key) = (&client, &key);
            async move { post(client, key, &order("T1", 150)).await }
        }))
        .await;
        let mut ids = BTreeSet::new();
        let mut first = 0;
        for answer in answers {
            match answer.status {
                201 => {
                    first += u32::from(answer.header("idempotent-replayed").is_none());
                    ids.insert(answer.body["id"].as_str().expect("an id").to_owned());
                }
                409 => assert_eq!(answer.header("retry-after"), Some("1")),
                other => panic!("{other}: {}", answer.text),
            }
        }
        assert_eq!((ids.len(), first), (1, 1));
    }
    let stats = client.get("/api/orders/stats").await;
    assert_eq!(stats.body["counts"], json!({"PENDING": 20, "SUCCESS": 0, "FAILED": 0}));
    assert_eq!(stats.body["unpublished"], 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_page_from_the_newest_to_the_oldest_without_loss() {
    let client = Client::start().await;
    for number in 0..25 {
        let terminal = format!("T{}", number % 3);
        assert_eq!(post(&client, &format!("k{number}"), &order(&terminal, 100 + number)).await.status, 201);
    }
    let (mut seen, mut path) = (Vec::new(), "/api/orders?limit=7".to_owned());
    loop {
        let page = client.get(&path).await;
        let items = page.body["items"].as_array().expect("a list").clone();
        seen.extend(items.iter().map(|order| order["total"].as_i64().expect("a total")));
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/api/orders?limit=7&cursor={next}");
    }
    assert_eq!(seen.len(), 25);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 25);
    let of_terminal = client.get("/api/orders?terminalId=T1&status=PENDING&storeId=S001&from=2020-01-01").await;
    assert_eq!(of_terminal.body["items"].as_array().expect("a list").len(), 8);
    assert_eq!(client.get("/api/orders?to=2020-01-01T00:00:00Z").await.body["items"], json!([]));
    assert_eq!(client.get("/api/orders?status=pending").await.status, 400);
}

/// Takes the order through to a failure, as publisher, consumer and dispatcher would.
async fn fail(client: &Client, id: &str) {
    let store = &client.store;
    store.lease_order_publishing("me", std::time::Duration::from_secs(10)).await.expect("the store answers");
    let batch = store.next_order_batch("me", 10).await.expect("the store answers").expect("it waits");
    store.order_batch_published(batch.number, Timestamp::now()).await.expect("the store answers");
    let delivery = OrderDelivery { order_id: id.to_owned(), partition: 1, offset: 7, published_at: Timestamp::now() };
    let settings_epoch = client.control.snapshot().epoch();
    let commit = tillstream::store::Commit {
        settings_epoch,
        deliveries: vec![delivery],
        ..tillstream::store::Commit::default()
    };
    store.commit(commit.into()).await.expect("it is in order");
    let claim = ClaimRequest { limit: 8, claim: 5, lease_ms: 10_000, rate_per_second: 0, settings_epoch };
    let turn = store.order_turn(Vec::new().into(), Some(claim)).await.expect("the store answers");
    let attempt = tillstream::store::AttemptRecord { at: Timestamp::now(), status: Some(422), duration_ms: 12 };
    let settlement = Settlement::Failed { reason: "refused_by_third_party", error: "status 422: no".to_owned() };
    let claimed = turn.claimed.into_iter().next().expect("it is due");
    let settled = Settled { claimed, claim: 5, attempt: Some(attempt), settlement };
    assert_eq!(store.order_turn(vec![settled].into(), None).await.expect("the store answers").ended, [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_order_is_sent_again_by_itself_or_by_its_dead_letter() {
    let client = Client::start().await;
    let id = post(&client, "k1", &order("T1", 150)).await.body["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/orders/{id}");
    let resend = format!("{path}/resend");
    assert_eq!(client.post(&resend, "application/json", "").await.status, 409, "it has not failed");
    fail(&client, &id).await;
    let failed = client.get(&path).await.body;
    assert_eq!((&failed["status"], &failed["attempts"]), (&json!("FAILED"), &json!(1)));
    assert_eq!(failed["lastError"], "status 422: no");
    let kinds: Vec<&str> =
        failed["timeline"].as_array().expect("a list").iter().filter_map(|entry| entry["kind"].as_str()).collect();
    assert_eq!(kinds, ["accepted", "published", "attempt", "failed"]);
    let letters = client.get("/api/deadletters?plugin=order-delivery").await.body;
    assert_eq!(
        (&letters["items"][0]["entity"], &letters["items"][0]["offset"]),
        (&json!(format!("order:{id}")), &json!(7))
    );

    let resent = client.post(&resend, "application/json", "").await;
    assert_eq!((resent.status, &resent.body["status"]), (200, &json!("PENDING")), "{}", resent.body);
    let letter = client.get("/api/deadletters?plugin=order-delivery").await.body["items"][0].clone();
    assert_eq!(letter["status"], "replayed");
    assert_eq!(client.get("/api/audit").await.body["items"][0]["action"], "order.resend");

    let claim = ClaimRequest { limit: 8, claim: 6, lease_ms: 10_000, rate_per_second: 0, settings_epoch: 1 };
    let claimed =
        client.store.order_turn(Vec::new().into(), Some(claim)).await.expect("the store answers").claimed.remove(0);
    assert_eq!((claimed.counted, claimed.order.attempts), (0, 1), "all its attempts again");
    let attempt = tillstream::store::AttemptRecord { at: Timestamp::now(), status: None, duration_ms: 12 };
    let settlement = Settlement::Failed { reason: "attempts_exhausted", error: "timeout".to_owned() };
    let settled = Settled { claimed, claim: 6, attempt: Some(attempt), settlement };
    client.store.order_turn(vec![settled].into(), None).await.unwrap();
    let letter_path = format!("/api/deadletters/{}/replay", letter["id"].as_str().expect("an id"));
    let replayed = client.post(&letter_path, "application/json", "").await;
    assert_eq!((replayed.status, &replayed.body["status"]), (200, &json!("replayed")), "{}", replayed.body);
    let order = client.get(&path).await.body;
    assert_eq!((&order["status"], &order["attempts"]), (&json!("PENDING"), &json!(2)));
}
