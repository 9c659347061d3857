//! A stand-in for the remote customer system: believable customers, and faults on demand.
//!
//! `GET /customers/{id}` answers the same for the same id, now and then that it knows no such customer; its objects hold
//! more than anybody should keep, dates of birth among them. `GET /received` lists what came in, `POST /control` changes
//! the faults while it runs. Serves `demo`, tests and people; never part of production.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::time::Timestamp;

/// Requests that `GET /received` remembers.
const RECEIVED_MAX: usize = 1000;
/// One id in so many is unknown.
const UNKNOWN_ONE_IN: u64 = 29;
/// A lost answer keeps the caller waiting this long.
const LOST_ANSWER: Duration = Duration::from_mins(1);

/// How the stub behaves. Fractions are probabilities from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Behaviour {
    /// Every answer takes this long, in milliseconds.
    pub latency_ms: u64,
    /// This fraction is answered with status 500.
    pub fail: f64,
    /// This fraction is received, but never answered.
    pub lose_answer: f64,
    /// This fraction is answered with something that is no customer.
    pub garbage: f64,
}

/// A change of [`Behaviour`]: what is absent stays.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BehaviourPatch {
    latency_ms: Option<u64>,
    fail: Option<f64>,
    lose_answer: Option<f64>,
    garbage: Option<f64>,
}

impl Behaviour {
    /// Checks the fractions.
    ///
    /// # Errors
    /// Names the one that is no number from 0 to 1.
    pub fn check(&self) -> Result<(), String> {
        let fractions = [("fail", self.fail), ("lose-answer", self.lose_answer), ("garbage", self.garbage)];
        match fractions.into_iter().find(|(_, fraction)| !(0.0..=1.0).contains(fraction)) {
            Some((name, fraction)) => Err(format!("{name} is {fraction}, but must be a fraction from 0 to 1")),
            None => Ok(()),
        }
    }

    fn patched(self, patch: BehaviourPatch) -> Self {
        Self {
            latency_ms: patch.latency_ms.unwrap_or(self.latency_ms),
            fail: patch.fail.unwrap_or(self.fail),
            lose_answer: patch.lose_answer.unwrap_or(self.lose_answer),
            garbage: patch.garbage.unwrap_or(self.garbage),
        }
    }
}

/// One request that came in.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedRequest {
    /// When.
    pub at: Timestamp,
    /// The customer that was asked for.
    pub customer_id: String,
    /// Status of the answer; absent if it was lost.
    pub status: Option<u16>,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    received: VecDeque<ReceivedRequest>,
    received_total: u64,
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running stub; stops when told to, or with the process.
#[derive(Debug)]
pub struct StubCustomers {
    state: Shared,
    port: u16,
    server: ServerHandle,
}

impl StubCustomers {
    /// Starts a stub on this port of 127.0.0.1; port 0 takes a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(port: u16, behaviour: Behaviour) -> io::Result<Self> {
        let state: Shared = Arc::new(Mutex::new(State { behaviour, ..State::default() }));
        let data = web::Data::new(Arc::clone(&state));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/customers/{id}", web::get().to(customer))
                .route("/received", web::get().to(received))
                .route("/control", web::get().to(behaviour_now))
                .route("/control", web::post().to(control))
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .bind(("127.0.0.1", port))?;
        let port = server.addrs().first().map_or(port, std::net::SocketAddr::port);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { state, port, server: handle })
    }

    /// What `customers.url` must be to use this stub.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/customers", self.port)
    }

    /// Changes how it behaves.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        lock(&self.state).behaviour = behaviour;
    }

    /// The last requests that came in, oldest first.
    #[must_use]
    pub fn received(&self) -> Vec<ReceivedRequest> {
        lock(&self.state).received.iter().cloned().collect()
    }

    /// Stops it; connections are closed.
    pub async fn stop(self) {
        self.server.stop(false).await;
    }
}

enum Answer {
    Customer,
    Fail,
    Lose,
    Garbage,
}

async fn customer(state: web::Data<Shared>, id: web::Path<String>) -> HttpResponse {
    let id = id.into_inner();
    let behaviour = lock(&state).behaviour;
    let answer = {
        let mut rng = rand::rng();
        if rng.random_bool(behaviour.lose_answer) {
            Answer::Lose
        } else if rng.random_bool(behaviour.fail) {
            Answer::Fail
        } else if rng.random_bool(behaviour.garbage) {
            Answer::Garbage
        } else {
            Answer::Customer
        }
    };
    let response = match answer {
        Answer::Customer => match customer_of(&id) {
            Some(customer) => HttpResponse::Ok().json(customer),
            None => HttpResponse::NotFound().json(json!({"error": "unknown customer"})),
        },
        Answer::Fail => HttpResponse::InternalServerError().json(json!({"error": "told to fail"})),
        Answer::Garbage => garbage(),
        Answer::Lose => {
            remember(&state, id, None);
            tokio::time::sleep(LOST_ANSWER).await;
            return HttpResponse::GatewayTimeout().finish();
        }
    };
    remember(&state, id, Some(response.status().as_u16()));
    tokio::time::sleep(Duration::from_millis(behaviour.latency_ms)).await;
    response
}

fn remember(state: &Shared, customer_id: String, status: Option<u16>) {
    let mut state = lock(state);
    if state.received.len() == RECEIVED_MAX {
        state.received.pop_front();
    }
    state.received.push_back(ReceivedRequest { at: Timestamp::now(), customer_id, status });
    state.received_total += 1;
}

async fn received(state: web::Data<Shared>) -> HttpResponse {
    let state = lock(&state);
    HttpResponse::Ok().json(json!({"items": state.received, "total": state.received_total}))
}

async fn behaviour_now(state: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(lock(&state).behaviour)
}

async fn control(state: web::Data<Shared>, patch: web::Json<BehaviourPatch>) -> HttpResponse {
    let mut state = lock(&state);
    let behaviour = state.behaviour.patched(*patch);
    if let Err(message) = behaviour.check() {
        return HttpResponse::UnprocessableEntity().json(json!({"error": message}));
    }
    state.behaviour = behaviour;
    HttpResponse::Ok().json(behaviour)
}

/// The customer of that id, as the remote system would describe it; `None` for the ids that it does not know.
fn customer_of(id: &str) -> Option<serde_json::Value> {
    const FIRST: [&str; 16] = [
        "Anna",
        "Ben",
        "Clara",
        "David",
        "Elif",
        "Finn",
        "Greta",
        "Hakan",
        "Ida",
        "Jonas",
        "Katarzyna",
        "Leon",
        "Mia",
        "Noah",
        "Olga",
        "Paul",
    ];
    const LAST: [&str; 12] = [
        "Bauer", "Demir", "Fischer", "Hoffmann", "Klein", "Kowalski", "Lehmann", "Meyer", "Nowak", "Schulz", "Weber",
        "Yildiz",
    ];
    const TIERS: [&str; 4] = ["bronze", "silver", "gold", "platinum"];
    const FAVOURITES: [&str; 10] =
        ["coffee", "bread", "cheese", "apples", "yoghurt", "pasta", "wine", "chocolate", "tea", "olives"];

    let digest = Sha256::digest(id.as_bytes());
    let number = |at: usize| u64::from_be_bytes(digest[at..at + 8].try_into().expect("eight bytes"));
    if number(0).is_multiple_of(UNKNOWN_ONE_IN) {
        return None;
    }
    let pick = |names: &[&'static str], at: usize| names[usize::from(digest[at]) % names.len()];
    let points = number(8) % 12_000;
    let tier = TIERS[usize::try_from(points / 3_000).unwrap_or(0)];
    let (first, last) = (pick(&FIRST, 16), pick(&LAST, 17));
    Some(json!({
        "customerId": id,
        "firstName": first,
        "lastName": last,
        "loyaltyTier": tier,
        "points": points,
        "favourites": [pick(&FAVOURITES, 18), pick(&FAVOURITES, 19)],
        "memberSince": format!("{}-{:02}-01", 2012 + u32::from(digest[20]) % 13, 1 + digest[21] % 12),
        // What follows is there to prove that nobody keeps it.
        "dateOfBirth": format!("{}-{:02}-{:02}", 1940 + u32::from(digest[22]) % 65, 1 + digest[23] % 12, 1 + digest[24] % 28),
        "email": format!("{}.{}@example.com", first.to_lowercase(), last.to_lowercase()),
        "address": {"street": format!("Lindenallee {}", 1 + digest[25] % 90), "city": "Musterstadt"},
    }))
}

fn garbage() -> HttpResponse {
    match rand::rng().random_range(0..4) {
        0 => HttpResponse::Ok().content_type("text/html").body("<html><body>Welcome to the proxy</body></html>"),
        1 => HttpResponse::Ok().json(json!(["not", "an", "object"])),
        2 => HttpResponse::Ok().content_type("application/json").body(r#"{"firstName": "Ann"#),
        _ => HttpResponse::Ok().json(json!({"firstName": "x".repeat(100_000)})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_id_is_the_same_customer_and_some_are_unknown() {
        assert_eq!(customer_of("C0001"), customer_of("C0001"));
        let unknown = (0..1000).filter(|number| customer_of(&format!("C{number:04}")).is_none()).count();
        assert!((10..100).contains(&unknown), "{unknown}");
    }

    #[test]
    fn a_fraction_beyond_one_is_refused() {
        let message = Behaviour { fail: 1.5, ..Behaviour::default() }.check().unwrap_err();
        assert!(message.contains("fail is 1.5"), "{message}");
    }
}
