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

/// Alerts whose events have not been copied yet, as far as one look has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingPage {
    /// Those that can be read.
    pub alerts: Vec<MissingEvidence>,
    /// Ids of those that cannot, each with the reason.
    pub unreadable: Vec<(String, String)>,
    /// Where the next look goes on; `None` if there are no more.
    pub next: Option<(i64, String)>,
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
    /// At most `limit` alerts whose events have not been copied yet, the oldest first. Those that cannot be read are left out.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn alerts_without_evidence(&self, limit: usize) -> Result<Vec<MissingEvidence>, StoreError> {
        let mut after = None;
        loop {
            let page = self.alerts_without_evidence_after(after, limit).await?;
            after = page.next;
            if after.is_none() || !page.alerts.is_empty() {
                return Ok(page.alerts);
            }
        }
    }

    /// Looks at alerts whose events have not been copied yet, the oldest first, at most `limit` of them, behind where the look
    /// before came to.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn alerts_without_evidence_after(
        &self,
        after: Option<(i64, String)>,
        limit: usize,
    ) -> Result<MissingPage, StoreError> {
        self.read(move |database| on!(database, missing(after.as_ref(), limit))).await
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

    pub(in crate::store) fn missing(
        db: &mut Db,
        after: Option<&(i64, String)>,
        limit: usize,
    ) -> Result<MissingPage, StoreError> {
        let mut query = alerts::table
            .filter(alerts::evidence.is_null())
            .order((alerts::at, alerts::id))
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select((alerts::id, alerts::at, alerts::positions, alerts::alert))
            .into_boxed();
        if let Some((at, id)) = after {
            query = query.filter(alerts::at.ge(*at).and(alerts::at.gt(*at).or(alerts::id.gt(id))));
        }
        let rows: Vec<(String, i64, Vec<u8>, String)> = query.load(db)?;
        let last = rows.last().map(|(id, at, ..)| (*at, id.clone()));
        let mut page = MissingPage { next: last.filter(|_| rows.len() >= limit), ..MissingPage::default() };
        let read = |positions: &[u8], alert: &str| -> Result<Vec<(Position, String)>, StoreError> {
            let alert: AlertRaised = read_json(alert)?;
            Ok(read_positions(positions)?.into_iter().zip(alert.event_ids).collect())
        };
        for (alert_id, _, positions, alert) in rows {
            match read(&positions, &alert) {
                Ok(events) => page.alerts.push(MissingEvidence { alert_id, events }),
                Err(error) => page.unreadable.push((alert_id, error.to_string())),
            }
        }
        Ok(page)
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
