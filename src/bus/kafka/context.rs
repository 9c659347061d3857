//! What all clients share: librdkafka's log lines go to `tracing`, and its last complaint is kept for error messages.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// A complaint older than this explains nothing; librdkafka repeats the same one every 30 s.
const FRESH: Duration = Duration::from_mins(1);

/// How often the same thing is said.
const AGAIN: Duration = Duration::from_mins(1);

/// Lets the same thing be said once a minute.
#[derive(Debug)]
pub(super) struct Rarely<K>(HashMap<K, Instant>);

impl<K> Default for Rarely<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Rarely<K> {
    /// True if it has not been said for a minute; then it counts as said.
    pub(super) fn say(&mut self, what: K) -> bool {
        let now = Instant::now();
        let is_due = self.0.get(&what).is_none_or(|said| now.duration_since(*said) >= AGAIN);
        if is_due {
            self.0.insert(what, now);
        }
        is_due
    }
}

/// The last complaint of librdkafka, such as a refused connection.
#[derive(Debug, Clone, Default)]
pub(super) struct LastError(Arc<Mutex<Option<(Instant, RDKafkaErrorCode, String)>>>);

impl LastError {
    /// Code and text, if it is recent.
    pub(super) fn get(&self) -> Option<(RDKafkaErrorCode, String)> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(at, ..)| at.elapsed() < FRESH).map(|(_, code, reason)| (*code, reason.clone()))
    }

    /// ` (reason)`, or nothing.
    pub(super) fn suffix(&self) -> String {
        self.get().map(|(_, reason)| format!(" ({reason})")).unwrap_or_default()
    }

    /// All is well again.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn set(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down says less than why the last one is.
        let vague = code == RDKafkaErrorCode::AllBrokersDown;
        if !(vague && last.as_ref().is_some_and(|(at, ..)| at.elapsed() < FRESH)) {
            *last = Some((Instant::now(), code, reason.to_owned()));
        }
    }
}

/// The context of a client.
#[derive(Debug, Clone)]
pub(super) struct Context {
    role: &'static str,
    pub(super) last_error: LastError,
    told: Arc<Mutex<Rarely<i32>>>,
}

impl Context {
    /// For a client of that role, which shares what it hears with others.
    pub(super) fn new(role: &'static str, last_error: &LastError) -> Self {
        Self { role, last_error: last_error.clone(), told: Arc::default() }
    }

    /// A line of librdkafka's log.
    pub(super) fn log_line(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = self.role;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", client, facility, "{message}");
            }
            // Every client has connections of its own; that the brokers are away need not be said by each of them.
            _ if facility == "FAIL" && client != "producer" => {
                tracing::debug!(target: "librdkafka", client, facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "librdkafka", client, facility, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", client, facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", client, facility, "{message}"),
        }
    }

    /// An error of the client as a whole.
    pub(super) fn note_error(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        // Of a connection that is lost or refused one client tells; the others lose theirs at the same time.
        let is_common = matches!(
            code,
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
        );
        let tells = !is_common || self.role == "producer";
        if tells && self.told.lock().unwrap_or_else(PoisonError::into_inner).say(code as i32) {
            tracing::warn!(target: "librdkafka", client = self.role, %error, reason, "the Kafka client reports an error");
        } else {
            tracing::debug!(target: "librdkafka", client = self.role, %error, reason, "client error");
        }
        self.last_error.set(code, reason);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log_line(level, facility, message);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.note_error(&error, reason);
    }
}

impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_something_else_at_once() {
        let mut rarely = Rarely::default();
        assert!(rarely.say("a"));
        assert!(!rarely.say("a"));
        assert!(rarely.say("b"));
    }
}
