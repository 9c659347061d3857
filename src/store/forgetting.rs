//! Removes states and duplicate windows that count as absent.
//!
//! A row goes only if it has expired by the partition's committed clock. Whatever its owner has not committed yet comes later than
//! that clock, so the owner takes the state for absent as well, whether it still has it in memory or not. What a commit has
//! written meanwhile expires later and is left alone: the condition is a part of the statement that removes.
//!
//! The tables are walked in the order of their keys, some rows at a time: an index on the time would have to be kept up by every
//! commit.

use super::Store;
use super::connection::{on, queries};
use super::model::StoreError;
use super::offsets::partition_number;
use super::schema::{entities, offsets, windows};
use crate::bus::{Topic, TopicPartition};
use crate::event::Scope;

/// The tables from which rows are removed here.
pub const FORGOTTEN_TABLES: [&str; 2] = ["entities", "windows"];
/// Rows that one step looks at.
pub const FORGET_LOOK_ROWS: usize = 500;

/// What one step came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetStep {
    /// Rows that were removed.
    pub removed: usize,
    /// Behind which id the next step goes on; `None` at the end.
    pub next: Option<String>,
}

impl Store {
    /// Looks at some states of one plugin and scope in one partition, those with ids behind `after`, and removes those that have
    /// expired by the partition's committed clock and for which no timer waits.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn forget_states(
        &self,
        partition: TopicPartition,
        (plugin, scope): (&'static str, Scope),
        after: String,
    ) -> Result<ForgetStep, StoreError> {
        let (expired, next) =
            self.read(move |database| on!(database, expired_states(partition, (plugin, scope), &after))).await?;
        if expired.is_empty() {
            return Ok(ForgetStep { removed: 0, next });
        }
        let remove =
            move |database: &mut super::Database| on!(database, remove_states(partition, (plugin, scope), &expired));
        Ok(ForgetStep { removed: self.write_repeatable(remove).await?, next })
    }

    /// The same for duplicate windows of a partition of `pos.events`.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn forget_windows(&self, partition: u32, after: String) -> Result<ForgetStep, StoreError> {
        let partition = TopicPartition::new(Topic::Events, partition);
        let (expired, next) = self.read(move |database| on!(database, expired_windows(partition, &after))).await?;
        if expired.is_empty() {
            return Ok(ForgetStep { removed: 0, next });
        }
        let remove = move |database: &mut super::Database| on!(database, remove_windows(partition, &expired));
        Ok(ForgetStep { removed: self.write_repeatable(remove).await?, next })
    }
}

/// Ids of rows that may have expired, and where the next look goes on.
type Expired = (Vec<String>, Option<String>);

/// `rows` are ids with what keeps each of them, in order.
fn sift(rows: Vec<(String, Option<i64>, Option<i64>)>, clock: i64) -> Expired {
    let next = if rows.len() < FORGET_LOOK_ROWS { None } else { rows.last().map(|(id, ..)| id.clone()) };
    let expired = rows.into_iter().filter(|(_, expires, due)| due.is_none() && expires.is_some_and(|at| at <= clock));
    (expired.map(|(id, ..)| id).collect(), next)
}

queries! {
    use diesel::prelude::*;

    /// The committed clock.
    fn clock(db: &mut Db, partition: TopicPartition) -> Result<i64, StoreError> {
        let row = offsets::table.find((partition.topic.name(), partition_number(partition)?)).select(offsets::clock);
        Ok(row.first(db).optional()?.unwrap_or(i64::MIN))
    }

    pub(in crate::store) fn expired_states(
        db: &mut Db,
        partition: TopicPartition,
        (plugin, scope): (&str, Scope),
        after: &str,
    ) -> Result<Expired, StoreError> {
        let clock = clock(db, partition)?;
        let rows = entities::table
            .filter(entities::topic.eq(partition.topic.name()))
            .filter(entities::partition.eq(partition_number(partition)?))
            .filter(entities::plugin.eq(plugin))
            .filter(entities::scope.eq(scope.as_str()))
            .filter(entities::entity.gt(after))
            .order(entities::entity)
            .limit(i64::try_from(FORGET_LOOK_ROWS).unwrap_or(i64::MAX))
            .select((entities::entity, entities::expires, entities::due))
            .load(db)?;
        Ok(sift(rows, clock))
    }

    pub(in crate::store) fn remove_states(
        db: &mut Db,
        partition: TopicPartition,
        (plugin, scope): (&str, Scope),
        ids: &[String],
    ) -> Result<usize, StoreError> {
        let clock = clock(db, partition)?;
        let expired = entities::table
            .filter(entities::topic.eq(partition.topic.name()))
            .filter(entities::partition.eq(partition_number(partition)?))
            .filter(entities::plugin.eq(plugin))
            .filter(entities::scope.eq(scope.as_str()))
            .filter(entities::entity.eq_any(ids))
            .filter(entities::expires.le(clock))
            .filter(entities::due.is_null());
        Ok(diesel::delete(expired).execute(db)?)
    }

    pub(in crate::store) fn expired_windows(
        db: &mut Db,
        partition: TopicPartition,
        after: &str,
    ) -> Result<Expired, StoreError> {
        let clock = clock(db, partition)?;
        let rows: Vec<(String, Option<i64>)> = windows::table
            .filter(windows::partition.eq(partition_number(partition)?))
            .filter(windows::source.gt(after))
            .order(windows::source)
            .limit(i64::try_from(FORGET_LOOK_ROWS).unwrap_or(i64::MAX))
            .select((windows::source, windows::expires))
            .load(db)?;
        Ok(sift(rows.into_iter().map(|(source, expires)| (source, expires, None)).collect(), clock))
    }

    pub(in crate::store) fn remove_windows(
        db: &mut Db,
        partition: TopicPartition,
        sources: &[String],
    ) -> Result<usize, StoreError> {
        let clock = clock(db, partition)?;
        let expired = windows::table
            .filter(windows::partition.eq(partition_number(partition)?))
            .filter(windows::source.eq_any(sources))
            .filter(windows::expires.le(clock));
        Ok(diesel::delete(expired).execute(db)?)
    }
}
