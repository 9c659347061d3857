//! Orders on their way to the bus: rows get a batch number, the batch is sent, the batch is gone.
//!
//! Rows of concurrent transactions become visible out of the order of their numbers, so a position in the log cannot be
//! taken from them. A batch number can: it is given in a transaction of its own, one after the other, by the one
//! publisher that holds the lease.

use std::time::Duration;

use super::read::OrderRow;
use super::{OrderKey, PublishBatch, Publishing};
use crate::store::Store;
use crate::store::connection::{ROWS_PER_STATEMENT, on, queries};
use crate::store::model::StoreError;
use crate::store::schema::{order_outbox, order_publishing, orders};
use crate::time::Timestamp;

/// A batch takes no more orders once their documents have so many bytes.
const BATCH_BYTES_MAX: i64 = 4 << 20;
/// The only row of `order_publishing`.
const ROW: i32 = 1;

impl Store {
    /// Takes or keeps the lease of the publisher for so long, by the database's clock. False if another one holds it.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn lease_order_publishing(&self, owner: &str, hold: Duration) -> Result<bool, StoreError> {
        let owner = owner.to_owned();
        self.write_repeatable(move |database| on!(database, lease(&owner, hold))).await
    }

    /// Gives the lease back, if this publisher holds it: another one may take it at once.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn release_order_publishing(&self, owner: &str) -> Result<(), StoreError> {
        let owner = owner.to_owned();
        self.write_repeatable(move |database| on!(database, release(&owner))).await
    }

    /// The next batch to be sent: the oldest that has a number, or else the orders that wait, which get the next number. On
    /// disk before it is answered, so that a number never stands for anything else.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another publisher holds the lease.
    pub async fn next_order_batch(&self, owner: &str, limit: usize) -> Result<Option<PublishBatch>, StoreError> {
        let owner = owner.to_owned();
        self.write(move |database| on!(database, next_batch(&owner, limit))).await
    }

    /// New batches get numbers behind this position of the lane on the bus, else they would be taken for sent. True if they would not
    /// have: the store was set back.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn order_batches_follow(&self, owner: &str, position: i64) -> Result<bool, StoreError> {
        let owner = owner.to_owned();
        self.write(move |database| on!(database, follow(&owner, position))).await
    }

    /// The batch is on the bus.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn order_batch_published(&self, number: i64, at: Timestamp) -> Result<usize, StoreError> {
        // What a power cut takes back is done again: the lane's position says that the batch was sent.
        self.write_repeatable(move |database| on!(database, published(number, at))).await
    }

    /// The bus refuses a batch: each of its orders gets a number of its own. One that stands alone is parked.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another publisher holds the lease.
    pub async fn split_order_batch(&self, owner: &str, number: i64, reason: &str) -> Result<(), StoreError> {
        let (owner, reason) = (owner.to_owned(), reason.to_owned());
        self.write(move |database| on!(database, split(&owner, number, &reason))).await
    }

    /// Takes orders that cannot be read out of a batch that is not on the bus, and parks them: the others go on.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another publisher holds the lease.
    pub async fn park_orders(
        &self,
        owner: &str,
        number: i64,
        unreadable: Vec<(String, String)>,
    ) -> Result<(), StoreError> {
        let owner = owner.to_owned();
        self.write(move |database| on!(database, park(&owner, number, &unreadable))).await
    }

    /// Orders that have been parked for so long wait to be sent again. Answers how many.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn retry_parked_orders(&self, rested: Duration) -> Result<usize, StoreError> {
        self.write_repeatable(move |database| on!(database, retry_parked(rested))).await
    }
}

queries! {
    use diesel::dsl::sql;
    use diesel::prelude::*;
    use diesel::sql_types::{BigInt, Nullable};

    pub(in crate::store) fn lease(
        db: &mut Db,
        owner: &str,
        hold: Duration,
    ) -> Result<bool, StoreError> {
        let now = queries::leases::now(db)?;
        let until = now.saturating_add(i64::try_from(hold.as_millis()).unwrap_or(i64::MAX / 2));
        let mine_or_free = order_publishing::owner.eq(owner).or(order_publishing::lease_until.lt(now));
        let taken = diesel::update(order_publishing::table.find(ROW))
            .filter(mine_or_free)
            .set((order_publishing::owner.eq(owner), order_publishing::lease_until.eq(until)))
            .execute(db)?;
        if taken == 1 {
            return Ok(true);
        }
        // MySQL counts no row where nothing changed.
        let holder: String = order_publishing::table.find(ROW).select(order_publishing::owner).first(db)?;
        Ok(holder == owner)
    }

    pub(in crate::store) fn release(db: &mut Db, owner: &str) -> Result<(), StoreError> {
        diesel::update(order_publishing::table.find(ROW))
            .filter(order_publishing::owner.eq(owner))
            .set(order_publishing::lease_until.eq(0_i64))
            .execute(db)?;
        Ok(())
    }

    /// Whoever held the lease is gone.
    pub(in crate::store) fn release_any(db: &mut Db) -> Result<(), StoreError> {
        diesel::update(order_publishing::table.find(ROW)).set(order_publishing::lease_until.eq(0_i64)).execute(db)?;
        Ok(())
    }

    pub(in crate::store) fn follow(db: &mut Db, owner: &str, position: i64) -> Result<bool, StoreError> {
        let behind = order_publishing::owner.eq(owner).and(order_publishing::last_batch.lt(position));
        let raised = diesel::update(order_publishing::table.find(ROW))
            .filter(behind)
            .set(order_publishing::last_batch.eq(position))
            .execute(db)?;
        Ok(raised > 0)
    }

    /// Raises the number of the last batch, which also keeps every other publisher out until the end of the transaction.
    fn raise(db: &mut Db, owner: &str, by: i64) -> Result<i64, StoreError> {
        let raised = diesel::update(order_publishing::table.find(ROW))
            .filter(order_publishing::owner.eq(owner))
            .set(order_publishing::last_batch.eq(order_publishing::last_batch + by))
            .execute(db)?;
        if raised == 0 {
            return Err(StoreError::Conflict);
        }
        Ok(order_publishing::table.find(ROW).select(order_publishing::last_batch).first(db)?)
    }

    pub(in crate::store) fn next_batch(
        db: &mut Db,
        owner: &str,
        limit: usize,
    ) -> Result<Option<PublishBatch>, StoreError> {
        let waits = || order_outbox::batch.is_null().and(order_outbox::parked_at.is_null());
        let numbered = |db: &mut Db| -> Result<Option<i64>, StoreError> {
            Ok(order_outbox::table.select(diesel::dsl::min(order_outbox::batch)).first(db)?)
        };
        // Looking costs no lock; most looks find nothing.
        if numbered(db)?.is_none()
            && order_outbox::table.filter(waits()).select(order_outbox::seq).first::<i64>(db).optional()?.is_none()
        {
            return Ok(None);
        }
        db.transaction(|db| {
            let number = raise(db, owner, 1)?;
            let number = if let Some(oldest) = numbered(db)? {
                oldest
            } else {
                let waiting: Vec<(i64, Option<i64>)> = order_outbox::table
                    .left_join(orders::table.on(orders::id.eq(order_outbox::order_id)))
                    .filter(waits())
                    .order(order_outbox::seq)
                    .limit(i64::try_from(limit).unwrap_or(i64::MAX))
                    .select((order_outbox::seq, sql::<Nullable<BigInt>>("LENGTH(orders.document)")))
                    .load(db)?;
                let mut bytes = 0;
                let fitting = waiting.into_iter().take_while(|(_, length)| {
                    let fits = bytes < BATCH_BYTES_MAX;
                    bytes += length.unwrap_or(0);
                    fits
                });
                let seqs: Vec<i64> = fitting.map(|(seq, _)| seq).collect();
                if seqs.is_empty() {
                    return Ok(None);
                }
                for chunk in seqs.chunks(ROWS_PER_STATEMENT) {
                    diesel::update(order_outbox::table.filter(order_outbox::seq.eq_any(chunk)))
                        .set(order_outbox::batch.eq(number))
                        .execute(db)?;
                }
                number
            };
            let rows: Vec<(OrderRow, Option<String>, Option<String>)> = order_outbox::table
                .inner_join(orders::table.on(orders::id.eq(order_outbox::order_id)))
                .filter(order_outbox::batch.eq(number))
                .order(order_outbox::seq)
                .select((orders::all_columns, order_outbox::key_id, order_outbox::caller))
                .load(db)?;
            let mut batch = PublishBatch { number, orders: Vec::with_capacity(rows.len()), unreadable: Vec::new() };
            for (row, key_id, caller) in rows {
                let id = row.id().to_owned();
                let key = key_id.zip(caller).map(|(id, caller)| OrderKey { id, caller });
                match row.into_order() {
                    Ok(order) => batch.orders.push(Publishing { order, key }),
                    Err(error) => batch.unreadable.push((id, error.to_string())),
                }
            }
            Ok(Some(batch))
        })
    }

    pub(in crate::store) fn park(
        db: &mut Db,
        owner: &str,
        number: i64,
        unreadable: &[(String, String)],
    ) -> Result<(), StoreError> {
        db.transaction(|db| {
            raise(db, owner, 1)?;
            for (id, reason) in unreadable {
                let of_batch = order_outbox::batch.eq(number).and(order_outbox::order_id.eq(id));
                diesel::update(order_outbox::table.filter(of_batch))
                    .set((
                        order_outbox::batch.eq(None::<i64>),
                        order_outbox::parked_at.eq(queries::leases::now(db)?),
                        order_outbox::parked_reason.eq(reason),
                    ))
                    .execute(db)?;
            }
            Ok(())
        })
    }

    pub(in crate::store) fn published(db: &mut Db, number: i64, at: Timestamp) -> Result<usize, StoreError> {
        db.transaction(|db| {
            let ids: Vec<String> = order_outbox::table
                .filter(order_outbox::batch.eq(number))
                .select(order_outbox::order_id)
                .load(db)?;
            for chunk in ids.chunks(ROWS_PER_STATEMENT) {
                diesel::update(orders::table.filter(orders::id.eq_any(chunk)))
                    .filter(orders::published_at.is_null())
                    .set(orders::published_at.eq(at.as_millis()))
                    .execute(db)?;
            }
            Ok(diesel::delete(order_outbox::table.filter(order_outbox::batch.eq(number))).execute(db)?)
        })
    }

    pub(in crate::store) fn split(db: &mut Db, owner: &str, number: i64, reason: &str) -> Result<(), StoreError> {
        db.transaction(|db| {
            let seqs: Vec<i64> = order_outbox::table
                .filter(order_outbox::batch.eq(number))
                .order(order_outbox::seq)
                .select(order_outbox::seq)
                .load(db)?;
            let count = i64::try_from(seqs.len()).expect("a batch is bounded");
            let last = raise(db, owner, count.max(1))?;
            if let [only] = seqs[..] {
                diesel::update(order_outbox::table.find(only))
                    .set((
                        order_outbox::batch.eq(None::<i64>),
                        order_outbox::parked_at.eq(queries::leases::now(db)?),
                        order_outbox::parked_reason.eq(reason),
                    ))
                    .execute(db)?;
                return Ok(());
            }
            for (index, seq) in (1..).zip(seqs) {
                diesel::update(order_outbox::table.find(seq))
                    .set(order_outbox::batch.eq(last - count + index))
                    .execute(db)?;
            }
            Ok(())
        })
    }

    pub(in crate::store) fn retry_parked(db: &mut Db, rested: Duration) -> Result<usize, StoreError> {
        let rested = i64::try_from(rested.as_millis()).unwrap_or(i64::MAX);
        let parked_before = queries::leases::now(db)?.saturating_sub(rested);
        Ok(diesel::update(order_outbox::table.filter(order_outbox::parked_at.le(parked_before)))
            .set((order_outbox::parked_at.eq(None::<i64>), order_outbox::parked_reason.eq(None::<String>)))
            .execute(db)?)
    }
}
