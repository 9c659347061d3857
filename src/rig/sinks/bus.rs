//! The bus as a sink: records on `pos.events`, keyed by terminal.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::SinkError;
use crate::bus::{Bus, BusError, NewRecord, Topic};
use crate::pipeline::source::content_type;
use crate::rig::RigMessage;

const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Appends to `pos.events`.
pub struct BusSink {
    bus: Arc<dyn Bus>,
}

impl std::fmt::Debug for BusSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BusSink").finish_non_exhaustive()
    }
}

impl BusSink {
    /// A sink on a bus.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>) -> Self {
        Self { bus }
    }

    /// Appends messages in order; a bus that is away is tried again. A record that arrives twice is a duplicate, which the
    /// receiver drops.
    pub(super) async fn send(&self, messages: Vec<RigMessage>) -> Result<(), SinkError> {
        let records: Vec<NewRecord> = messages.into_iter().map(record).collect();
        let mut pause = Duration::from_millis(50);
        loop {
            match self.bus.append(records.clone()).await {
                Ok(_) => return Ok(()),
                Err(BusError::Unavailable(reason)) => {
                    tracing::warn!(reason, "the bus is away, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn record(message: RigMessage) -> NewRecord {
    NewRecord {
        topic: Topic::Events,
        partition: None,
        key: Some(Bytes::copy_from_slice(message.key.as_bytes())),
        value: message.bytes,
        headers: vec![content_type()],
    }
}
