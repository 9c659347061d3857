//! Orders from the till to the third party: whatever fails between, each arrives once and ends where a person can see it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tillstream::bus::Topic;
use tillstream::delivery::stub_orders::{Behaviour, StubOrders};

use crate::shop::{Open, Shop, until};
use crate::tills::{keys, order, post};

const SEED: u64 = 7;

fn third_party(behaviour: Behaviour) -> StubOrders {
    StubOrders::start(0, behaviour, SEED, StubOrders::REMEMBER_DEFAULT).expect("a free port")
}

fn working() -> StubOrders {
    third_party(Behaviour::default())
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
    let mut published = keys(&open.records(Topic::OrderCreated).await);
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

/// A shop that asks before it sends an order again, and gives up waiting soon.
async fn asking(url: &str) -> (Shop, Open) {
    let mut shop = Shop::new().with_orders(url);
    shop.config.orders.lookup = true;
    let open = shop.open().await;
    open.change("order-delivery", json!({"settings": {"timeoutMs": 300}})).await;
    (shop, open)
}

#[actix::test]
async fn an_order_that_the_look_up_finds_is_not_sent_again() {
    let party = third_party(Behaviour { lose_answer: 1.0, ..Behaviour::default() });
    let (_shop, open) = asking(&party.url()).await;
    let ids = post_all(&open, 5).await;
    have_ended(&open, 5, 0).await;
    assert!(party.received().iter().all(|order| order.times == 1), "each came once, though no answer arrived");
    let order = show(&open, &ids[0]).await;
    assert_eq!(order["attempts"], 2);
    let attempts: Vec<&Value> =
        order["timeline"].as_array().expect("a list").iter().filter(|entry| entry["kind"] == "attempt").collect();
    assert_eq!((&attempts[0]["status"], &attempts[1]["status"]), (&Value::Null, &json!(200)));
    open.stop().await;
    party.stop().await;
}

#[actix::test]
async fn an_order_that_the_look_up_does_not_find_is_sent_again() {
    let party = third_party(Behaviour { fail: 1.0, ..Behaviour::default() });
    let (_shop, open) = asking(&party.url()).await;
    post_all(&open, 1).await;
    until("it came and was not processed", async || party.received().len() == 1).await;
    party.set_behaviour(Behaviour::default());
    have_ended(&open, 1, 0).await;
    let received = party.received().remove(0);
    assert!(received.times >= 2 && received.processed_at.is_some(), "{received:?}");
    open.stop().await;
    party.stop().await;
}

/// A third party that fails at its first order, and whose look-up is broken until it is told otherwise.
#[derive(Default)]
struct BrokenLookUp {
    posts: AtomicUsize,
    look_ups: AtomicUsize,
    mended: AtomicBool,
}

#[actix::test]
async fn while_the_look_up_fails_nothing_is_sent() {
    async fn take(state: web::Data<BrokenLookUp>) -> HttpResponse {
        let first = state.posts.fetch_add(1, Ordering::Relaxed) == 0;
        if first { HttpResponse::InternalServerError() } else { HttpResponse::Created() }.finish()
    }
    async fn look_up(state: web::Data<BrokenLookUp>) -> HttpResponse {
        state.look_ups.fetch_add(1, Ordering::Relaxed);
        let mended = state.mended.load(Ordering::Relaxed);
        if mended { HttpResponse::NotFound() } else { HttpResponse::Forbidden() }.finish()
    }
    let state = web::Data::new(BrokenLookUp::default());
    let of_server = state.clone();
    let app = move || {
        let app = App::new().app_data(of_server.clone());
        app.route("/orders", web::post().to(take)).route("/orders/{id}", web::get().to(look_up))
    };
    let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}/orders", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix::spawn(server);

    let (_shop, open) = asking(&url).await;
    let id = post_all(&open, 1).await.remove(0);
    until("it was looked for several times", async || state.look_ups.load(Ordering::Relaxed) >= 3).await;
    assert_eq!(state.posts.load(Ordering::Relaxed), 1, "who cannot be asked is sent nothing");
    until("it is written down", async || show(&open, &id).await["attempts"].as_i64() >= Some(3)).await;
    let order = show(&open, &id).await;
    assert!(order["lastError"].as_str().expect("an error").starts_with("look-up: status 403"), "{order}");
    assert_eq!(order["status"], "PENDING", "a refused question is no refused order");
    state.mended.store(true, Ordering::Relaxed);
    have_ended(&open, 1, 0).await;
    assert_eq!(state.posts.load(Ordering::Relaxed), 2);
    open.stop().await;
    handle.stop(false).await;
}

/// A third party that takes an order, loses its answer, and answers 409 from then on.
async fn says_exists(keys: web::Data<Mutex<BTreeSet<String>>>, request: HttpRequest) -> HttpResponse {
    let key = request.headers().get("idempotency-key").expect("a key").to_str().expect("a text").to_owned();
    if keys.lock().expect("no panic").insert(key) {
        std::future::pending::<()>().await;
    }
    HttpResponse::Conflict().json(json!({"error": "order exists already"}))
}

#[actix::test]
async fn an_order_whose_answer_was_lost_is_delivered_when_the_third_party_says_that_it_exists() {
    let keys = web::Data::new(Mutex::new(BTreeSet::new()));
    let of_server = keys.clone();
    let app = move || App::new().app_data(of_server.clone()).route("/orders", web::post().to(says_exists));
    let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}/orders", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix::spawn(server);
    let shop = Shop::new().with_orders(&url);
    let open = shop.open().await;
    let settings = json!({"timeoutMs": 300, "attempts": 3, "existsStatuses": [409]});
    open.change("order-delivery", json!({"settings": settings})).await;
    let id = post_all(&open, 1).await.remove(0);
    have_ended(&open, 1, 0).await;
    assert_eq!(show(&open, &id).await["attempts"], 2);

    // Not its first attempt: whoever sent it then, it was not this shop.
    let foreign = Shop::new().with_orders(&url);
    let other = foreign.open().await;
    other.change("order-delivery", json!({"active": false, "settings": settings})).await;
    let id = post_all(&other, 1).await.remove(0);
    keys.lock().expect("no panic").insert(format!("\"{id}\""));
    other.change("order-delivery", json!({"active": true})).await;
    have_ended(&other, 0, 1).await;
    assert!(show(&other, &id).await["lastError"].as_str().expect("an error").starts_with("status 409"));
    open.stop().await;
    other.stop().await;
    handle.stop(false).await;
}

#[actix::test]
async fn a_look_up_that_answers_about_something_else_delivers_nothing() {
    async fn take(posts: web::Data<AtomicUsize>) -> HttpResponse {
        let first = posts.fetch_add(1, Ordering::Relaxed) == 0;
        if first { HttpResponse::InternalServerError() } else { HttpResponse::Created() }.finish()
    }
    async fn start_page() -> HttpResponse {
        HttpResponse::Ok().content_type("text/html").body("<html><body>Please log in</body></html>")
    }
    let posts = web::Data::new(AtomicUsize::new(0));
    let of_server = posts.clone();
    let app = move || {
        let app = App::new().app_data(of_server.clone());
        app.route("/orders", web::post().to(take)).route("/orders/{id}", web::get().to(start_page))
    };
    let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}/orders", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix::spawn(server);
    let (_shop, open) = asking(&url).await;
    let id = post_all(&open, 1).await.remove(0);
    until("it was looked for", async || show(&open, &id).await["attempts"].as_i64() >= Some(2)).await;
    let order = show(&open, &id).await;
    assert!(order["lastError"].as_str().expect("an error").contains("does not name the order"), "{order}");
    assert_eq!((&order["status"], posts.load(Ordering::Relaxed)), (&json!("PENDING"), 1));
    open.stop().await;
    handle.stop(false).await;
}

#[actix::test]
async fn an_order_that_has_been_kept_long_enough_is_removed_and_others_stay() {
    let party = working();
    let shop = Shop::new().with_orders(&party.url());
    let open = shop.open().await;
    let ids = post_all(&open, 3).await;
    have_ended(&open, 3, 0).await;
    open.stop().await;
    // As if it had been accepted and delivered on the first day of 1970.
    let old = "00000000-0001-7000-8000-000000000001";
    shop.execute(&format!("UPDATE orders SET id = '{old}', created_at = 1, processed_at = 2 WHERE id = '{}'", ids[0]));

    let open = shop.open().await;
    have_ended(&open, 2, 0).await;
    assert_eq!(open.call("GET", &format!("/api/orders/{old}"), None).await.0, 404);
    assert_eq!(show(&open, &ids[1]).await["status"], "SUCCESS");
    until("it is counted", async || {
        let metrics = reqwest::get(open.url("/metrics")).await.expect("an answer").text().await.expect("a text");
        metrics.lines().any(|line| line == "tillstream_store_removed_total{table=\"orders\"} 1")
    })
    .await;
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
