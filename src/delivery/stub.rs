//! What the stand-ins for remote systems have in common: a server on loopback, faults by chance, and `/control` to change
//! them while it runs. What is asked for and answered is each stand-in's own.
//!
//! Chance is drawn from the seed, the thing that is asked for and how often it was asked for before, so it does not depend
//! on the order in which requests of many connections arrive.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

/// A request that hangs, and one whose answer is lost, keeps the caller waiting this long.
const HANGING: Duration = Duration::from_mins(1);

/// How a stub behaves. Fractions are probabilities from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Behaviour {
    /// Every answer takes this long, in milliseconds.
    pub latency_ms: u64,
    /// This fraction is answered with status 500 and not processed.
    pub fail: f64,
    /// This fraction hangs: neither processed nor answered for a minute.
    pub hang: f64,
    /// This fraction is processed, but its answer never arrives: half of the connections are cut, the others hang.
    pub lose_answer: f64,
    /// This fraction is processed and answered with something that makes no sense.
    pub garbage: f64,
    /// More requests than this a second are answered with status 429 and not processed; 0: no limit.
    pub rate_limit: u32,
    /// What `Retry-After` says then, in seconds.
    pub retry_after_seconds: u32,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            fail: 0.0,
            hang: 0.0,
            lose_answer: 0.0,
            garbage: 0.0,
            rate_limit: 0,
            retry_after_seconds: 1,
        }
    }
}

impl Behaviour {
    /// Checks the fractions.
    ///
    /// # Errors
    /// Names the one that is no number from 0 to 1.
    pub fn check(&self) -> Result<(), String> {
        let fractions =
            [("fail", self.fail), ("hang", self.hang), ("lose-answer", self.lose_answer), ("garbage", self.garbage)];
        match fractions.into_iter().find(|(_, fraction)| !(0.0..=1.0).contains(fraction)) {
            Some((name, fraction)) => Err(format!("{name} is {fraction}, but must be a fraction from 0 to 1")),
            None => Ok(()),
        }
    }

    pub(super) const fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms)
    }
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Answer,
    Fail,
    Hang,
    /// Processed, then the connection is cut.
    Cut,
    /// Processed, then it hangs.
    Lose,
    Garbage,
    /// Too many in this second.
    Limited,
}

/// Chance and the behaviour that it follows.
#[derive(Debug)]
pub(super) struct Faults {
    behaviour: Behaviour,
    seed: u64,
    second: Option<(Instant, u32)>,
}

impl Faults {
    pub(super) fn new(behaviour: Behaviour, seed: u64) -> Shared<Self> {
        Shared::new(Self { behaviour, seed, second: None })
    }

    /// What becomes of the `count`th request for `subject`.
    pub(super) fn decide(&mut self, subject: &str, count: u64) -> Fate {
        if self.is_over_the_limit() {
            return Fate::Limited;
        }
        let draws = draws(self.seed, subject, count);
        let Behaviour { fail, hang, lose_answer, garbage, .. } = self.behaviour;
        if draws[0] < fail {
            Fate::Fail
        } else if draws[1] < hang {
            Fate::Hang
        } else if draws[2] < lose_answer / 2.0 {
            Fate::Cut
        } else if draws[2] < lose_answer {
            Fate::Lose
        } else if draws[3] < garbage {
            Fate::Garbage
        } else {
            Fate::Answer
        }
    }

    fn is_over_the_limit(&mut self) -> bool {
        if self.behaviour.rate_limit == 0 {
            return false;
        }
        let second = self.second.filter(|(began, _)| began.elapsed() < Duration::from_secs(1));
        let (began, count) = second.unwrap_or_else(|| (Instant::now(), 0));
        self.second = Some((began, count.saturating_add(1)));
        count >= self.behaviour.rate_limit
    }

    pub(super) const fn behaviour(&self) -> Behaviour {
        self.behaviour
    }

    pub(super) const fn set_behaviour(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
    }
}

/// Four numbers from 0 to below 1.
fn draws(seed: u64, subject: &str, count: u64) -> [f64; 4] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(count.to_le_bytes());
    hash.update(subject.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|index| {
        let bytes = digest[index * 8..index * 8 + 4].try_into().expect("four bytes");
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    })
}

/// State that all connections share; held only for moments.
#[derive(Debug)]
pub(super) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running server; stops when told to, or with the process.
#[derive(Debug)]
pub(super) struct StubServer {
    port: u16,
    handle: ServerHandle,
}

impl StubServer {
    /// Serves `routes` and `/control` on this port of 127.0.0.1; port 0 takes a free one. Needs a tokio runtime.
    pub(super) fn start(
        port: u16,
        faults: &Shared<Faults>,
        routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let faults = web::Data::new(faults.clone());
        let app = move || {
            let control = web::resource("/control")
                .route(web::get().to(behaviour_now))
                .route(web::put().to(replace_behaviour))
                .route(web::post().to(change_behaviour));
            App::new().app_data(faults.clone()).service(control).configure(routes.clone())
        };
        let server = HttpServer::new(app)
            .workers(1)
            .disable_signals()
            .shutdown_timeout(1)
            .on_connect(|connection, data| {
                let stream = connection.downcast_ref::<actix_web::rt::net::TcpStream>();
                if let Some(Ok(own)) = stream.map(|stream| stream.as_fd().try_clone_to_owned()) {
                    data.insert(TcpStream::from(own));
                }
            })
            .bind(("127.0.0.1", port))?;
        let port = server.addrs().first().map_or(port, std::net::SocketAddr::port);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { port, handle })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Stops it; connections are closed.
    pub(super) async fn stop(self) {
        self.handle.stop(false).await;
    }
}

/// An answer that never comes: the caller's time-out ends it, or this, after a minute.
pub(super) async fn hang() -> HttpResponse {
    tokio::time::sleep(HANGING).await;
    HttpResponse::GatewayTimeout().finish()
}

/// Cuts the connection: the caller sees it end without an answer.
pub(super) async fn cut(request: &HttpRequest) -> HttpResponse {
    match request.conn_data::<TcpStream>().map(|stream| stream.shutdown(Shutdown::Both)) {
        Some(Ok(())) => HttpResponse::GatewayTimeout().finish(),
        _ => hang().await,
    }
}

pub(super) fn failure() -> HttpResponse {
    HttpResponse::InternalServerError().json(json!({"error": "told to fail"}))
}

pub(super) fn limited(behaviour: &Behaviour) -> HttpResponse {
    HttpResponse::TooManyRequests()
        .insert_header((RETRY_AFTER, behaviour.retry_after_seconds.to_string()))
        .json(json!({"error": "more requests a second than rateLimit"}))
}

async fn behaviour_now(faults: web::Data<Shared<Faults>>) -> HttpResponse {
    HttpResponse::Ok().json(faults.lock().behaviour)
}

async fn replace_behaviour(faults: web::Data<Shared<Faults>>, behaviour: web::Json<Behaviour>) -> HttpResponse {
    take(&faults, *behaviour)
}

/// What is absent stays.
async fn change_behaviour(
    faults: web::Data<Shared<Faults>>,
    patch: web::Json<serde_json::Map<String, serde_json::Value>>,
) -> HttpResponse {
    let mut merged = json!(faults.lock().behaviour);
    if let Some(known) = merged.as_object_mut() {
        known.extend(patch.into_inner());
    }
    match serde_json::from_value(merged) {
        Ok(behaviour) => take(&faults, behaviour),
        Err(error) => HttpResponse::UnprocessableEntity().json(json!({"error": error.to_string()})),
    }
}

fn take(faults: &Shared<Faults>, behaviour: Behaviour) -> HttpResponse {
    if let Err(message) = behaviour.check() {
        return HttpResponse::UnprocessableEntity().json(json!({"error": message}));
    }
    faults.lock().set_behaviour(behaviour);
    HttpResponse::Ok().json(behaviour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_beyond_one_is_refused() {
        let message = Behaviour { fail: 1.5, ..Behaviour::default() }.check().unwrap_err();
        assert!(message.contains("fail is 1.5"), "{message}");
    }

    #[test]
    fn chance_follows_from_the_seed_and_keeps_the_fractions() {
        let behaviour = Behaviour { fail: 0.2, lose_answer: 0.3, ..Behaviour::default() };
        let decide = |seed| -> Vec<Fate> {
            let faults = Faults::new(behaviour, seed);
            (0..10_000).map(|count| faults.lock().decide("o1", count)).collect()
        };
        assert_eq!(decide(1), decide(1));
        assert_ne!(decide(1), decide(2));
        let fates = decide(1);
        let count = |wanted: &[Fate]| fates.iter().filter(|fate| wanted.contains(fate)).count();
        assert!((1800..2200).contains(&count(&[Fate::Fail])));
        assert!((2200..2600).contains(&count(&[Fate::Cut, Fate::Lose])), "30 % of what does not fail");
    }

    #[test]
    fn what_is_over_the_limit_of_a_second_is_refused() {
        let faults = Faults::new(Behaviour { rate_limit: 3, ..Behaviour::default() }, 1);
        let fates: Vec<_> = (0..5).map(|count| faults.lock().decide("o1", count)).collect();
        assert_eq!(fates, [Fate::Answer, Fate::Answer, Fate::Answer, Fate::Limited, Fate::Limited]);
    }
}
