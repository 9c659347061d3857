//! Accepting orders: key, fingerprint, answer, order and outbox row in one transaction, for many requests at once.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Acceptance, NewOrder, OrderStatus};
use crate::store::Store;
use crate::store::connection::{ROWS_PER_STATEMENT, on, queries, statements};
use crate::store::model::StoreError;
use crate::store::schema::{order_keys, order_outbox, orders};
use crate::time::Timestamp;

/// Tries of a transaction that another process keeps from using its keys.
const TRIES_MAX: u32 = 3;
/// More than a row takes besides its document or answer.
const ROW_BYTES: usize = 1536;
/// HTTP status of the answer to an accepted order.
pub(super) const CREATED: i32 = 201;

#[derive(diesel::Insertable)]
#[diesel(table_name = orders)]
struct NewOrderRow<'a> {
    id: &'a str,
    store_id: &'a str,
    terminal_id: &'a str,
    status: &'a str,
    document: &'a str,
    created_at: i64,
    attempts: i32,
}

#[derive(diesel::Insertable)]
#[diesel(table_name = order_keys)]
struct NewKeyRow<'a> {
    id: &'a str,
    caller: &'a str,
    idempotency_key: &'a str,
    fingerprint: &'a str,
    order_id: &'a str,
    status: i32,
    answer: &'a str,
    created_at: i64,
}

#[derive(diesel::Queryable)]
struct KeyRow {
    id: String,
    fingerprint: String,
    order_id: String,
    status: i32,
    answer: String,
    created_at: i64,
}

impl KeyRow {
    fn verdict(&self, order: &NewOrder) -> Acceptance {
        if self.order_id == order.id {
            // This very transaction, whose outcome had not been known.
            Acceptance::New
        } else if self.fingerprint == order.fingerprint {
            Acceptance::Replayed {
                order_id: self.order_id.clone(),
                status: u16::try_from(self.status).unwrap_or(201),
                answer: self.answer.clone(),
            }
        } else {
            Acceptance::OtherOrder
        }
    }
}

impl Store {
    /// Accepts orders in one transaction, each once for its key: a key that was used before is answered from what stands
    /// there, unless that is older than `expired_before`. No two of `orders` may have the same key.
    ///
    /// Calling again after [`StoreError::Unavailable`] is safe.
    ///
    /// # Errors
    /// Faults of the store: nothing was accepted, or it is not known. [`StoreError::Refused`]: one of the orders has a
    /// value that the store does not take; try them one by one.
    pub async fn accept_orders(
        &self,
        orders: Arc<Vec<NewOrder>>,
        expired_before: Timestamp,
    ) -> Result<Vec<Acceptance>, StoreError> {
        self.write(move |database| on!(database, accept(&orders, expired_before))).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn accept(
        db: &mut Db,
        orders: &[NewOrder],
        expired_before: Timestamp,
    ) -> Result<Vec<Acceptance>, StoreError> {
        let mut tries = 1;
        loop {
            match db.transaction(|db| try_accept(db, orders, expired_before)) {
                // Another process has used one of the keys since it was looked for; now it is there to be seen.
                Err(StoreError::Refused(_)) if tries < TRIES_MAX => tries += 1,
                outcome => return outcome,
            }
        }
    }

    fn try_accept(db: &mut Db, orders: &[NewOrder], expired_before: Timestamp) -> Result<Vec<Acceptance>, StoreError> {
        let mut known: HashMap<String, KeyRow> = HashMap::new();
        for chunk in orders.chunks(ROWS_PER_STATEMENT) {
            let rows: Vec<KeyRow> = order_keys::table
                .filter(order_keys::id.eq_any(chunk.iter().map(|order| &order.key_id)))
                .select((
                    order_keys::id,
                    order_keys::fingerprint,
                    order_keys::order_id,
                    order_keys::status,
                    order_keys::answer,
                    order_keys::created_at,
                ))
                .load(db)?;
            known.extend(rows.into_iter().map(|row| (row.id.clone(), row)));
        }
        let expired: Vec<String> = known
            .values()
            .filter(|row| row.created_at < expired_before.as_millis())
            .map(|row| row.id.clone())
            .collect();
        for id in &expired {
            known.remove(id);
        }
        for chunk in expired.chunks(ROWS_PER_STATEMENT) {
            diesel::delete(order_keys::table.filter(order_keys::id.eq_any(chunk))).execute(db)?;
        }
        let mut new: Vec<&NewOrder> = orders.iter().filter(|order| !known.contains_key(&order.key_id)).collect();
        // Processes that accept the same keys at once take them in the same order, so that none waits in a circle.
        new.sort_unstable_by(|a, b| a.key_id.cmp(&b.key_id));
        insert(db, &new)?;
        Ok(orders.iter().map(|order| known.get(&order.key_id).map_or(Acceptance::New, |row| row.verdict(order))).collect())
    }

    fn insert(db: &mut Db, new: &[&NewOrder]) -> Result<(), StoreError> {
        let keys: Vec<_> = new
            .iter()
            .map(|order| NewKeyRow {
                id: &order.key_id,
                caller: &order.caller,
                idempotency_key: &order.idempotency_key,
                fingerprint: &order.fingerprint,
                order_id: &order.id,
                status: CREATED,
                answer: &order.answer,
                created_at: order.created_at.as_millis(),
            })
            .collect();
        for values in statements(keys, |row| row.answer.len() + ROW_BYTES) {
            diesel::insert_into(order_keys::table).values(values).execute(db)?;
        }
        // What readers see in the order of ids was accepted in that order.
        let mut by_id: Vec<&NewOrder> = new.to_vec();
        by_id.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let rows: Vec<_> = by_id
            .iter()
            .map(|order| NewOrderRow {
                id: &order.id,
                store_id: &order.store_id,
                terminal_id: &order.terminal_id,
                status: OrderStatus::Pending.as_str(),
                document: &order.document,
                created_at: order.created_at.as_millis(),
                attempts: 0,
            })
            .collect();
        for values in statements(rows, |row| row.document.len() + ROW_BYTES) {
            diesel::insert_into(orders::table).values(values).execute(db)?;
        }
        for chunk in by_id.chunks(ROWS_PER_STATEMENT) {
            let outbox: Vec<_> = chunk
                .iter()
                .map(|order| {
                    (
                        order_outbox::order_id.eq(&order.id),
                        order_outbox::key_id.eq(&order.key_id),
                        order_outbox::caller.eq(&order.caller),
                    )
                })
                .collect();
            diesel::insert_into(order_outbox::table).values(outbox).execute(db)?;
        }
        Ok(())
    }
}
