//! Keeps the events that an alert rests on, whole, beside the alert: it can be explained long after the bus forgot them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::leases::Leases;
use crate::bus::{Bus, BusError, Topic, TopicPartition};
use crate::effect::Position;
use crate::store::{MissingEvidence, Store};

/// Alerts looked at in one round.
const ALERTS_MAX: usize = 100;
/// Pause between rounds, unless there is more to do than fits into one: alerts come in swarms, and a round reads the log
/// and writes to the store once for all of them.
const PAUSE: Duration = Duration::from_millis(100);

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
        if !missing.is_empty() {
            let events = read_all(bus, &missing).await.map_err(|error| error.to_string())?;
            let copied = missing.iter().map(|alert| (alert.alert_id.clone(), copies(alert, &events)));
            store.store_evidence(copied.collect()).await.map_err(|error| error.to_string())?;
        }
        if missing.len() < ALERTS_MAX {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The events of an alert that are still on the bus.
fn copies(alert: &MissingEvidence, events: &BTreeMap<Position, Bytes>) -> Vec<Bytes> {
    let found = alert.events.iter().filter_map(|(position, name)| {
        let event = events.get(position).cloned();
        if event.is_none() {
            tracing::warn!(alert = alert.alert_id, name, "an event of this alert is no longer on the bus");
        }
        event
    });
    found.collect()
}

/// Every event that these alerts name, each place on the bus read once: a read brings its neighbours along.
async fn read_all(bus: &dyn Bus, alerts: &[MissingEvidence]) -> Result<BTreeMap<Position, Bytes>, BusError> {
    let wanted: BTreeSet<Position> =
        alerts.iter().flat_map(|alert| &alert.events).map(|(position, _)| *position).collect();
    let mut found = BTreeMap::new();
    let mut read_to = Position::default();
    for position in &wanted {
        let Position { partition, offset } = *position;
        if partition == read_to.partition && offset < read_to.offset {
            continue;
        }
        let fetched = match bus.read(TopicPartition::new(Topic::Events, partition), offset, 1).await {
            Ok(fetched) => fetched,
            Err(BusError::Gone { .. }) => continue,
            Err(error) => return Err(error),
        };
        for record in fetched.records {
            let position = Position { partition, offset: record.offset };
            if wanted.contains(&position) {
                // A copy of its own: its neighbours need not stay in memory.
                found.insert(position, Bytes::copy_from_slice(&record.value));
            }
        }
        read_to = Position { partition, offset: fetched.next_offset };
    }
    Ok(found)
}
