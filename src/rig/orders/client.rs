//! One till's HTTP client: posts an order until it knows what became of it, always under the same key.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::Order;
use crate::delivery::Backoff;
use crate::rig::sinks::SinkError;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(5) };
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// What is kept of the answer to a refused order.
const REASON_CHARS: usize = 500;

/// The address of the orders API of a server.
///
/// # Errors
/// If `base` is no `http` or `https` URL.
pub fn orders_url(base: &str) -> Result<Url, String> {
    crate::rig::sinks::api_url(base, "/api/orders")
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The order is accepted under this id.
    Accepted {
        /// The order's id.
        id: String,
        /// Accepted by an earlier request, whose answer was lost.
        replayed: bool,
    },
    /// The order is refused for good.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer.
        reason: String,
    },
}

/// An outcome, and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Posted {
    pub(super) outcome: Outcome,
    /// Requests, the first included.
    pub(super) attempts: u32,
    /// From the first request to the answer that counted.
    pub(super) took: Duration,
}

/// Posts orders to a server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    token: Option<String>,
}

enum Answer {
    Final(Outcome),
    /// Nobody knows what became of it, or not yet: again, not before the time that the server asks for.
    Again(Option<Duration>),
}

#[derive(Deserialize)]
struct Accepted {
    id: String,
}

impl Client {
    /// A client of the server at `url`, see [`orders_url`].
    ///
    /// # Errors
    /// If the HTTP client cannot be set up.
    pub fn new(url: Url, token: Option<String>) -> Result<Self, SinkError> {
        let http = crate::rig::sinks::http_client(REQUEST_TIMEOUT)?;
        Ok(Self { http, url, token })
    }

    /// Posts an order until there is an answer that counts. Ends only then: dropping it gives the order up, and nobody
    /// knows what became of it.
    pub(super) async fn place(&self, order: &Order) -> Posted {
        let began = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.post(order).await {
                Answer::Final(outcome) => return Posted { outcome, attempts, took: began.elapsed() },
                Answer::Again(asked_to_wait) => {
                    let pause = BACKOFF.pause(attempts);
                    tokio::time::sleep(asked_to_wait.map_or(pause, |wait| wait.min(RETRY_AFTER_MAX) + pause)).await;
                }
            }
        }
    }

    async fn post(&self, order: &Order) -> Answer {
        let mut request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", format!("\"{}\"", order.key))
            .body(order.body.clone());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        match request.send().await {
            Ok(response) => read(response).await,
            Err(error) if error.is_builder() => {
                Answer::Final(Outcome::Refused { status: 0, reason: format!("the request cannot be made: {error}") })
            }
            Err(error) => {
                tracing::debug!(%error, key = order.key, "no answer to an order, trying again under the same key");
                Answer::Again(None)
            }
        }
    }
}

async fn read(response: Response) -> Answer {
    let status = response.status();
    if is_temporary(status) {
        return Answer::Again(retry_after(&response));
    }
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    let Ok(body) = response.bytes().await else { return Answer::Again(None) };
    if status.is_success() {
        return match serde_json::from_slice(&body) {
            Ok(Accepted { id }) => Answer::Final(Outcome::Accepted { id, replayed }),
            Err(_) => Answer::Again(None),
        };
    }
    let reason = String::from_utf8_lossy(&body).chars().take(REASON_CHARS).collect();
    Answer::Final(Outcome::Refused { status: status.as_u16(), reason })
}

/// 409: the first request under this key is still being answered.
fn is_temporary(status: StatusCode) -> bool {
    let again =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::CONFLICT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || again.contains(&status)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
