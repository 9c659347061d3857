//! The processes that share this store: one row each, with a heartbeat.

use std::time::Duration;

use super::Store;
use super::connection::{on, queries};
use super::model::StoreError;
use super::schema::processes;
use crate::time::Timestamp;

/// A process as its last heartbeat told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessRow {
    /// Another one for every start.
    pub id: String,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
    /// When it was heard of last, by the database's clock.
    pub heartbeat_at: Timestamp,
    /// How long that was ago.
    pub silent: Duration,
    /// What it says of itself, opaque to the store.
    pub info: String,
}

impl Store {
    /// True if several processes can use this store at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.inner.target, super::connection::Target::Mysql(_))
    }

    /// Writes what a process says of itself, forgets those that have been silent for longer than `forget`, and answers all
    /// that are left, the oldest first.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn heartbeat(
        &self,
        id: &str,
        started_at: Timestamp,
        info: String,
        forget: Duration,
    ) -> Result<Vec<ProcessRow>, StoreError> {
        let id = id.to_owned();
        let forget_ms = i64::try_from(forget.as_millis()).unwrap_or(i64::MAX);
        self.write_repeatable(move |database| on!(database, heartbeat(&id, started_at, &info, forget_ms))).await
    }

    /// The processes that were heard of, the oldest first.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn processes(&self) -> Result<Vec<ProcessRow>, StoreError> {
        self.read(|database| on!(database, all())).await
    }

    /// A process has stopped in good order.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn process_stopped(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write_repeatable(move |database| on!(database, remove(&id))).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn heartbeat(
        db: &mut Db,
        id: &str,
        started_at: Timestamp,
        info: &str,
        forget_ms: i64,
    ) -> Result<Vec<ProcessRow>, StoreError> {
        db.transaction(|db| {
            let now = queries::leases::now(db)?;
            diesel::replace_into(processes::table)
                .values((
                    processes::id.eq(id),
                    processes::started_at.eq(started_at.as_millis()),
                    processes::heartbeat_at.eq(now),
                    processes::info.eq(info),
                ))
                .execute(db)?;
            let stale: Vec<String> = processes::table
                .filter(processes::heartbeat_at.lt(now.saturating_sub(forget_ms)))
                .select(processes::id)
                .load(db)?;
            if !stale.is_empty() {
                diesel::delete(processes::table.filter(processes::id.eq_any(&stale))).execute(db)?;
            }
            all(db)
        })
    }

    pub(in crate::store) fn all(db: &mut Db) -> Result<Vec<ProcessRow>, StoreError> {
        let now = queries::leases::now(db)?;
        let rows: Vec<(String, i64, i64, String)> =
            processes::table.order((processes::started_at, processes::id)).load(db)?;
        Ok(rows
            .into_iter()
            .map(|(id, started_at, heartbeat_at, info)| ProcessRow {
                id,
                started_at: Timestamp::from_millis(started_at),
                heartbeat_at: Timestamp::from_millis(heartbeat_at),
                silent: Duration::from_millis(u64::try_from(now.saturating_sub(heartbeat_at)).unwrap_or(0)),
                info,
            })
            .collect())
    }

    pub(in crate::store) fn remove(db: &mut Db, id: &str) -> Result<(), StoreError> {
        diesel::delete(processes::table.find(id)).execute(db)?;
        Ok(())
    }
}
