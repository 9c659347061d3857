//! The events that alerts rest on: first only their places on the bus, then copied whole, so that an alert can be
//! explained when the bus has long forgotten them.

use bytes::Bytes;

use super::Store;
use super::audit::read_json;
use super::connection::{on, queries};
use super::model::StoreError;
use super::schema::alerts;
use crate::effect::Position;
use crate::event::AlertRaised;

/// An alert whose events have not been copied yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingEvidence {
    /// The alert.
    pub alert_id: String,
    /// Each event's place and name (`source#id`).
    pub events: Vec<(Position, String)>,
}

pub(super) fn write_positions(positions: &[Position]) -> Result<Vec<u8>, StoreError> {
    rmp_serde::to_vec(positions).map_err(|error| StoreError::Refused(error.to_string()))
}

pub(super) fn read_positions(bytes: &[u8]) -> Result<Vec<Position>, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|error| StoreError::Refused(format!("an alert cannot be read: {error}")))
}

pub(super) fn read_events(bytes: &[u8]) -> Result<Vec<Bytes>, StoreError> {
    rmp_serde::from_slice(bytes).map_err(|error| StoreError::Refused(format!("an alert cannot be read: {error}")))
}

impl Store {
    /// At most `limit` alerts whose events have not been copied yet, the oldest first.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn alerts_without_evidence(&self, limit: usize) -> Result<Vec<MissingEvidence>, StoreError> {
        self.read(move |database| on!(database, missing(limit))).await
    }

    /// Keeps events for each of these alerts, structured JSON each, all in one transaction. Events that are there already
    /// stay.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn store_evidence(&self, alerts: Vec<(String, Vec<Bytes>)>) -> Result<(), StoreError> {
        let payload = |(id, events): (String, Vec<Bytes>)| Ok((id, rmp_serde::to_vec(&events)?));
        let written: Result<Vec<_>, rmp_serde::encode::Error> = alerts.into_iter().map(payload).collect();
        let alerts = written.map_err(|error| StoreError::Refused(error.to_string()))?;
        self.write_repeatable(move |database| {
            database.require_room_for(alerts.iter().map(|(_, payload)| payload.len()).max().unwrap_or(0))?;
            on!(database, keep(&alerts))
        })
        .await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn missing(db: &mut Db, limit: usize) -> Result<Vec<MissingEvidence>, StoreError> {
        let rows: Vec<(String, Vec<u8>, String)> = alerts::table
            .filter(alerts::evidence.is_null())
            .order((alerts::at, alerts::id))
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select((alerts::id, alerts::positions, alerts::alert))
            .load(db)?;
        rows.into_iter()
            .map(|(alert_id, positions, alert)| {
                let alert: AlertRaised = read_json(&alert)?;
                let events = read_positions(&positions)?.into_iter().zip(alert.event_ids).collect();
                Ok(MissingEvidence { alert_id, events })
            })
            .collect()
    }

    pub(in crate::store) fn keep(db: &mut Db, alerts: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
        db.transaction(|db| {
            for (alert_id, payload) in alerts {
                diesel::update(alerts::table.find(alert_id))
                    .filter(alerts::evidence.is_null())
                    .set(alerts::evidence.eq(payload))
                    .execute(db)?;
            }
            Ok(())
        })
    }
}
