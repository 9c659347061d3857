//! Places on the bus: which offset of which partition has been applied, by which owner, and which settings were used.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Store;
use super::connection::{on, queries};
use super::model::{PartitionCommit, PartitionRow, StoreError};
use super::schema::{offsets, settings_epoch, settings_uses};
use crate::bus::{Topic, TopicPartition};
use crate::time::Timestamp;

/// From `first_offset` on, a partition was applied with the settings of `settings_epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingsUse {
    /// Which partition.
    pub partition: TopicPartition,
    /// The settings.
    pub settings_epoch: i64,
    /// First offset that was applied with them.
    pub first_offset: i64,
    /// The partition's clock before that offset.
    pub clock: Timestamp,
}

/// A row of `offsets` as it is stored.
#[derive(Debug, diesel::Queryable, diesel::QueryableByName)]
#[diesel(table_name = offsets)]
pub(super) struct OffsetsRow {
    topic: String,
    partition: i32,
    epoch: i64,
    version: i64,
    next_offset: i64,
    clock: i64,
    settings_epoch: i64,
    extra: Vec<u8>,
}

#[derive(Debug, diesel::Insertable)]
#[diesel(table_name = offsets)]
struct NewOffsets<'a> {
    topic: &'a str,
    partition: i32,
    epoch: i64,
    version: i64,
    next_offset: i64,
    clock: i64,
    settings_epoch: i64,
    extra: &'a [u8],
}

#[derive(Debug, diesel::Insertable)]
#[diesel(table_name = settings_uses)]
struct NewUse<'a> {
    topic: &'a str,
    partition: i32,
    settings_epoch: i64,
    first_offset: i64,
    clock: i64,
}

/// What taking a partition leaves behind.
pub(super) const NEVER_USED: i64 = 0;

pub(super) fn partition_number(partition: TopicPartition) -> Result<i32, StoreError> {
    i32::try_from(partition.partition)
        .map_err(|_| StoreError::Refused(format!("partition {partition} is out of range")))
}

pub(super) fn partition_of(topic: &str, partition: i32) -> Result<TopicPartition, StoreError> {
    match (Topic::from_name(topic), u32::try_from(partition)) {
        (Some(topic), Ok(partition)) => Ok(TopicPartition::new(topic, partition)),
        _ => Err(StoreError::Refused(format!("the store holds an unknown partition {topic}/{partition}"))),
    }
}

/// A condition for the rows of these partitions.
fn where_is(partitions: impl Iterator<Item = TopicPartition>) -> String {
    let mut numbers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for partition in partitions {
        numbers.entry(partition.topic.name()).or_default().push(partition.partition.to_string());
    }
    let of_topic = |(topic, numbers): (&str, Vec<String>)| {
        format!("(topic = '{topic}' AND `partition` IN ({}))", numbers.join(", "))
    };
    numbers.into_iter().map(of_topic).collect::<Vec<_>>().join(" OR ")
}

impl OffsetsRow {
    fn is_of(&self, partition: TopicPartition) -> bool {
        self.topic == partition.topic.name() && u32::try_from(self.partition) == Ok(partition.partition)
    }

    fn as_new(&self) -> NewOffsets<'_> {
        NewOffsets {
            topic: &self.topic,
            partition: self.partition,
            epoch: self.epoch,
            version: self.version,
            next_offset: self.next_offset,
            clock: self.clock,
            settings_epoch: self.settings_epoch,
            extra: &self.extra,
        }
    }

    fn into_row(self) -> Result<PartitionRow, StoreError> {
        Ok(PartitionRow {
            partition: partition_of(&self.topic, self.partition)?,
            epoch: self.epoch,
            version: self.version,
            next_offset: self.next_offset,
            clock: Timestamp::from_millis(self.clock),
            extra: Bytes::from(self.extra),
        })
    }

    /// True if this row is what `commit` writes.
    fn is_result_of(&self, commit: &PartitionRow, settings: i64) -> bool {
        self.epoch == commit.epoch
            && self.version == commit.version + 1
            && self.next_offset == commit.next_offset
            && self.clock == commit.clock.as_millis()
            && self.settings_epoch == settings
            && self.extra == commit.extra
    }
}

impl Store {
    /// Takes partitions over: raises each epoch by one, so that whoever held them before is fenced, and reads their places.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn take(&self, partitions: Vec<TopicPartition>) -> Result<Vec<PartitionRow>, StoreError> {
        self.write_repeatable(move |database| on!(database, take(&partitions, &[]))).await
    }

    /// As [`Store::take`], for who owns other partitions at these epochs.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] with one of the `owners` that has another epoch: nothing was taken.
    pub async fn take_as_owner(
        &self,
        partitions: Vec<TopicPartition>,
        owners: Vec<(TopicPartition, i64)>,
    ) -> Result<Vec<PartitionRow>, StoreError> {
        self.write_repeatable(move |database| on!(database, take(&partitions, &owners))).await
    }

    /// The places of all partitions that were ever taken.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn partitions(&self) -> Result<Vec<PartitionRow>, StoreError> {
        self.read(|database| on!(database, partitions())).await
    }

    /// From which offset on each partition used which settings, oldest first: a replay uses the same.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn settings_uses(&self) -> Result<Vec<SettingsUse>, StoreError> {
        self.read(|database| on!(database, settings_uses_all())).await
    }
}

queries! {
    use diesel::prelude::*;

    /// The rows of these partitions, as far as they exist; nobody else changes them until the end of the transaction.
    fn hold(db: &mut Db, partitions: impl Iterator<Item = TopicPartition>) -> QueryResult<Vec<OffsetsRow>> {
        diesel::sql_query(format!(
            "SELECT topic, `partition`, epoch, version, next_offset, clock, settings_epoch, extra FROM offsets{} WHERE {}{}",
            dialect::BY_PRIMARY_KEY,
            where_is(partitions),
            dialect::FOR_UPDATE,
        ))
        .load(db)
    }

    pub(in crate::store) fn take(
        db: &mut Db,
        wanted: &[TopicPartition],
        owners: &[(TopicPartition, i64)],
    ) -> Result<Vec<PartitionRow>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        db.transaction(|db| {
            let mut rows = hold(db, wanted.iter().copied().chain(owners.iter().map(|(owner, _)| *owner)))?;
            let is_at = |owner: &TopicPartition, epoch| rows.iter().any(|row| row.is_of(*owner) && row.epoch == epoch);
            if let Some((lost, _)) = owners.iter().find(|(owner, epoch)| !is_at(owner, *epoch)) {
                return Err(StoreError::Fenced(*lost));
            }
            rows.retain(|row| wanted.iter().any(|wanted| row.is_of(*wanted)));
            let missing = wanted.iter().filter(|partition| !rows.iter().any(|row| row.is_of(**partition)));
            let missing = missing.map(|&partition| {
                let (topic, partition) = (partition.topic.name(), partition_number(partition)?);
                let (epoch, version, next_offset, clock) = (0, 0, 0, 0);
                Ok(NewOffsets { topic, partition, epoch, version, next_offset, clock, settings_epoch: NEVER_USED, extra: &[] })
            });
            let missing = missing.collect::<Result<Vec<_>, StoreError>>()?;
            if !missing.is_empty() {
                diesel::insert_or_ignore_into(offsets::table).values(missing).execute(db)?;
                rows = hold(db, wanted.iter().copied())?;
            }
            for row in &mut rows {
                row.epoch += 1;
            }
            diesel::replace_into(offsets::table)
                .values(rows.iter().map(OffsetsRow::as_new).collect::<Vec<_>>())
                .execute(db)?;
            rows.into_iter().map(OffsetsRow::into_row).collect()
        })
    }

    pub(in crate::store) fn partitions(db: &mut Db) -> Result<Vec<PartitionRow>, StoreError> {
        let rows: Vec<OffsetsRow> = offsets::table.order((offsets::topic, offsets::partition)).load(db)?;
        rows.into_iter().map(OffsetsRow::into_row).collect()
    }

    pub(in crate::store) fn settings_uses_all(db: &mut Db) -> Result<Vec<SettingsUse>, StoreError> {
        let rows: Vec<(String, i32, i64, i64, i64)> = settings_uses::table
            .order((settings_uses::topic, settings_uses::partition, settings_uses::settings_epoch))
            .load(db)?;
        rows.into_iter()
            .map(|(topic, partition, settings_epoch, first_offset, clock)| {
                let partition = partition_of(&topic, partition)?;
                Ok(SettingsUse { partition, settings_epoch, first_offset, clock: Timestamp::from_millis(clock) })
            })
            .collect()
    }

    /// Fails unless these settings are the current ones, and keeps them so until the end of the transaction.
    pub(in crate::store) fn require_settings(db: &mut Db, used: i64) -> Result<(), StoreError> {
        #[derive(QueryableByName)]
        #[diesel(table_name = settings_epoch)]
        struct Current {
            epoch: i64,
        }
        let text = format!("SELECT epoch FROM settings_epoch WHERE id = 1{}", dialect::LOCK_IN_SHARE_MODE);
        let current: Current = diesel::sql_query(text).get_result(db)?;
        if current.epoch == used { Ok(()) } else { Err(StoreError::SettingsMoved) }
    }

    /// The settings have changed.
    pub(in crate::store) fn raise_settings(db: &mut Db) -> Result<i64, StoreError> {
        diesel::update(settings_epoch::table.find(1))
            .set(settings_epoch::epoch.eq(settings_epoch::epoch + 1))
            .execute(db)?;
        Ok(settings_epoch::table.find(1).select(settings_epoch::epoch).first(db)?)
    }

    /// Moves partitions on, if all are still ours and as we left them, and notes the first use of new settings.
    pub(in crate::store) fn advance(
        db: &mut Db,
        commits: &[PartitionCommit],
        settings: i64,
    ) -> Result<(), StoreError> {
        if commits.is_empty() {
            return Ok(());
        }
        let stored = hold(db, commits.iter().map(|commit| commit.row.partition))?;
        let mut moved = Vec::with_capacity(commits.len());
        let mut uses = Vec::new();
        for PartitionCommit { row } in commits {
            let ours = |stored: &&OffsetsRow| stored.epoch == row.epoch && stored.version == row.version;
            let before = stored.iter().find(|stored| stored.is_of(row.partition)).filter(ours);
            let before = before.ok_or(StoreError::Fenced(row.partition))?;
            let (topic, partition) = (row.partition.topic.name(), partition_number(row.partition)?);
            moved.push(NewOffsets {
                topic,
                partition,
                epoch: row.epoch,
                version: row.version + 1,
                next_offset: row.next_offset,
                clock: row.clock.as_millis(),
                settings_epoch: settings,
                extra: &row.extra,
            });
            if before.settings_epoch != settings {
                let (first_offset, clock) = (before.next_offset, before.clock);
                uses.push(NewUse { topic, partition, settings_epoch: settings, first_offset, clock });
            }
        }
        diesel::replace_into(offsets::table).values(moved).execute(db)?;
        if !uses.is_empty() {
            diesel::insert_or_ignore_into(settings_uses::table).values(uses).execute(db)?;
        }
        Ok(())
    }

    /// True if the store stands exactly where this commit would have left it: then it has been done.
    pub(in crate::store) fn already_done(
        db: &mut Db,
        commits: &[PartitionCommit],
        settings: i64,
    ) -> Result<bool, StoreError> {
        for PartitionCommit { row } in commits {
            let (topic, number) = (row.partition.topic.name(), partition_number(row.partition)?);
            let stored: Option<OffsetsRow> = offsets::table.find((topic, number)).first(db).optional()?;
            if !stored.is_some_and(|stored| stored.is_result_of(row, settings)) {
                return Ok(false);
            }
        }
        Ok(!commits.is_empty())
    }
}
