//! Keeps the events that an alert rests on, whole, beside the alert: it can be explained long after the bus forgot them.

use std::time::Duration;

use bytes::Bytes;

use super::leases::Leases;
use crate::bus::{Bus, Topic, TopicPartition};
use crate::effect::Position;
use crate::store::Store;

/// Alerts looked at in one round.
const ALERTS_MAX: usize = 100;
/// Pause while there is nothing to do.
const PAUSE: Duration = Duration::from_millis(500);

/// What the process that does this holds, where several could.
const LEASE: &str = "evidence";

/// Copies events from the bus to new alerts until the process ends. With `leases`, one process at a time does.
///
/// # Errors
/// If the store or the bus fails; a fresh start goes on where this stopped.
pub async fn run(store: &Store, bus: &dyn Bus, leases: Option<&Leases>) -> Result<(), String> {
    loop {
        if let Some(leases) = leases
            && leases.hold(&[LEASE.to_owned()]).await.map_err(|error| error.to_string())?.is_empty()
        {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let missing = store.alerts_without_evidence(ALERTS_MAX).await.map_err(|error| error.to_string())?;
        if missing.is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
        for alert in missing {
            let mut events = Vec::with_capacity(alert.events.len());
            for (position, name) in &alert.events {
                match read_one(bus, *position).await? {
                    Some(event) => events.push(event),
                    None => {
                        tracing::warn!(alert = alert.alert_id, name, "an event of this alert is no longer on the bus");
                    }
                }
            }
            store.store_evidence(&alert.alert_id, events).await.map_err(|error| error.to_string())?;
        }
    }
}

async fn read_one(bus: &dyn Bus, position: Position) -> Result<Option<Bytes>, String> {
    let place = TopicPartition::new(Topic::Events, position.partition);
    match bus.read(place, position.offset, 1).await {
        Ok(fetched) => {
            let record = fetched.records.into_iter().find(|record| record.offset == position.offset);
            Ok(record.map(|record| record.value))
        }
        Err(crate::bus::BusError::Gone { .. }) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
