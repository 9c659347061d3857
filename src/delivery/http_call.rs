//! One attempt of an HTTP call, and what of its answer may be seen.

use std::sync::Once;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Map, Value};

use crate::event::ReplyOutcome;

/// Larger answers are not read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A useful answer. Only the keys that were asked for are in it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: Map<String, Value>,
    /// Size of the answer as it came.
    pub(super) bytes: usize,
}

impl Answered {
    pub(super) fn into_outcome(self) -> ReplyOutcome {
        ReplyOutcome::Answered { status: self.status, body: self.body }
    }
}

/// Why an attempt gave no useful answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallError {
    Timeout,
    Unreachable,
    Status(u16),
    InvalidAnswer,
    InvalidPath,
    CircuitOpen,
    NotConfigured,
}

impl CallError {
    /// The cause as it stands in [`ReplyOutcome::Failed`].
    pub(super) fn cause(self) -> String {
        match self {
            Self::Timeout => "timeout".to_owned(),
            Self::Unreachable => "unreachable".to_owned(),
            Self::Status(status) => format!("status_{status}"),
            Self::InvalidAnswer => "invalid_answer".to_owned(),
            Self::InvalidPath => "invalid_path".to_owned(),
            Self::CircuitOpen => "circuit_open".to_owned(),
            Self::NotConfigured => "not_configured".to_owned(),
        }
    }

    /// True if the host is to blame: another attempt may do better, and the breaker counts it.
    pub(super) const fn is_fault_of_host(self) -> bool {
        match self {
            Self::Timeout | Self::Unreachable => true,
            Self::Status(status) => status >= 500,
            _ => false,
        }
    }

    fn of(error: &reqwest::Error) -> Self {
        if error.is_timeout() { Self::Timeout } else { Self::Unreachable }
    }
}

/// The client that all calls share. Redirects are not followed: the address is configuration, not the remote side's choice.
pub(super) fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Fails only if one is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tillstream/", env!("CARGO_PKG_VERSION")))
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
        .expect("the TLS provider is installed and no option depends on the machine")
}

/// Makes one attempt.
pub(super) async fn get(
    client: &reqwest::Client,
    address: reqwest::Url,
    timeout: Duration,
    keep: &[String],
) -> Result<Answered, CallError> {
    let request = client.get(address).timeout(timeout).header("accept", "application/json");
    let mut response = request.send().await.map_err(|error| CallError::of(&error))?;
    let status = response.status();
    if status == StatusCode::NOT_FOUND {
        return Ok(Answered { status: status.as_u16(), body: Map::new(), bytes: 0 });
    }
    if !status.is_success() {
        return Err(CallError::Status(status.as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| CallError::of(&error))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(CallError::InvalidAnswer);
        }
        bytes.extend_from_slice(&chunk);
    }
    let body: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|_| CallError::InvalidAnswer)?;
    let body = body.into_iter().filter(|(key, _)| keep.contains(key)).collect();
    Ok(Answered { status: status.as_u16(), body, bytes: bytes.len() })
}
