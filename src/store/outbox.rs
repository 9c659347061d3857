//! The outbox: what has been committed and waits to be put on the bus, in lanes that are sent in order.
//!
//! A partition's lane takes its sequence numbers from the shard; the lanes of [`lane`] get theirs in the transaction that
//! writes to them, so that their order is the order of the commits.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Store;
use super::connection::{on, queries, statements};
use super::model::{OutboxRow, StoreError};
use super::schema::{lanes, outbox};
use crate::bus::{Header, NewRecord, Topic};

/// What a row takes besides its payload.
const ROW_BYTES: usize = 320;

/// Names of the lanes that do not belong to a partition.
pub mod lane {
    /// Changes of plugins, for topic `pos.plugins`.
    pub const CONTROL: &str = "control";
    /// Answers to HTTP effects.
    pub const DISPATCH: &str = "dispatch";
    /// Dead letters that a person wants applied again.
    pub const DEAD_LETTERS: &str = "deadletters";
}

/// What waits in one lane of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneBacklog {
    /// The lane.
    pub lane: String,
    /// Number of its first row.
    pub first: i64,
    /// Number of its last row.
    pub last: i64,
    /// Records in all of its rows.
    pub records: i64,
}

/// A [`NewRecord`] in an outbox row (`MessagePack`, as an array).
#[derive(Serialize, Deserialize)]
struct StoredRecord(String, Option<u32>, Option<Bytes>, Bytes, Vec<Header>);

#[derive(diesel::Insertable)]
#[diesel(table_name = outbox)]
struct NewOutboxRow<'a> {
    lane: &'a str,
    seq: i64,
    record_count: i32,
    payload: Vec<u8>,
}

impl<'a> NewOutboxRow<'a> {
    fn new(lane: &'a str, seq: i64, records: &[NewRecord]) -> Result<Self, StoreError> {
        let stored: Vec<_> = records
            .iter()
            .map(|record| {
                let topic = record.topic.name().to_owned();
                let NewRecord { partition, key, value, headers, .. } = record.clone();
                StoredRecord(topic, partition, key, value, headers)
            })
            .collect();
        let payload = rmp_serde::to_vec(&stored).map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok(Self { lane, seq, record_count: i32::try_from(records.len()).unwrap_or(i32::MAX), payload })
    }
}

fn read_payload(payload: &[u8]) -> Result<Vec<NewRecord>, StoreError> {
    let stored: Vec<StoredRecord> = rmp_serde::from_slice(payload)
        .map_err(|error| StoreError::Refused(format!("an outbox row cannot be read: {error}")))?;
    stored
        .into_iter()
        .map(|StoredRecord(topic, partition, key, value, headers)| {
            let topic = Topic::from_name(&topic)
                .ok_or_else(|| StoreError::Refused(format!("an outbox row names an unknown topic {topic}")))?;
            Ok(NewRecord { topic, partition, key, value, headers })
        })
        .collect()
}

impl Store {
    /// The lanes in which something waits.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn outbox_lanes(&self) -> Result<Vec<String>, StoreError> {
        self.read(|database| on!(database, lanes_waiting())).await
    }

    /// At most `limit` rows of a lane behind `seq`, in order, up to one that cannot be read.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the first of them cannot be read.
    pub async fn outbox_after(&self, lane: &str, seq: i64, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let lane = lane.to_owned();
        self.read(move |database| on!(database, after(&lane, seq, limit))).await
    }

    /// Removes the rows of these lanes up to and with the number beside each: they are on the bus.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn outbox_delete(&self, sent: Vec<(String, i64)>) -> Result<(), StoreError> {
        // Rows that come back after a power cut are recognised by the lane's position on the bus.
        self.write_repeatable(move |database| on!(database, delete(&sent))).await
    }

    /// What waits, by lane; lanes in which nothing waits are left out.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn outbox_backlog(&self) -> Result<Vec<LaneBacklog>, StoreError> {
        self.read(|database| on!(database, backlog())).await
    }

    /// How many records wait in all lanes.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn outbox_depth(&self) -> Result<i64, StoreError> {
        self.read(|database| on!(database, depth())).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn lanes_waiting(db: &mut Db) -> Result<Vec<String>, StoreError> {
        Ok(outbox::table.select(outbox::lane).distinct().order(outbox::lane).load(db)?)
    }

    pub(in crate::store) fn after(
        db: &mut Db,
        lane: &str,
        seq: i64,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let rows: Vec<(i64, Vec<u8>)> = outbox::table
            .filter(outbox::lane.eq(lane).and(outbox::seq.gt(seq)))
            .order(outbox::seq)
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select((outbox::seq, outbox::payload))
            .load(db)?;
        let mut read = Vec::with_capacity(rows.len());
        for (seq, payload) in rows {
            match read_payload(&payload) {
                Ok(records) => read.push(OutboxRow { lane: lane.to_owned(), seq, records }),
                // What stands before it can be sent.
                Err(_) if !read.is_empty() => break,
                Err(error) => return Err(StoreError::Refused(format!("row {seq}: {error}"))),
            }
        }
        Ok(read)
    }

    pub(in crate::store) fn delete(db: &mut Db, sent: &[(String, i64)]) -> Result<(), StoreError> {
        db.transaction(|db| {
            for (lane, up_to) in sent {
                let rows = outbox::table.filter(outbox::lane.eq(lane).and(outbox::seq.le(up_to)));
                diesel::delete(rows).execute(db)?;
            }
            Ok(())
        })
    }

    pub(in crate::store) fn depth(db: &mut Db) -> Result<i64, StoreError> {
        let depth: Option<i64> = outbox::table.select(diesel::dsl::sum(outbox::record_count)).first(db)?;
        Ok(depth.unwrap_or(0))
    }

    pub(in crate::store) fn backlog(db: &mut Db) -> Result<Vec<LaneBacklog>, StoreError> {
        use diesel::dsl::{max, min, sum};

        let lanes = outbox::table
            .group_by(outbox::lane)
            .select((outbox::lane, min(outbox::seq), max(outbox::seq), sum(outbox::record_count)))
            .order(outbox::lane);
        let lanes = lanes.load::<(_, Option<_>, Option<_>, Option<_>)>(db)?;
        // A group has rows, so there is a lowest and a highest one.
        let lanes = lanes.into_iter().map(|(lane, first, last, records)| LaneBacklog {
            lane,
            first: first.unwrap_or_default(),
            last: last.unwrap_or_default(),
            records: records.unwrap_or_default(),
        });
        Ok(lanes.collect())
    }

    /// Inserts rows whose sequence numbers are given.
    pub(in crate::store) fn insert(db: &mut Db, rows: &[OutboxRow]) -> Result<(), StoreError> {
        let rows = rows.iter().map(|row| NewOutboxRow::new(&row.lane, row.seq, &row.records));
        for values in statements(rows.collect::<Result<Vec<_>, _>>()?, |row| row.payload.len() + ROW_BYTES) {
            diesel::insert_into(outbox::table).values(values).execute(db)?;
        }
        Ok(())
    }

    fn raise(db: &mut Db, lane: &str) -> QueryResult<usize> {
        diesel::update(lanes::table.find(lane)).set(lanes::next_seq.eq(lanes::next_seq + 1)).execute(db)
    }

    /// Keeps everybody else off a lane until the end of the transaction, by allotting its next number.
    pub(in crate::store) fn hold(db: &mut Db, lane: &str) -> QueryResult<()> {
        // The update comes first: it takes the row's lock at once, where the insert would share it and then deadlock.
        if raise(db, lane)? == 0 {
            diesel::insert_or_ignore_into(lanes::table)
                .values((lanes::lane.eq(lane), lanes::next_seq.eq(1_i64)))
                .execute(db)?;
            raise(db, lane)?;
        }
        Ok(())
    }

    /// Appends one row to a lane; its number is allotted here, which keeps others off the lane until the commit.
    pub(in crate::store) fn append(db: &mut Db, lane: &str, records: &[NewRecord]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        hold(db, lane)?;
        let next: i64 = lanes::table.find(lane).select(lanes::next_seq).first(db)?;
        diesel::insert_into(outbox::table).values(NewOutboxRow::new(lane, next - 1, records)?).execute(db)?;
        Ok(())
    }
}
