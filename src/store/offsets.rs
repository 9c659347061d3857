//! Places on the bus: which offset of which partition has been applied, by which owner, and which settings were used.

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
#[derive(Debug, diesel::Queryable)]
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

impl OffsetsRow {
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
        self.write_repeatable(move |database| on!(database, take(&partitions))).await
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
    use diesel::sql_types::BigInt;

    pub(in crate::store) fn take(db: &mut Db, wanted: &[TopicPartition]) -> Result<Vec<PartitionRow>, StoreError> {
        db.transaction(|db| {
            let mut rows = Vec::with_capacity(wanted.len());
            for &partition in wanted {
                let (topic, number) = (partition.topic.name(), partition_number(partition)?);
                diesel::insert_or_ignore_into(offsets::table)
                    .values((
                        (offsets::topic.eq(topic), offsets::partition.eq(number), offsets::epoch.eq(0_i64)),
                        (offsets::version.eq(0_i64), offsets::next_offset.eq(0_i64), offsets::clock.eq(0_i64)),
                        (offsets::settings_epoch.eq(NEVER_USED), offsets::extra.eq(Vec::new())),
                    ))
                    .execute(db)?;
                diesel::update(offsets::table.find((topic, number)))
                    .set(offsets::epoch.eq(offsets::epoch + 1))
                    .execute(db)?;
                rows.push(offsets::table.find((topic, number)).first::<OffsetsRow>(db)?.into_row()?);
            }
            Ok(rows)
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
        struct Current {
            #[diesel(sql_type = BigInt)]
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

    /// Moves one partition on, if it is still ours and as we left it, and notes the first use of new settings.
    pub(in crate::store) fn advance(db: &mut Db, commit: &PartitionCommit, settings: i64) -> Result<(), StoreError> {
        let row = &commit.row;
        let (topic, number) = (row.partition.topic.name(), partition_number(row.partition)?);
        let before: Option<(i64, i64, i64)> = offsets::table
            .find((topic, number))
            .select((offsets::next_offset, offsets::clock, offsets::settings_epoch))
            .first(db)
            .optional()?;
        // The update below matches only the version that this was read from, so the two belong together.
        let moved = diesel::update(offsets::table.find((topic, number)))
            .filter(offsets::epoch.eq(row.epoch).and(offsets::version.eq(row.version)))
            .set((
                offsets::version.eq(row.version + 1),
                offsets::next_offset.eq(row.next_offset),
                offsets::clock.eq(row.clock.as_millis()),
                offsets::settings_epoch.eq(settings),
                offsets::extra.eq(&row.extra[..]),
            ))
            .execute(db)?;
        let Some((first_offset, clock, settings_before)) = before.filter(|_| moved == 1) else {
            return Err(StoreError::Fenced(row.partition));
        };
        if settings_before != settings {
            diesel::insert_or_ignore_into(settings_uses::table)
                .values((
                    (settings_uses::topic.eq(topic), settings_uses::partition.eq(number)),
                    (settings_uses::settings_epoch.eq(settings), settings_uses::first_offset.eq(first_offset)),
                    settings_uses::clock.eq(clock),
                ))
                .execute(db)?;
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
