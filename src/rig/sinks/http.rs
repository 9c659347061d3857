//! The HTTP API as a sink: `POST /api/events`, in batches, one request after the other so that order is kept.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use super::SinkError;
use crate::config::RemoteUrl;
use crate::rig::{MessageKind, RigMessage};

/// Events of one request.
const BATCH_EVENTS_MAX: usize = 500;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// The address of the events API of a server.
///
/// # Errors
/// If `base` is no `http` or `https` URL, or has a query or a fragment.
pub fn events_url(base: &str) -> Result<Url, String> {
    api_url(base, "/api/events")
}

/// The address of one call of a server, whose address may already be that of the call.
pub(in crate::rig) fn api_url(base: &str, call: &str) -> Result<Url, String> {
    let base = RemoteUrl::parse(base)
        .map_err(|error| format!("the address {error}. Write an address such as http://127.0.0.1:8080"))?;
    Ok(if base.url().path().ends_with(call) { base.url().clone() } else { base.below(call) })
}

/// A client whose requests end after `timeout`.
pub(in crate::rig) fn http_client(timeout: Duration) -> Result<reqwest::Client, SinkError> {
    // An error means that the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(timeout)
        .build()
        .map_err(|error| SinkError::Request(format!("the HTTP client cannot be set up: {error}")))
}

/// Posts events to a server.
#[derive(Debug)]
pub struct HttpSink {
    client: reqwest::Client,
    url: Url,
    token: Option<String>,
}

impl HttpSink {
    /// A sink for the server at `url`, see [`events_url`].
    ///
    /// # Errors
    /// If the HTTP client cannot be set up.
    pub fn new(url: Url, token: Option<String>) -> Result<Self, SinkError> {
        Ok(Self { client: http_client(REQUEST_TIMEOUT)?, url, token })
    }

    /// Posts messages in order. A corrupt message goes alone, since it would spoil a batch; that it is refused is right.
    pub(super) async fn send(&self, messages: &[RigMessage]) -> Result<(), SinkError> {
        let mut batches = Vec::new();
        for message in messages {
            let alone = message.kind == MessageKind::Corrupt;
            match batches.last_mut() {
                Some((false, batch)) if !alone && Vec::len(batch) < BATCH_EVENTS_MAX => batch.push(message),
                _ => batches.push((alone, vec![message])),
            }
        }
        for (alone, batch) in batches {
            if alone {
                self.post_corrupt(batch[0]).await?;
            } else {
                self.post_batch(&batch).await?;
            }
        }
        Ok(())
    }

    async fn post_corrupt(&self, message: &RigMessage) -> Result<(), SinkError> {
        let response = self.post("application/cloudevents+json", message.bytes.to_vec()).await?;
        if response.status().is_client_error() { Ok(()) } else { Err(self.refusal(response).await) }
    }

    async fn post_batch(&self, batch: &[&RigMessage]) -> Result<(), SinkError> {
        let mut body = Vec::with_capacity(batch.iter().map(|message| message.bytes.len() + 1).sum::<usize>() + 2);
        for (number, message) in batch.iter().enumerate() {
            body.push(if number == 0 { b'[' } else { b',' });
            body.extend_from_slice(&message.bytes);
        }
        body.push(b']');
        let response = self.post("application/cloudevents-batch+json", body).await?;
        let status = response.status();
        if status == StatusCode::PAYLOAD_TOO_LARGE && batch.len() > 1 {
            let (first, second) = batch.split_at(batch.len() / 2);
            Box::pin(self.post_batch(first)).await?;
            return Box::pin(self.post_batch(second)).await;
        }
        if !status.is_success() {
            return Err(self.refusal(response).await);
        }
        let answer = response.text().await.unwrap_or_default();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        match answer.get("rejected").and_then(serde_json::Value::as_array) {
            Some(rejected) if !rejected.is_empty() => Err(SinkError::Refused {
                url: self.url.to_string(),
                status: status.as_u16(),
                answer: format!("{} valid events rejected, the first: {}", rejected.len(), rejected[0]),
            }),
            _ => Ok(()),
        }
    }

    /// Posts the same bytes until there is an answer that counts.
    async fn post(&self, content_type: &'static str, body: Vec<u8>) -> Result<Response, SinkError> {
        let body = bytes::Bytes::from(body);
        let mut pause = Duration::from_millis(100);
        loop {
            let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, content_type).body(body.clone());
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let asked_to_wait = match request.send().await {
                Ok(response) if is_temporary(response.status()) => {
                    tracing::warn!(status = response.status().as_u16(), "the server is busy or away, trying again");
                    retry_after(&response)
                }
                Ok(response) => return Ok(response),
                Err(error) if error.is_builder() => return Err(SinkError::Request(error.to_string())),
                Err(error) => {
                    tracing::warn!(%error, "the server cannot be reached, trying again");
                    None
                }
            };
            tokio::time::sleep(asked_to_wait.unwrap_or(pause)).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    async fn refusal(&self, response: Response) -> SinkError {
        let status = response.status().as_u16();
        let answer = response.text().await.unwrap_or_default().chars().take(500).collect();
        SinkError::Refused { url: self.url.to_string(), status, answer }
    }
}

fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
