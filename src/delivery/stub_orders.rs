//! A stand-in for the third-party order system, which honours the `Idempotency-Key`: it processes an order once, and says
//! what it received, so that tests and people can compare.
//!
//! `POST /orders` takes an order under a key: the same key and body again get the same answer and count once; another body
//! under the key, or the order under another key, is a conflict: 422, and recorded. `GET /orders/{id}` tells what was
//! processed, `GET /received` all that came in, `/control` the faults. Serves `demo`, tests and people; never part of production.

mod ledger;

use std::io;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub use self::ledger::{Conflict, ReceivedOrder};
use self::ledger::{Ledger, Receipt};
pub use super::stub::Behaviour;
use super::stub::{Fate, Faults, Shared, StubServer, cut, failure, hang, limited};
use crate::time::Timestamp;

/// Largest body in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A running stub; stops when told to, or with the process.
#[derive(Debug)]
pub struct StubOrders {
    faults: Shared<Faults>,
    ledger: Shared<Ledger>,
    server: StubServer,
}

impl StubOrders {
    /// Orders that are remembered unless told otherwise.
    pub const REMEMBER_DEFAULT: usize = 1_000_000;

    /// Starts a stub on this port of 127.0.0.1; port 0 takes a free one. It remembers the last `remember` orders. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(port: u16, behaviour: Behaviour, seed: u64, remember: usize) -> io::Result<Self> {
        let (faults, ledger) = (Faults::new(behaviour, seed), Shared::new(Ledger::new(remember)));
        let data = web::Data::new(ledger.clone());
        let server = StubServer::start(port, &faults, move |config| {
            config
                .app_data(data.clone())
                .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
                .route("/orders", web::post().to(take_order))
                .route("/orders/{id}", web::get().to(look_up))
                .route("/received", web::get().to(list_received));
        })?;
        Ok(Self { faults, ledger, server })
    }

    /// What `orders.url` must be to use this stub.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url("/orders")
    }

    /// Changes how it behaves.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.faults.lock().set_behaviour(behaviour);
    }

    /// The orders that came in, in the order of their first arrival.
    #[must_use]
    pub fn received(&self) -> Vec<ReceivedOrder> {
        self.ledger.lock().received().cloned().collect()
    }

    /// The last orders that came under two keys, and keys that came with two bodies.
    #[must_use]
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.ledger.lock().conflicts().cloned().collect()
    }

    /// Stops it; connections are closed.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

#[derive(Deserialize)]
struct OrderId {
    id: String,
}

/// The key with or without the quotes of structured fields.
fn key_of(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get("idempotency-key")?.to_str().ok()?.trim();
    let key = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    (!key.is_empty()).then(|| key.to_owned())
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to memory does not fail");
        text
    })
}

async fn take_order(
    request: HttpRequest,
    faults: web::Data<Shared<Faults>>,
    ledger: web::Data<Shared<Ledger>>,
    body: web::Bytes,
) -> HttpResponse {
    let Some(key) = key_of(&request) else {
        return HttpResponse::BadRequest().json(json!({"error": "Idempotency-Key is missing"}));
    };
    let Ok(OrderId { id }) = serde_json::from_slice(&body) else {
        return HttpResponse::BadRequest().json(json!({"error": "the body is no order: a JSON object with an id"}));
    };
    let times = match ledger.lock().receive(&key, &id, &sha256(&body), Timestamp::now()) {
        Receipt::Taken { times } => times,
        Receipt::Conflict(conflict) => return HttpResponse::UnprocessableEntity().json(conflict),
    };
    let (fate, behaviour) = {
        let mut faults = faults.lock();
        (faults.decide(&key, times), faults.behaviour())
    };
    match fate {
        Fate::Limited => return limited(&behaviour),
        Fate::Hang => return hang().await,
        Fate::Fail => {
            tokio::time::sleep(behaviour.latency()).await;
            return failure();
        }
        Fate::Answer | Fate::Garbage | Fate::Cut | Fate::Lose => {}
    }
    // Processed before it is slow: whoever gives up waiting has placed the order all the same.
    let (processed_at, replayed) = ledger.lock().process(&key, Timestamp::now());
    tokio::time::sleep(behaviour.latency()).await;
    match fate {
        Fate::Cut => cut(&request).await,
        Fate::Lose => hang().await,
        Fate::Garbage => garbage(times),
        _ => {
            let mut response = HttpResponse::Created();
            if replayed {
                response.insert_header(("idempotent-replayed", "true"));
            }
            response.json(processed(&id, processed_at))
        }
    }
}

fn processed(id: &str, at: Timestamp) -> Value {
    json!({"id": id, "status": "processed", "processedAt": at})
}

fn garbage(number: u64) -> HttpResponse {
    match number % 3 {
        0 => HttpResponse::Ok().content_type("text/html").body("<html><body>Welcome to the proxy</body></html>"),
        1 => HttpResponse::Created().content_type("application/json").body(r#"{"id": "#),
        _ => HttpResponse::Ok().json(json!({"noise": "x".repeat(100_000)})),
    }
}

async fn look_up(ledger: web::Data<Shared<Ledger>>, id: web::Path<String>) -> HttpResponse {
    match ledger.lock().processed_at(&id) {
        Some(at) => HttpResponse::Ok().json(processed(&id, at)),
        None => HttpResponse::NotFound().json(json!({"error": "this order was never processed here"})),
    }
}

async fn list_received(ledger: web::Data<Shared<Ledger>>) -> HttpResponse {
    HttpResponse::Ok().json(ledger.lock().summary())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Caller {
        stub: StubOrders,
        client: reqwest::Client,
    }

    impl Caller {
        fn new(behaviour: Behaviour, remember: usize) -> Self {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(2)).build().unwrap();
            Self { stub: StubOrders::start(0, behaviour, 1, remember).unwrap(), client }
        }

        async fn post(&self, key: &str, body: &Value) -> Option<(u16, Value, bool)> {
            let request = self.client.post(self.stub.url()).header("idempotency-key", key).json(body);
            let response = request.send().await.ok()?;
            let (status, replayed) =
                (response.status().as_u16(), response.headers().contains_key("idempotent-replayed"));
            Some((status, response.json().await.unwrap_or_default(), replayed))
        }

        async fn look_up(&self, id: &str) -> u16 {
            self.client.get(format!("{}/{id}", self.stub.url())).send().await.unwrap().status().as_u16()
        }
    }

    #[actix::test]
    async fn the_same_key_and_body_count_once_and_get_the_same_answer() {
        let caller = Caller::new(Behaviour::default(), 10);
        assert_eq!(caller.look_up("o1").await, 404);
        let order = json!({"id": "o1", "total": 100});
        let (status, answer, replayed) = caller.post("\"o1\"", &order).await.unwrap();
        assert_eq!((status, replayed), (201, false));
        assert_eq!(caller.post("o1", &order).await.unwrap(), (201, answer, true));
        assert_eq!(caller.look_up("o1").await, 200);
        let received = caller.stub.received();
        assert_eq!((received.len(), received[0].times), (1, 2));
        assert_eq!(caller.stub.conflicts(), []);
    }

    #[actix::test]
    async fn another_body_under_the_key_and_the_order_under_another_key_are_conflicts() {
        let caller = Caller::new(Behaviour::default(), 10);
        caller.post("k1", &json!({"id": "o1", "total": 100})).await.unwrap();
        assert_eq!(caller.post("k1", &json!({"id": "o1", "total": 999})).await.unwrap().0, 422);
        assert_eq!(caller.post("k2", &json!({"id": "o1", "total": 100})).await.unwrap().0, 422);
        let kinds: Vec<_> = caller.stub.conflicts().iter().map(|conflict| conflict.kind).collect();
        assert_eq!(kinds, ["other_body", "other_key"]);
        assert_eq!(caller.post("", &json!({"id": "o1"})).await.unwrap().0, 400);
        assert_eq!(caller.post("k3", &json!([])).await.unwrap().0, 400);
    }

    #[actix::test]
    async fn an_order_whose_answer_is_lost_was_processed_and_one_that_fails_was_not() {
        let caller = Caller::new(Behaviour { lose_answer: 1.0, ..Behaviour::default() }, 10);
        assert_eq!(caller.post("o1", &json!({"id": "o1"})).await, None);
        assert_eq!(caller.look_up("o1").await, 200);
        caller.stub.set_behaviour(Behaviour { fail: 1.0, ..Behaviour::default() });
        assert_eq!(caller.post("o2", &json!({"id": "o2"})).await.unwrap().0, 500);
        assert_eq!(caller.look_up("o2").await, 404);
        caller.stub.set_behaviour(Behaviour::default());
        assert!(caller.post("o1", &json!({"id": "o1"})).await.unwrap().2, "processed before, so it is a replay");
    }

    #[actix::test]
    async fn faults_are_changed_while_it_runs_and_wrong_ones_refused() {
        let caller = Caller::new(Behaviour::default(), 10);
        let control = caller.stub.url().replace("/orders", "/control");
        let put = async |body: Value| caller.client.put(&control).json(&body).send().await.unwrap().status().as_u16();
        assert_eq!(put(json!({"rateLimit": 1, "retryAfterSeconds": 7})).await, 200);
        caller.post("o1", &json!({"id": "o1"})).await.unwrap();
        let request = caller.client.post(caller.stub.url()).header("idempotency-key", "o2").json(&json!({"id": "o2"}));
        let response = request.send().await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"7".parse().unwrap()));
        assert_eq!(put(json!({"fail": 2.0})).await, 422);
        let now: Value = caller.client.get(&control).send().await.unwrap().json().await.unwrap();
        assert_eq!(now["rateLimit"], 1);
    }
}
