//! Orders that a store has lost by being put back from a backup, taken up again from what stands on the bus.
//!
//! A store without an identity has never been used, or was restored. Either way it is marked before anything else happens, and the
//! mark goes when everything that its bus knows of orders has been taken up. All of it may be done again, also by several processes
//! at once: an order that is known stays as it is.

use std::collections::{HashMap, HashSet};

use super::read::OrderRow;
use super::settle::failed_letter;
use super::timeline::NewTimelineRow;
use super::{LoggedEnd, LoggedOrder, OrderStatus, RestoredOrders, StoredOrder, TimelineKind};
use crate::orders::order::{accepted, fingerprint, to_json};
use crate::plugins::order_delivery::dead_letter_id;
use crate::store::Store;
use crate::store::audit::NewEntry;
use crate::store::connection::{ROWS_PER_STATEMENT, on, queries, statements};
use crate::store::model::{DeadLetterStatus, StoreError};
use crate::store::schema::{dead_letters, meta, order_deliveries, order_keys, order_outbox, order_timeline, orders};

/// In table `meta` until the orders of a restored store have been taken up.
const MARK: &str = "orders_to_restore";
/// Who restores, for the audit trail.
const ACTOR: &str = "restore";
/// Why an order failed is not in its event; its dead letter was lost with the store.
const FAILED_BEFORE: (&str, &str) = ("failed_before_restore", "the order failed before the store was restored");
/// More than a row takes besides its document or answer.
const ROW_BYTES: usize = 1536;

#[derive(diesel::Insertable)]
#[diesel(table_name = orders)]
struct LostOrderRow<'a> {
    id: &'a str,
    store_id: &'a str,
    terminal_id: &'a str,
    status: &'a str,
    document: &'a str,
    created_at: i64,
    published_at: i64,
    attempts: i32,
    may_have_arrived: bool,
}

#[derive(diesel::Insertable)]
#[diesel(table_name = order_keys)]
struct LostKeyRow<'a> {
    id: &'a str,
    caller: &'a str,
    /// Nobody knows it any more, and nobody needs it: `id` decides.
    idempotency_key: &'a str,
    fingerprint: String,
    order_id: &'a str,
    status: i32,
    answer: String,
    created_at: i64,
}

/// The end of each order: a delivery is final, whatever came after it; of failures the last one counts.
fn last_ends(ends: &[LoggedEnd]) -> HashMap<&str, &LoggedEnd> {
    let mut last: HashMap<&str, &LoggedEnd> = HashMap::new();
    for end in ends {
        let known = last.entry(&end.order_id).or_insert(end);
        if known.status != OrderStatus::Success {
            *known = end;
        }
    }
    last
}

impl Store {
    /// True if orders must be taken up from the bus before anything else: the store is new, or was restored and no process has
    /// finished with it. From the first call on, what a restored store could mistake for recent is set right: orders that are on the
    /// bus do not go there again, and orders that wait may have reached the third party.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn begin_restoring_orders(&self) -> Result<bool, StoreError> {
        let identity = format!("{:032x}", rand::random::<u128>());
        self.write(move |database| on!(database, begin(&identity))).await
    }

    /// Takes up orders as they stand on the bus: those that are unknown come back with their keys, and all that are pending wait for
    /// the third party.
    ///
    /// # Errors
    /// Only faults of the store. Calling again is safe.
    pub async fn take_up_orders(&self, logged: Vec<LoggedOrder>) -> Result<RestoredOrders, StoreError> {
        self.write(move |database| on!(database, take_up(&logged))).await
    }

    /// Ends orders that had ended before, as the bus tells.
    ///
    /// # Errors
    /// Only faults of the store. Calling again is safe.
    pub async fn end_orders_again(&self, ends: Vec<LoggedEnd>) -> Result<RestoredOrders, StoreError> {
        self.write(move |database| on!(database, end_again(&ends))).await
    }

    /// True if any order could still turn out to have ended.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn has_open_orders(&self) -> Result<bool, StoreError> {
        self.read(|database| on!(database, has_open())).await
    }

    /// Everything has been taken up: the mark goes, and the audit trail tells what came back.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn orders_are_restored(&self, restored: RestoredOrders) -> Result<(), StoreError> {
        self.write(move |database| on!(database, finish(restored))).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn begin(db: &mut Db, identity: &str) -> Result<bool, StoreError> {
        let marked = |db: &mut Db| meta::table.find(MARK).select(meta::value).first::<String>(db).optional();
        db.transaction(|db| {
            let is_anew = diesel::insert_or_ignore_into(meta::table)
                .values((meta::name.eq("identity"), meta::value.eq(identity)))
                .execute(db)? > 0;
            if is_anew {
                diesel::insert_or_ignore_into(meta::table)
                    .values((meta::name.eq(MARK), meta::value.eq("")))
                    .execute(db)?;
                forget_published(db)?;
                let open = [OrderStatus::Pending.as_str(), OrderStatus::Failed.as_str()];
                diesel::update(orders::table.filter(orders::status.eq_any(open)))
                    .set(orders::may_have_arrived.eq(true))
                    .execute(db)?;
                queries::orders::claims::release_claims(db)?;
                queries::orders::publish::release_any(db)?;
            }
            Ok(marked(db)?.is_some())
        })
    }

    /// Orders that were read from the bus are on it, although the publisher had not come round to writing it down.
    fn forget_published(db: &mut Db) -> Result<(), StoreError> {
        let waiting: Vec<String> = order_outbox::table.select(order_outbox::order_id).load(db)?;
        for chunk in waiting.chunks(ROWS_PER_STATEMENT) {
            let read: Vec<(String, i64)> = order_deliveries::table
                .filter(order_deliveries::order_id.eq_any(chunk))
                .select((order_deliveries::order_id, order_deliveries::published_at))
                .load(db)?;
            let ended: Vec<(String, i64)> = orders::table
                .filter(orders::id.eq_any(chunk).and(orders::status.ne(OrderStatus::Pending.as_str())))
                .select((orders::id, orders::created_at))
                .load(db)?;
            published(db, read.iter().chain(&ended).map(|(id, at)| (id.as_str(), *at)))?;
        }
        Ok(())
    }

    /// Takes orders out of the outbox, since they are on the bus since these times.
    fn published<'a>(db: &mut Db, ids: impl Iterator<Item = (&'a str, i64)>) -> Result<(), StoreError> {
        for (id, at) in ids {
            diesel::delete(order_outbox::table.filter(order_outbox::order_id.eq(id))).execute(db)?;
            diesel::update(orders::table.find(id).filter(orders::published_at.is_null()))
                .set(orders::published_at.eq(at))
                .execute(db)?;
        }
        Ok(())
    }

    pub(in crate::store) fn take_up(db: &mut Db, logged: &[LoggedOrder]) -> Result<RestoredOrders, StoreError> {
        let mut restored = RestoredOrders::default();
        for chunk in logged.chunks(ROWS_PER_STATEMENT) {
            restored += db.transaction(|db| take_up_some(db, chunk))?;
        }
        Ok(restored)
    }

    fn take_up_some(db: &mut Db, logged: &[LoggedOrder]) -> Result<RestoredOrders, StoreError> {
        let ids: Vec<&str> = logged.iter().map(|one| one.order.id.as_str()).collect();
        let known: Vec<String> = orders::table.filter(orders::id.eq_any(&ids)).select(orders::id).load(db)?;
        let known: HashSet<String> = known.into_iter().collect();
        let unpublished: Vec<String> = order_outbox::table
            .filter(order_outbox::order_id.eq_any(&ids))
            .select(order_outbox::order_id)
            .load(db)?;
        let at = |id: &String| {
            let one = logged.iter().find(|one| one.order.id == *id)?;
            Some((one.order.id.as_str(), one.delivery.published_at.as_millis()))
        };
        published(db, unpublished.iter().filter_map(at))?;
        let lost: Vec<&LoggedOrder> = logged.iter().filter(|one| !known.contains(&one.order.id)).collect();
        let rebuilt = insert(db, &lost)?;
        let deliveries: Vec<_> = logged.iter().map(|one| one.delivery.clone()).collect();
        queries::orders::hand_over::hand_over(db, &deliveries)?;
        let without_key = lost.iter().filter(|one| one.key.is_none()).count();
        Ok(RestoredOrders { rebuilt, without_key: without_key.min(rebuilt), ..RestoredOrders::default() })
    }

    fn insert(db: &mut Db, lost: &[&LoggedOrder]) -> Result<usize, StoreError> {
        let rows: Vec<_> = lost
            .iter()
            .map(|LoggedOrder { order, delivery, .. }| LostOrderRow {
                id: &order.id,
                store_id: &order.store_id,
                terminal_id: &order.terminal_id,
                status: OrderStatus::Pending.as_str(),
                document: &order.document,
                created_at: order.created_at.as_millis(),
                published_at: delivery.published_at.as_millis(),
                attempts: 0,
                may_have_arrived: true,
            })
            .collect();
        let mut inserted = 0;
        for values in statements(rows, |row| row.document.len() + ROW_BYTES) {
            inserted += diesel::insert_or_ignore_into(orders::table).values(values).execute(db)?;
        }
        insert_keys(db, lost)?;
        Ok(inserted)
    }

    /// A key that has expired may stand for an older order in the backup, and may have been used for a newer one since: the newest
    /// order has it.
    fn insert_keys(db: &mut Db, lost: &[&LoggedOrder]) -> Result<(), StoreError> {
        let mut newest: HashMap<&str, &LoggedOrder> = HashMap::new();
        for one in lost {
            let Some(key) = &one.key else { continue };
            let known = newest.entry(&key.id).or_insert(one);
            if known.order.created_at < one.order.created_at {
                *known = one;
            }
        }
        let ids: Vec<&str> = newest.keys().copied().collect();
        let stored: Vec<(String, i64)> = order_keys::table
            .filter(order_keys::id.eq_any(ids))
            .select((order_keys::id, order_keys::created_at))
            .load(db)?;
        for (id, created_at) in &stored {
            if newest.get(id.as_str()).is_some_and(|one| one.order.created_at.as_millis() <= *created_at) {
                newest.remove(id.as_str());
            }
        }
        let rows: Vec<_> = newest.values().filter_map(|one| key_row(one)).collect();
        for values in statements(rows, |row| row.answer.len() + ROW_BYTES) {
            diesel::replace_into(order_keys::table).values(values).execute(db)?;
        }
        Ok(())
    }

    pub(in crate::store) fn has_open(db: &mut Db) -> Result<bool, StoreError> {
        let open = [OrderStatus::Pending.as_str(), OrderStatus::Failed.as_str()];
        let any = orders::table.filter(orders::status.eq_any(open)).select(orders::id).first::<String>(db).optional()?;
        Ok(any.is_some())
    }

    pub(in crate::store) fn end_again(db: &mut Db, ends: &[LoggedEnd]) -> Result<RestoredOrders, StoreError> {
        let mut restored = RestoredOrders::default();
        let last: Vec<&LoggedEnd> = last_ends(ends).into_values().collect();
        for chunk in last.chunks(ROWS_PER_STATEMENT) {
            restored += db.transaction(|db| {
                let ids: Vec<&str> = chunk.iter().map(|end| end.order_id.as_str()).collect();
                let rows: Vec<OrderRow> = orders::table.filter(orders::id.eq_any(ids)).load(db)?;
                let rows = rows.into_iter().map(|row| row.into_order().map(|order| (order.id.clone(), order)));
                let rows: HashMap<String, StoredOrder> = rows.collect::<Result<_, _>>()?;
                let mut restored = RestoredOrders::default();
                for end in chunk {
                    let Some(order) = rows.get(&end.order_id) else { continue };
                    match (end.status, order.status) {
                        (OrderStatus::Success, OrderStatus::Pending | OrderStatus::Failed) => {
                            restored.delivered += usize::from(delivered(db, end)?);
                        }
                        // One that was sent again since then has made as many attempts as this failure tells of.
                        (OrderStatus::Failed, OrderStatus::Pending) if end.attempts > order.attempts => {
                            restored.failed += usize::from(failed(db, end, order)?);
                        }
                        _ => {}
                    }
                }
                Ok::<_, StoreError>(restored)
            })?;
        }
        Ok(restored)
    }

    /// False if another process that restores has been faster.
    fn delivered(db: &mut Db, end: &LoggedEnd) -> Result<bool, StoreError> {
        let attempts = i32::try_from(end.attempts).unwrap_or(i32::MAX);
        let changed = diesel::update(orders::table.find(&end.order_id))
            .filter(orders::status.ne(OrderStatus::Success.as_str()))
            .set((
                orders::status.eq(OrderStatus::Success.as_str()),
                orders::processed_at.eq(end.at.as_millis()),
                orders::attempts.eq(attempts),
            ))
            .execute(db)?;
        if changed == 0 {
            return Ok(false);
        }
        diesel::delete(order_deliveries::table.find(&end.order_id)).execute(db)?;
        queries::orders::turn::count(db, OrderStatus::Success, 1)?;
        diesel::update(dead_letters::table.find(dead_letter_id(&end.order_id)))
            .filter(dead_letters::status.eq(DeadLetterStatus::Open.as_str()))
            .set(dead_letters::status.eq(DeadLetterStatus::Replayed.as_str()))
            .execute(db)?;
        Ok(true)
    }

    /// False if another process that restores has been faster.
    fn failed(db: &mut Db, end: &LoggedEnd, order: &StoredOrder) -> Result<bool, StoreError> {
        let place: Option<(i32, i64)> = order_deliveries::table
            .find(&end.order_id)
            .select((order_deliveries::partition, order_deliveries::offset))
            .first(db)
            .optional()?;
        let (partition, offset) = place.unwrap_or((0, 0));
        let attempts = i32::try_from(end.attempts).unwrap_or(i32::MAX);
        let changed = diesel::update(orders::table.find(&end.order_id))
            .filter(orders::status.eq(OrderStatus::Pending.as_str()))
            .set((orders::status.eq(OrderStatus::Failed.as_str()), orders::attempts.eq(attempts)))
            .execute(db)?;
        if changed == 0 {
            return Ok(false);
        }
        diesel::delete(order_deliveries::table.find(&end.order_id)).execute(db)?;
        let order = StoredOrder { status: OrderStatus::Failed, attempts: end.attempts, ..order.clone() };
        let place = (u32::try_from(partition).unwrap_or(0), offset);
        queries::dead_letters::replace(db, &[failed_letter(&order, place, FAILED_BEFORE, end.at)])?;
        diesel::insert_into(order_timeline::table)
            .values(NewTimelineRow {
                order_id: &end.order_id,
                at: end.at.as_millis(),
                kind: TimelineKind::Failed.as_str(),
                attempt: None,
                status: None,
                duration_ms: None,
                message: Some(FAILED_BEFORE.0),
            })
            .execute(db)?;
        Ok(true)
    }

    pub(in crate::store) fn finish(db: &mut Db, restored: RestoredOrders) -> Result<(), StoreError> {
        db.transaction(|db| {
            diesel::delete(meta::table.find(MARK)).execute(db)?;
            if !restored.is_empty() {
                let new = serde_json::json!({
                    "rebuilt": restored.rebuilt, "withoutKey": restored.without_key,
                    "delivered": restored.delivered, "failed": restored.failed,
                });
                let entry =
                    NewEntry { actor: ACTOR, action: "orders.restore", subject: "orders", new: Some(new), ..NewEntry::default() };
                queries::audit::write(db, &entry)?;
            }
            Ok(())
        })
    }
}

fn key_row(one: &LoggedOrder) -> Option<LostKeyRow<'_>> {
    let (key, order) = (one.key.as_ref()?, &one.order);
    Some(LostKeyRow {
        id: &key.id,
        caller: &key.caller,
        idempotency_key: "",
        fingerprint: fingerprint(&order.document),
        order_id: &order.id,
        status: super::accept::CREATED,
        answer: to_json(&order.document, accepted(&order.id, order.created_at)),
        created_at: order.created_at.as_millis(),
    })
}
