//! Orders and keys that have been kept long enough.

use super::OrderStatus;
use crate::orders::order::lowest_id;
use crate::plugins::order_delivery::dead_letter_id;
use crate::store::connection::{ROWS_PER_STATEMENT, queries};
use crate::store::model::{DeadLetterStatus, StoreError};
use crate::store::schema::{dead_letters, order_keys, order_timeline, orders};
use crate::time::Timestamp;

queries! {
    use diesel::prelude::*;

    /// Removes orders that were accepted and have ended before this time, with their history. An order has not ended
    /// while it is pending, nor while it has failed and nobody has decided on its dead letter.
    pub(in crate::store) fn expire(db: &mut Db, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        db.transaction(|db| {
            let mut removed = remove_delivered(db, before, limit)?;
            if removed < limit {
                removed += remove_failed(db, before, limit - removed)?;
            }
            Ok(removed)
        })
    }

    fn remove_delivered(db: &mut Db, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let ids: Vec<String> = orders::table
            .filter(orders::status.eq(OrderStatus::Success.as_str()))
            .filter(orders::id.lt(lowest_id(before)))
            .filter(orders::processed_at.lt(before.as_millis()))
            // What the publisher has not written down as published still has a row in its outbox.
            .filter(orders::published_at.is_not_null())
            .order(orders::id)
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select(orders::id)
            .load(db)?;
        let removed = remove(db, &ids, OrderStatus::Success)?;
        if removed > 0 {
            let fewer = -i64::try_from(removed).expect("a batch is bounded");
            queries::orders::turn::count(db, OrderStatus::Success, fewer)?;
        }
        Ok(removed)
    }

    fn remove_failed(db: &mut Db, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut after = String::new();
        let mut decided: Vec<String> = Vec::new();
        while decided.len() < limit {
            let ids: Vec<String> = orders::table
                .filter(orders::status.eq(OrderStatus::Failed.as_str()))
                .filter(orders::id.lt(lowest_id(before)))
                .filter(orders::id.gt(&after))
                .filter(orders::published_at.is_not_null())
                .order(orders::id)
                .limit(i64::try_from(ROWS_PER_STATEMENT).unwrap_or(i64::MAX))
                .select(orders::id)
                .load(db)?;
            let Some(last) = ids.last() else { break };
            after.clone_from(last);
            let letters: Vec<String> = ids.iter().map(|id| dead_letter_id(id)).collect();
            let open: Vec<String> = dead_letters::table
                .filter(dead_letters::id.eq_any(&letters))
                .filter(dead_letters::status.eq(DeadLetterStatus::Open.as_str()))
                .select(dead_letters::id)
                .load(db)?;
            decided.extend(ids.into_iter().zip(letters).filter(|(_, letter)| !open.contains(letter)).map(|(id, _)| id));
        }
        decided.truncate(limit);
        remove(db, &decided, OrderStatus::Failed)
    }

    /// Removes these orders, but for those that have another status by now: somebody may just have sent one again.
    fn remove(db: &mut Db, ids: &[String], status: OrderStatus) -> Result<usize, StoreError> {
        let mut removed = 0;
        for chunk in ids.chunks(ROWS_PER_STATEMENT) {
            let of_status = orders::table.filter(orders::id.eq_any(chunk)).filter(orders::status.eq(status.as_str()));
            removed += diesel::delete(of_status).execute(db)?;
            let left: Vec<String> =
                orders::table.filter(orders::id.eq_any(chunk)).select(orders::id).load(db)?;
            let gone: Vec<&String> = chunk.iter().filter(|id| !left.contains(id)).collect();
            diesel::delete(order_timeline::table.filter(order_timeline::order_id.eq_any(gone))).execute(db)?;
        }
        Ok(removed)
    }

    /// Forgets keys that are older.
    pub(in crate::store) fn expire_keys(db: &mut Db, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let ids: Vec<String> = order_keys::table
            .filter(order_keys::created_at.lt(before.as_millis()))
            .order((order_keys::created_at, order_keys::id))
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .select(order_keys::id)
            .load(db)?;
        let of_these = order_keys::table.filter(order_keys::id.eq_any(&ids));
        Ok(diesel::delete(of_these.filter(order_keys::created_at.lt(before.as_millis()))).execute(db)?)
    }
}
