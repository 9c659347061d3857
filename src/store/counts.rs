//! How much of what there is, for metrics and the system page.

use serde::Serialize;

use super::Store;
use super::connection::{on, queries};
use super::model::{DeadLetterStatus, StoreError};
use super::schema::{alerts, dead_letters};
use crate::store::AlertStatus;

/// What waits for delivery or for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Records that wait for the relay.
    pub outbox_records: i64,
    /// HTTP calls that wait for the dispatcher.
    pub http_calls: i64,
    /// Dead letters on which nobody has decided.
    pub dead_letters_open: i64,
    /// Alerts that nobody has looked at, those of shadow rules left out.
    pub alerts_new: i64,
}

impl Store {
    /// Counts what waits.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(|database| on!(database, counts())).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn counts(db: &mut Db) -> Result<Counts, StoreError> {
        let open = dead_letters::table.filter(dead_letters::status.eq(DeadLetterStatus::Open.as_str()));
        let new = alerts::table.filter(alerts::status.eq(AlertStatus::New.as_str())).filter(alerts::shadow.eq(false));
        Ok(Counts {
            outbox_records: queries::outbox::depth(db)?,
            http_calls: queries::http_calls::depth(db)?,
            dead_letters_open: open.count().get_result(db)?,
            alerts_new: new.count().get_result(db)?,
        })
    }
}
