//! Entity states with their timers, and duplicate windows.

use bytes::Bytes;

use super::Store;
use super::connection::{ROWS_PER_STATEMENT, on, queries, statements};
use super::model::{EntityKey, EntityRow, StoreError, WindowRow};
use super::offsets::partition_number;
use super::schema::{entities, windows};
use crate::bus::TopicPartition;
use crate::event::Scope;
use crate::time::Timestamp;

/// What a row takes besides its state and its entity's id.
const ROW_BYTES: usize = 128;

/// A timer that waits, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerRow {
    /// The plugin's name.
    pub plugin: String,
    /// The kind of entity.
    pub scope: Scope,
    /// The entity's id.
    pub entity: String,
    /// When it is due.
    pub due: Timestamp,
}

/// Entity, state, when its timer is due, when it expires.
type StoredState = (String, Vec<u8>, Option<i64>, Option<i64>);

#[derive(diesel::Insertable)]
#[diesel(table_name = entities, treat_none_as_default_value = false)]
struct NewEntity<'a> {
    topic: &'a str,
    partition: i32,
    plugin: &'a str,
    scope: &'a str,
    entity: &'a str,
    state: &'a [u8],
    due: Option<i64>,
    expires: Option<i64>,
}

#[derive(diesel::Insertable)]
#[diesel(table_name = windows, treat_none_as_default_value = false)]
struct NewWindow<'a> {
    partition: i32,
    source: &'a str,
    state: &'a [u8],
    expires: Option<i64>,
}

impl<'a> NewEntity<'a> {
    fn new(row: &'a EntityRow) -> Result<Self, StoreError> {
        Ok(Self {
            topic: row.key.partition.topic.name(),
            partition: partition_number(row.key.partition)?,
            plugin: row.key.plugin,
            scope: row.key.scope.as_str(),
            entity: &row.key.entity,
            state: &row.state,
            due: row.due.map(Timestamp::as_millis),
            expires: row.expires.map(Timestamp::as_millis),
        })
    }
}

impl<'a> NewWindow<'a> {
    fn new(row: &'a WindowRow) -> Result<Self, StoreError> {
        let (partition, expires) = (window_partition(row.partition)?, row.expires.map(Timestamp::as_millis));
        Ok(Self { partition, source: &row.source, state: &row.window, expires })
    }
}

fn window_partition(partition: u32) -> Result<i32, StoreError> {
    partition_number(TopicPartition::new(crate::bus::Topic::Events, partition))
}

impl Store {
    /// All timers of a partition's entities.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn timers(&self, partition: TopicPartition) -> Result<Vec<TimerRow>, StoreError> {
        self.read(move |database| on!(database, timers(partition))).await
    }

    /// When the timers of all partitions are due, in order.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn timers_due(&self) -> Result<Vec<Timestamp>, StoreError> {
        self.read(|database| on!(database, timers_due())).await
    }

    /// The stored states of these entities, in no particular order; an entity without a row is left out.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn load_entities(&self, mut keys: Vec<EntityKey>) -> Result<Vec<EntityRow>, StoreError> {
        keys.sort_unstable();
        keys.dedup();
        self.read(move |database| on!(database, load_entities(&keys))).await
    }

    /// The stored duplicate windows of these sources; a source without one is left out.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn load_windows(&self, partition: u32, sources: Vec<String>) -> Result<Vec<WindowRow>, StoreError> {
        self.read(move |database| on!(database, load_windows(partition, &sources))).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn timers(db: &mut Db, partition: TopicPartition) -> Result<Vec<TimerRow>, StoreError> {
        let rows: Vec<(String, String, String, i64)> = entities::table
            .filter(entities::topic.eq(partition.topic.name()))
            .filter(entities::partition.eq(partition_number(partition)?))
            .filter(entities::due.is_not_null())
            .select((entities::plugin, entities::scope, entities::entity, entities::due.assume_not_null()))
            .load(db)?;
        rows.into_iter()
            .map(|(plugin, scope, entity, due)| {
                let scope = Scope::from_name(&scope)
                    .ok_or_else(|| StoreError::Refused(format!("the store holds an unknown scope {scope}")))?;
                Ok(TimerRow { plugin, scope, entity, due: Timestamp::from_millis(due) })
            })
            .collect()
    }

    pub(in crate::store) fn timers_due(db: &mut Db) -> Result<Vec<Timestamp>, StoreError> {
        let due = entities::due.assume_not_null();
        let times: Vec<i64> = entities::table.filter(entities::due.is_not_null()).select(due).order(due).load(db)?;
        Ok(times.into_iter().map(Timestamp::from_millis).collect())
    }

    /// `keys` are sorted, so those that differ in the entity's id only stand together.
    pub(in crate::store) fn load_entities(db: &mut Db, keys: &[EntityKey]) -> Result<Vec<EntityRow>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        for group in keys.chunk_by(|a, b| (a.partition, a.plugin, a.scope) == (b.partition, b.plugin, b.scope)) {
            let first = &group[0];
            for chunk in group.chunks(ROWS_PER_STATEMENT) {
                let rows: Vec<StoredState> = entities::table
                    .filter(entities::topic.eq(first.partition.topic.name()))
                    .filter(entities::partition.eq(partition_number(first.partition)?))
                    .filter(entities::plugin.eq(first.plugin))
                    .filter(entities::scope.eq(first.scope.as_str()))
                    .filter(entities::entity.eq_any(chunk.iter().map(|key| key.entity.as_str())))
                    .select((entities::entity, entities::state, entities::due, entities::expires))
                    .load(db)?;
                found.extend(rows.into_iter().map(|(entity, state, due, expires)| EntityRow {
                    key: EntityKey { entity, ..first.clone() },
                    state: Bytes::from(state),
                    due: due.map(Timestamp::from_millis),
                    expires: expires.map(Timestamp::from_millis),
                }));
            }
        }
        Ok(found)
    }

    pub(in crate::store) fn load_windows(
        db: &mut Db,
        partition: u32,
        sources: &[String],
    ) -> Result<Vec<WindowRow>, StoreError> {
        let mut found = Vec::with_capacity(sources.len());
        for chunk in sources.chunks(ROWS_PER_STATEMENT) {
            let rows: Vec<(String, Vec<u8>, Option<i64>)> = windows::table
                .filter(windows::partition.eq(window_partition(partition)?))
                .filter(windows::source.eq_any(chunk))
                .select((windows::source, windows::state, windows::expires))
                .load(db)?;
            found.extend(rows.into_iter().map(|(source, state, expires)| WindowRow {
                partition,
                source,
                window: Bytes::from(state),
                expires: expires.map(Timestamp::from_millis),
            }));
        }
        Ok(found)
    }

    pub(in crate::store) fn replace_entities(db: &mut Db, rows: &[EntityRow]) -> Result<(), StoreError> {
        let rows = rows.iter().map(NewEntity::new).collect::<Result<Vec<_>, _>>()?;
        for values in statements(rows, |row| row.state.len() + row.entity.len() + ROW_BYTES) {
            diesel::replace_into(entities::table).values(values).execute(db)?;
        }
        Ok(())
    }

    pub(in crate::store) fn replace_windows(db: &mut Db, rows: &[WindowRow]) -> Result<(), StoreError> {
        let rows = rows.iter().map(NewWindow::new).collect::<Result<Vec<_>, _>>()?;
        for values in statements(rows, |row| row.state.len() + row.source.len() + ROW_BYTES) {
            diesel::replace_into(windows::table).values(values).execute(db)?;
        }
        Ok(())
    }
}
