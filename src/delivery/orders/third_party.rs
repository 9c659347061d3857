//! One attempt at the third party, and what its answer says.

use std::time::Duration;

use jiff::Timestamp as Instant;
use reqwest::{RequestBuilder, Response, StatusCode};

use crate::config::RemoteUrl;
use crate::delivery::http_call;
use crate::event::redact;
use crate::plugins::order_delivery::Outcome;

/// Bytes of an answer that are read: enough to keep the connection, and to say what went wrong.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Characters of a refusal that are kept.
const EXCERPT_CHARS_MAX: usize = 500;

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// HTTP status, if there was an answer.
    pub(super) status: Option<u16>,
    /// What went wrong, with the beginning of the answer.
    pub(super) error: String,
}

impl Answer {
    fn without_answer(error: &reqwest::Error) -> Self {
        let (outcome, text) = if error.is_timeout() {
            (Outcome::Timeout, "timeout: no answer in time")
        } else if error.is_connect() {
            (Outcome::Unreachable, "unreachable: no connection")
        } else {
            (Outcome::Broken, "unreachable: the connection broke before the answer was complete")
        };
        Self { outcome, status: None, error: text.to_owned() }
    }

    fn taken(status: StatusCode) -> Self {
        Self { outcome: Outcome::Taken, status: Some(status.as_u16()), error: String::new() }
    }
}

impl Answer {
    fn about_something_else(status: StatusCode) -> Self {
        let error = format!(
            "look-up: status {}, but the answer does not name the order; check that GET {{orders.url}}/ID answers about orders",
            status.as_u16()
        );
        // Whether the order is there is not known, as if there had been no answer.
        let outcome = Outcome::Status { status: 500, retry_after_ms: None };
        Self { outcome, status: Some(status.as_u16()), error }
    }
}

/// The third party.
pub(super) struct ThirdParty {
    client: reqwest::Client,
    url: RemoteUrl,
}

impl ThirdParty {
    pub(super) fn new(url: RemoteUrl) -> Self {
        Self { client: http_call::client(), url }
    }

    /// Sends an order under its id.
    pub(super) async fn post(&self, id: &str, body: String, timeout: Duration) -> Answer {
        let request = self.client.post(self.url.url().clone());
        let request = request.header("content-type", "application/json").header("idempotency-key", format!("\"{id}\""));
        match ask(request.body(body), timeout).await {
            Ok(response) if response.status().is_success() => {
                let status = response.status();
                // What it says besides is its own business; a body that breaks off changes nothing.
                drain(response).await;
                Answer::taken(status)
            }
            Ok(response) => refusal(response).await,
            Err(answer) => answer,
        }
    }

    /// Asks whether the third party has an order. `None`: it says that it has not.
    pub(super) async fn look_up(&self, id: &str, timeout: Duration) -> Option<Answer> {
        let address = self.url.item(id)?;
        match ask(self.client.get(address), timeout).await {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                drain(response).await;
                None
            }
            Ok(response) if response.status().is_success() => {
                let status = response.status();
                let body = drain(response).await;
                // A start page, a list, or the record of something else is no word about this order.
                let is_about_it = body.is_empty() || memchr::memmem::find(&body, id.as_bytes()).is_some();
                Some(if is_about_it { Answer::taken(status) } else { Answer::about_something_else(status) })
            }
            Ok(response) => {
                let mut answer = refusal(response).await;
                answer.error.insert_str(0, "look-up: ");
                // Whatever it answers to the question, the order itself has not been refused.
                if let Outcome::Status { status, .. } = &mut answer.outcome {
                    *status = (*status).max(500);
                }
                Some(answer)
            }
            Err(mut answer) => {
                answer.error.insert_str(0, "look-up: ");
                Some(answer)
            }
        }
    }
}

async fn ask(request: RequestBuilder, timeout: Duration) -> Result<Response, Answer> {
    let request = request.header("accept", "application/json").timeout(timeout);
    request.send().await.map_err(|error| Answer::without_answer(&error))
}

async fn drain(mut response: Response) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    bytes
}

async fn refusal(response: Response) -> Answer {
    let status = response.status().as_u16();
    let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after_ms = header.and_then(|text| retry_after(text, Instant::now()));
    let excerpt = excerpt(&drain(response).await);
    let error = if excerpt.is_empty() { format!("status {status}") } else { format!("status {status}: {excerpt}") };
    Answer { outcome: Outcome::Status { status, retry_after_ms }, status: Some(status), error }
}

/// `Retry-After` (RFC 9110): seconds, or a date. In milliseconds from now.
fn retry_after(text: &str, now: Instant) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(u64::try_from(at.as_millisecond() - now.as_millisecond()).unwrap_or(0))
}

/// The beginning of an answer as one line of text, with what must never be stored masked.
fn excerpt(bytes: &[u8]) -> String {
    let masked = redact(bytes);
    let text = String::from_utf8_lossy(&masked);
    let words = text.split(|character: char| character.is_whitespace() || character.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Instant = "1994-11-06T08:49:30Z".parse().unwrap();
        assert_eq!(retry_after("120", now), Some(120_000));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(7_000));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(0), "it has passed");
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-1", now), None);
    }

    #[test]
    fn an_excerpt_is_one_bounded_line_without_card_numbers() {
        assert_eq!(excerpt(b"{\n  \"error\": \"no\"\n}"), r#"{ "error": "no" }"#);
        assert_eq!(excerpt(b"card 4111 1111 1111 1111"), "card **** **** **** ****");
        assert_eq!(excerpt("x".repeat(10_000).as_bytes()).len(), EXCERPT_CHARS_MAX);
        assert_eq!(excerpt(&[0xff, 0, 1]), "\u{fffd}");
    }
}
