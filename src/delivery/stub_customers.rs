//! A stand-in for the remote customer system: believable customers, and faults on demand.
//!
//! `GET /customers/{id}` answers the same for the same id, now and then that it knows no such customer; its objects hold
//! more than anybody should keep, dates of birth among them. `GET /received` lists what came in, `/control` changes
//! the faults while it runs. Serves `demo`, tests and people; never part of production.

use std::collections::VecDeque;
use std::io;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

pub use super::stub::Behaviour;
use super::stub::{Fate, Faults, Shared, StubServer, cut, failure, hang, limited};
use crate::time::Timestamp;

/// Requests that `GET /received` remembers.
const RECEIVED_MAX: usize = 1000;
/// One id in so many is unknown.
const UNKNOWN_ONE_IN: u64 = 29;

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
struct Received {
    items: VecDeque<ReceivedRequest>,
    total: u64,
}

/// A running stub; stops when told to, or with the process.
#[derive(Debug)]
pub struct StubCustomers {
    faults: Shared<Faults>,
    received: Shared<Received>,
    server: StubServer,
}

impl StubCustomers {
    /// Starts a stub on this port of 127.0.0.1; port 0 takes a free one. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start(port: u16, behaviour: Behaviour) -> io::Result<Self> {
        Self::start_seeded(port, behaviour, 1)
    }

    /// As [`StubCustomers::start`], with another chance.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn start_seeded(port: u16, behaviour: Behaviour, seed: u64) -> io::Result<Self> {
        let (faults, received) = (Faults::new(behaviour, seed), Shared::new(Received::default()));
        let data = web::Data::new(received.clone());
        let server = StubServer::start(port, &faults, move |config| {
            config
                .app_data(data.clone())
                .route("/customers/{id}", web::get().to(customer))
                .route("/received", web::get().to(list_received));
        })?;
        Ok(Self { faults, received, server })
    }

    /// What `customers.url` must be to use this stub.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url("/customers")
    }

    /// Changes how it behaves.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.faults.lock().set_behaviour(behaviour);
    }

    /// The last requests that came in, oldest first.
    #[must_use]
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.received.lock().items.iter().cloned().collect()
    }

    /// Stops it; connections are closed.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

async fn customer(
    request: HttpRequest,
    faults: web::Data<Shared<Faults>>,
    received: web::Data<Shared<Received>>,
    id: web::Path<String>,
) -> HttpResponse {
    let id = id.into_inner();
    let count = received.lock().total;
    let (fate, behaviour) = {
        let mut faults = faults.lock();
        (faults.decide(&id, count), faults.behaviour())
    };
    let response = match fate {
        Fate::Answer => match customer_of(&id) {
            Some(customer) => HttpResponse::Ok().json(customer),
            None => HttpResponse::NotFound().json(json!({"error": "unknown customer"})),
        },
        Fate::Fail => failure(),
        Fate::Garbage => garbage(count),
        Fate::Limited => limited(&behaviour),
        Fate::Cut | Fate::Hang | Fate::Lose => {
            remember(&received, id, None);
            return if fate == Fate::Cut { cut(&request).await } else { hang().await };
        }
    };
    remember(&received, id, Some(response.status().as_u16()));
    tokio::time::sleep(behaviour.latency()).await;
    response
}

fn remember(received: &Shared<Received>, customer_id: String, status: Option<u16>) {
    let mut received = received.lock();
    if received.items.len() == RECEIVED_MAX {
        received.items.pop_front();
    }
    received.items.push_back(ReceivedRequest { at: Timestamp::now(), customer_id, status });
    received.total += 1;
}

async fn list_received(received: web::Data<Shared<Received>>) -> HttpResponse {
    let received = received.lock();
    HttpResponse::Ok().json(json!({"items": received.items, "total": received.total}))
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

fn garbage(number: u64) -> HttpResponse {
    match number % 4 {
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
}
