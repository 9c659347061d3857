use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::*;
use crate::orders::order::OrderRequest;
use crate::rig::Options;

fn options() -> Options {
    Options { stores: 3, terminals: 4, employees: 20, customers: 100, ..Options::default() }
}

fn read(order: &Order) -> Value {
    serde_json::from_slice(&order.body).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_orders_and_each_has_a_key_of_its_own() {
    let first: Vec<_> = Orders::new(options()).take(500).collect();
    assert_eq!(first, Orders::new(options()).take(500).collect::<Vec<_>>());
    assert_eq!(first.iter().map(|order| &order.key).collect::<HashSet<_>>().len(), 500);
    let bodies: HashMap<_, _> = first.into_iter().map(|order| (order.key, order.body)).collect();
    for order in Orders::new(Options { terminals: 5, ..options() }).take(500) {
        assert!(bodies.get(&order.key).is_none_or(|body| *body == order.body), "a key never stands for two orders");
    }
}

#[test]
fn lines_and_discounts_come_to_the_total_and_terminals_belong_to_their_stores() {
    for order in Orders::new(options()).take(2000) {
        let order = read(&order);
        let lines = order["items"].as_array().unwrap();
        assert!(!lines.is_empty());
        let amount = |line: &Value| {
            line["amount"]
                .as_i64()
                .unwrap_or_else(|| line["quantity"].as_i64().unwrap() * line["unitPrice"].as_i64().unwrap())
        };
        let taken_back = |line: &Value| if line["returned"] == true { -1 } else { 1 };
        let gross: i64 = lines.iter().map(|line| amount(line) * taken_back(line)).sum();
        let owed = if order["direction"] == "refund" { -1 } else { 1 };
        let extra = |field: &str| order[field].as_i64().unwrap_or(0);
        assert_eq!(order["total"], json!(gross * owed - extra("discount") + extra("rounding")), "{order}");
        OrderRequest::parse(order.to_string().as_bytes()).expect("an order that is taken");
        let number = |field: &str| order[field].as_str().unwrap()[1..].parse::<i64>().unwrap();
        assert_eq!((number("terminalId") - 1) / 4 + 1, number("storeId"));
        assert_eq!((number("employeeId") - 1) % 3 + 1, number("storeId"), "employees work in their own store");
    }
}

/// Requests as they came: the key and the body.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A server that answers each order's first requests with what `script` says, then accepts it.
struct Server {
    url: String,
    seen: Seen,
    handle: actix_web::dev::ServerHandle,
}

fn serve(script: &'static [u16]) -> Server {
    let seen: Seen = Arc::default();
    let data = web::Data::new(Arc::clone(&seen));
    let answer = move |request: HttpRequest, body: web::Bytes, seen: web::Data<Seen>| async move {
        let key = request.headers().get("idempotency-key").unwrap().to_str().unwrap().to_owned();
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|(known, _)| *known == key).count();
        seen.push((key.clone(), body.to_vec()));
        match script.get(before) {
            Some(429) => HttpResponse::TooManyRequests().insert_header(("retry-after", "0")).finish(),
            Some(422) => HttpResponse::UnprocessableEntity().json(json!({"detail": "total is wrong"})),
            Some(409) => HttpResponse::Conflict().finish(),
            Some(_) => HttpResponse::ServiceUnavailable().finish(),
            None if before > 0 => {
                HttpResponse::Created().insert_header(("idempotent-replayed", "true")).json(json!({"id": key}))
            }
            None => HttpResponse::Created().json(json!({"id": key})),
        }
    };
    let server =
        HttpServer::new(move || App::new().app_data(data.clone()).route("/api/orders", web::post().to(answer)))
            .workers(1)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Server { url, seen, handle }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn read(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

async fn post(url: &str, limit: u64) -> (Summary, Vec<Value>) {
    let client = Client::new(orders_url(url).unwrap(), None).unwrap();
    let plan = Plan { rate: 1000.0, limit: Some(limit), clients: 8 };
    let (lines, stop) = (Lines::default(), watch::channel(None).1);
    let log = Some(OrderLog::new(lines.clone()));
    let posting = post_orders(Orders::new(options()), client, plan, log, stop, |_| {});
    (posting.await.unwrap(), lines.read())
}

#[actix::test]
async fn an_order_is_tried_again_under_the_same_key_until_its_client_knows() {
    let server = serve(&[503, 409, 429]);
    let (summary, lines) = post(&server.url, 20).await;
    assert_eq!((summary.accepted, summary.replayed, summary.retried, summary.refused), (20, 20, 60, 0));
    let seen = server.seen.lock().unwrap().clone();
    let keys: HashSet<_> = seen.iter().map(|(key, _)| key).collect();
    assert_eq!((seen.len(), keys.len()), (80, 20));
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 20, "the same bytes each time");
    assert_eq!(lines.len(), 20);
    for line in lines {
        assert_eq!((&line["status"], &line["attempts"]), (&json!("replayed"), &json!(4)));
        assert_eq!(line["id"], json!(format!("\"{}\"", line["key"].as_str().unwrap())));
    }
    server.handle.stop(false).await;
}

#[actix::test]
async fn a_refused_order_is_not_tried_again_and_says_why() {
    let server = serve(&[422]);
    let (summary, lines) = post(&server.url, 3).await;
    assert_eq!((summary.refused, summary.retried, summary.accepted), (3, 0, 0));
    assert!(summary.first_refusal.unwrap().starts_with("422: {\"detail\":\"total is wrong\""));
    assert_eq!((&lines[0]["status"], &lines[0]["id"]), (&json!("refused"), &Value::Null));
    server.handle.stop(false).await;
}

#[actix::test]
async fn orders_of_a_server_that_is_away_are_unknown_once_patience_ends() {
    let client = Client::new(orders_url("http://127.0.0.1:9").unwrap(), None).unwrap();
    let plan = Plan { rate: 1000.0, limit: None, clients: 4 };
    let lines = Lines::default();
    let log = Some(OrderLog::new(lines.clone()));
    let (stop, stopped) = watch::channel(None);
    let posting = post_orders(Orders::new(options()), client, plan, log, stopped, |_| {});
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.send_replace(Some(Instant::now() + Duration::from_millis(200)));
    };
    let (summary, ()) = tokio::join!(posting, stopping);
    let summary = summary.unwrap();
    assert_eq!((summary.accepted, summary.unknown), (0, 4), "no more than there are clients");
    assert_eq!(lines.read().iter().filter(|line| line["status"] == "unknown").count(), 4);
}
